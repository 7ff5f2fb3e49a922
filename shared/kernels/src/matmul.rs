//! The products of the engine and of the lanes, all by one kernel on 16-bit operands.
//!
//! A 32-bit share is split as `s = low + 2^16·high` with both halves signed, so that
//! `W·s = W·low + 2^16·(W·high) mod 2^32`; for the full product the halves' sums are taken over pieces of
//! `k` short enough for 32 bits.

use crate::Weight;
use crate::matvec::matvec;
use crate::packed::{few, panel::Packed};
use crate::product::{Columns, Rows, Shape, product, product_i8};
use crate::reference;
use crate::reference::check_shapes;

/// Longest piece of a row whose product with 16-bit values fits 32 bits: `2^31 / (2^15 · 2^7)`.
const EXACT_PIECE: usize = 256;

/// Tokens of a share at a time, whose halves' sums stay in the second-level cache.
const AT_ONCE: usize = 96;

/// Most tokens for which transposing the weights does not pay.
const FEW: usize = 2;

/// Rows without gaps.
fn rows<T>(data: &[T], width: usize) -> Rows<'_, T> {
    Rows { data, stride: width }
}

/// `y = x · wᵀ` in exact integers; see [`reference::matmul_i8`].
///
/// Fast when every `|x| < 2^15` (which holds for every linear stage of an exact model); other
/// inputs give the same result more slowly.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_i8(w: &[i8], x: &[i32], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
    exact(Weight::Bytes(w), x, n, k, tokens, y);
}

/// [`matmul_i8`] of any weight.
pub(crate) fn exact(w: Weight<'_>, x: &[i32], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
    check(w, x.len(), y.len(), n, k, tokens);
    let narrow: Vec<i16> = x.iter().map(|&v| v as i16).collect();
    // A fold, since it vectorises where a search that may stop does not.
    let lost = narrow.iter().zip(x).fold(0, |lost, (&n, &x)| lost | (i32::from(n) ^ x));
    if lost == 0 {
        narrowed(w, &narrow, n, k, tokens, y);
    } else {
        reference::matmul_i8(&w.bytes(k), x, n, k, tokens, y);
    }
}

/// [`matmul_i8`] for activations already narrowed to 16 bits.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_i8_i16(w: &[i8], x: &[i16], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
    let w = Weight::Bytes(w);
    check(w, x.len(), y.len(), n, k, tokens);
    narrowed(w, x, n, k, tokens, y);
}

fn check(w: Weight<'_>, x: usize, y: usize, n: usize, k: usize, tokens: usize) {
    assert!(w.holds(n, k), "w is not [{n}, {k}]");
    check_shapes(n * k, x, y, n, k, tokens);
}

/// [`matmul_i8_i16`] of any weight, whose shapes are checked.
fn narrowed(w: Weight<'_>, x: &[i16], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
    let is_few = (1..=FEW).contains(&tokens) && k > 0 && n > 0;
    let shape = Shape { n, k, tokens, y_stride: n };
    match w {
        Weight::Bytes(w) if is_few => matvec(w, x, tokens, y),
        Weight::Bytes(w) => product_i8(rows(w, k), rows(x, k), shape, y),
        Weight::Nibbles(w) if is_few => few(w, x, tokens, y),
        Weight::Nibbles(data) => product(Packed { data, k }, rows(x, k), shape, y),
    }
}

/// A matrix inside a slice: its first value, and the distance between its rows.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a> {
    /// Values from the first of the matrix on.
    pub data: &'a [i16],
    /// Values from one row to the next.
    pub stride: usize,
}

impl<'a> From<Strided<'a>> for Rows<'a, i16> {
    fn from(Strided { data, stride }: Strided<'a>) -> Self {
        Self { data, stride }
    }
}

/// Attention scores: `scores[t, u] = Σ_i q[t, i] · k[u, i]` for `tokens` rows of `width` values above
/// −2^15; sums outside `i32` wrap. `scores` is `[tokens, tokens]`.
///
/// # Panics
/// When a slice does not hold its shape.
pub fn attention_scores(
    q: Strided<'_>,
    k: Strided<'_>,
    tokens: usize,
    width: usize,
    scores: &mut [i32],
) {
    let shape = Shape { n: tokens, k: width, tokens, y_stride: tokens };
    product(Rows::from(k), q.into(), shape, scores);
}

/// Attention contexts: `context[t, i] = Σ_u p[t, u] · v[u, i]` for `tokens` rows of `width` values;
/// sums outside `i32` wrap. Rows of `context` lie `stride` apart, what is between them stays.
///
/// # Panics
/// When a slice does not hold its shape.
pub fn attention_context(
    p: Strided<'_>,
    v: Strided<'_>,
    tokens: usize,
    width: usize,
    context: &mut [i32],
    stride: usize,
) {
    let shape = Shape { n: width, k: tokens, tokens, y_stride: stride };
    product(Columns(v.into()), p.into(), shape, context);
}

/// Splits shares into signed halves, `s ≡ low + 2^16·high mod 2^32`: all the lows, then all the highs,
/// so that one pass over the weights serves both.
fn halves(share: &[u32]) -> Vec<i16> {
    let mut halves = vec![0; 2 * share.len()];
    let (lows, highs) = halves.split_at_mut(share.len());
    for ((low, high), &s) in lows.iter_mut().zip(highs).zip(share) {
        *low = s as i16;
        // Taking the signed low half away carries one into the high half when it is negative.
        *high = (s.wrapping_add(1 << 15) >> 16) as i16;
    }
    halves
}

/// `out = share · wᵀ mod 2^32`; see [`reference::matmul_mask_u32`].
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_mask_u32(
    w: &[i8],
    share: &[u32],
    n: usize,
    k: usize,
    tokens: usize,
    out: &mut [u32],
) {
    masked(Weight::Bytes(w), share, n, k, tokens, out);
}

/// [`matmul_mask_u32`] of any weight.
pub(crate) fn masked(
    w: Weight<'_>,
    share: &[u32],
    n: usize,
    k: usize,
    tokens: usize,
    out: &mut [u32],
) {
    check(w, share.len(), out.len(), n, k, tokens);
    if k == 0 || n == 0 {
        return out.fill(0);
    }
    let mut sums = vec![0i32; 2 * tokens.min(AT_ONCE) * n];
    for (share, out) in share.chunks(AT_ONCE * k).zip(out.chunks_mut(AT_ONCE * n)) {
        let sums = &mut sums[..2 * out.len()];
        narrowed(w, &halves(share), n, k, 2 * out.len() / n, sums);
        let (low, high) = sums.split_at(out.len());
        for ((out, &low), &high) in out.iter_mut().zip(low).zip(high) {
            *out = (low as u32).wrapping_add((high as u32) << 16);
        }
    }
}

/// `out = share · wᵀ` over the integers; see [`reference::matmul_full_i64`].
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_full_i64(
    w: &[i8],
    share: &[u32],
    n: usize,
    k: usize,
    tokens: usize,
    out: &mut [i64],
) {
    check_shapes(w.len(), share.len(), out.len(), n, k, tokens);
    out.fill(0);
    if out.is_empty() || k == 0 {
        return;
    }
    // s = (low − 2^15) + 2^15 + 2^16·((high − 2^15) + 2^15) with unsigned halves: the signed halves go
    // through the kernel, the constants through each row's sum.
    let signed = |half: u32| (half as i32 - (1 << 15)) as i16;
    let low: Vec<i16> = share.iter().map(|&s| signed(s & 0xffff)).collect();
    let high: Vec<i16> = share.iter().map(|&s| signed(s >> 16)).collect();
    let mut sums = vec![0i32; tokens * n];
    for start in (0..k).step_by(EXACT_PIECE) {
        let shape = Shape { n, k: EXACT_PIECE.min(k - start), tokens, y_stride: n };
        for (half, shift) in [(&low, 0), (&high, 16)] {
            // |w| ≤ 2^7 and |x| ≤ 2^15 over at most 256 columns: the sum stays within ±2^30.
            let x = Rows { data: &half[start..], stride: k };
            product_i8(Rows { data: &w[start..], stride: k }, x, shape, &mut sums);
            for (out, &sum) in out.iter_mut().zip(&sums) {
                *out += i64::from(sum) << shift;
            }
        }
    }
    let constant = (1i64 << 15) + (1i64 << 31);
    for (j, row) in w.chunks_exact(k).enumerate() {
        let sum: i64 = row.iter().map(|&w| i64::from(w)).sum();
        for t in 0..tokens {
            out[t * n + j] += sum * constant;
        }
    }
}
