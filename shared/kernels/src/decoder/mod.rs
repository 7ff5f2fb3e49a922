//! The exact element-wise operations of decoders: RMSNorm with quantisation, SwiGLU, residuals.
//!
//! As in [`crate::ops`], [`plain`] holds the definitions, and the functions here return the same
//! integers with vector instructions where the machine has them. `docs/exact-arithmetic.md` derives the
//! bounds. `R(v, s) = (v + 2^(s−1)) >> s`.

mod fast;
pub mod plain;

use crate::dispatch::vectorised;
use crate::ops::{Requantize, RowScale};

/// Residual-stream values are clamped to `±(2^30 − 1)`.
pub const RESIDUAL_LIMIT: i32 = (1 << 30) - 1;
/// Gains of a norm are within `±2^30`, the largest usually near it.
pub const GAIN_LIMIT: i32 = 1 << 30;
/// Right shift of `a · gain`.
pub const GAIN_SHIFT: u32 = 26;
/// Bits a residual row keeps when it is normalised.
pub const NORM_BITS: u32 = 24;
/// Fractional bits of a gate and of its SiLU.
pub const SILU_FRACTION_BITS: u32 = 12;
/// Gates fall into table bins of `2^SILU_BIN_BITS` units.
pub const SILU_BIN_BITS: u32 = 2;
/// Gates are clamped to `±(2^22 − 1)`, that is ±1024.
pub const GATE_LIMIT: i32 = (1 << 22) - 1;
/// The other factor of SwiGLU is clamped to `±(2^26 − 1)`.
pub const UP_LIMIT: i32 = (1 << 26) - 1;
/// Values are clamped to `±(2^15 − 1)`.
pub const VALUE_LIMIT: i32 = 32767;
/// Logits are clamped to `±(2^27 − 1)`, that is ±2048.
pub const LOGIT_LIMIT: i32 = (1 << 27) - 1;

/// Clamp of queries and keys: the largest `L` with `width · (L + 2)² < 2^31`, at most 16383. Rotation
/// keeps a pair's length, so a score stays below 2^31 and a turned channel within 16 bits.
pub fn query_key_limit(width: usize) -> i32 {
    let longest = ((i32::MAX as u64) / width.max(1) as u64).isqrt();
    longest.saturating_sub(2).min(16383) as i32
}

vectorised! {
    /// See [`plain::rms_quantize_row`].
    pub fn rms_quantize_row(
        h: &[i32],
        epsilon: u64,
        gain: &[i32],
        q_max: u32,
        t: &mut [i32],
        x: &mut [i32],
    ) -> RowScale {
        fast: fast::rms_quantize_row,
        plain: plain::rms_quantize_row,
    }
}

/// [`crate::ops::requantize_row`] for scales of any exponent: where the shift exceeds 62, only the
/// bias remains, as rounding would have it.
pub fn requantize_row(y: &[i32], scale: RowScale, to: Requantize<'_>, out: &mut [i32]) {
    if to.shift + scale.exponent - 31 <= 62 {
        return crate::ops::requantize_row(y, scale, to, out);
    }
    for (out, &b) in out.iter_mut().zip(to.bias) {
        *out = b.clamp(-to.limit, to.limit);
    }
}

vectorised! {
    /// See [`plain::add_residual`].
    pub fn add_residual(h: &mut [i32], delta: &[i32]) {
        fast: fast::add_residual,
        plain: plain::add_residual,
    }
}

vectorised! {
    /// See [`plain::smooth_row`].
    pub fn smooth_row(h: &mut [i32], factor: &[u16]) {
        fast: fast::smooth_row,
        plain: plain::smooth_row,
    }
}

vectorised! {
    /// See [`plain::embed_row`].
    pub fn embed_row(q: &[i8], scale: u32, shift: u32, h: &mut [i32]) {
        fast: fast::embed_row,
        plain: plain::embed_row,
    }
}

vectorised! {
    /// See [`plain::swiglu_row`].
    pub fn swiglu_row(gate: &[i32], up: &[i32], table: &[u16], out: &mut [i32]) {
        // A table looked up value by value: wider registers are measured to be slower.
        wide if false;
        fast: fast::swiglu_row,
        plain: plain::swiglu_row,
    }
}
