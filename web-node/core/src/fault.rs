//! Test scenarios: nodes that misbehave on purpose.
//!
//! Only `--scenario` networks set these. They exist so that tests and demonstrations can show that
//! each misbehaviour is caught, paid for by the one who did it, and survived by the client.

use nesa_trace::{Answer, Dispute, Side, Stage};

/// How a node of a test network misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Flips the lowest bit of one value in one product of every query.
    FlipOneBit {
        /// Which product, counted from 0 over the query. In a shard the signs of the last product of
        /// this token are turned, and all else follows from that; in a dispute the node fits what it
        /// says to what it committed to, as far as that goes.
        product: u64,
    },
    /// In a shard lies like [`Fault::FlipOneBit`], and says nothing in a dispute.
    LieAndHush {
        /// The token.
        product: u64,
    },
    /// Accepts every query and then never answers.
    NeverAnswer,
    /// Serves some products of a query, then drops everything and takes no further stream. In a shard it
    /// commits to the part it served, as a node that was killed and starts again does.
    DieMidQuery {
        /// Products served before; in a shard, tokens.
        after: u64,
    },
    /// Adds one to a coordinate of its share of s in every preparation: honest products would then
    /// be refused by whoever used it, unless the input is zero there.
    BendPreparation {
        /// The coordinate, in every stage that has it.
        column: usize,
    },
    /// Runs float models with weights rounded to 8 bits, and says that it runs the real ones. The engine
    /// that the node is given does it.
    Quantise,
}

impl Fault {
    /// The token of a shard's session that this node lies about.
    pub(crate) fn lie(self) -> Option<usize> {
        match self {
            Self::FlipOneBit { product } | Self::LieAndHush { product } => {
                usize::try_from(product).ok()
            }
            _ => None,
        }
    }

    /// Fits partial sums to what a liar claimed: the difference goes to the first of them, so that the
    /// dispute goes on until a validator computes it.
    pub(crate) fn bend(self, dispute: &Dispute, side: Side, answer: &mut Answer) {
        if let (Stage::Sum { claims, .. }, Answer::Sums(sums)) = (&dispute.stage, answer)
            && self.lie().is_some()
        {
            let true_sum = sums.iter().fold(0i64, |sum, part| sum.wrapping_add(*part));
            if let Some(first) = sums.first_mut() {
                *first = first.wrapping_add(claims[side as usize].wrapping_sub(true_sum));
            }
        }
    }
}
