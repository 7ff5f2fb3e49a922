//! The sealed lane: a text written by shards of a model, each served by several nodes that must agree.
//!
//! # Design
//!
//! ```text
//!              shard 0               shard 1                        envelopes: one per node
//!   tokens ─▶ replica 0 ─┐ rows ─▶ replica 0 ─┐ token               ([`nesa_crypto::seal`])
//!      │      replica 1 ─┤ rows    replica 1 ─┤ token
//!      │      replica 2 ─┘         replica 2 ─┘
//!      └──────────── client: compares digests, keeps the rows, chooses who replaces whom
//! ```
//!
//! Every hop goes through the client. That costs a round trip per shard, and gives three things: no
//! node learns of another, the client has the rows that a replacement must be fed, and every digest is
//! compared where it matters. Rows are exact integers, so replicas agree to the last bit or one of them
//! is wrong.
//!
//! There is no I/O here: [`server::Door`] and [`server::Session`] serve one stream,
//! [`client::Session`] is the other end of one, and [`client::Relay`] drives all streams of a query.
//!
//! # What is promised
//!
//! Nobody between client and node reads the text; **the nodes read it**: the first shard sees the
//! prompt, every later one rows from which it can be computed. Equal digests say that `k` drawn nodes
//! computed the same, no more: if all of them lie alike, the text is wrong.
#![deny(missing_docs)]

pub mod activation;
pub mod client;
pub mod float;
pub mod message;
pub mod opening;
pub mod receipts;
pub mod server;
#[cfg(test)]
mod tests;

pub use opening::{Choice, Opening, Terms};

/// Most new tokens of a step. A longer prompt is read in several.
pub const MAX_STEP: usize = 256;
/// Tokens that a node serves beyond what it holds a voucher for, before it refuses the next step.
pub const CREDIT: u32 = 2 * MAX_STEP as u32;
