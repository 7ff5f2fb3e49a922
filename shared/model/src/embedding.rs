//! The result of an encoder in fixed point: a unit vector, or the logits of classes.

use std::fmt;

/// Fractional bits of [`Embedding::values`]; 24, so that each value is exact as an `f32`.
pub const EMBEDDING_FRACTION_BITS: u32 = 24;

/// A sentence embedding of unit length; of a text classifier ([`crate::Model::labels`]), the logits of its
/// classes. Its `Debug` does not show the coordinates, from which the
/// text could be guessed.
#[derive(Clone, PartialEq, Eq)]
pub struct Embedding {
    /// `[d_model]` coordinates or `[classes]` logits, fixed point with [`EMBEDDING_FRACTION_BITS`] fractional bits.
    pub values: Vec<i32>,
    /// Tokens of the text, special ones included.
    pub tokens: usize,
    /// Whether the text had been cut to the model's limit.
    pub truncated: bool,
}

impl Embedding {
    /// The coordinates as floats, for display and JSON. Exact: no value is rounded.
    #[allow(clippy::float_arithmetic)] // a view for people, never an input to anything exact
    pub fn to_f32(&self) -> Vec<f32> {
        let unit = 1.0 / (1u32 << EMBEDDING_FRACTION_BITS) as f32;
        self.values.iter().map(|&v| v as f32 * unit).collect()
    }

    /// Cosine similarity in fixed point (2^24 is one), by an exact integer dot product, so that
    /// rankings are the same on every machine.
    ///
    /// Vectors of different widths share only their common prefix.
    pub fn similarity(&self, other: &Self) -> i32 {
        let sum: i64 =
            self.values.iter().zip(&other.values).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum();
        let half = 1i64 << (EMBEDDING_FRACTION_BITS - 1);
        ((sum + half) >> EMBEDDING_FRACTION_BITS) as i32
    }
}

/// The probabilities of classes by their logits (softmax), for display and JSON only: floats, which may
/// differ in the last digit between machines, as the logits never do.
#[allow(clippy::float_arithmetic)] // a view for people, never an input to anything exact
pub fn probabilities(logits: &[i32]) -> Vec<f64> {
    let unit = 1.0 / f64::from(1u32 << EMBEDDING_FRACTION_BITS);
    let greatest = logits.iter().copied().max().unwrap_or(0);
    // i64: the distance of two i32 need not fit one.
    let weight = |&logit: &i32| ((i64::from(logit) - i64::from(greatest)) as f64 * unit).exp();
    let weights: Vec<f64> = logits.iter().map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

impl fmt::Debug for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { values, tokens, truncated } = self;
        write!(f, "Embedding({} values, {tokens} tokens, truncated: {truncated})", values.len())
    }
}
