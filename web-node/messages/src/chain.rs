//! What the Network page shows: headers verified here, nodes proven from state.

use serde::{Deserialize, Serialize};

use crate::{StepState, Unes};

/// One header, as this device checked it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockRow {
    /// Height.
    pub height: u64,
    /// Consensus view.
    pub view: u64,
    /// Digest of the header, hex.
    pub digest: String,
    /// Block time, milliseconds since the epoch.
    pub timestamp_ms: u64,
    /// Leader's public key, hex.
    pub leader: String,
    /// Transactions inside, when known (headers alone do not tell).
    pub transactions: Option<u32>,
    /// Milliseconds between the block's timestamp and this device's check, by this device's clock.
    pub finality_ms: Option<f64>,
    /// How long this device's check took, in milliseconds (a share of its batch).
    pub checked_ms: f64,
    /// Headers in the batch that was verified together.
    pub batch: u32,
    /// Verified only when certificate, seed, parent seed and leader signature all hold.
    pub state: StepState,
}

/// A header in full, for the block page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockDetail {
    /// The row.
    pub row: BlockRow,
    /// Parent digest.
    pub parent: String,
    /// Root of the transactions.
    pub tx_root: String,
    /// Root of the state after this block.
    pub state_root: String,
    /// Threshold seed of the view, hex.
    pub seed: Option<String>,
    /// Bytes of the certificate.
    pub certificate_bytes: u32,
    /// Transactions, each proven against `tx_root`; `None` when the body was not fetched.
    pub transactions: Option<Vec<TxRow>>,
}

/// One transaction inside a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TxRow {
    /// Transaction id, hex.
    pub id: String,
    /// `PayForQuery`, `Commit`, `Claim`, …
    pub kind: String,
    /// Sender's address.
    pub sender: String,
    /// One line of what it does.
    pub summary: String,
}

/// The nodes of the network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkView {
    /// Every registered compute node.
    pub nodes: Vec<NodeRow>,
    /// Height whose state root the rows were proven against.
    pub height: u64,
    /// Verified when every row carries a state proof that this device checked.
    pub state: StepState,
    /// How long that took.
    pub checked_ms: f64,
    /// The odds of a colluding pair, when they can be computed.
    pub collusion: Option<Collusion>,
}

/// One registered compute node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRow {
    /// Node key, hex.
    pub node: String,
    /// Operator's address, hex. Self-declared: nothing shows that two operators are two people.
    pub operator: String,
    /// A name for the operator where the genesis gives one.
    pub operator_name: Option<String>,
    /// Bond.
    pub bond: Unes,
    /// True when the bond came from the faucet: only ever on side B.
    pub faucet_bond: bool,
    /// Score, lowered only by provable misses.
    pub score: i64,
    /// Addresses as registered.
    pub addresses: Vec<String>,
    /// True when this row is this very browser.
    pub this_device: bool,
}

/// What it takes to put a colluding pair in one's way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Collusion {
    /// Operators that could be drawn.
    pub operators: u32,
    /// Share of the bond held by the largest two operators together.
    pub largest_two: f64,
    /// Bond an attacker must add to be drawn on both sides with probability one half.
    pub price: Unes,
}

/// Two finalised headers at one height: the network forked or its dealer forged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConflictView {
    /// The height.
    pub height: u64,
    /// Digest seen first.
    pub first: String,
    /// Digest seen second.
    pub second: String,
    /// Peer that delivered the second.
    pub peer: String,
}
