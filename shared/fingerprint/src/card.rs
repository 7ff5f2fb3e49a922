//! What whoever asks for a run must know of a model without having it.

use crate::{
    calibration::{Calibration, CalibrationError},
    plan::{Plan, TAPS},
    tensor::{Kind, MAX_RANK, MAX_TENSORS},
};
use nesa_primitives::Hash;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error as ThisError;

/// Longest name of an input, an output or a tap, in bytes.
const MAX_NAME: usize = 1024;

/// One size of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dimension {
    /// Always this.
    Fixed(u32),
    /// Given by the input; equal names mean equal sizes.
    Open(String),
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(f),
            Self::Open(name) => name.fmt(f),
        }
    }
}

/// An input of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputInfo {
    /// Its name.
    pub name: String,
    /// Its type, as it is exchanged.
    pub kind: Kind,
    /// Its sizes.
    pub shape: Vec<Dimension>,
}

impl InputInfo {
    /// The shape in words: `[batch, 32]`.
    pub fn shape_text(&self) -> String {
        let sizes: Vec<String> = self.shape.iter().map(Dimension::to_string).collect();
        format!("[{}]", sizes.join(", "))
    }

    /// Whether a tensor of this shape can be given.
    pub fn fits(&self, shape: &[u32]) -> bool {
        let fits = |(dim, &got): (&Dimension, &u32)| match dim {
            Dimension::Fixed(size) => *size == got,
            Dimension::Open(_) => true,
        };
        self.shape.len() == shape.len() && self.shape.iter().zip(shape).all(fits)
    }
}

/// A model as its operators describe it. [`Card::check`] shows that plan and calibration belong together;
/// that they belong to the file that the digest names is the word of whoever gives the card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Model, taps, outputs and engine.
    pub plan: Plan,
    /// What it takes.
    pub inputs: Vec<InputInfo>,
    /// What was measured; without it no replicas can be compared.
    pub calibration: Option<Calibration>,
}

/// A card that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum CardError {
    /// Of another model than was asked for.
    #[error("the card is of model {got}, not of {expected}")]
    Model {
        /// Its model.
        got: Hash,
        /// The model asked for.
        expected: Hash,
    },
    /// The calibration is of another plan, so also if taps or engine are others.
    #[error("the calibration is of plan {got}, the card of {expected}")]
    Plan {
        /// The calibration's plan.
        got: Hash,
        /// The card's.
        expected: Hash,
    },
    /// The calibration says nothing sensible.
    #[error("the calibration: {0}")]
    Calibration(#[from] CalibrationError),
    /// More of something than there can be, or too long a name.
    #[error("{got} {what}, at most {max}")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many.
        got: usize,
        /// How many are allowed.
        max: usize,
    },
}

impl Card {
    /// Checks a card of `model` from outside.
    ///
    /// # Errors
    /// The first [`CardError`].
    pub fn check(&self, model: &Hash) -> Result<(), CardError> {
        let plan = &self.plan;
        if plan.model != *model {
            return Err(CardError::Model { got: plan.model, expected: *model });
        }
        let rank = self.inputs.iter().map(|input| input.shape.len()).max().unwrap_or_default();
        let names = plan.taps.iter().chain(&plan.outputs).chain([&plan.engine]);
        let names = names.chain(self.inputs.iter().map(|input| &input.name));
        let longest = names.map(String::len).max().unwrap_or_default();
        for (what, got, max) in [
            ("inputs", self.inputs.len(), MAX_TENSORS),
            ("outputs", plan.outputs.len(), MAX_TENSORS),
            ("taps", plan.taps.len(), TAPS),
            ("dimensions", rank, MAX_RANK),
            ("bytes of a name", longest, MAX_NAME),
        ] {
            if got > max {
                return Err(CardError::Many { what, got, max });
            }
        }
        let Some(calibration) = &self.calibration else { return Ok(()) };
        if calibration.model != *model {
            return Err(CardError::Model { got: calibration.model, expected: *model });
        }
        let expected = plan.digest();
        if calibration.plan != expected {
            return Err(CardError::Plan { got: calibration.plan, expected });
        }
        Ok(calibration.check()?)
    }
}
