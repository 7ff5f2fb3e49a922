//! The same integers as [`super::plain`], with the vector operations of [`Vector`].
//!
//! Registers have no arithmetic right shift of 64 bits and no saturating way down to 32. Both are
//! avoided: products are made non-negative by adding [`OFFSET`], shifted logically, and the shifted
//! offset is taken away again; and whether every value then fits 31 bits, so that the bias can be
//! added and the result clamped in 32, is collected in one register per row and looked at once. A
//! row in which a value does not fit is done again plainly.
//!
//! Everything here is `inline(always)` and requires a CPU with `L`'s features.

use super::plain::{self, InverseRoot, Quantizer};
use super::{GELU_BIN_BITS, NORM_LIMIT, RESIDUAL_LIMIT, Requantize, RowScale, SCORE_SHIFT};
use super::{PROBABILITY_ONE, plain::SMOOTH_BITS};
use crate::vector::{MOST_LANES, Vector};

/// Added to products in `−2^62 .. 2^62` before a logical shift by at most 62.
const OFFSET: i64 = 1 << 62;
/// Half of the 31-bit range that a shifted product must fall into.
pub(crate) const HALF: i64 = 1 << 30;

/// A rounding right shift of products that should leave values in `−2^30 .. 2^30`.
pub(crate) struct Down<L: Vector> {
    round: L::Wide,
    away: L::Wide,
    shift: u32,
    /// The or of all results plus [`HALF`]; below 2^31 exactly if each of them was in range.
    seen: L::Wide,
}

impl<L: Vector> Down<L> {
    /// For shifts of `1..=62`.
    ///
    /// # Safety
    /// The CPU has `L`'s features.
    #[inline(always)]
    pub(crate) unsafe fn new(shift: u32) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                round: L::wide_splat((1 << (shift - 1)) + OFFSET),
                away: L::wide_splat((OFFSET >> shift) - HALF),
                shift,
                seen: L::wide_splat(0),
            }
        }
    }

    /// Rounds and shifts, plus [`HALF`].
    ///
    /// # Safety
    /// The CPU has `L`'s features.
    #[inline(always)]
    pub(crate) unsafe fn apply(&mut self, product: L::Wide) -> L::Lanes {
        // SAFETY: the caller's promise.
        unsafe {
            let shifted = L::wide_shr(L::wide_add(product, self.round), self.shift);
            let value = L::wide_sub(shifted, self.away);
            self.seen = L::wide_or(self.seen, value);
            L::wide_low(value)
        }
    }

    /// Whether every value was in range.
    ///
    /// # Safety
    /// The CPU has `L`'s features.
    #[inline(always)]
    pub(crate) unsafe fn fitted(&self) -> bool {
        // SAFETY: the caller's promise.
        let seen = unsafe { L::wide_lanes(self.seen) };
        seen.iter().fold(0, |all, &v| all | v as u64) >> 31 == 0
    }
}

/// Biases added to results of [`Down`], and the clamp after it.
struct Biased<L: Vector> {
    half: L::Lanes,
    limit: L::Lanes,
    low: L::Lanes,
    /// The or of all biases' magnitude bits.
    seen: L::Lanes,
}

impl<L: Vector> Biased<L> {
    /// # Safety
    /// The CPU has `L`'s features.
    #[inline(always)]
    unsafe fn new(limit: i32) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                half: L::splat(HALF as i32),
                limit: L::splat(limit),
                low: L::splat(limit.wrapping_neg()),
                seen: L::splat(0),
            }
        }
    }

    /// # Safety
    /// The CPU has `L`'s features.
    #[inline(always)]
    unsafe fn apply(&mut self, value: L::Lanes, bias: L::Lanes) -> L::Lanes {
        // SAFETY: the caller's promise.
        unsafe {
            self.seen = L::or(self.seen, L::xor(bias, L::signs(bias)));
            let sum = L::add(L::sub(value, self.half), bias);
            L::max(L::min(sum, self.limit), self.low)
        }
    }

    /// Whether no sum can have left 32 bits: every bias was in `−2^30 .. 2^30`.
    ///
    /// # Safety
    /// The CPU has `L`'s features.
    #[inline(always)]
    unsafe fn fitted(&self) -> bool {
        let mut seen = [0i32; MOST_LANES];
        // SAFETY: the caller's promise; a register has at most [`MOST_LANES`].
        unsafe { L::store(seen.as_mut_ptr(), self.seen) };
        seen.iter().fold(0, |all, &v| all | v as u32) >> 30 == 0
    }
}

/// Length of the part of `n` values that fills registers.
#[inline(always)]
pub(crate) fn whole<L: Vector>(n: usize) -> usize {
    n - n % L::LANES
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn smooth_row<L: Vector>(h: &mut [i32], factor: &[u16]) {
    // SAFETY: the caller's promise.
    unsafe { smooth_within::<L>(h, factor, RESIDUAL_LIMIT) }
}

/// Smoothing, clamped to `±limit`.
///
/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(crate) unsafe fn smooth_within<L: Vector>(h: &mut [i32], factor: &[u16], limit: i32) {
    let n = h.len().min(factor.len());
    let mut i = 0;
    while i < whole::<L>(n) {
        // SAFETY: a register from `i` on lies inside both slices.
        let fitted = unsafe {
            let mut down = Down::<L>::new(SMOOTH_BITS);
            let at = h.as_mut_ptr().add(i);
            let product = L::wide_mul(L::load(at), L::load_u16(factor.as_ptr().add(i)));
            let value = L::sub(down.apply(product), L::splat(HALF as i32));
            let value = L::max(L::min(value, L::splat(limit)), L::splat(-limit));
            // In place, so it is looked at before anything is lost.
            let fitted = down.fitted();
            if fitted {
                L::store(at, value);
            }
            fitted
        };
        if !fitted {
            plain::smooth_within(&mut h[i..i + L::LANES], &factor[i..i + L::LANES], limit);
        }
        i += L::LANES;
    }
    plain::smooth_within(&mut h[i..n], &factor[i..n], limit);
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(crate) unsafe fn quantize_row<L: Vector>(h: &[i32], q_max: u32, x: &mut [i32]) -> RowScale {
    let end = whole::<L>(h.len());
    let mut bounds = [[0i32; MOST_LANES]; 2];
    // SAFETY: registers before `end` lie inside `h`; a register has at most [`MOST_LANES`].
    unsafe {
        let (mut low, mut high) = (L::splat(0), L::splat(0));
        for i in (0..end).step_by(L::LANES) {
            let v = L::load(h.as_ptr().add(i));
            (low, high) = (L::min(low, v), L::max(high, v));
        }
        L::store(bounds[0].as_mut_ptr(), low);
        L::store(bounds[1].as_mut_ptr(), high);
    }
    let rest = &h[end..];
    let m = bounds.iter().flatten().chain(rest).fold(1, |m, v| v.unsigned_abs().max(m));
    let quantizer = Quantizer::new(m, q_max);
    let n = h.len().min(x.len());
    let end = whole::<L>(n);
    // SAFETY: registers before `end` lie inside both slices.
    unsafe {
        let factor = L::splat(quantizer.factor as i32);
        let half = L::splat(HALF as i32);
        let mut down = Down::<L>::new(quantizer.shift);
        for i in (0..end).step_by(L::LANES) {
            // |h| ≤ m or 2^31, so |h · factor| < 2^62 and the result fits 17 bits.
            let v = down.apply(L::wide_mul(L::load(h.as_ptr().add(i)), factor));
            L::store(x.as_mut_ptr().add(i), L::sub(v, half));
        }
    }
    for (x, &h) in x[end..n].iter_mut().zip(&h[end..n]) {
        *x = quantizer.value(h);
    }
    quantizer.scale
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn requantize_row<L: Vector>(
    y: &[i32],
    scale: RowScale,
    to: Requantize<'_>,
    out: &mut [i32],
) {
    let n = y.len().min(to.multiplier.len()).min(to.bias.len()).min(out.len());
    let end = whole::<L>(n);
    // SAFETY: registers before `end` lie inside all four slices.
    let fitted = unsafe {
        let mut down = Down::<L>::new(to.shift + scale.exponent - 31);
        let mut biased = Biased::<L>::new(to.limit);
        let mantissa = L::splat(scale.mantissa as i32);
        for i in (0..end).step_by(L::LANES) {
            // Both below 2^31, so the product is below 2^62 and c below 2^31.
            let multiplier = L::load(to.multiplier.as_ptr().add(i).cast());
            let c = L::wide_shr(L::wide_mul_u32(multiplier, mantissa), 31);
            let value = down.apply(L::wide_mul_low(L::load(y.as_ptr().add(i)), c));
            let value = biased.apply(value, L::load(to.bias.as_ptr().add(i)));
            L::store(out.as_mut_ptr().add(i), value);
        }
        down.fitted() && biased.fitted()
    };
    let from = if fitted { end } else { 0 };
    let rest = Requantize { multiplier: &to.multiplier[from..], bias: &to.bias[from..], ..to };
    plain::requantize_row(&y[from..], scale, rest, &mut out[from..]);
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
pub(super) unsafe fn layer_norm_row<L: Vector>(
    h: &mut [i32],
    epsilon: u64,
    gain: &[i32],
    shift: u32,
    bias: &[i32],
) {
    let n = h.len();
    let end = whole::<L>(n);
    // SAFETY: registers before `end` lie inside `h`.
    let sum = unsafe {
        let (mut sum, one) = (L::wide_splat(0), L::splat(1));
        for i in (0..end).step_by(L::LANES) {
            sum = L::wide_add(sum, L::wide_mul(L::load(h.as_ptr().add(i)), one));
        }
        L::wide_lanes(sum).iter().fold(0i64, |sum, &v| sum.wrapping_add(v))
    };
    let sum = h[end..].iter().fold(sum, |sum, &v| sum.wrapping_add(i64::from(v)));
    let Some(mean) = plain::floor_mean(sum, n) else { return };
    // SAFETY: as above.
    let squares = unsafe {
        let (mut sum, mean) = (L::wide_splat(0), L::splat(mean));
        for i in (0..end).step_by(L::LANES) {
            let at = h.as_mut_ptr().add(i);
            let d = L::sub(L::load(at), mean);
            L::store(at, d);
            sum = L::wide_add(sum, L::wide_mul(d, d));
        }
        L::wide_lanes(sum).iter().fold(0u64, |sum, &v| sum.wrapping_add(v as u64))
    };
    let squares = h[end..].iter_mut().fold(squares, |sum, x| {
        *x = x.wrapping_sub(mean);
        sum.wrapping_add(i64::from(*x).wrapping_mul(i64::from(*x)) as u64)
    });
    let root = plain::inverse_root(squares.saturating_add(epsilon));
    let n = n.min(gain.len()).min(bias.len());
    let mut i = 0;
    while i < whole::<L>(n) {
        let fitted = {
            // SAFETY: a register from `i` on lies inside all three slices.
            unsafe { normalise::<L>(h, gain, bias, i, root, shift) }
        };
        if !fitted {
            for ((x, &g), &b) in h[i..].iter_mut().zip(&gain[i..]).zip(&bias[i..]).take(L::LANES) {
                *x = plain::normalised(*x, root, g, shift, b);
            }
        }
        i += L::LANES;
    }
    for ((x, &g), &b) in h[i..].iter_mut().zip(&gain[i..]).zip(&bias[i..]) {
        *x = plain::normalised(*x, root, g, shift, b);
    }
}

/// One register of a normalised row, in place; does nothing and says so when a value does not fit.
///
/// # Safety
/// The CPU has `L`'s features; a register from `i` on lies inside each slice.
#[inline(always)]
unsafe fn normalise<L: Vector>(
    h: &mut [i32],
    gain: &[i32],
    bias: &[i32],
    i: usize,
    root: InverseRoot,
    shift: u32,
) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let mut to_unit = Down::<L>::new(32 - root.half_shift);
        let (mut down, mut biased) = (Down::<L>::new(shift), Biased::<L>::new(NORM_LIMIT));
        let at = h.as_mut_ptr().add(i);
        let product = L::wide_mul(L::load(at), L::splat(root.inverse as i32));
        // Only the low 32 bits count here, whatever the range.
        let t = L::sub(to_unit.apply(product), L::splat(HALF as i32));
        let value = down.apply(L::wide_mul(t, L::load(gain.as_ptr().add(i))));
        let value = biased.apply(value, L::load(bias.as_ptr().add(i)));
        let fitted = down.fitted() && biased.fitted();
        if fitted {
            L::store(at, value);
        }
        fitted
    }
}

/// Values looked up at a time: indices and entries live in two small buffers, so that what can be
/// vectorised is.
const LOOKUPS: usize = 64;

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn gelu_row<L: Vector>(u: &mut [i32], table: &[u16]) {
    let Some(last) = table.len().checked_sub(1) else { return plain::gelu_row(u, table) };
    let mut bins = [0u32; LOOKUPS];
    for u in u.chunks_mut(LOOKUPS) {
        for (bin, u) in bins.iter_mut().zip(&*u) {
            *bin = u.unsigned_abs() >> GELU_BIN_BITS;
        }
        for (u, &bin) in u.iter_mut().zip(&bins) {
            // A mask, not a branch: whether a value falls past the table is a coin toss.
            let inside = -i32::from(bin as usize <= last);
            let below = i32::from(table[(bin as usize).min(last)]) & inside;
            *u = (*u).max(0).wrapping_sub(below);
        }
    }
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn softmax_row<L: Vector>(
    scores: &[i32],
    multiplier: u32,
    table: &[u16],
    p: &mut [i16],
) {
    let Some(last) = table.len().checked_sub(1) else { return };
    let n = scores.len().min(p.len());
    // A fold vectorises where `Iterator::max` does not.
    let max = scores.iter().fold(i32::MIN, |max, &s| max.max(s));
    let mut sum = 0u64;
    let mut bins = [0u32; LOOKUPS];
    // SAFETY: every register lies inside its chunk of `scores` and of `bins`.
    unsafe {
        let (top, multiplier_lanes) = (L::splat(max), L::splat(multiplier as i32));
        // The index is below 2^23, since `max − s` and the multiplier are below 2^32 and 2^31.
        let limit = L::splat(last.min(i32::MAX as usize) as i32);
        for (s, p) in scores[..n].chunks(LOOKUPS).zip(p[..n].chunks_mut(LOOKUPS)) {
            let end = whole::<L>(s.len());
            for i in (0..end).step_by(L::LANES) {
                let below = L::sub(top, L::load(s.as_ptr().add(i)));
                let bin = L::wide_shr(L::wide_mul_u32(below, multiplier_lanes), SCORE_SHIFT);
                let bin = L::min(L::wide_low(bin), limit);
                L::store(bins.as_mut_ptr().add(i).cast(), bin);
            }
            for (bin, &s) in bins[end..].iter_mut().zip(&s[end..]) {
                let below = u64::from(max.wrapping_sub(s) as u32);
                *bin = (below.wrapping_mul(u64::from(multiplier)) >> SCORE_SHIFT) as u32;
            }
            for (p, &bin) in p.iter_mut().zip(&bins) {
                let e = table[(bin as usize).min(last)];
                sum = sum.wrapping_add(u64::from(e));
                *p = e as i16;
            }
        }
    }
    if n == 0 {
        return;
    }
    let r = (u64::from(PROBABILITY_ONE) << 31) / sum.max(1);
    let end = if r >> 32 == 0 { whole::<L>(n) } else { 0 };
    // SAFETY: registers before `end` lie inside `p`.
    unsafe {
        let (factor, round) = (L::splat(r as u32 as i32), L::wide_splat(1 << 30));
        for i in (0..end).step_by(L::LANES) {
            let at = p.as_mut_ptr().add(i);
            let product = L::wide_mul_u32(L::load_u16(at.cast()), factor);
            L::store_low16(at, L::wide_low(L::wide_shr(L::wide_add(product, round), 31)));
        }
    }
    for p in &mut p[end..n] {
        *p = plain::probability(*p as u16, r);
    }
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn round_context<L: Vector>(context: &mut [i32]) {
    plain::round_context(context);
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn narrow_row<L: Vector>(row: &[i32], out: &mut [i16]) {
    plain::narrow_row(row, out);
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn embed_row<L: Vector>(
    q: &[i8],
    scale: u32,
    shift: u32,
    position: &[i32],
    h: &mut [i32],
) {
    plain::embed_row(q, scale, shift, position, h);
}
