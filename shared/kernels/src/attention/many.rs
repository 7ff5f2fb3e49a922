//! Many queries over one cache, by the tiled product.

use super::plain::Mean;
use super::{AttentionScratch, Cache, Look, PIECE, exponentials};
use crate::product::{Columns, Rows, Shape, product};

/// Most queries at a time.
const ROWS: usize = 96;
/// Fewest, however long the cache.
const FEWEST: usize = 8;
/// Most scores at a time.
const SCORES: usize = 1 << 18;

pub(super) fn attend(
    queries: &[i16],
    looks: &[Look],
    cache: Cache<'_>,
    exp: &[u16],
    scratch: &mut AttentionScratch,
    out: &mut [i32],
) {
    let width = queries.len() / looks.len();
    let longest = looks.iter().map(|l| l.seen.len()).max().unwrap_or(0);
    let rows = (SCORES / longest.max(1)).clamp(FEWEST, ROWS);
    let parts = queries.chunks(rows * width).zip(out.chunks_mut(rows * width));
    for ((queries, out), looks) in parts.zip(looks.chunks(rows)) {
        some(queries, looks, cache, exp, scratch, out);
    }
}

/// As many queries as one product takes.
fn some(
    queries: &[i16],
    looks: &[Look],
    cache: Cache<'_>,
    exp: &[u16],
    scratch: &mut AttentionScratch,
    out: &mut [i32],
) {
    let (rows, width) = (looks.len(), queries.len() / looks.len());
    let first = looks.iter().map(|l| l.seen.start).min().unwrap_or(0);
    let end = looks.iter().map(|l| l.seen.end).max().unwrap_or(0);
    let cache = cache.part(&(first..end), width);
    let tokens = cache.keys.len() / width;
    let AttentionScratch { scores, bytes, pieces, sums, totals } = scratch;
    scores.resize(rows * tokens, 0);
    let shape = Shape { n: tokens, k: width, tokens: rows, y_stride: tokens };
    let (keys, x) = (cache.keys, queries);
    product(Rows { data: keys, stride: width }, Rows { data: x, stride: width }, shape, scores);

    // An even stride, so that the product never has to copy an odd last column.
    let stride = tokens.next_multiple_of(2);
    bytes.clear();
    bytes.resize(2 * rows * stride, 0);
    totals.clear();
    let (low, high) = bytes.split_at_mut(rows * stride);
    for (r, look) in looks.iter().enumerate() {
        let to = look.seen.end.saturating_sub(first).min(tokens);
        let seen = look.seen.start.saturating_sub(first).min(to)..to;
        let at = r * stride + seen.start..r * stride + seen.end;
        let scores = &scores[r * tokens..][seen];
        totals.push(exponentials(scores, look.score, exp, &mut low[at.clone()], &mut high[at]));
    }

    sums.clear();
    sums.resize(rows * width, 0);
    pieces.resize(2 * rows * width, 0);
    for from in (0..tokens).step_by(PIECE) {
        let k = PIECE.min(tokens - from);
        let shape = Shape { n: width, k, tokens: 2 * rows, y_stride: width };
        let values = Columns(Rows { data: &cache.values[from * width..], stride: width });
        product(values, Rows { data: &bytes[from..], stride }, shape, pieces);
        let (low, high) = pieces.split_at(rows * width);
        for ((sum, &l), &h) in sums.iter_mut().zip(low).zip(high) {
            *sum = sum.wrapping_add(i64::from(l)).wrapping_add(i64::from(h) << 8);
        }
    }
    let parts = out.chunks_exact_mut(width).zip(sums.chunks_exact(width));
    for ((out, sums), &total) in parts.zip(&*totals) {
        let mean = Mean::of(total);
        for (out, &sum) in out.iter_mut().zip(sums) {
            *out = mean.value(sum);
        }
    }
}
