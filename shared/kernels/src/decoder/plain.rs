//! The definition of each element-wise operation of decoders, as a plain loop.

use super::{GAIN_SHIFT, NORM_BITS, RESIDUAL_LIMIT, SILU_BIN_BITS, SILU_FRACTION_BITS};
use crate::ops::plain::{quantize_row, smooth_within};
use crate::ops::{InverseRoot, RowScale, inverse_root};

#[inline(always)]
pub(super) fn round_shift(value: i64, shift: u32) -> i64 {
    value.wrapping_add(1i64 << (shift - 1)) >> shift
}

/// Root-mean-square norm of a row, its gain, and quantisation to `|x| ≤ q_max`, in one; returns the scale that
/// [`super::requantize_row`] takes. `t` is scratch of the row's width.
///
/// With `m = max|h|` and `s` the bits of `m` beyond [`NORM_BITS`] (0 if fewer): `a = R(h, s)` (`h` if `s = 0`),
/// `v = Σa² + (epsilon >> 2s)`, `t = R(a · gain, 26)`, and `x` is `t` quantised by
/// [`quantize_row`]. The scale is the product of that row's magnitude and `1/√v` ([`inverse_root`]):
/// with `P = mantissa · inverse`, it is `(P >> 31, exponent + 31 − half)` if `P ≥ 2^61`, else
/// `(P >> 30, exponent + 32 − half)`.
///
/// `|h| ≤ 2^30`, at most 2^14 of them, `|gain| ≤ 2^30`, `epsilon < 2^62`.
pub fn rms_quantize_row(
    h: &[i32],
    epsilon: u64,
    gain: &[i32],
    q_max: u32,
    t: &mut [i32],
    x: &mut [i32],
) -> RowScale {
    let (s, half) = spare_bits(h);
    let mut v = 0u64;
    for ((t, &h), &g) in t.iter_mut().zip(h).zip(gain) {
        let a = i64::from((h + half) >> s);
        v += (a * a) as u64;
        *t = round_shift(a * i64::from(g), GAIN_SHIFT) as i32;
    }
    normed_scale(quantize_row(t, q_max, x), v, epsilon, s)
}

/// `s` of a row, and what rounds when it is shifted away.
#[inline(always)]
pub(super) fn spare_bits(h: &[i32]) -> (u32, i32) {
    let max = h.iter().fold(0, |m: u32, v| m.max(v.unsigned_abs()));
    let s = (32 - max.leading_zeros()).saturating_sub(NORM_BITS);
    (s, if s == 0 { 0 } else { 1i32 << (s - 1) })
}

/// The scale of a row quantised after its norm, from the scale without it and `Σa²`.
pub(super) fn normed_scale(row: RowScale, squares: u64, epsilon: u64, s: u32) -> RowScale {
    let InverseRoot { inverse, half_shift } = inverse_root(squares + (epsilon >> (2 * s)));
    let product = u64::from(row.mantissa) * u64::from(inverse);
    if product >> 61 != 0 {
        RowScale { mantissa: (product >> 31) as u32, exponent: row.exponent + 31 - half_shift }
    } else {
        RowScale { mantissa: (product >> 30) as u32, exponent: row.exponent + 32 - half_shift }
    }
}

/// `h[i] ← clamp(h[i] + delta[i], ±RESIDUAL_LIMIT)`.
#[inline(always)]
pub fn add_residual(h: &mut [i32], delta: &[i32]) {
    for (h, &d) in h.iter_mut().zip(delta) {
        *h = h.saturating_add(d).clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT);
    }
}

/// [`crate::ops::plain::smooth_row`] with the decoder's limit.
pub fn smooth_row(h: &mut [i32], factor: &[u16]) {
    smooth_within(h, factor, RESIDUAL_LIMIT);
}

/// One embedding row: `h[i] = clamp(R(q[i] · scale, shift), ±RESIDUAL_LIMIT)`.
#[inline(always)]
pub fn embed_row(q: &[i8], scale: u32, shift: u32, h: &mut [i32]) {
    let limit = i64::from(RESIDUAL_LIMIT);
    for (h, &q) in h.iter_mut().zip(q) {
        let v = round_shift(i64::from(q) * i64::from(scale), shift);
        *h = v.clamp(-limit, limit) as i32;
    }
}

/// SwiGLU (Shazeer, 2020): `out[i] = clamp(R(silu(gate[i]) · up[i], 12), ±RESIDUAL_LIMIT)` with
/// `silu(u) = max(u, 0) − table[|u| >> 2]`, entries past the table being 0.
///
/// `silu(u) = max(u, 0) − |u|·σ(−|u|)`: the second term is even and at most 0.28.
pub fn swiglu_row(gate: &[i32], up: &[i32], table: &[u16], out: &mut [i32]) {
    let limit = i64::from(RESIDUAL_LIMIT);
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        let v = round_shift(i64::from(silu(gate, table)) * i64::from(up), SILU_FRACTION_BITS);
        *out = v.clamp(-limit, limit) as i32;
    }
}

#[inline(always)]
pub(super) fn silu(gate: i32, table: &[u16]) -> i32 {
    let bin = (gate.unsigned_abs() >> SILU_BIN_BITS) as usize;
    gate.max(0) - i32::from(table.get(bin).copied().unwrap_or(0))
}
