//! Attention of decoders over a cache of keys and values.
//!
//! [`plain`] holds the definition for one query. A few queries are computed straight from the cache, one
//! at a time; many, as when a prompt is read, by the tiled product. Exponentials are split into two
//! bytes, `e = low + 2^8·high`, so that [`PIECE`] of their products with values fit 32 bits:
//! `255 · 2^15 · 256 < 2^31`.

mod few;
mod many;
pub mod plain;

use crate::dispatch::vectorised;
use std::ops::Range;

/// Fractional bits a context has below the value's unit.
pub const CONTEXT_BITS: u32 = 7;
/// Tokens whose products with one byte of their exponentials fit a 32-bit sum.
const PIECE: usize = 256;
/// Most queries for which bringing keys and values in order does not pay: it costs what about six do.
const FEW: usize = 6;

/// Keys and values of one head, `[tokens, width]` each.
#[derive(Clone, Copy, Debug)]
pub struct Cache<'a> {
    /// Rotated keys.
    pub keys: &'a [i16],
    /// Values.
    pub values: &'a [i16],
}

impl Cache<'_> {
    /// The part of `tokens`, cut to what is there.
    fn part(&self, tokens: &Range<usize>, width: usize) -> Self {
        let held = self.keys.len().min(self.values.len()) / width;
        let to = tokens.end.min(held);
        let range = tokens.start.min(to) * width..to * width;
        Self { keys: &self.keys[range.clone()], values: &self.values[range] }
    }
}

/// One query that looks at a cache.
#[derive(Clone, Debug)]
pub struct Look {
    /// Tokens it sees.
    pub seen: Range<usize>,
    /// Scale of its scores, below 2^31.
    pub score: u32,
}

/// Buffers that [`attend`] reuses.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    /// `[rows, keys]`
    scores: Vec<i32>,
    /// Low bytes of all rows' exponentials, then the high ones: `[2 · rows, keys]`.
    bytes: Vec<i16>,
    /// `[2 · rows, width]`
    pieces: Vec<i32>,
    /// `[rows, width]`
    sums: Vec<i64>,
    totals: Vec<u64>,
}

/// Contexts of several queries over one cache: `queries` and `out` are `[looks, width]`. Each row of `out`
/// is what [`plain::attend`] gives.
///
/// Keys and queries hold the bounds of [`crate::decoder::query_key_limit`]; the table starts in `2^14 ..
/// 2^15`, never rises and ends in 0; at most 2^17 tokens.
///
/// # Panics
/// When `queries` or `out` does not have that shape.
pub fn attend(
    queries: &[i16],
    looks: &[Look],
    cache: Cache<'_>,
    exp: &[u16],
    scratch: &mut AttentionScratch,
    out: &mut [i32],
) {
    assert_eq!(queries.len(), out.len(), "a context for every query");
    if looks.is_empty() || queries.is_empty() {
        return;
    }
    let width = queries.len() / looks.len();
    assert_eq!(width * looks.len(), queries.len(), "queries are [looks, width]");
    if looks.len() > FEW {
        return many::attend(queries, looks, cache, exp, scratch, out);
    }
    let rows = queries.chunks_exact(width).zip(out.chunks_exact_mut(width));
    for ((query, out), look) in rows.zip(looks) {
        attend_one(query, cache.part(&look.seen, width), look.score, exp, scratch, out);
    }
}

vectorised! {
    /// [`plain::attend`].
    fn attend_one(
        query: &[i16],
        cache: Cache<'_>,
        score: u32,
        exp: &[u16],
        scratch: &mut AttentionScratch,
        out: &mut [i32],
    ) {
        wide if query.len().is_multiple_of(32);
        fast: few::attend,
        plain: plain_one,
    }
}

#[cfg_attr(all(target_arch = "wasm32", target_feature = "simd128"), allow(dead_code))]
fn plain_one(
    query: &[i16],
    cache: Cache<'_>,
    score: u32,
    exp: &[u16],
    _: &mut AttentionScratch,
    out: &mut [i32],
) {
    plain::attend(query, cache, score, exp, out);
}

vectorised! {
    /// Exponentials of a row of scores, their low bytes and their high ones; returns their sum. All
    /// three slices are as long.
    fn exponentials(scores: &[i32], score: u32, exp: &[u16], low: &mut [i16], high: &mut [i16]) -> u64 {
        fast: few::exponentials,
        plain: plain_exponentials,
    }
}

#[cfg_attr(all(target_arch = "wasm32", target_feature = "simd128"), allow(dead_code))]
fn plain_exponentials(
    scores: &[i32],
    score: u32,
    exp: &[u16],
    low: &mut [i16],
    high: &mut [i16],
) -> u64 {
    let max = scores.iter().fold(i32::MIN, |m, &s| m.max(s));
    let mut total = 0;
    for ((&s, low), high) in scores.iter().zip(low).zip(high) {
        let e = plain::exponential(max, s, score, exp);
        total += u64::from(e);
        (*low, *high) = ((e & 0xff) as i16, (e >> 8) as i16);
    }
    total
}
