//! Packed rows by products of words, for WebAssembly, which has no products of bytes that are cheap on the
//! processors below it.

use std::arch::wasm32::*;

use super::columns;
use crate::nibbles::{GROUP, packed_bytes};
use crate::simd128::Simd128;
use crate::vector::Vector as _;

/// Bytes of a group's nibbles.
const BYTES: usize = GROUP / 2;
/// Rows whose lanes are summed together.
const ROWS: usize = 4;

/// Packed rows with a few tokens.
///
/// # Panics
/// When `w` does not have the length that `x` and `y` say.
pub(crate) fn few(w: &[u8], x: &[i16], tokens: usize, y: &mut [i32]) {
    let k = columns(w, x, tokens, y);
    let n = y.len() / tokens;
    let groups = k.div_ceil(GROUP);
    // What lies past `k` is not said, so it meets zeros.
    let mut padded = vec![0i16; tokens * groups * GROUP];
    for (to, x) in padded.chunks_exact_mut(groups * GROUP).zip(x.chunks_exact(k)) {
        to[..k].copy_from_slice(x);
    }
    for (block, w) in w.chunks(ROWS * packed_bytes(k)).enumerate() {
        for (t, x) in padded.chunks_exact(groups * GROUP).enumerate() {
            let mut sums = [i32x4_splat(0); ROWS];
            for (sum, row) in sums.iter_mut().zip(w.chunks_exact(packed_bytes(k))) {
                *sum = one_row(row, x);
            }
            // SAFETY: the whole crate is compiled with `simd128`.
            let sums = unsafe { Simd128::totals(sums) };
            let rows = w.len() / packed_bytes(k);
            y[t * n + block * ROWS..][..rows].copy_from_slice(&sums[..rows]);
        }
    }
}

/// One row's products, still in lanes; `x` fills its last group with zeros.
#[inline(always)]
fn one_row(row: &[u8], x: &[i16]) -> v128 {
    let (nibbles, multipliers) = row.split_at(x.len() / 2);
    let groups = nibbles.as_chunks::<BYTES>().0.iter().zip(x.as_chunks::<GROUP>().0);
    let mut sum = i32x4_splat(0);
    for (g, (bytes, x)) in groups.enumerate() {
        let mut group = i32x4_splat(0);
        for half in 0..2 {
            // SAFETY: eight bytes and twice eight words of arrays that hold two times that.
            let (bytes, low, high) = unsafe {
                let low = x.as_ptr().add(8 * half);
                (
                    i16x8_load_extend_i8x8(bytes.as_ptr().add(8 * half).cast()),
                    v128_load(low.cast()),
                    v128_load(low.add(GROUP / 2).cast()),
                )
            };
            let lows = i16x8_shr(i16x8_shl(bytes, 12), 12);
            group = i32x4_add(group, i32x4_dot_i16x8(lows, low));
            group = i32x4_add(group, i32x4_dot_i16x8(i16x8_shr(bytes, 4), high));
        }
        let multiplier = i32::from((multipliers[g / 2] >> (4 * (g % 2))) & 15);
        sum = i32x4_add(sum, i32x4_mul(group, i32x4_splat(multiplier)));
    }
    sum
}
