//! The exact element-wise operations: quantise, requantise, normalise, GELU, softmax.
//!
//! [`plain`] holds the definition of each as a loop over integers whose rounding is written out;
//! `docs/exact-arithmetic.md` derives the constants and bounds. The functions here return the same
//! integers, with vector instructions where the machine has them.
//!
//! Rounding is always "add half, shift right arithmetically", that is, to the nearest integer with
//! ties towards +∞. Divisions are floor divisions of non-negative numbers unless stated.

pub(crate) mod fast;
pub mod plain;

use crate::dispatch::vectorised;
pub use plain::{InverseRoot, inverse_root, mean_unit_vector, softmax_biased_row};

/// Residual-stream values are clamped to `±(2^25 − 1)`, so that sums of squares stay in 63 bits.
pub const RESIDUAL_LIMIT: i32 = (1 << 25) - 1;
/// Layer-normalised values are clamped to `±(2^22 − 1)`.
pub const NORM_LIMIT: i32 = (1 << 22) - 1;
/// Widest vector the normalisations accept: `2048 · 2^52 = 2^63`.
pub const MAX_NORM_WIDTH: usize = 2048;
/// Fractional bits of the GELU domain and of its result.
pub const GELU_FRACTION_BITS: u32 = 12;
/// GELU inputs fall into table bins of `2^GELU_BIN_BITS` units.
pub const GELU_BIN_BITS: u32 = 2;
/// GELU inputs are clamped to `±(2^18 − 1)`, that is ±64.
pub const GELU_LIMIT: i32 = (1 << 18) - 1;
/// Queries and keys of heads of at most 32 channels are clamped to ±8191: `32 · 8191² < 2^31` keeps a score
/// in 32 bits.
pub const QUERY_KEY_LIMIT: i32 = 8191;

/// What queries and keys of heads of `width` channels are clamped to: the largest `L` with
/// `width · L² < 2^31`, at most [`QUERY_KEY_LIMIT`].
pub fn query_key_limit(width: usize) -> i32 {
    let square = i64::from(i32::MAX) / (width.max(1) as i64);
    (square.isqrt() as i32).min(QUERY_KEY_LIMIT)
}
/// Values are clamped to 16 bits.
pub const VALUE_LIMIT: i32 = 32767;
/// Right shift of `(max − score) · multiplier` that gives the exponential table's index.
pub const SCORE_SHIFT: u32 = 40;
/// Fractional bits of a bias of scores, which is in steps of the exponential table.
pub const BIAS_FRACTION_BITS: u32 = 12;
/// Probability one, in softmax weights.
pub const PROBABILITY_ONE: u32 = 32767;
/// Right shift of `Σ p·v`, which leaves 7 fractional bits below the value's unit.
pub const CONTEXT_SHIFT: u32 = 8;

/// Per-token scale of a quantised row: its largest magnitude as `mantissa · 2^−exponent`, with the
/// mantissa in `2^30 .. 2^31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowScale {
    /// Normalised magnitude.
    pub mantissa: u32,
    /// Left shift that normalised it, `0..=30`.
    pub exponent: u32,
}

/// How a linear stage's accumulators come back to fixed point. Slices are `[columns]`.
#[derive(Clone, Copy, Debug)]
pub struct Requantize<'a> {
    /// Scale of each output channel, below 2^31.
    pub multiplier: &'a [u32],
    /// Fractional bits of multiplier and mantissa together, `32..=63`.
    pub shift: u32,
    /// Added last.
    pub bias: &'a [i32],
    /// Results are clamped to `±limit`.
    pub limit: i32,
}

vectorised! {
    /// See [`plain::smooth_row`].
    pub fn smooth_row(h: &mut [i32], factor: &[u16]) {
        fast: fast::smooth_row,
        plain: plain::smooth_row,
    }
}

vectorised! {
    /// See [`plain::quantize_row`].
    pub fn quantize_row(h: &[i32], q_max: u32, x: &mut [i32]) -> RowScale {
        fast: fast::quantize_row,
        plain: plain::quantize_row,
    }
}

vectorised! {
    /// See [`plain::requantize_row`].
    pub fn requantize_row(y: &[i32], scale: RowScale, to: Requantize<'_>, out: &mut [i32]) {
        fast: fast::requantize_row,
        plain: plain::requantize_row,
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
    /// See [`plain::layer_norm_row`].
    pub fn layer_norm_row(h: &mut [i32], epsilon: u64, gain: &[i32], shift: u32, bias: &[i32]) {
        fast: fast::layer_norm_row,
        plain: plain::layer_norm_row,
    }
}

vectorised! {
    /// See [`plain::gelu_row`].
    pub fn gelu_row(u: &mut [i32], table: &[u16]) {
        // A table looked up value by value: wider registers are measured to be slower.
        wide if false;
        fast: fast::gelu_row,
        plain: plain::gelu_row,
    }
}

vectorised! {
    /// See [`plain::softmax_row`].
    pub fn softmax_row(scores: &[i32], multiplier: u32, table: &[u16], p: &mut [i16]) {
        // A table looked up value by value: wider registers are measured to be slower.
        wide if false;
        fast: fast::softmax_row,
        plain: plain::softmax_row,
    }
}

vectorised! {
    /// See [`plain::round_context`].
    pub fn round_context(context: &mut [i32]) {
        fast: fast::round_context,
        plain: plain::round_context,
    }
}

vectorised! {
    /// See [`plain::narrow_row`].
    pub fn narrow_row(row: &[i32], out: &mut [i16]) {
        fast: fast::narrow_row,
        plain: plain::narrow_row,
    }
}

vectorised! {
    /// See [`plain::embed_row`].
    pub fn embed_row(q: &[i8], scale: u32, shift: u32, position: &[i32], h: &mut [i32]) {
        fast: fast::embed_row,
        plain: plain::embed_row,
    }
}
