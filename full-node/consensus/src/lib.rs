//! Validators: the commonware simplex engine driving the chain's rules over an authenticated store.
//!
//! # Design
//!
//! ```text
//! ValidatorHandle ──requests──> Service ─┬─> Admission ──> Mempool ──┐   (gossip to the others)
//!        ^                               ├─> store + proofs          v
//!        │                               ├─> marshal: blocks    Application::propose
//!        └──heads── View <── Follower <──┴── finalized ──────── Application::process ── simplex
//! ```
//!
//! [`Validator::start`] runs all of it in one thread with a runtime of its own; the handle works
//! from any executor. [`dealer`] makes keys for a local network. What a block must satisfy is in
//! `nesa_chain`, what a client checks in `nesa_verify`; this crate adds when to propose, how to
//! store, and how to serve.

#![deny(missing_docs)]
#![cfg_attr(test, allow(dead_code, reason = "unit tests leave out the tokio validator"))]

mod admission;
mod app;
mod archive;
pub mod dealer;
mod engine;
mod execute;
mod follower;
mod gossip;
mod handle;
mod index;
pub mod mempool;
mod node;
mod seeds;
mod service;
mod store;
// Instantiating everything for tokio takes minutes to compile, and the unit tests never run it.
#[cfg(not(test))]
mod validator;
mod view;

#[cfg(test)]
mod simulation;

pub use app::{MAX_CLOCK_SKEW_MS, MAX_TIME_STEP_MS};
pub use handle::{
    CertifiedBlock, CertifiedHeader, MAX_HEADERS, MAX_STATE_KEYS, QueryError, StateAnswer,
    SubmitError, TxLocation, ValidatorHandle,
};
pub use node::StartError;
#[cfg(not(test))]
pub use validator::{Validator, ValidatorConfig};
pub use view::{Head, Subscription};
