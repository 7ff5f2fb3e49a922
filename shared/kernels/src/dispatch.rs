//! Chooses the fastest version of each kernel the machine has.
//!
//! Every product reduces to one kernel on sixteen-bit operands. A 32-bit share is split as
//! `s = low + 2^16·high` with both halves signed, so that `W·s = W·low + 2^16·(W·high) mod 2^32`; for the
//! full product the halves' sums are taken over pieces of `k` short enough for 32 bits.

use crate::reference;
use crate::reference::check_shapes;
use crate::tile::Weight;

/// Longest piece of a row whose product with 16-bit values fits 32 bits: `2^31 / (2^15 · 2^7)`.
const EXACT_PIECE: usize = 256;

/// Names the path the dispatcher takes here: `avx2`, `simd128` or `scalar`.
pub fn path_name() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        return "avx2";
    }
    if cfg!(all(target_arch = "wasm32", target_feature = "simd128")) { "simd128" } else { "scalar" }
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

fn matmul_into<W: Weight>(w: &[W], x: &[i16], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the CPU has AVX2, checked on the line above.
        return unsafe { crate::avx2::matmul_into(w, x, n, k, tokens, y) };
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    return crate::simd128::matmul_into(w, x, n, k, tokens, y);
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    scalar(w, x, n, k, tokens, y)
}

/// Plain loops over four rows at a time, for machines without a vector version.
#[cfg_attr(all(target_arch = "wasm32", target_feature = "simd128"), allow(dead_code))]
fn scalar<W: Weight>(w: &[W], x: &[i16], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
    if n == 0 || k == 0 {
        y.fill(0);
        return;
    }
    for (x, y) in x.chunks_exact(k).zip(y.chunks_exact_mut(n)).take(tokens) {
        for (w, y) in w.chunks_exact(k).zip(y) {
            let mut sum = 0i32;
            for (&w, &x) in w.iter().zip(x) {
                sum = sum.wrapping_add(w.wide() * i32::from(x));
            }
            *y = sum;
        }
    }
}

/// `y = x · wᵀ` in exact integers; see [`reference::matmul_i8`].
///
/// Fast when every `|x| < 2^15` (which holds for every linear stage of an exact model); other
/// inputs give the same result more slowly.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_i8(w: &[i8], x: &[i32], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
    check_shapes(w.len(), x.len(), y.len(), n, k, tokens);
    let narrow: Vec<i16> = x.iter().map(|&v| v as i16).collect();
    if narrow.iter().zip(x).all(|(&n, &x)| i32::from(n) == x) {
        matmul_into(w, &narrow, n, k, tokens, y);
    } else {
        reference::matmul_i8(w, x, n, k, tokens, y);
    }
}

/// [`matmul_i8`] for activations already narrowed to 16 bits.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_i8_i16(w: &[i8], x: &[i16], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
    check_shapes(w.len(), x.len(), y.len(), n, k, tokens);
    matmul_into(w, x, n, k, tokens, y);
}

/// `y[t, j] = Σ_i w[j, i] · x[t, i]` for 16-bit operands above −2^15 (attention scores and
/// contexts); sums outside `i32` wrap.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_i16(w: &[i16], x: &[i16], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
    check_shapes(w.len(), x.len(), y.len(), n, k, tokens);
    matmul_into(w, x, n, k, tokens, y);
}

/// Splits shares into signed halves, `s ≡ low + 2^16·high mod 2^32`: all the lows, then all the highs,
/// so that one pass over the weights serves both.
fn halves(share: &[u32]) -> Vec<i16> {
    let low = share.iter().map(|&s| s as i16);
    // Taking the signed low half away carries one into the high half when it is negative.
    let high = share.iter().map(|&s| (s.wrapping_add(1 << 15) >> 16) as i16);
    low.chain(high).collect()
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
    check_shapes(w.len(), share.len(), out.len(), n, k, tokens);
    let mut sums = vec![0i32; 2 * tokens * n];
    matmul_into(w, &halves(share), n, k, 2 * tokens, &mut sums);
    let (low, high) = sums.split_at(tokens * n);
    for ((out, &low), &high) in out.iter_mut().zip(low).zip(high) {
        *out = (low as u32).wrapping_add((high as u32) << 16);
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
    if n == 0 || k == 0 {
        return;
    }
    // s = (low − 2^15) + 2^15 + 2^16·((high − 2^15) + 2^15) with unsigned halves: the signed halves go
    // through the kernel, the constants through each row's sum.
    let signed = |half: u32| (half as i32 - (1 << 15)) as i16;
    let low: Vec<i16> = share.iter().map(|&s| signed(s & 0xffff)).collect();
    let high: Vec<i16> = share.iter().map(|&s| signed(s >> 16)).collect();
    let constant = (1i64 << 15) + (1i64 << 31);
    let mut piece_w = Vec::new();
    let mut piece_x = Vec::new();
    let mut sums = vec![0i32; tokens * n];
    for start in (0..k).step_by(EXACT_PIECE) {
        let end = (start + EXACT_PIECE).min(k);
        let len = end - start;
        piece_w.clear();
        for row in w.chunks_exact(k) {
            piece_w.extend_from_slice(&row[start..end]);
        }
        for (half, shift) in [(&low, 0), (&high, 16)] {
            piece_x.clear();
            for row in half.chunks_exact(k) {
                piece_x.extend_from_slice(&row[start..end]);
            }
            // |w| ≤ 2^7 and |x| ≤ 2^15 over at most 256 columns: the sum stays within ±2^30.
            matmul_into(&piece_w, &piece_x, n, len, tokens, &mut sums);
            for (out, &sum) in out.iter_mut().zip(&sums) {
                *out += i64::from(sum) << shift;
            }
        }
    }
    for (j, row) in w.chunks_exact(k).enumerate() {
        let sum: i64 = row.iter().map(|&w| i64::from(w)).sum();
        for t in 0..tokens {
            out[t * n + j] += sum * constant;
        }
    }
}
