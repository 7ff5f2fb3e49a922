//! Transactions, headers and the pure state-transition rules of the chain.
//!
//! ```text
//! genesis ──> state ──begin_block──apply(tx)*──end_block──> state' ──root──> header
//!               │           │           │
//!             keys       deadlines    escrow, draw, commit, claim, settle
//! ```
//!
//! Everything here is a pure function of what is passed in: the validators run it to make blocks,
//! and a light client runs the same code to recompute a committee, a fee or a settlement from
//! proven records. `docs/chain.md` describes the rules in prose.

#![deny(missing_docs)]

pub mod action;
pub mod block;
pub mod committee;
pub mod fees;
pub mod genesis;
pub mod header;
pub mod keys;
pub mod limits;
pub mod params;
pub mod query;
pub mod record;
pub mod rules;
pub mod state;
pub mod trust;
pub mod tx;
pub mod voucher;

pub use action::{Action, Lane, Named, Side, Verification};
pub use committee::{Committee, Seat, ShardCommittee, Terms};
pub use genesis::Genesis;
pub use keys::Key;
pub use limits::MAX_TX_BYTES;
pub use nesa_trace::{Decision, Grounds, Ruling};
pub use params::Params;
pub use query::{QueryRecord, Status};
pub use trust::TrustRoot;
pub use tx::{SignedTx, Tx};
pub use voucher::{ShardVoucher, Voucher};
