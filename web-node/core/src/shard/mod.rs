//! The sealed lane's node: shard sessions on `/nesa/shard/1`.
//!
//! # Design
//!
//! ```text
//!   stream ─▶ door (prekey, envelope) ─▶ terms (proven on chain) ─▶ shelf (this shard's pieces)
//!                                              │                        │
//!                 Commit, Reveal, Claim ◀── [`ShardChain`]          desk: jobs of all sessions of a
//!                                                                   shard, computed together
//! ```
//!
//! Nothing is fetched or kept for a client before the chain has confirmed its query. Sessions, the
//! memory of their caches, and the memory of loaded shards are bounded; a client that closes its stream
//! stops what is computed for it between two linear stages.
//!
//! **What arrives is read**: unlike the masked lane, a node of this lane sees what it computes on.

mod desk;
mod ledger;
mod memory;
mod service;
mod shelf;

pub(crate) use ledger::OnChain;
pub(crate) use service::serve_with;

pub use service::{ProvenShard, ShardChain, ShardNode, serve};
pub use shelf::{Shelf, ShelfError};
