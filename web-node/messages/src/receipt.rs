//! What a receipt check says.

use serde::{Deserialize, Serialize};

use crate::{Problem, RequestId, StepState};

/// Which record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReceiptKind {
    /// Public: inclusion, drawn names, commitments, settlement. Does not show the answer right.
    #[default]
    Payment,
    /// Contains the prompt: every layer can be re-checked with a fresh r.
    Opened,
}

/// The report on a file the user dropped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReceiptReport {
    /// The request it answers.
    pub request: RequestId,
    /// File name.
    pub file: String,
    /// Which record.
    pub kind: ReceiptKind,
    /// True when every check held.
    pub valid: bool,
    /// Checks in order.
    pub checks: Vec<ReceiptCheck>,
    /// What the record says, for reading (query, heights, nodes, amounts, opened texts).
    pub contents: serde_json::Value,
    /// What this record does not show.
    pub does_not_show: Vec<String>,
    /// The first thing that failed, or why the file could not be read.
    pub problem: Option<Problem>,
    /// How long it took.
    pub checked_ms: f64,
}

/// One check of a receipt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReceiptCheck {
    /// Plain words: `Block 812 is final under this trust root`.
    pub what: String,
    /// Outcome.
    pub state: StepState,
    /// Duration of the check.
    pub checked_ms: Option<f64>,
    /// Numbers behind it.
    pub evidence: serde_json::Value,
}
