//! The masked lane: two servers compute on additive shares, and the client checks every product.
//!
//! ```text
//!                       x − PRG(seed) mod 2^k
//!            ┌───────────────────────────────────▶ A ──▶ W·(x − m)
//!  client ───┤                                                    ├─ add, range, ⟨r,y⟩ = ⟨s,x⟩ ─▶ W·x
//!            └───────────────────────────────────▶ B ──▶ W·m
//!                       seed
//! ```
//!
//! Everything here is sans-I/O: [`client::Session`] and [`server::Session`] take messages and
//! answer with messages; connections, clocks and randomness belong to the caller. What the lane
//! promises and assumes is in `docs/masked-lane.md`; the eight rules it keeps have a test each
//! that breaks when the rule is broken.
//!
//! Freivalds secrets live in [`preparation::Preparation`], which neither prints nor serialises.

#![deny(missing_docs)]

#[cfg(test)]
mod attacks;
pub mod batch;
pub mod bench;
pub mod client;
pub mod commitment;
pub mod field;
pub mod freivalds;
pub mod images;
pub mod message;
pub mod opened;
pub mod origin;
pub mod pack;
pub mod preparation;
mod run;
pub mod secret;
pub mod server;
pub mod share;
pub mod signing;
pub mod spec;
pub mod thin;
pub mod transcript;

pub use run::{Run, RunStep};
pub use spec::{Lane, Stage};
