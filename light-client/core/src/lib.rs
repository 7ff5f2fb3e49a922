//! The light client: header sync, proofs, the query client and receipts, native and in the browser.
//!
//! # Design
//!
//! ```text
//!   peers (untrusted) ── bytes ──> client::LightClient ──> sync::HeaderSync (pure verdicts)
//!                                     │ prove, seed, submit, events
//!   wallet::Wallet ───────────────────┤
//!   models::ModelStore ───────────────┤
//!                                     ▼
//!                              query::QueryClient ──> search ──> receipts
//! ```
//!
//! The same code runs in `nesa query` and in the browser's worker. Everything it believes follows
//! from the trust root; everything a peer says is judged first.
#![deny(missing_docs)]

pub mod accounts;
pub mod checkpoint;
pub mod client;
pub mod float;
pub mod ladder;
pub mod models;
pub mod network_peer;
pub mod passages;
pub mod peer;
pub mod query;
pub mod receipt;
mod replicas;
pub mod sealed;
pub mod search;
pub mod sync;
pub mod wallet;

pub use client::{AskError, Event, LightClient, PeerStatus, Proven};
pub use network_peer::NetworkPeer;
pub use query::{QueryClient, QueryError, QueryOptions, QueryOutcome};
