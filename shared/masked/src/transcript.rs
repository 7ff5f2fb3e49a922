//! What a finished query leaves behind: material for the two records.
//!
//! Neither r nor s is in it, nor can be had from it. Statements and commitments are for the
//! client's own keeping; of a [`Transcript`] only the [`SignedCommit`]s may become public. The
//! [`OpenedPart`]s exist only if the user asked for an opened receipt before the query ran.

use bytes::Bytes;
use nesa_crypto::sign::Signature;
use nesa_primitives::{Amount, Hash};

use crate::{
    client::{Candidate, Link, Rejection},
    message::{SeedBytes, SignedCommit, Slot},
};

/// A packed product with its server's signature.
#[derive(Clone)]
pub struct SignedProduct {
    /// Who gave it.
    pub link: Link,
    /// Digest of the request it answers.
    pub request: Hash,
    /// `rows × n` values of k bits, packed.
    pub values: Bytes,
    /// Over the [`Statement`](crate::message::Statement).
    pub signature: Signature,
}

/// One verified message in the open: with the model and the prompt it shows what each server was
/// asked and what it answered. It reveals the prompt.
#[derive(Clone)]
pub struct OpenedPart {
    /// Its place.
    pub slot: Slot,
    /// The mask's seed.
    pub seed: SeedBytes,
    /// A's answer.
    pub a: SignedProduct,
    /// B's answer.
    pub b: SignedProduct,
}

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
    /// The leaves of its commitment, for an opened receipt.
    pub leaves: Vec<Bytes>,
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
