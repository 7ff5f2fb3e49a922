//! What the lane drives: a computation that hands out its linear stages.

use nesa_model::classifier::ClassifierRun;
use nesa_model::decoder::{Writing, Written};
use nesa_model::{Embedding, EncoderRun, Step};

use crate::{batch::bucket, client::Pass};

/// A computation that stops at each linear stage, in the order of its [`Lane`](crate::Lane).
pub trait Run {
    /// What it ends in.
    type Output;

    /// Where it stands. Asked again without [`resume`](Self::resume), it answers the same.
    fn step(&mut self) -> RunStep<Self::Output>;

    /// Takes the result of the stage it stands at, `[rows, n]`; `false` if it does not fit.
    fn resume(&mut self, y: Vec<i32>) -> bool;

    /// The pass that follows once it is done, if what it ended in leads to another: the next token of
    /// a text.
    fn follow(self) -> Option<Pass<Self>>
    where
        Self: Sized,
    {
        None
    }
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

/// The logits of each image. A dense layer has a row for an image, a convolution one for each window.
impl Run for ClassifierRun {
    type Output = Vec<Vec<i32>>;

    fn step(&mut self) -> RunStep<Self::Output> {
        match self.pending() {
            Some(pending) => RunStep::Linear { stage: pending.stage.0, x: pending.x.to_vec() },
            None => RunStep::Done(self.output().unwrap_or_default()),
        }
    }

    fn resume(&mut self, y: Vec<i32>) -> bool {
        ClassifierRun::resume(self, &y).is_ok()
    }
}

impl Run for Writing {
    type Output = Option<Written>;

    fn step(&mut self) -> RunStep<Self::Output> {
        match self.pending() {
            Some(pending) => RunStep::Linear { stage: pending.stage.0, x: pending.x.to_vec() },
            None => RunStep::Done(self.written()),
        }
    }

    fn resume(&mut self, y: Vec<i32>) -> bool {
        Writing::resume(self, &y).is_ok()
    }

    fn follow(mut self) -> Option<Pass<Self>> {
        if !self.goes_on() {
            return None;
        }
        let tokens = if self.reads() { bucket(self.next_tokens())? } else { 1 };
        self.advance().ok()?;
        Some(Pass { run: self, tokens })
    }
}
