//! What a finished query leaves behind: material for the two records.
//!
//! Neither r nor s is in it, nor can be had from it. Statements and commitments are for the
//! client's own keeping; of a [`Transcript`] only the [`SignedCommit`]s may become public. The
//! [`OpenedPart`]s exist only if the user asked for an opened receipt before the query ran.

use nesa_primitives::{Amount, Hash};

use crate::{
    client::{Candidate, Link, Rejection},
    message::SignedCommit,
    opened::OpenedPart,
};

/// One server's end of the query.
#[derive(Clone, Debug)]
pub struct Served {
    /// The part it played.
    pub link: Link,
    /// Who it is.
    pub candidate: Candidate,
    /// The blind of its commitment.
    pub blind: Hash,
    /// Its signed commitment, equal to what the client computed from the answers it holds; `None`
    /// if it left or committed to something else.
    pub commit: Option<SignedCommit>,
    /// Padded tokens of the passes it took part in.
    pub served_tokens: u32,
    /// Its running total.
    pub paid: Amount,
    /// The leaf digests of its commitment, for an opened receipt.
    pub leaves: Vec<Hash>,
}

/// The record of one query.
#[derive(Clone)]
pub struct Transcript {
    /// The servers that were there at the end, A first.
    pub served: Vec<Served>,
    /// Servers replaced on the way.
    pub rejected: Vec<Rejection>,
    /// Padded tokens verified.
    pub tokens: u32,
    /// Answers checked.
    pub checks: u32,
    /// Whether the preparation proved wrong and was made again.
    pub preparation_discarded: bool,
    /// Every verified message, if an opened receipt was asked for; otherwise empty.
    pub opened: Vec<OpenedPart>,
}
