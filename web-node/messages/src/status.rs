//! How far the worker has come: network and model, side by side.

use serde::{Deserialize, Serialize};

use crate::Problem;

/// Everything the page header and the About page need. Replaces the previous one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The way to the chain.
    pub network: NetworkPhase,
    /// The way to checked weights.
    pub model_phase: ModelPhase,
    /// Which chain, once known.
    pub identity: Option<ChainIdentity>,
    /// Highest header verified by this device; 0 before the first.
    pub height: u64,
    /// Peers the worker asks, and those it stopped asking because they lied.
    pub peers: Vec<PeerRow>,
    /// The model that queries use, once its manifest is verified.
    pub model: Option<ModelInfo>,
    /// What runs in the worker.
    pub versions: Versions,
    /// True when a local wallet address exists and can sign.
    pub can_pay: bool,
}

/// The way to the chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum NetworkPhase {
    /// The worker's wasm is starting.
    #[default]
    Starting,
    /// Fetching `/v1/bootstrap`.
    Bootstrapping,
    /// Dialling peers.
    Connecting {
        /// Addresses tried so far.
        tried: u32,
    },
    /// Verifying headers up to the head that peers claim.
    Syncing {
        /// Highest header verified.
        height: u64,
        /// Height claimed by the best peer (not trusted, only a target).
        target: u64,
    },
    /// Following the head.
    Live,
    /// No peer answers; the worker keeps trying.
    Offline {
        /// When the next try happens, milliseconds from now.
        retry_ms: u64,
        /// Why.
        problem: Problem,
    },
    /// The chain offered is not the chain pinned on this device, or proofs are wrong. Final.
    Refused {
        /// Got and expected.
        problem: Problem,
    },
}

/// The way to checked weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ModelPhase {
    /// Nothing begun.
    #[default]
    Waiting,
    /// Chunks arrive, each checked against the model digest.
    Downloading {
        /// Bytes checked.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Computing s = rᵀW for each weight matrix.
    Preparing {
        /// Stages prepared.
        done: u32,
        /// Stages in all (24 for MiniLM).
        total: u32,
    },
    /// Ready to check products.
    Ready {
        /// True when taken from this device's store instead of downloaded.
        cached: bool,
        /// How long the way here took.
        took_ms: f64,
        /// True when two other nodes prepared, and no weights were downloaded.
        #[serde(default)]
        thin: bool,
    },
    /// A chunk did not match, or no peer has the model.
    Failed {
        /// Got and expected.
        problem: Problem,
    },
}

/// Which chain this device follows, and who said so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChainIdentity {
    /// Human name, e.g. `nesa-local`.
    pub chain_id: String,
    /// Trust root: hex of group key ‖ genesis digest ‖ chain id.
    pub trust_root: String,
    /// Digest of the trust root: "the chain" in every signature.
    pub digest: String,
    /// Where the trust root came from.
    pub source: RootSource,
    /// True when the group key was made by one dealer: it could forge.
    pub dealer: bool,
    /// True when a faucet answers on this network.
    pub faucet: bool,
}

/// Where a trust root came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RootSource {
    /// Told by the page's origin just now, first visit.
    #[default]
    Origin,
    /// The same as this device pinned on an earlier visit.
    Pinned,
    /// Typed or pasted by the user.
    User,
}

/// One connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerRow {
    /// libp2p peer id.
    pub peer: String,
    /// Address dialled.
    pub address: String,
    /// Headers this peer delivered that verified.
    pub headers: u64,
    /// Last round trip.
    pub rtt_ms: Option<u32>,
    /// What it got provably wrong, with got and expected. It is not asked again.
    pub offence: Option<String>,
}

/// The model in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelInfo {
    /// `all-MiniLM-L6-v2`.
    pub name: String,
    /// Digest over weights, tables, tokenizer and graph.
    pub digest: String,
    /// Bytes of the compiled file.
    pub bytes: u64,
    /// Linear stages per pass.
    pub stages: u32,
    /// Longest text in tokens before truncation.
    pub max_tokens: u32,
}

/// What runs in the worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Versions {
    /// Version of the worker crate.
    pub worker: String,
    /// libp2p protocol ids in use.
    pub protocols: Vec<String>,
    /// Kernel in use: `wasm simd128`.
    pub kernel: String,
}
