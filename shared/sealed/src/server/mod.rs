//! The node's end of a stream: first the door, then a session.
//!
//! ```text
//!   bytes ─▶ Door ──Reply──▶ prekey
//!              └──Asked──▶ (terms proven on chain) ──▶ Session ─▶ Work(Job) ─▶ Job::run ─▶ complete ─▶ reply
//! ```
//!
//! A [`Job`] owns the sequence's cache while it runs, so it may run on any thread, together with the
//! jobs of other sessions ([`Batch`]), which give the same bytes as alone.

mod bent;
mod door;
mod error;
mod given;
mod job;
mod ledger;
mod session;

pub use bent::Bent;
pub use door::{Asked, AskedOf, Door, DoorOf, EPOCH_MS, Greeting, GreetingOf};
pub use error::ServeError;
pub use given::{Given, given_bytes, replay};
pub use job::{Batch, Canceller, Done, Job, kv_bytes, run};
pub use session::{Outcome, Received, Session};

use bytes::Bytes;
use commonware_codec::Encode as _;

use crate::message::{Frame, Refusal};

/// The frame that refuses a client before a session stands.
pub fn refuse(refusal: Refusal) -> Bytes {
    Frame::Refused(refusal).encode()
}
