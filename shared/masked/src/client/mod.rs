//! The client's side of one paid query: a state machine without I/O.
//!
//! # Design
//!
//! ```text
//!            start / received / lost / prepared
//! driver ────────────────────────────────────────▶ Session ──▶ [Action]
//!   ▲   Connect, Send, Close, Progress, Rejected, Replaced,      │
//!   └── Prepare, PassDone, Done, Failed ◀────────────────────────┘
//! ```
//!
//! A query is a list of passes (padded batches). For each linear stage of a pass, A gets
//! x − PRG(seed) and B the seed, a fresh one for every message. B needs no input, so it is asked
//! [`Config::ahead`] stages early and its answers stream in while A works. Both answers are added,
//! range-checked and Freivalds-checked; then the run goes on.
//!
//! When a check fails, both servers are asked for the full product of the share they hold, which
//! shows who lied; only that one is replaced, by the next candidate of its own side, and the stage
//! is sent again under new masks. If both fail, the preparation is suspect: the driver makes a new
//! one ([`Action::Prepare`]), and the same products are judged again under its secrets.
//!
//! After each verified pass both servers get a running total. At the end each is asked for its
//! blinded commitment.
//!
//! The driver owns connections, clocks and retries of its own: a refused dial, a closed stream or
//! a deadline missed is [`Session::lost`]. [`Session::waiting_on`] says who owes an answer.

mod blame;
#[cfg(feature = "dishonest")]
mod dishonest;
#[cfg(test)]
mod mutants;
mod pass;
mod peer;
mod session;
mod settle;
mod types;
mod work;

pub use session::Session;
#[cfg(test)]
pub(crate) use types::Mutant;
pub use types::{
    Action, Candidate, Committee, Config, Link, Pass, Progress, Reason, Rejection, SessionError,
    StartError,
};
