//! The float lane: what a model takes, what nodes said, and how far that is evidence.

use serde::{Deserialize, Serialize};

use crate::Unes;

/// Types of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FloatKind {
    /// Numbers.
    #[default]
    Floats,
    /// Whole numbers.
    Integers,
    /// True and false.
    Booleans,
}

/// One size of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FloatSize {
    /// Always this.
    Fixed(u32),
    /// As many as are given; equal names mean equal sizes.
    Open(String),
}

/// An input that a model takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FloatInput {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: FloatKind,
    /// Its sizes, outermost first.
    pub shape: Vec<FloatSize>,
}

/// Values of one type, in row-major order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FloatValues {
    /// Numbers; `None` is no number, or an infinite one, which JSON cannot say.
    Floats(Vec<Option<f32>>),
    /// Whole numbers.
    Integers(Vec<i64>),
    /// True and false.
    Booleans(Vec<bool>),
}

impl Default for FloatValues {
    fn default() -> Self {
        Self::Floats(Vec::new())
    }
}

impl FloatValues {
    /// How many.
    pub const fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Booleans(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A named tensor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FloatTensor {
    /// The name of the model's input or output.
    pub name: String,
    /// Sizes, outermost first.
    pub shape: Vec<u32>,
    /// The values; of a very large output the first ones only.
    pub values: FloatValues,
}

/// A measured error rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FloatRate {
    /// Of what: `honest machines`, or the deviation that was tried.
    pub name: String,
    /// Trials.
    pub trials: u32,
    /// How many of them went wrong.
    pub errors: u32,
    /// Upper end of the 95 % interval, 0 to 1.
    pub upper: f64,
    /// Whether this device refuses to decide when it is too high.
    pub demanded: bool,
}

/// What was measured of a model before anybody asked it, and by whom nobody knows here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FloatRates {
    /// Digest of the calibration, hex.
    pub digest: String,
    /// The machines that were compared.
    pub machines: Vec<String>,
    /// What computed.
    pub engine: String,
    /// How the inputs were made.
    pub inputs: String,
    /// Honest machines told apart.
    pub honest: FloatRate,
    /// Deviations that passed, by class.
    pub classes: Vec<FloatRate>,
}

/// What the origin tells of a float model. Its digest names the file; that the inputs and rates told
/// here are that file's is the origin's word.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FloatOffer {
    /// What it takes.
    pub inputs: Vec<FloatInput>,
    /// Names of what it gives.
    pub outputs: Vec<String>,
    /// The error rates.
    pub rates: Option<FloatRates>,
    /// Why it cannot be asked, if it cannot.
    pub problem: Option<String>,
}

/// How far an answer can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FloatStanding {
    /// Under way.
    #[default]
    Open,
    /// A strict majority is as near as honest machines are.
    Agreed,
    /// Those published on the chain what they told this device besides.
    Revealed,
    /// They agreed towards this device, and not all of them published it in time.
    Unrevealed,
    /// One of them published something else.
    Broken,
    /// However the missing ones answered, there would be no such majority.
    Disagreed,
    /// Not decidable from what came.
    Undecided,
}

/// A node that ran the model, or was to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FloatNode {
    /// Its replica, from 0.
    pub replica: u8,
    /// Node key, hex.
    pub node: String,
    /// Operator, hex.
    pub operator: String,
    /// Why there is no answer of it, if there is none.
    pub problem: Option<String>,
    /// Whether it is among those that agree, and was promised its pay.
    pub agrees: bool,
    /// What it must publish to stand by its answer, hex.
    pub root: Option<String>,
    /// Whether it did; `None` while it has published nothing.
    pub revealed: Option<bool>,
}

/// A node that gave no answer, whose place a spare took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FloatReplaced {
    /// The replica it was to be, from 0.
    pub replica: u8,
    /// Node key, hex.
    pub node: String,
    /// Operator, hex.
    pub operator: String,
    /// Why, in words.
    pub reason: String,
}

/// What became of a query of the float lane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FloatView {
    /// Nodes that were to run the model.
    pub replicas: u8,
    /// Answers that came so far.
    pub answered: u32,
    /// How far it can be relied on.
    pub standing: FloatStanding,
    /// What is missing for a decision, or why there is none.
    pub missing: Option<String>,
    /// The nodes, by replica.
    pub nodes: Vec<FloatNode>,
    /// Nodes that were given up.
    pub replaced: Vec<FloatReplaced>,
    /// What was sent.
    pub inputs: Vec<FloatTensor>,
    /// The answer of one that agrees.
    pub outputs: Vec<FloatTensor>,
    /// Values of all outputs; more than `outputs` holds if they are too many to be kept.
    pub values: u64,
    /// Largest difference of two output values among those that agree, in parts of a billion of the
    /// largest output.
    pub worst_ppb: Option<u32>,
    /// The same that honest machines may have.
    pub allowed_ppb: u32,
    /// The error rates behind the decision.
    pub rates: Option<FloatRates>,
    /// When the last answer may be published, in milliseconds since the epoch.
    pub reveal_until_ms: Option<f64>,
}

/// What the float lane adds to a price.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FloatQuote {
    /// Nodes that run the model and read the inputs.
    pub replicas: u8,
    /// Spares that read them too, if one of those does not answer.
    pub spares: u8,
    /// What each of those that agree is paid.
    pub per_node: Unes,
    /// Bytes of the inputs.
    pub bytes: u64,
}

/// The float page's input, kept on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FloatDraft {
    /// Digest of the model chosen, hex; `None` takes the first.
    pub model: Option<String>,
    /// The inputs as typed, JSON.
    pub text: String,
    /// Nodes that run it.
    pub replicas: u8,
}

impl Default for FloatDraft {
    fn default() -> Self {
        Self { model: None, text: String::new(), replicas: 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_values_cross_as_they_are() {
        let input = FloatInput {
            name: "x".into(),
            kind: FloatKind::Integers,
            shape: vec![FloatSize::Open("batch".into()), FloatSize::Fixed(32)],
        };
        let json = serde_json::to_string(&input).unwrap();
        assert_eq!(json, r#"{"name":"x","kind":"integers","shape":["batch",32]}"#);
        assert_eq!(serde_json::from_str::<FloatInput>(&json).unwrap(), input);
        // What JSON has no word for is no number on the other side, and nothing is lost by a double.
        let values = FloatValues::Floats(vec![Some(0.1), None]);
        let json = serde_json::to_string(&values).unwrap();
        assert_eq!(serde_json::from_str::<FloatValues>(&json).unwrap(), values);
        let large = FloatValues::Integers(vec![i64::MAX, -(1 << 60)]);
        let json = serde_json::to_string(&large).unwrap();
        assert_eq!(serde_json::from_str::<FloatValues>(&json).unwrap(), large);
        assert_eq!(large.len(), 2);
    }
}
