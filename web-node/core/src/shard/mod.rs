//! The sealed lane's node: shard sessions on `/nesa/shard/1`.
//!
//! # Design
//!
//! ```text
//!   stream ─▶ door (prekey, envelope) ─▶ terms (proven on chain) ─▶ shelf (this shard's pieces)
//!                                              │                        │
//!                 Commit, Reveal, Claim ◀── [`ShardChain`]          desk: jobs of all sessions of a
//!                                                                   shard, computed together, by
//!                                                                   a device ([`ShardAccelerator`])
//!                                                                   where there is one
//! ```
//!
//! A device is believed as little as a stranger (`audit`): it gives the products of the linear stages, and the
//! processor follows the run with them, checks each against the input that it has for it, records the trace
//! and keeps the caches. So a device that is wrong, lost or late costs time and no bit: the processor goes on
//! where it stands.
//!
//! Where the user agreed that a dispute discloses a piece, the inputs of a session are kept on disk with
//! the client's receipts, encrypted, until no dispute can ask for them (`evidence`); a replica whose
//! root differs from another's computes its run again from them (`defence`) and answers each round
//! (`contest`), also after a restart.
//!
//! Nothing is fetched or kept for a client before the chain has confirmed its query. Sessions, the
//! memory of their caches, and the memory of loaded shards are bounded; a client that closes its stream
//! stops what is computed for it between two linear stages.
//!
//! **What arrives is read**: unlike the masked lane, a node of this lane sees what it computes on.

mod audit;
mod chain;
mod contest;
mod defence;
mod desk;
mod device;
mod entry;
mod evidence;
mod ledger;
mod memory;
mod seat;
mod service;
mod settle;
mod shelf;

pub(crate) use evidence::Evidence;
pub(crate) use ledger::OnChain;
pub(crate) use service::serve_with;

pub use chain::{ProvenShard, ShardChain};
pub use device::{BesideShards, DeviceStep, PlaceError, PlacedShard, ShardAccelerator};
pub use evidence::Kept;
pub use service::{ShardNode, serve};
pub use shelf::{Shelf, ShelfError};
