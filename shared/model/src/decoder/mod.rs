//! Llama-type decoders: the model, its cache, the state machine that hands out linear stages, and the
//! plain interpreter that defines its integers.
//!
//! ```text
//! tokens ─▶ DecoderRun ─▶ Pending{stage, x} ─▶ y = x·Wᵀ ─resume─▶ … ─▶ Output (logits, or hidden rows) ─▶ choose
//! ```
//!
//! A run covers new tokens of any number of sequences at once, each with its own [`KvCache`], and a
//! contiguous range of layers: cut at any layer, the ranges in turn give the same bytes as the whole.

mod attention;
mod cache;
mod drafting;
mod feed;
pub mod interpreter;
mod model;
mod observe;
mod parameters;
mod plan;
mod run;
mod sampling;
mod shard;
pub mod toy;
mod writing;

pub use cache::{CacheError, KvCache};
pub use drafting::{DraftError, DraftModel, Drafter, Repeats};
pub use feed::{Fed, Feed, Input, Logits, Output, RunError};
pub use model::{DecoderModel, served_stages};
pub use observe::{Attended, Observe, Place, Row};
pub use parameters::{Norm, Scaling};
pub use plan::{MAX_SHARDS, PlanError, ShardPlan};
pub use run::{DecoderRun, Pending};
pub use sampling::{SAMPLING_SEED_BYTES, choose};
pub use shard::{Shard, ShardError};
pub use writing::{WriteError, WriteRequest, Writing, Written};
