//! The verification ladder: what was checked, in the order it happened.

use serde::{Deserialize, Serialize};

use crate::Lane;

/// One rung.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Which rung.
    pub id: StepId,
    /// What is known about it.
    pub state: StepState,
    /// Who did the step (not who checked it): `this device`, `node 3f9a…`, `4 validators`.
    #[serde(default)]
    pub who: String,
    /// One sentence of fact with the numbers of this very answer.
    #[serde(default)]
    pub detail: String,
    /// How long this device's check took. `None` when nothing was checked.
    #[serde(default)]
    pub checked_ms: Option<f64>,
    /// What was checked, for reading and copying. Never holds r, s, masks or shares.
    #[serde(default)]
    pub evidence: serde_json::Value,
    /// What arrived, when the step failed.
    #[serde(default)]
    pub got: Option<String>,
    /// What was expected, when the step failed.
    #[serde(default)]
    pub expected: Option<String>,
}

impl Step {
    /// A rung of which nothing is known yet.
    pub fn pending(id: StepId) -> Self {
        Self {
            id,
            state: StepState::Pending,
            who: String::new(),
            detail: String::new(),
            checked_ms: None,
            evidence: serde_json::Value::Null,
            got: None,
            expected: None,
        }
    }

    /// The whole ladder at the start of a query.
    pub fn ladder() -> Vec<Self> {
        StepId::ALL.into_iter().map(Self::pending).collect()
    }

    /// The whole ladder at the start of a query of this lane.
    pub fn ladder_of(lane: Lane) -> Vec<Self> {
        StepId::of(lane).iter().copied().map(Self::pending).collect()
    }
}

/// The state of one rung, block or receipt line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepState {
    /// Not decided yet.
    #[default]
    Pending,
    /// This device checked those very bytes.
    Verified,
    /// This device checked, and the bytes are wrong.
    Failed,
    /// Nobody checked it here.
    NotChecked,
    /// This device compared, and what it found is likely, not certain: the error rates stand beside it.
    Evidence,
}

/// The rungs, those of the masked lane first to last, then what the sealed and the float lane have instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepId {
    /// The payment for this query is in a block, its escrow in the state.
    RequestEscrowed,
    /// The header holding it is finalised under the trust root.
    HeaderFinal,
    /// The two nodes follow from the seed of the view fixed at inclusion.
    CommitteeDerived,
    /// Each node received one share, under its registered key.
    SharesSent,
    /// Every linear layer satisfied the range and Freivalds checks.
    LayersChecked,
    /// What is displayed is what came out of the checked layers.
    OutputBound,
    /// Payment, burn and refund are in the state.
    Settled,
    /// Origin and digest of this page's code; never checked by itself.
    PageCode,
    /// The nodes of each shard follow from the seed of the view fixed at inclusion.
    ShardsDrawn,
    /// Each node got an envelope of its own, to a key that it signed.
    EnvelopesSealed,
    /// All nodes of every shard gave this device the same numbers.
    ReplicasAgreed,
    /// All of them published equal traces of all they computed.
    TracesEqual,
    /// A majority's answers are as near to each other as those of honest machines.
    AnswersNear,
    /// Those published on the chain what they told this device.
    AnswersRevealed,
}

impl StepId {
    /// The rungs of the sealed lane, in order.
    pub const SEALED: [Self; 8] = [
        Self::RequestEscrowed,
        Self::HeaderFinal,
        Self::ShardsDrawn,
        Self::EnvelopesSealed,
        Self::ReplicasAgreed,
        Self::TracesEqual,
        Self::Settled,
        Self::PageCode,
    ];

    /// The rungs of the float lane, in order.
    pub const FLOAT: [Self; 8] = [
        Self::RequestEscrowed,
        Self::HeaderFinal,
        Self::ShardsDrawn,
        Self::EnvelopesSealed,
        Self::AnswersNear,
        Self::AnswersRevealed,
        Self::Settled,
        Self::PageCode,
    ];

    /// The rungs of a lane, in order.
    pub const fn of(lane: Lane) -> &'static [Self; 8] {
        match lane {
            Lane::Masked => &Self::ALL,
            Lane::Sealed => &Self::SEALED,
            Lane::Float => &Self::FLOAT,
        }
    }

    /// The rungs of the masked lane, in order.
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

    /// Plain words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::RequestEscrowed => "The fee is held by the chain",
            Self::HeaderFinal => "The block that says so is final",
            Self::CommitteeDerived => "The two nodes were drawn, not chosen by anyone",
            Self::SharesSent => "Each node got only its half",
            Self::LayersChecked => "Every layer of the model was computed right",
            Self::OutputBound => "What you read is what was checked",
            Self::Settled => "Everyone was paid, the rest came back",
            Self::PageCode => "The page itself",
            Self::ShardsDrawn => "The nodes were drawn, not chosen by anyone",
            Self::EnvelopesSealed => "Only the drawn nodes can open what was sent",
            Self::ReplicasAgreed => "All nodes with the same part computed the same",
            Self::TracesEqual => "They stand by it: all published equal traces",
            Self::AnswersNear => "Their answers are as near as those of honest machines",
            Self::AnswersRevealed => "They stand by it: each published the answer it told you",
        }
    }

    /// The field's own terms, set small beneath the title.
    pub const fn term(self) -> &'static str {
        match self {
            Self::RequestEscrowed => "PayForQuery included, escrow proven in state",
            Self::HeaderFinal => "threshold certificate over header and seed, parent seed",
            Self::CommitteeDerived => {
                "VRF seed of the fixed view, bond-weighted, disjoint operators"
            }
            Self::SharesSent => {
                "x − PRG(seed) mod 2^k to A, fresh seed to B, noise to registered keys"
            }
            Self::LayersChecked => "range check and Freivalds mod 2^61−1 on every linear stage",
            Self::OutputBound => "embedding digest of the displayed bytes",
            Self::Settled => "vouchers claimed, shares by on-chain ratios, state proof",
            Self::PageCode => "origin and build digest",
            Self::ShardsDrawn => {
                "VRF seed of the fixed view, bond-weighted, different operators in each shard"
            }
            Self::EnvelopesSealed => {
                "HPKE (X-Wing, ChaCha20-Poly1305) to a prekey each node signed"
            }
            Self::ReplicasAgreed => "digests of every row of every token, compared by this device",
            Self::TracesEqual => {
                "blinded commitments revealed on chain, equal trace roots per shard"
            }
            Self::AnswersNear => {
                "fingerprints of values inside the run (after TOPLOC) and all outputs, by calibrated thresholds"
            }
            Self::AnswersRevealed => {
                "blinded commitments revealed on chain, the root of each answer"
            }
        }
    }
}

/// What the ladder never shows, listed at its end, always.
pub const NOT_PROVEN: [&str; 6] = [
    "That two operators are two people. If A and B pool their halves, now or years later, they can read everything.",
    "That the model is good, or the ranking useful. Only that this model produced it.",
    "That the network's dealer destroyed its key. On a local network its dealer could forge headers.",
    "That past validators erased their shares of the group key.",
    "That nobody learned the model used, the padded length, the number of passages or the time.",
    "That this page's code is honest. It cannot check itself: compare the digest, or run your own node.",
];

/// The same for the sealed lane.
pub const NOT_PROVEN_SEALED: [&str; 7] = [
    "That the answer is right. If all nodes of one shard lie alike, nothing here shows it; the odds are beside the choice of lane.",
    "That nobody read it. Every drawn node that computes reads your text, or rows from which it can be told. It may keep and pass on what it read.",
    "That the operators of one shard are different people.",
    "That nobody learned the model used, the number of tokens or the time.",
    "That the network's dealer destroyed its key. On a local network its dealer could forge headers.",
    "That past validators erased their shares of the group key.",
    "That this page's code is honest. It cannot check itself: compare the digest, or run your own node.",
];

/// The same for the float lane.
pub const NOT_PROVEN_FLOAT: [&str; 8] = [
    "That the answer is right. It is statistical evidence: the rates beside it were measured on made-up inputs, without an adversary in mind.",
    "That no node adjusted its answer. Whoever knows the thresholds can stay within them, and shift an output by that much.",
    "That the nodes ran the model each for itself. One may copy from another, and a majority of them may lie alike.",
    "That nobody read it. Every drawn node reads the inputs and computes the outputs. It may keep and pass on both.",
    "That the thresholds fit this model. They come from this network's operators; this device measured nothing.",
    "That the network's dealer destroyed its key. On a local network its dealer could forge headers.",
    "That past validators erased their shares of the group key.",
    "That this page's code is honest. It cannot check itself: compare the digest, or run your own node.",
];

impl Lane {
    /// The lane that a ladder is of.
    pub fn of(ladder: &[Step]) -> Self {
        let has = |id| ladder.iter().any(|step| step.id == id);
        if has(StepId::AnswersNear) {
            Self::Float
        } else if has(StepId::TracesEqual) {
            Self::Sealed
        } else {
            Self::Masked
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_knows_its_lane_and_the_sealed_one_promises_no_layer() {
        for of in [Lane::Masked, Lane::Sealed, Lane::Float] {
            assert_eq!(Lane::of(&Step::ladder_of(of)), of);
        }
        assert_eq!(Step::ladder(), Step::ladder_of(Lane::Masked));
        let sealed = StepId::SEALED;
        for masked in [StepId::SharesSent, StepId::LayersChecked, StepId::OutputBound] {
            assert!(!sealed.contains(&masked), "{masked:?}");
        }
        assert!(NOT_PROVEN_SEALED.iter().any(|line| line.contains("reads your text")));
        for exact in [StepId::LayersChecked, StepId::ReplicasAgreed, StepId::TracesEqual] {
            assert!(!StepId::FLOAT.contains(&exact), "{exact:?}");
        }
        assert!(NOT_PROVEN_FLOAT.iter().any(|line| line.contains("statistical evidence")));
    }

    #[test]
    fn ids_are_the_names_the_native_client_uses() {
        let names: Vec<String> =
            StepId::ALL.iter().map(|id| serde_json::to_string(id).unwrap()).collect();
        assert_eq!(
            names,
            [
                "\"request-escrowed\"",
                "\"header-final\"",
                "\"committee-derived\"",
                "\"shares-sent\"",
                "\"layers-checked\"",
                "\"output-bound\"",
                "\"settled\"",
                "\"page-code\""
            ]
        );
    }

    #[test]
    fn a_fresh_ladder_claims_nothing() {
        assert!(Step::ladder().iter().all(|s| s.state == StepState::Pending));
    }
}
