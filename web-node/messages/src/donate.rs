//! The volunteer's meter.

use serde::{Deserialize, Serialize};

use crate::{Problem, Unes};

/// Limits the volunteer sets before or while serving.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DonateLimits {
    /// Queries served at one time.
    pub max_queries: u32,
    /// Megabytes per hour before new queries are declined.
    pub max_mb_per_hour: u32,
    /// Megabytes of weights on the graphics processor; 0 leaves it alone.
    pub max_gpu_mb: u32,
    /// Whether models are run in floats too, whose inputs this device then reads. Off by default.
    pub floats: bool,
    /// Whether language models are served too, whose prompts this device reads in the sealed lane. Off by default.
    pub texts: bool,
    /// Threads beside the node's own; 0 leaves the other cores alone.
    pub threads: u32,
    /// Megabytes of weights on all of them together.
    pub max_threads_mb: u32,
}

impl Default for DonateLimits {
    fn default() -> Self {
        Self {
            max_queries: 2,
            max_mb_per_hour: 2_000,
            max_gpu_mb: 512,
            floats: false,
            texts: false,
            threads: 1,
            max_threads_mb: 256,
        }
    }
}

/// Which processors serve, and what each has done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServingOn {
    /// The graphics processor that serves, by name.
    pub gpu: Option<String>,
    /// Why there is none, or none any more.
    pub cpu_because: Option<String>,
    /// Stages whose weights it holds.
    pub gpu_stages: u32,
    /// Stages of the models served.
    pub stages: u32,
    /// Bytes of weights on it.
    pub gpu_bytes: u64,
    /// Products that it computed.
    pub gpu_products: u64,
    /// Milliseconds it took for them.
    pub gpu_ms: f64,
    /// Products that the node's own thread computed alone.
    pub cpu_products: u64,
    /// Milliseconds it took for them.
    pub cpu_ms: f64,
    /// The threads beside it.
    pub pool: PoolView,
}

/// The threads beside the node's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolView {
    /// Threads that take part.
    pub threads: u32,
    /// Why there are none, or fewer than asked for.
    pub because: Option<String>,
    /// Stages of which they hold slices.
    pub stages: u32,
    /// Bytes of weights on all of them.
    pub bytes: u64,
    /// Products in which they had part.
    pub products: u64,
    /// Milliseconds these took.
    pub ms: f64,
}

/// Replaces the previous one; about once a second while serving.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DonateView {
    /// Where it stands.
    pub phase: DonatePhase,
    /// This browser's node key, hex.
    pub node: Option<String>,
    /// Bond posted.
    pub bond: Unes,
    /// Address through the relay.
    pub address: Option<String>,
    /// Products served (one per linear stage and pass).
    pub layers: u64,
    /// Queries completed.
    pub queries: u64,
    /// Queries under way.
    pub active: u32,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Sum of the vouchers received.
    pub vouchers: Unes,
    /// Paid out by the chain, proven in state.
    pub earned: Unes,
    /// Connected peers.
    pub peers: u32,
    /// Milliseconds spent in kernels.
    pub busy_ms: f64,
    /// Milliseconds since serving began.
    pub serving_ms: f64,
    /// Which processors serve.
    pub on: ServingOn,
    /// Models that it runs in floats.
    pub floats: u32,
    /// Why some of those the network offers are not among them.
    pub no_floats: Option<String>,
    /// Language models that it serves.
    pub texts: u32,
    /// Why some of those the network offers are not among them.
    pub no_texts: Option<String>,
    /// Bytes of their weights that are here, and of the part that is being fetched; `None` once all are.
    pub fetching: Option<(u64, u64)>,
    /// Limits in force.
    pub limits: DonateLimits,
    /// Why it stopped.
    pub problem: Option<Problem>,
}

/// Where a volunteer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DonatePhase {
    /// Not serving.
    #[default]
    Off,
    /// Fetching the bond from the faucet.
    Funding,
    /// Fetching weights.
    Loading,
    /// Reserving a place at a relay.
    Reserving,
    /// Registering on the chain.
    Registering,
    /// In the snapshot, may be drawn.
    Serving,
    /// Finishing what is under way.
    Stopping,
    /// Stopped by a problem.
    Failed,
}

/// The graphics adapter and its bit self-test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdapterReport {
    /// True while the probe runs.
    pub running: bool,
    /// False when the browser offers no adapter.
    pub available: bool,
    /// Name as the driver gives it.
    pub name: String,
    /// Vendor.
    pub vendor: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `Cpu`, …
    pub device_type: String,
    /// Largest storage buffer binding, bytes.
    pub max_binding: u64,
    /// Bit self-tests, one per kernel shape.
    pub tests: Vec<SelfTest>,
    /// What follows: `serves on the CPU kernel`.
    pub conclusion: String,
    /// Why there is none.
    pub problem: Option<Problem>,
}

/// One bit self-test: the same bytes as the reference, or not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SelfTest {
    /// What was computed: `u32 wrapping product 64×384`.
    pub what: String,
    /// On what: `wasm simd128`, `WebGPU`.
    pub on: String,
    /// Digest computed here.
    pub got: String,
    /// Digest of the reference.
    pub expected: String,
    /// Equal.
    pub equal: bool,
    /// Duration.
    pub took_ms: f64,
}
