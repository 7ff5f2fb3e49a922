//! A compute node: a light client with a kernel, run by native workers and volunteer tabs alike.
//!
//! # Design
//!
//! ```text
//!   /nesa/masked/1 ─▶ admission ─▶ terms (proven on chain) ─▶ service ─▶ journal ─▶ Commit, Claim
//!                        │              own light client        kernel    survives a kill
//!                                              `compute`: an accelerator or the processor
//!   /nesa/shard/1  ─▶ [`shard`]: the sealed lane
//!   /nesa/chunks/1 ─▶ weights by digest
//!   /nesa/prepare/1 ─▶ admission ─▶ uᵀW mod p for a uniform u: a client's thin preparation
//! ```
//!
//! A node believes no client. That a query exists, is open, pays, and drew this node for this side
//! is proven by the node's own light client before the first product. It works at most one pass
//! ahead of the client's signed running total, and writes that total down before it goes on, so a
//! node killed at any point loses at most one increment.
//!
//! # How can I attack this?
//!
//! *Free work*: a client may leave after one pass without paying; the escrow's part for that pass
//! is burned, so this costs the client as much. *Exhaustion*: queries at once, streams, frame
//! sizes, bytes per hour and idle time are all bounded, and a query is proven before anything is
//! computed; preparations, which are free, are few at once and bounded per hour. *Reading*: what arrives is a share or a seed; a single node learns the model, the
//! padded length and the time, and nothing of the text.
#![deny(missing_docs)]

mod admission;
pub mod chunks;
mod compute;
mod fault;
mod float;
mod journal;
mod larder;
mod limits;
mod metrics;
mod models;
mod node;
mod prepare;
mod presence;
mod register;
mod service;
mod settle;
pub mod shard;
mod terms;

#[cfg(not(target_family = "wasm"))]
pub use compute::CoresError;
pub use compute::{
    Accelerator, Beside, Cores, Failed, PoolStanding, Product, Slices, Standing, Team, Threads,
    Workers,
};
pub use fault::Fault;
pub use float::{FloatEngine, MAX_CONTENT};
pub use larder::{Larder, LarderError, Stocked};
pub use limits::Limits;
pub use metrics::{Computed, Metrics, Phase, ShardSteps};
pub use models::OpenError;
pub use node::{ComputeNode, NodeConfig, StartError};
pub use register::RegisterError;
pub use terms::TermsError;
