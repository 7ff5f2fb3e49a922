//! Why a transaction is refused.

use crate::{
    action::{Lane, Side, Verification},
    committee::{CommitteeError, TermsError},
    state::{Missing, StateError},
};
use nesa_crypto::sign::VerifyError;
use nesa_primitives::{Address, Amount, Denom, Hash};
use nesa_trace::{AnswerError, OpenError};
use thiserror::Error;

/// Why a transaction cannot be applied. Nothing of it was written.
///
/// [`TxError::State`] is not the sender's fault: `Missing` asks the caller to fetch and run
/// again, the others mean that the state itself is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "got and expected speak for themselves; the messages name them")]
pub enum TxError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("transaction of {got} bytes, at most {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error("transaction for chain {got}, this is {expected}")]
    Chain { got: Hash, expected: Hash },
    #[error("bad signature: {0}")]
    Signature(VerifyError),
    #[error("nonce {got}, expected {expected}")]
    Nonce { got: u64, expected: u64 },
    #[error("fee of {got} unes, at least {expected} needed")]
    Fee { got: Amount, expected: Amount },
    #[error("{account} has {got} of denomination {denom}, {expected} needed")]
    Funds { account: Address, denom: Denom, got: Amount, expected: Amount },
    #[error("an amount overflows in {what}")]
    Overflow { what: &'static str },
    #[error("denomination {got} is not registered")]
    UnknownDenom { got: Denom },
    #[error("denomination {got}, the model is priced in {expected}")]
    Denom { got: Denom, expected: Denom },
    #[error("model {digest} is already registered")]
    ModelExists { digest: Hash },
    #[error("model {digest} is not registered")]
    UnknownModel { digest: Hash },
    #[error("model {digest} stands twice in the list")]
    ModelTwice { digest: Hash },
    #[error("lanes {got:#b}, expected some of {expected:#b}")]
    Lanes { got: u32, expected: u32 },
    #[error("{what}: {got} already, at most {max} allowed")]
    Full { what: &'static str, got: usize, max: usize },
    #[error("node {node} is already registered")]
    NodeExists { node: Address },
    #[error("node {node} is not registered")]
    UnknownNode { node: Address },
    #[error("node {node} serves no model")]
    NoModels { node: Address },
    #[error("the node key does not consent: {0}")]
    Possession(VerifyError),
    #[error("bond of {got} unes, at least {expected} needed")]
    Bond { got: Amount, expected: Amount },
    #[error("sent by {got}, the node's operator is {expected}")]
    Operator { got: Address, expected: Address },
    #[error("node {node} is already unbonding, until {release_ms} ms")]
    Unbonding { node: Address, release_ms: u64 },
    #[error("deadline {got} ms, expected {earliest} to {latest} ms")]
    Deadline { got: u64, earliest: u64, latest: u64 },
    #[error("{got} tokens, expected 1 to {max}")]
    Tokens { got: u32, max: u32 },
    #[error("escrow of {got}, at least {expected} needed")]
    Escrow { got: Amount, expected: Amount },
    #[error("no committee can be drawn: {0}")]
    Committee(#[from] CommitteeError),
    #[error("query {query} is not known")]
    UnknownQuery { query: Hash },
    #[error("query {query} is settled")]
    Settled { query: Hash },
    #[error("too late: block time {got} ms, deadline {expected} ms")]
    Late { got: u64, expected: u64 },
    #[error("not a seed of view {view}")]
    Seed { view: u64 },
    #[error("snapshot of epoch {epoch} is gone")]
    NoSnapshot { epoch: u64 },
    #[error("side {side} has no candidate {got}, only {max}")]
    Seat { side: Side, got: u8, max: usize },
    #[error("side {side} attempt {attempt} has committed already")]
    Committed { side: Side, attempt: u8 },
    #[error("{got} tokens served, at most {max} were asked for")]
    Served { got: u32, max: u32 },
    #[error("voucher for query {got}, the claim names {expected}")]
    VoucherQuery { got: Hash, expected: Hash },
    #[error("bad voucher: {0}")]
    Voucher(VerifyError),
    #[error("node {node} has not committed in this query")]
    NotCommitted { node: Address },
    #[error("voucher of {got}, {expected} were claimed already")]
    VoucherNotLarger { got: Amount, expected: Amount },
    #[error("voucher of {got}, the tokens served are worth {expected}")]
    VoucherAboveServed { got: Amount, expected: Amount },
    #[error("lane {lane:?} with verification {verification:?}")]
    Pair { lane: Lane, verification: Verification },
    #[error("{got} terms of a committee, expected {expected}")]
    Terms { got: &'static str, expected: &'static str },
    #[error("terms of the committee: {0}")]
    BadTerms(#[from] TermsError),
    #[error("a node cannot be named for a committee")]
    NamedReplica,
    #[error("query {query} is of another lane")]
    OtherLane { query: Hash },
    #[error("shard {shard} replica {replica}, the query has {shards} shards of {replicas}")]
    Replica { shard: u8, replica: u8, shards: usize, replicas: u8 },
    #[error("shard {shard} has no candidate {got} for replica {replica}")]
    ShardSeat { shard: u8, replica: u8, got: u8 },
    #[error("a spare without the client's admission: {0}")]
    Admission(&'static str),
    #[error("shard {shard} replica {replica} has committed already")]
    CommittedShard { shard: u8, replica: u8 },
    #[error("shard {shard} replica {replica} has not committed")]
    NoCommit { shard: u8, replica: u8 },
    #[error("too early: block time {got} ms, after {expected} ms it is allowed")]
    Early { got: u64, expected: u64 },
    #[error("shard {shard} replica {replica} has revealed already")]
    Revealed { shard: u8, replica: u8 },
    #[error("shard {shard} replica {replica} has not revealed")]
    NotRevealed { shard: u8, replica: u8 },
    #[error("reveals {got}, committed to {expected}")]
    Reveal { got: Hash, expected: Hash },
    #[error("shard {shard} replica {replica} was shown to have lied")]
    Liar { shard: u8, replica: u8 },
    #[error("{revealed} replicas of shard {shard} revealed, {needed} needed")]
    FewReveals { shard: u8, revealed: usize, needed: usize },
    #[error("the replicas of shard {shard} do not agree")]
    Mismatch { shard: u8 },
    #[error("nobody has shown that the client lied to the replicas of shard {shard}")]
    ClientHonest { shard: u8 },
    #[error("the payer did not agree that a dispute discloses anything")]
    NotDisclosed,
    #[error("replicas {left} and {right} make no dispute: two of them, in order")]
    DisputePair { left: u8, right: u8 },
    #[error("replicas {left} and {right} of shard {shard} have been in dispute already")]
    DisputeTwice { shard: u8, left: u8, right: u8 },
    #[error("replicas {left} and {right} of shard {shard} are in no dispute")]
    NoDispute { shard: u8, left: u8, right: u8 },
    #[error("answer of round {got}, the dispute is in round {expected}")]
    Round { got: u8, expected: u8 },
    #[error("sent by {got}, who is no party")]
    NoParty { got: Address },
    #[error("no dispute: {0}")]
    OpenDispute(#[from] OpenError),
    #[error("answer refused: {0}")]
    Answer(#[from] AnswerError),
    #[error("voucher of {got}, the replica has {expected}")]
    ReplicaBudget { got: Amount, expected: Amount },
    #[error("voucher of {got}, side {side} has {expected} left")]
    Budget { side: Side, got: Amount, expected: Amount },
}

impl From<Missing> for TxError {
    fn from(missing: Missing) -> Self {
        Self::State(StateError::Missing(missing))
    }
}

impl TxError {
    /// The keys to fetch before trying again, if that is all that is wrong.
    pub const fn missing(&self) -> Option<&Missing> {
        match self {
            Self::State(StateError::Missing(missing)) => Some(missing),
            _ => None,
        }
    }
}
