//! Checks certificates, seeds, state proofs and receipts; everything a client must verify is a pure function here.
//!
//! # Design
//!
//! ```text
//! TrustRoot ─> Verifier ─┬─ verify_header / verify_batch ─> VerifiedHeader ─> state::verify
//!                        │                                        └────────> transaction::verify
//!                        └─ verify_seed (also the chain's SeedVerifier)
//! ```
//!
//! Nothing here reads a clock, a disk, a socket or an entropy source: time, data and randomness
//! are arguments. The validator, the light client and the offline receipt check all call the same
//! functions, and every answer is a three-valued [`Verdict`](nesa_primitives::Verdict).

#![deny(missing_docs)]

pub mod certificate;
pub mod equivocation;
pub mod receipt;
pub mod state;
pub mod transaction;

pub use certificate::{Finalization, Scheme, TrustError, VerifiedHeader, Verifier};
pub use equivocation::{Evidence, equivocation};
