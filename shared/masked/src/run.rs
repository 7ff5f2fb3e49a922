//! What the lane drives: a computation that hands out its linear stages.

use std::ops::Range;

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

    /// The stages of the lane, of `all` there are, that the pass at hand goes through in order: all of them,
    /// unless a computation has more rows than a pass. Depends on nothing private.
    fn stages(&self, all: usize) -> Range<usize> {
        0..all
    }

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

impl Run for Writing {
    type Output = Vec<Written>;

    fn step(&mut self) -> RunStep<Self::Output> {
        match self.pending() {
            Some(pending) => RunStep::Linear { stage: pending.stage.0, x: pending.x.to_vec() },
            None => RunStep::Done(self.written().unwrap_or_default().to_vec()),
        }
    }

    fn resume(&mut self, y: Vec<i32>) -> bool {
        Writing::resume(self, &y).is_ok()
    }

    fn follow(mut self) -> Option<Pass<Self>> {
        if !self.goes_on() {
            return None;
        }
        let rows = self.next_tokens();
        let tokens = if self.reads() { bucket(rows)? } else { u32::try_from(rows).ok()? };
        self.advance().ok()?;
        Some(Pass { run: self, tokens })
    }
}
