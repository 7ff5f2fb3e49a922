//! What a driver puts into a session, and what comes out.

use bytes::Bytes;
use nesa_chain::Side;
use nesa_crypto::sign::SecretKey;
use nesa_primitives::{Address, Amount, Hash};
use thiserror::Error;

use crate::transcript::Transcript;

/// One of the two servers at work: the side, and which candidate of that side it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// A gets shares, B gets seeds.
    pub side: Side,
    /// From 0; grows by one with each replacement.
    pub attempt: u8,
}

/// A node the committee offers for one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The node's key.
    pub node: Address,
    /// Who runs it.
    pub operator: Address,
}

/// The two ordered lists of candidates, whose operators must be disjoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committee {
    /// Candidates for A, in order of attempt.
    pub a: Vec<Candidate>,
    /// Candidates for B, in order of attempt.
    pub b: Vec<Candidate>,
}

impl From<&nesa_chain::Committee> for Committee {
    fn from(drawn: &nesa_chain::Committee) -> Self {
        let seats = |seats: &[nesa_chain::Seat]| {
            seats.iter().map(|s| Candidate { node: s.node, operator: s.operator }).collect()
        };
        Self { a: seats(&drawn.a), b: seats(&drawn.b) }
    }
}

impl Committee {
    /// The candidates of one side.
    pub fn side(&self, side: Side) -> &[Candidate] {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }
}

/// One pass: a run, and the padded tokens that servers see.
pub struct Pass<R> {
    /// The computation, not yet stepped.
    pub run: R,
    /// Padded tokens, at least the rows of the run's stages.
    pub tokens: u32,
}

/// The terms of one query.
pub struct Config {
    /// The chain, as the digest of its trust root.
    pub chain: Hash,
    /// The query.
    pub query: Hash,
    /// The model.
    pub model: Hash,
    /// Paid to each server for each padded token.
    pub price_per_token: Amount,
    /// The query's ephemeral key: signs openings and running totals.
    pub client_key: SecretKey,
    /// Stages that B is asked for ahead of A (its products do not depend on the input).
    pub ahead: usize,
    /// Keep seeds and signed products for an opened receipt. Only after explicit consent: they
    /// contain the prompt.
    pub open_receipt: bool,
}

/// Why a session cannot start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StartError {
    /// A side without candidates.
    #[error("the committee has no candidate for side {0:?}")]
    NoCandidate(Side),
    /// An operator or node stands on both sides.
    #[error("operator {0} stands on both sides")]
    Overlap(Address),
    /// The preparation belongs to another model or lane, or has been discarded.
    #[error("the preparation is not for this model, or was discarded")]
    Preparation,
    /// Every candidate of a side is of an operator that made s: another preparation is needed.
    #[error("every candidate for side {0:?} had part in the preparation")]
    Prepared(Side),
    /// No pass, or a pass outside 1..=512 padded tokens.
    #[error("pass {0} has no tokens, or too many")]
    Tokens(usize),
    /// The price of all passes overflows.
    #[error("the price of {0} tokens overflows")]
    Price(u64),
}

/// Why a session ended without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SessionError {
    /// Every candidate of a side was tried.
    #[error("no candidate is left for side {0:?}")]
    Exhausted(Side),
    /// Both servers stand condemned under an s that strangers made: it is discarded, and nothing
    /// says who was wrong. If s was still being tested, nothing private has been sent.
    #[error("the thin preparation was discarded")]
    Preparation,
    /// Both servers' products are right and the sum is not: the model breaks its own bounds.
    #[error("the model leaves its declared bounds at stage {0}")]
    Bounds(u16),
    /// The run asked for a stage out of order, or of the wrong size.
    #[error("the model asks for stage {0}, which is not next")]
    Order(u16),
    /// A run was to be followed by a pass of an impossible size, or one that nothing can pay.
    #[error("pass {number} would have {tokens} tokens, which cannot be served or paid")]
    Pass {
        /// Its number.
        number: u32,
        /// Its padded tokens.
        tokens: u32,
    },
}

/// Why a server was replaced. One opaque word: it names neither check nor coordinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It answered wrongly.
    Rejected,
    /// It did not answer, or refused.
    Unavailable,
}

/// A server that was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// The part it played.
    pub link: Link,
    /// The node.
    pub node: Address,
    /// Why.
    pub reason: Reason,
}

/// How far the query is: stages verified in the pass at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The pass, from 0.
    pub pass: u32,
    /// Passes known of so far.
    pub passes: u32,
    /// Linear stages of this pass verified so far.
    pub verified: u32,
    /// Linear stages of a pass.
    pub stages: u32,
}

/// What the driver is to do or to know.
pub enum Action<O> {
    /// Open a stream to this node; what is sent on the link before it stands is to be queued.
    Connect {
        /// The link.
        link: Link,
        /// The node.
        candidate: Candidate,
    },
    /// Send one frame.
    Send {
        /// The link.
        link: Link,
        /// The frame.
        message: Bytes,
    },
    /// Close the stream, after what was sent on it.
    Close {
        /// The link.
        link: Link,
    },
    /// Another stage is verified.
    Progress(Progress),
    /// A check failed; blame is being placed.
    Rejected {
        /// The pass.
        pass: u32,
        /// The linear stage.
        stage: u16,
    },
    /// A server was replaced; `Connect` to the next one follows, if there is one.
    Replaced(Rejection),
    /// Discard the stored preparation, make a fresh one from hash-checked weights, and hand it to
    /// [`Session::prepared`](super::Session::prepared).
    Prepare,
    /// A pass is verified and paid.
    PassDone {
        /// Its number.
        pass: u32,
        /// What it computed.
        output: O,
    },
    /// The query is complete. Every link may close.
    Done(Box<Transcript>),
    /// The query ended without a result for the passes not done.
    Failed(SessionError),
}

/// Deliberately wrong clients, each breaking one rule of the lane; tests must notice every one.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Masks of eight bits.
    EightBitMask,
    /// One seed for every message.
    ReusedSeed,
    /// Seeds from a counter that a retry turns back.
    CounterRollback,
    /// Seeds derived from the message's place.
    SeedFromPosition,
    /// A range failure looks different from a Freivalds failure.
    DifferentiatedErrors,
    /// Only the rows of real tokens are checked.
    PaddingUnchecked,
    /// A thin preparation is used without a test.
    Untested,
    /// A thin preparation is tested on rows that everybody knows.
    KnownTestRows,
}
