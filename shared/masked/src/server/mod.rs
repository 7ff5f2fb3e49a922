//! The compute node's side of one (query, side): a state machine without I/O.
//!
//! # Design
//!
//! ```text
//! bytes ─receive─▶ Reply ───────────────────────▶ bytes
//!               └▶ Work(Job) ─run(weights)─▶ Done ─complete─▶ bytes
//!               └▶ Quiet
//!               └▶ Finished{reply, outcome} ─▶ Commit and Claim transactions
//! ```
//!
//! The product itself is a [`Job`], so that a driver may run it on another thread or a GPU. The
//! session serves at most one unpaid pass, asks for nothing but what its limits allow, and keeps
//! of every share and product only digests: to place blame the client sends the same request
//! again, which costs the node no memory and tells it nothing it has not seen.

mod job;
mod ledger;
mod session;

pub use job::{Done, Job, Weights};
pub use nesa_kernels::Weight;
pub use session::{Outcome, Received, ServeError, Session, Terms, own_blind, refuse};
