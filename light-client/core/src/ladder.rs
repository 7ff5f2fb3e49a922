//! The verification ladder: what was checked for one answer, by whom, in what time, on what evidence.
//!
//! A step is `Verified` only when this device checked the very bytes; what it did not check is said
//! (`NotChecked`), never left out.

use serde::{Deserialize, Serialize};

/// The rungs, in the order they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepId {
    /// The payment is in a block, its fee escrowed, the commitment is ours.
    RequestEscrowed,
    /// That block's header is final under the trust root's group key.
    HeaderFinal,
    /// The committee was recomputed here from the draw view's seed and an older stake snapshot.
    CommitteeDerived,
    /// Masked shares left this device, each to its one node.
    SharesSent,
    /// Every linear layer's answer passed the range check and Freivalds' check.
    LayersChecked,
    /// The displayed bytes are the ones the checked layers produced.
    OutputBound,
    /// The chain paid the nodes what the vouchers say; the rest returns at the deadline.
    Settled,
    /// Origin and digest of the program that did the checking; it cannot check itself.
    PageCode,
}

impl StepId {
    /// Every rung from top to bottom.
    pub const ALL: [Self; 8] = [
        Self::RequestEscrowed,
        Self::HeaderFinal,
        Self::CommitteeDerived,
        Self::SharesSent,
        Self::LayersChecked,
        Self::OutputBound,
        Self::Settled,
        Self::PageCode,
    ];
}

/// What is known about a rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Not there yet.
    Pending,
    /// Checked by this device.
    Verified,
    /// Checked by this device and found wrong.
    Failed,
    /// Nobody here checked it; the evidence says why.
    NotChecked,
}

/// One rung with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LadderStep {
    /// Which rung.
    pub id: StepId,
    /// What is known.
    pub state: StepState,
    /// Who did the step (not who checked it): `this device`, `node 3f9a…`, `the chain`.
    pub who: String,
    /// One sentence of fact with the numbers of this very answer.
    pub detail: String,
    /// How long this device's own check took, in milliseconds (waiting for others is not counted).
    pub ms: f64,
    /// What the check looked at, as JSON for display and export. Holds no secret.
    pub evidence: serde_json::Value,
    /// What arrived, when the step failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub got: Option<String>,
    /// What was expected, when the step failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

impl LadderStep {
    /// A rung of which nothing is known yet.
    pub fn pending(id: StepId) -> Self {
        Self {
            id,
            state: StepState::Pending,
            who: String::new(),
            detail: String::new(),
            ms: 0.0,
            evidence: serde_json::Value::Null,
            got: None,
            expected: None,
        }
    }

    /// A rung that this device checked in `ms` milliseconds.
    pub fn verified(
        id: StepId,
        who: impl Into<String>,
        detail: impl Into<String>,
        ms: f64,
        evidence: serde_json::Value,
    ) -> Self {
        let (who, detail) = (who.into(), detail.into());
        Self { state: StepState::Verified, who, detail, ms, evidence, ..Self::pending(id) }
    }

    /// A rung that nobody here checked, and why.
    pub fn not_checked(
        id: StepId,
        who: impl Into<String>,
        detail: impl Into<String>,
        evidence: serde_json::Value,
    ) -> Self {
        let (who, detail) = (who.into(), detail.into());
        Self { state: StepState::NotChecked, who, detail, evidence, ..Self::pending(id) }
    }

    /// A rung that this device checked and found wrong.
    pub fn failed(
        id: StepId,
        detail: impl Into<String>,
        got: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self {
            state: StepState::Failed,
            detail: detail.into(),
            got: Some(got.into()),
            expected: Some(expected.into()),
            ..Self::pending(id)
        }
    }
}

/// The ladder while it is being climbed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ladder(Vec<LadderStep>);

impl Default for Ladder {
    fn default() -> Self {
        Self(StepId::ALL.into_iter().map(LadderStep::pending).collect())
    }
}

impl Ladder {
    /// All rungs pending.
    pub fn new() -> Self {
        Self::default()
    }

    /// The rungs, top first.
    pub fn steps(&self) -> &[LadderStep] {
        &self.0
    }

    /// Consumes the ladder into its rungs.
    pub fn into_steps(self) -> Vec<LadderStep> {
        self.0
    }

    /// Sets one rung.
    pub fn set(&mut self, step: LadderStep) {
        if let Some(slot) = self.0.iter_mut().find(|s| s.id == step.id) {
            *slot = step;
        }
    }

    /// One rung.
    pub fn get(&self, id: StepId) -> Option<&LadderStep> {
        self.0.iter().find(|s| s.id == id)
    }

    /// True when every rung above the page's own code is verified here.
    pub fn complete(&self) -> bool {
        self.0.iter().filter(|s| s.id != StepId::PageCode).all(|s| s.state == StepState::Verified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_ladder_claims_nothing() {
        let ladder = Ladder::new();
        assert_eq!(ladder.steps().len(), StepId::ALL.len());
        assert!(ladder.steps().iter().all(|s| s.state == StepState::Pending));
        assert!(!ladder.complete());
    }

    #[test]
    fn only_verified_rungs_complete_it() {
        let mut ladder = Ladder::new();
        for id in StepId::ALL {
            ladder.set(LadderStep::verified(id, "this device", "", 1.0, serde_json::json!({})));
        }
        assert!(ladder.complete());
        ladder.set(LadderStep::not_checked(StepId::Settled, "", "", serde_json::json!({})));
        assert!(!ladder.complete());
    }

    #[test]
    fn ids_are_the_documented_names() {
        let names: Vec<String> = StepId::ALL
            .iter()
            .map(|id| serde_json::to_value(id).unwrap().as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            names,
            [
                "request-escrowed",
                "header-final",
                "committee-derived",
                "shares-sent",
                "layers-checked",
                "output-bound",
                "settled",
                "page-code"
            ]
        );
    }
}
