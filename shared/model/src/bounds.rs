//! The accumulator bound, a pure function that the client evaluates for itself.
//!
//! For a row `w` and inputs `|x| ≤ m`, `|Σ w·x| ≤ m · Σ|w|`. A stage whose every row keeps this below
//! `2^row_bound_bits ≤ 2^31` can never overflow its 32-bit accumulators, whatever the input; its
//! products over additive shares are right modulo `2^(row_bound_bits + 1)`.

use thiserror::Error;

use crate::LinearSpec;

/// A weight row that breaks the stage's declared bound.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BoundError {
    /// `Σ|w| · max|x|` reaches the declared power of two.
    #[error("stage {stage} row {row}: bound {got} is not below 2^{bits}")]
    Row {
        /// Index of the stage.
        stage: u16,
        /// Row of its weight.
        row: usize,
        /// `Σ|w| · max|x|`.
        got: u64,
        /// The declared bits.
        bits: u8,
    },
    /// The bytes are not whole rows of the stage.
    #[error("stage {stage}: {got} weights are not rows of {k}")]
    Shape {
        /// Index of the stage.
        stage: u16,
        /// Weights given.
        got: usize,
        /// Weights per row.
        k: usize,
    },
}

/// `Σ|w| · input_max` of one row.
pub fn row_bound(row: &[i8], input_max: i32) -> u64 {
    let sum: u64 = row.iter().map(|&w| u64::from(w.unsigned_abs())).sum();
    sum * u64::from(input_max.unsigned_abs())
}

/// Checks whole rows of a stage's weight, the first of which is `first_row`.
///
/// # Errors
/// [`BoundError`] naming the first row over the bound.
pub fn check_rows(spec: &LinearSpec, first_row: usize, weights: &[i8]) -> Result<(), BoundError> {
    if spec.k == 0 || !weights.len().is_multiple_of(spec.k) {
        return Err(BoundError::Shape { stage: spec.id.0, got: weights.len(), k: spec.k });
    }
    for (i, row) in weights.chunks_exact(spec.k).enumerate() {
        let got = row_bound(row, spec.input_max());
        if got >> spec.row_bound_bits != 0 {
            return Err(BoundError::Row {
                stage: spec.id.0,
                row: first_row + i,
                got,
                bits: spec.row_bound_bits,
            });
        }
    }
    Ok(())
}
