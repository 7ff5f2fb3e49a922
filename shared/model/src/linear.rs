//! Who computes a linear stage.

use crate::{Model, StageId};

/// Computes linear stages: locally, or (behind the same shape) through a lane.
pub trait Linear {
    /// Returns `y = x · wᵀ` of `[tokens, n]` for `x` of `[tokens, k]`.
    fn apply(&self, stage: StageId, x: &[i32], tokens: usize) -> Vec<i32>;
}

/// Computes every stage on this machine from the model's own weights.
pub struct PlainEngine<'a>(pub &'a Model);

impl Linear for PlainEngine<'_> {
    fn apply(&self, stage: StageId, x: &[i32], tokens: usize) -> Vec<i32> {
        let spec = self.0.stage(stage);
        let mut y = vec![0; tokens * spec.n];
        nesa_kernels::matmul_i8(self.0.weights(stage), x, spec.n, spec.k, tokens, &mut y);
        y
    }
}
