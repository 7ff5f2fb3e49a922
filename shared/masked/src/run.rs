//! What the lane drives: a computation that hands out its linear stages.

use nesa_model::{Embedding, EncoderRun, Step};

/// A computation that stops at each linear stage, in the order of its [`Lane`](crate::Lane).
pub trait Run {
    /// What it ends in.
    type Output;

    /// Where it stands. Asked again without [`resume`](Self::resume), it answers the same.
    fn step(&mut self) -> RunStep<Self::Output>;

    /// Takes the result of the stage it stands at, `[rows, n]`; `false` if it does not fit.
    fn resume(&mut self, y: Vec<i32>) -> bool;
}

/// Where a [`Run`] stands.
pub enum RunStep<O> {
    /// It needs `y = W·x`.
    Linear {
        /// The stage.
        stage: u16,
        /// `[rows, k]`, within the stage's input bits.
        x: Vec<i32>,
    },
    /// It is done.
    Done(O),
}

impl Run for EncoderRun {
    type Output = Vec<Embedding>;

    fn step(&mut self) -> RunStep<Self::Output> {
        match EncoderRun::step(self) {
            Step::Linear { stage, x, .. } => RunStep::Linear { stage: stage.0, x },
            Step::Done(embeddings) => RunStep::Done(embeddings),
        }
    }

    fn resume(&mut self, y: Vec<i32>) -> bool {
        EncoderRun::resume(self, y).is_ok()
    }
}
