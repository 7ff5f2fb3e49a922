//! Why a session ends before its time.

use nesa_primitives::Amount;
use thiserror::Error;

use crate::message::Refusal;

/// Why a client is refused. The session is over then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServeError {
    /// No sealed message of this session, or none in its place.
    #[error("the frame is not the session's next")]
    Sealed,
    /// A message that does not decode.
    #[error("the message does not decode")]
    Malformed,
    /// The opening is not the query's client's, or not for what the query paid for.
    #[error("the opening is not what the query paid for: {what}")]
    Opening {
        /// What is wrong.
        what: &'static str,
    },
    /// A message while a step is computed, or after the end.
    #[error("a message out of turn")]
    Order,
    /// A step that the shard cannot take.
    #[error("step {seq}: {what}")]
    Step {
        /// The step.
        seq: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// More kept than there is.
    #[error("{got} tokens to keep, the cache holds {held}")]
    Truncate {
        /// Tokens to keep.
        got: u32,
        /// Tokens held.
        held: usize,
    },
    /// An input without the client's receipt, where a dispute may ask for it.
    #[error("step {seq}: no receipt for every input")]
    Receipt {
        /// The step.
        seq: u32,
    },
    /// An end without the client's word for how many tokens it asked for, where a dispute may ask for it.
    #[error("no word that {held} tokens were asked for")]
    End {
        /// Tokens held.
        held: usize,
    },
    /// An edit, where one place has one input.
    #[error(
        "{tokens} tokens to keep in a query that may be disputed: it is written straight through"
    )]
    Edit {
        /// Tokens to keep.
        tokens: u32,
    },
    /// A voucher of another query or node, or with a bad signature.
    #[error("a bad voucher")]
    Voucher,
    /// Too much is unpaid.
    #[error("{served} tokens are served, {} are paid", paid.in_nes())]
    Unpaid {
        /// Tokens served.
        served: u32,
        /// Paid for so far.
        paid: Amount,
    },
}

impl ServeError {
    /// What the client is told.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Opening { .. } => Refusal::NotDrawn,
            Self::Unpaid { .. } => Refusal::Unpaid,
            _ => Refusal::Protocol,
        }
    }
}
