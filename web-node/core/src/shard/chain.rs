//! The chain, as the service of shards needs it.

use std::time::Duration;

use bytes::Bytes;
use nesa_crypto::seal::Binding;
use nesa_platform::{BoxFuture, MaybeSend, MaybeSync};
use nesa_sealed::{Opening, Terms, message::Refusal, server::Outcome};

use super::evidence::Kept;

/// A node's part in a query, proven.
#[derive(Clone, Debug)]
pub struct ProvenShard {
    /// The terms of the session.
    pub terms: Terms,
    /// The replica whose place the client gives to this node.
    pub replica: u8,
    /// Seed of the draw view: the first commit brings it.
    pub seed: Bytes,
    /// Block time of the last commit, in ms.
    pub deadline_ms: u64,
    /// How long a round of a dispute is, in ms of block time.
    pub round_ms: u64,
}

/// The chain, as the service needs it.
pub trait ShardChain: MaybeSend + MaybeSync {
    /// Proves that the query exists, is open, and drew this node for the role.
    fn prove<'a>(
        &'a self,
        binding: &'a Binding,
        opening: &'a Opening,
    ) -> BoxFuture<'a, Result<ProvenShard, Refusal>>;
    /// Writes down what the node may claim, before it goes on.
    fn checkpoint<'a>(&'a self, proven: &'a ProvenShard, outcome: Outcome) -> BoxFuture<'a, ()>;
    /// Makes room for what may be needed in a dispute of this session: bytes, and the time to compute it again;
    /// `false` when there is none.
    fn reserve(&self, _proven: &ProvenShard, _bytes: usize, _repeat: Duration) -> bool {
        true
    }
    /// Counts what a step of a session took that a dispute may ask for again; `false` when this node could not
    /// compute all of its sessions again within a round.
    fn spend(&self, _proven: &ProvenShard, _took: Duration) -> bool {
        true
    }
    /// Keeps what the session was given, before it is committed to. Only with consent to disclosure.
    fn keep<'a>(&'a self, _proven: &'a ProvenShard, _kept: Kept) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
    /// The session is over: `outcome` goes on chain, or what was written down last.
    fn settle<'a>(&'a self, proven: &'a ProvenShard, outcome: Option<Outcome>)
    -> BoxFuture<'a, ()>;
}
