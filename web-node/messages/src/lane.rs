//! How a chat reaches the nodes, and what those who answer it may read.

use serde::{Deserialize, Serialize};

use crate::Unes;

/// The lanes of a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Lane {
    /// Split between two nodes: neither reads it, and this device checks every layer.
    #[default]
    Masked,
    /// Encrypted to each of several nodes, which read it and must agree.
    Sealed,
    /// Encrypted to each of several nodes, which read it, run a float model, and must come near each
    /// other. Not for chats.
    Float,
}

impl Lane {
    /// As offers and job views spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Masked => "masked",
            Self::Sealed => "sealed",
            Self::Float => "float",
        }
    }
}

/// Who makes what the masked lane checks products with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PreparationChoice {
    /// This device, which downloads the model once.
    Local,
    /// Two more nodes, on shares: the weights are not downloaded.
    Thin,
}

/// The lane of a chat with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LaneChoice {
    /// Which.
    pub lane: Lane,
    /// Sealed: nodes for each shard that must agree.
    pub replicas: u8,
    /// Sealed: shards that the model is cut into.
    pub shards: u8,
    /// Sealed: whether a dispute may publish a piece of an activation, from which something of the
    /// text may be learnt. Off by default.
    pub disclose: bool,
    /// Masked: who prepares; `None` takes what is there already, and this device otherwise.
    pub preparation: Option<PreparationChoice>,
}

impl Default for LaneChoice {
    fn default() -> Self {
        Self { lane: Lane::Masked, replicas: 3, shards: 2, disclose: false, preparation: None }
    }
}

/// How far a text of the sealed lane can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// From the fastest nodes; the others have not caught up, or never will.
    #[default]
    Provisional,
    /// All nodes of every shard gave this device the same; their traces are not published yet.
    Agreed,
    /// All of them published equal traces besides.
    Verified,
    /// Nodes of one shard differ: nobody can tell here which of them is right.
    Disputed,
    /// They agreed towards this device, and not all of them published a trace in time.
    Unrevealed,
}

impl Standing {
    /// Whether more is to be learnt about it.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Provisional | Self::Agreed)
    }
}

/// What became of a chat in the sealed lane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SealedView {
    /// Nodes for each shard that must agree.
    pub replicas: u8,
    /// The layers of each shard: the first, and the one after the last.
    pub shards: Vec<(u32, u32)>,
    /// Whether a dispute may publish a piece of an activation.
    pub disclose: bool,
    /// How far the text can be relied on.
    pub standing: Standing,
    /// Traces published so far.
    pub revealed: u32,
    /// Traces that there should be.
    pub expected: u32,
    /// When the last trace may be published, in milliseconds since the epoch.
    pub reveal_until_ms: Option<f64>,
    /// The root of each shard's trace, hex, once all are equal.
    pub roots: Vec<String>,
    /// The nodes that served to the end.
    pub nodes: Vec<SealedNode>,
    /// Nodes that were given up on the way; the text went on without them.
    pub replaced: Vec<SealedReplaced>,
    /// Where nodes differed, if they did towards this device.
    pub dispute: Option<SealedDispute>,
}

/// A node that computed a shard, and read what that takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SealedNode {
    /// The shard, from 0.
    pub shard: u8,
    /// Which of its replicas, from 0.
    pub replica: u8,
    /// Node key, hex.
    pub node: String,
    /// Operator, hex.
    pub operator: String,
    /// The blinded root it committed to towards this device, hex.
    pub blinded_root: Option<String>,
    /// What it was promised.
    pub promised: Unes,
}

/// A node that another took the place of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SealedReplaced {
    /// The shard, from 0.
    pub shard: u8,
    /// Node key, hex.
    pub node: String,
    /// Operator, hex.
    pub operator: String,
    /// Why, in words.
    pub reason: String,
    /// Tokens that stood on the page at that moment.
    pub tokens: u32,
}

/// Two nodes of one shard that gave different numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SealedDispute {
    /// The shard, from 0.
    pub shard: u8,
    /// The step of the text.
    pub step: u32,
    /// The node that answered later, hex.
    pub node: String,
    /// The digest it gave, hex.
    pub said: String,
    /// The digest given before, hex.
    pub others: String,
}

/// A shard of the model as it would be served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShardRow {
    /// First layer, from 0.
    pub first: u32,
    /// The layer after its last.
    pub end: u32,
    /// Bytes of its tensors.
    pub bytes: u64,
    /// Nodes that serve it now; `None` where nobody was asked.
    pub nodes: Option<u32>,
    /// Operators behind them.
    pub operators: Option<u32>,
}

/// What the sealed lane adds to a price.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SealedQuote {
    /// Nodes for each shard.
    pub replicas: u8,
    /// The shards.
    pub shards: Vec<ShardRow>,
    /// Milliseconds from inclusion to the last commitment: what is not spent is held a little longer.
    pub deadline_ms: u64,
}

/// Who serves a model at this moment: the registrations proven, the nodes asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OnlineView {
    /// Digest of the model, hex.
    pub model: String,
    /// Nodes registered for it.
    pub registered: u32,
    /// Nodes that answered with a key they signed.
    pub online: u32,
    /// Operators behind those.
    pub operators: u32,
    /// Most nodes for each shard that could be drawn from those.
    pub most_replicas: u8,
    /// The shards of the plan asked for, with who serves each.
    pub shards: Vec<ShardRow>,
    /// Most shards that the model can be cut into.
    pub most_shards: u8,
    /// When they were asked, in milliseconds since the epoch.
    pub at_ms: f64,
    /// Height under which the registrations were proven.
    pub height: u64,
}

/// How likely a committee fails, for assumed adversaries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OddsView {
    /// Nodes for each shard.
    pub replicas: u8,
    /// Shards.
    pub shards: u8,
    /// One line for each assumed share, rising.
    pub rows: Vec<OddsRow>,
}

/// The odds against one assumed adversary. Probabilities are 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OddsRow {
    /// Its share of the stake: one in so many.
    pub one_in: u32,
    /// All replicas of at least one shard are its own: a lie that nobody notices.
    pub lies: f64,
    /// A majority of at least one shard is: it can withhold the answer or the others' pay.
    pub withholds: f64,
    /// At least one node is: it reads.
    pub reads: f64,
}
