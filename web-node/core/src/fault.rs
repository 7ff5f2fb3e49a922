//! Test scenarios: nodes that misbehave on purpose.
//!
//! Only `--scenario` networks set these. They exist so that tests and demonstrations can show that
//! each misbehaviour is caught, paid for by the one who did it, and survived by the client.

/// How a node of a test network misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Flips the lowest bit of one value in one product of every query.
    FlipOneBit {
        /// Which product, counted from 0 over the query; in a shard, what is made of this token.
        product: u64,
    },
    /// Accepts every query and then never answers.
    NeverAnswer,
    /// Serves some products of a query, then drops everything and takes no further stream.
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
