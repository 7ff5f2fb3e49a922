//! Who computes a linear stage.

use nesa_kernels::Weight;

use crate::classifier::ClassifierModel;
use crate::decoder::DecoderModel;
use crate::{LinearSpec, Model, StageId};

/// Computes linear stages: locally, or (behind the same shape) through a lane.
pub trait Linear {
    /// Returns `y = x · wᵀ` of `[tokens, n]` for `x` of `[tokens, k]`.
    fn apply(&self, stage: StageId, x: &[i32], tokens: usize) -> Vec<i32>;

    /// [`Linear::apply`] into memory that is there already: `y` is `[tokens, n]`.
    fn apply_to(&self, stage: StageId, x: &[i32], tokens: usize, y: &mut [i32]) {
        y.copy_from_slice(&self.apply(stage, x, tokens));
    }
}

/// Computes every stage on this machine from the model's own weights.
pub struct PlainEngine<'a>(pub &'a Model);

impl Linear for PlainEngine<'_> {
    fn apply(&self, stage: StageId, x: &[i32], tokens: usize) -> Vec<i32> {
        product(self.0.stage(stage), self.0.weights(stage), x, tokens)
    }

    fn apply_to(&self, stage: StageId, x: &[i32], tokens: usize, y: &mut [i32]) {
        let spec = self.0.stage(stage);
        self.0.weights(stage).matmul_i8(x, spec.n, spec.k, tokens, y);
    }
}

/// Computes every stage of a decoder, or of a shard, on this machine from its own weights.
pub struct PlainDecoder<'a>(pub &'a DecoderModel);

impl Linear for PlainDecoder<'_> {
    fn apply(&self, stage: StageId, x: &[i32], tokens: usize) -> Vec<i32> {
        product(&self.0.stages()[usize::from(stage.0)], self.0.weights(stage), x, tokens)
    }

    fn apply_to(&self, stage: StageId, x: &[i32], tokens: usize, y: &mut [i32]) {
        let spec = &self.0.stages()[usize::from(stage.0)];
        self.0.weights(stage).matmul_i8(x, spec.n, spec.k, tokens, y);
    }
}

/// Computes every stage of a classifier on this machine from its own weights.
pub struct PlainClassifier<'a>(pub &'a ClassifierModel);

impl Linear for PlainClassifier<'_> {
    fn apply(&self, stage: StageId, x: &[i32], tokens: usize) -> Vec<i32> {
        product(&self.0.stages()[usize::from(stage.0)], self.0.weights(stage), x, tokens)
    }
}

pub(crate) fn product(
    spec: &LinearSpec,
    weights: Weight<'_>,
    x: &[i32],
    tokens: usize,
) -> Vec<i32> {
    let mut y = vec![0; tokens * spec.n];
    weights.matmul_i8(x, spec.n, spec.k, tokens, &mut y);
    y
}
