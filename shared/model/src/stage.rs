//! Names and shapes of the linear stages a model hands out.

use std::fmt;

/// Index of a linear stage in execution order, starting at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StageId(pub u16);

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One linear stage `y = x · wᵀ`: `x` is `[tokens, k]`, the weight `w` is `[n, k]` of `i8`, `y` is
/// `[tokens, n]` of `i32`. Biases and scales are applied by [`crate::EncoderRun`], not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearSpec {
    /// Position in execution order; also the index into [`crate::Model::stages`].
    pub id: StageId,
    /// Human name, such as `layer0.qkv`.
    pub name: String,
    /// Input width.
    pub k: usize,
    /// Output width.
    pub n: usize,
    /// Bits of the signed input: `|x| ≤ 2^(input_bits−1) − 1`.
    pub input_bits: u8,
    /// Bits of the result without its sign: `|y| < 2^row_bound_bits` for every admissible input,
    /// from the largest row sum `Σ|w| · max|x|`. At most 31.
    pub row_bound_bits: u8,
}

impl LinearSpec {
    /// The largest admissible `|x|`.
    pub fn input_max(&self) -> i32 {
        (1 << (self.input_bits - 1)) - 1
    }
}
