//! The payment receipt: a public, self-contained record of one query, checked offline against the
//! trust root alone.
//!
//! ```text
//! trust root ─> header ─> tx inclusion ─> PayForQuery (signed by the payer)
//!            ─> state  ─> query record, open    ─┐
//!            ─> seed of the draw view            ├─> committee, recomputed
//!            ─> state  ─> snapshot of the nodes ─┘
//!            ─> state  ─> the drawn nodes' records
//!            ─> state  ─> query record, paid ─> commitments, vouchers, every payment recomputed
//! ```
//!
//! A receipt may be written as soon as the nodes are paid. What is left in escrow is then still
//! open until the deadline, and the report says so; written after it, the receipt accounts for the
//! whole escrow.
//!
//! A committee's query has the same record: the committee is that of its shards, the commitments are of
//! traces, and with them come what was revealed, the disputes and their rulings.
//!
//! What it does not show is said by [`DOES_NOT_SHOW`] or [`COMMITTEE_DOES_NOT_SHOW`], always. It holds no prompt, no answer, no
//! mask and no Freivalds secret.
//!
//! The file is JSON with the codec's bytes in hex. Bytes decode canonically and unknown fields are
//! refused, so a file has no room for anything unchecked.

mod check;
mod committee;
mod money;
mod parts;

pub use check::{PaymentSummary, SeatSummary, verify};
pub use committee::{COMMITTEE_DOES_NOT_SHOW, ReplicaSummary, ShardSummary};
pub use parts::{CertifiedPart, EntryPart, Hex, PaymentReceipt, ReceiptError, StatePart};

use serde::Serialize;

/// First field of every payment receipt.
pub const PAYMENT_FORMAT: &str = "nesa-payment-receipt/1";

/// Longest receipt file accepted, in bytes: a snapshot of 512 nodes in hex, with proofs.
pub const MAX_RECEIPT_BYTES: usize = 1 << 20;

/// What no payment receipt of a masked query shows, whatever its checks say.
pub const DOES_NOT_SHOW: [&str; 4] = [
    "that the answer was right: Freivalds' check convinces only whoever holds its secret",
    "what was asked or answered: neither is in this record",
    "that the operators of the two nodes are different people, or did not pool their halves",
    "that no quorum of validator keys, present, past or a dealer's, has forged the headers",
];

/// What a receipt written before the deadline does not show besides.
pub const NOT_RETURNED: &str = "that the unspent escrow has returned: it was written before the \
     deadline, until which more can be claimed, and increments in dispute are burned";

/// One thing that was checked and held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// In plain words, with the numbers of this record.
    pub what: String,
}

/// The first thing that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{what}: got {got}, expected {expected}")]
pub struct Failure {
    /// Which check.
    pub what: String,
    /// What the record says.
    pub got: String,
    /// What it had to say.
    pub expected: String,
}

impl Failure {
    /// A failed check.
    pub fn new(
        what: impl Into<String>,
        got: impl std::fmt::Display,
        expected: impl std::fmt::Display,
    ) -> Self {
        Self { what: what.into(), got: got.to_string(), expected: expected.to_string() }
    }
}

/// What checking a receipt found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report<S> {
    /// Checks in order, all held.
    pub checks: Vec<Check>,
    /// What the record says.
    pub summary: S,
    /// What it does not show.
    pub does_not_show: Vec<&'static str>,
}
