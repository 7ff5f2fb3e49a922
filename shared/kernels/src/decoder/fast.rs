//! The same integers as [`super::plain`], with the vector operations of [`Vector`].
//!
//! Everything here is `inline(always)` and requires a CPU with `L`'s features.

use super::{GAIN_SHIFT, RESIDUAL_LIMIT, SILU_BIN_BITS, SILU_FRACTION_BITS, plain};
use crate::ops::RowScale;
use crate::ops::fast::{Down, HALF, quantize_row, smooth_within, whole};
use crate::vector::Vector;

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn rms_quantize_row<L: Vector>(
    h: &[i32],
    epsilon: u64,
    gain: &[i32],
    q_max: u32,
    t: &mut [i32],
    x: &mut [i32],
) -> RowScale {
    let (s, half) = plain::spare_bits(h);
    let n = t.len().min(h.len()).min(gain.len());
    let end = whole::<L>(n);
    // SAFETY: registers before `end` lie inside all three slices; features are the caller's promise.
    let mut squares = unsafe {
        let (mut sum, half) = (L::wide_splat(0), L::splat(half));
        let round = L::wide_splat(1 << (GAIN_SHIFT - 1));
        for i in (0..end).step_by(L::LANES) {
            let a = L::shr(L::add(L::load(h.as_ptr().add(i)), half), s);
            sum = L::wide_add(sum, L::wide_mul(a, a));
            // |a · gain| ≤ 2^54: the low half of the shifted product is the same whichever shift.
            let product = L::wide_add(L::wide_mul(a, L::load(gain.as_ptr().add(i))), round);
            L::store(t.as_mut_ptr().add(i), L::wide_low(L::wide_shr(product, GAIN_SHIFT)));
        }
        L::wide_lanes(sum).iter().fold(0u64, |sum, &v| sum.wrapping_add(v as u64))
    };
    for ((t, &h), &g) in t[end..n].iter_mut().zip(&h[end..n]).zip(&gain[end..n]) {
        let a = i64::from(h.wrapping_add(half) >> s);
        squares = squares.wrapping_add(a.wrapping_mul(a) as u64);
        *t = plain::round_shift(a.wrapping_mul(i64::from(g)), GAIN_SHIFT) as i32;
    }
    // SAFETY: features are the caller's promise.
    let row = unsafe { quantize_row::<L>(t, q_max, x) };
    plain::normed_scale(row, squares, epsilon, s)
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn add_residual<L: Vector>(h: &mut [i32], delta: &[i32]) {
    plain::add_residual(h, delta);
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn smooth_row<L: Vector>(h: &mut [i32], factor: &[u16]) {
    // SAFETY: the caller's promise.
    unsafe { smooth_within::<L>(h, factor, RESIDUAL_LIMIT) }
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn embed_row<L: Vector>(q: &[i8], scale: u32, shift: u32, h: &mut [i32]) {
    plain::embed_row(q, scale, shift, h);
}

/// Values looked up at a time: indices and entries live in a small buffer, so that what can be
/// vectorised is.
const LOOKUPS: usize = 64;

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn swiglu_row<L: Vector>(
    gate: &[i32],
    up: &[i32],
    table: &[u16],
    out: &mut [i32],
) {
    let Some(last) = table.len().checked_sub(1) else {
        return plain::swiglu_row(gate, up, table, out);
    };
    let mut silu = [0i32; LOOKUPS];
    let n = out.len().min(gate.len()).min(up.len());
    let (gate, up, out) = (&gate[..n], &up[..n], &mut out[..n]);
    for ((gate, up), out) in
        gate.chunks(LOOKUPS).zip(up.chunks(LOOKUPS)).zip(out.chunks_mut(LOOKUPS))
    {
        for (silu, &gate) in silu.iter_mut().zip(gate) {
            *silu = (gate.unsigned_abs() >> SILU_BIN_BITS) as i32;
        }
        for (silu, &gate) in silu.iter_mut().zip(gate) {
            let bin = *silu as usize;
            // A mask, not a branch: whether a value falls past the table is a coin toss.
            let inside = -i32::from(bin <= last);
            *silu = gate.max(0).wrapping_sub(i32::from(table[bin.min(last)]) & inside);
        }
        let end = whole::<L>(gate.len());
        // SAFETY: registers before `end` lie inside all slices; features are the caller's promise.
        let fitted = unsafe {
            let mut down = Down::<L>::new(SILU_FRACTION_BITS);
            let (limit, half) = (L::splat(RESIDUAL_LIMIT), L::splat(HALF as i32));
            let low = L::splat(-RESIDUAL_LIMIT);
            for i in (0..end).step_by(L::LANES) {
                let product =
                    L::wide_mul(L::load(silu.as_ptr().add(i)), L::load(up.as_ptr().add(i)));
                let value = L::sub(down.apply(product), half);
                L::store(out.as_mut_ptr().add(i), L::max(L::min(value, limit), low));
            }
            down.fitted()
        };
        let from = if fitted { end } else { 0 };
        plain::swiglu_row(&gate[from..], &up[from..], table, &mut out[from..]);
    }
}
