//! A node that lies, for scenarios.

use nesa_model::{Linear, StageId, decoder::DecoderModel};

/// Stages of a decoder layer.
const PER_LAYER: usize = 4;

/// Computes everything but one row of the last layer's last product, whose signs it turns: within range,
/// consistent with all that follows, and wrong. Where the token's logits are computed it turns those of
/// the head's product too, so that a client that looks at logits alone sees it.
pub struct Bent<'a> {
    engine: &'a dyn Linear,
    /// Stages and their widths.
    turned: [(usize, usize); 2],
    row: usize,
    tokens: usize,
}

impl<'a> Bent<'a> {
    /// `engine` for a step of `tokens` through `model`, wrong for the new token number `row`.
    pub fn new(model: &DecoderModel, engine: &'a dyn Linear, row: usize, tokens: usize) -> Self {
        let layers = usize::from(model.config().layers);
        let width = |stage: usize| model.stages().get(stage).map_or(0, |spec| spec.n);
        let last = (model.layers().end * PER_LAYER).saturating_sub(1);
        let turned = [last, layers * PER_LAYER].map(|stage| (stage, width(stage)));
        Self { engine, turned, row, tokens }
    }

    fn turn(&self, stage: StageId, y: &mut [i32]) {
        let stages = self.turned.iter().find(|(turned, _)| *turned == usize::from(stage.0));
        let Some(&(_, width)) = stages.filter(|(_, width)| *width > 0) else { return };
        // The head may be computed for the last tokens alone.
        let skipped = self.tokens.saturating_sub(y.len() / width);
        let row = self.row.checked_sub(skipped).map(|row| row * width);
        let row = row.and_then(|at| y.get_mut(at..at + width)).unwrap_or_default();
        row.iter_mut().for_each(|value| *value = value.wrapping_neg());
    }
}

impl Linear for Bent<'_> {
    fn apply(&self, stage: StageId, x: &[i32], tokens: usize) -> Vec<i32> {
        let mut y = self.engine.apply(stage, x, tokens);
        self.turn(stage, &mut y);
        y
    }

    fn apply_to(&self, stage: StageId, x: &[i32], tokens: usize, y: &mut [i32]) {
        self.engine.apply_to(stage, x, tokens, y);
        self.turn(stage, y);
    }
}
