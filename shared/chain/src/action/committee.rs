//! What operators of replicas ask for: commitments, reveals, claims and disputes.

use nesa_crypto::Signature;
use nesa_primitives::{Hash, codec_struct};
use nesa_trace::{Answer, Slice};
use serde::{Deserialize, Serialize};

use super::SeedBytes;
use crate::voucher::ShardVoucher;

/// A drawn replica commits to the trace of its shard's run. The first commit of a query brings the
/// seed that fixes the committee. Sent by the operator of the drawn node, by the query's deadline. A
/// spare's puts out the commit of whoever had the place before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitShard {
    /// The query.
    pub query: Hash,
    /// The shard served, from 0.
    pub shard: u8,
    /// Which replica of it, from 0.
    pub replica: u8,
    /// Which candidate of the shard takes this replica's place: the same number, or a spare's.
    pub seat: u8,
    /// [`blind`](crate::committee::blind) of the trace's root.
    pub blinded_root: Hash,
    /// Padded tokens served.
    pub served_tokens: u32,
    /// For a spare: the client key's word that it asked it
    /// ([`Admission`](crate::committee::Admission)).
    pub admission: Option<Signature>,
    /// Seed of the query's draw view.
    pub seed: SeedBytes,
}

codec_struct!(CommitShard {
    query,
    shard,
    replica,
    seat,
    blinded_root,
    served_tokens,
    admission,
    seed,
});

/// Opens a commitment, in the reveal window. Sent by the operator that committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reveal {
    /// The query.
    pub query: Hash,
    /// The shard.
    pub shard: u8,
    /// The replica.
    pub replica: u8,
    /// Root of the trace.
    pub root: Hash,
    /// What it was blinded with, as the client gave it.
    pub blind: Hash,
}

codec_struct!(Reveal { query, shard, replica, root, blind });

/// Claims what the client's voucher says for one replica. Sent by the operator that committed, when
/// the reveal window is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimShard {
    /// The query.
    pub query: Hash,
    /// The client's signed running total.
    pub voucher: ShardVoucher,
}

codec_struct!(ClaimShard { query, voucher });

/// Claims what a replica served, without a voucher, where a dispute has shown that the client gave the
/// replicas of its shard different inputs. Sent by the operator that committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimServed {
    /// The query.
    pub query: Hash,
    /// The shard.
    pub shard: u8,
    /// The replica.
    pub replica: u8,
}

codec_struct!(ClaimServed { query, shard, replica });

/// Two replicas of one shard, `left < right`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pair {
    /// The query.
    pub query: Hash,
    /// The shard.
    pub shard: u8,
    /// One replica.
    pub left: u8,
    /// The other.
    pub right: u8,
}

codec_struct!(Pair { query, shard, left, right });

/// Disputes two different roots. Sent by the operator of either replica, soon after the reveals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenDispute {
    /// Who disputes.
    pub pair: Pair,
    /// The part of the model's header that holds its manifest.
    pub manifest: Slice,
}

codec_struct!(OpenDispute { pair, manifest });

/// Answers in a dispute. Sent by the operator of either replica, by the end of the round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerDispute {
    /// Who disputes.
    pub pair: Pair,
    /// The round that it answers, from 0: what was said in one round is no answer in another.
    pub round: u8,
    /// What the sender's replica says.
    pub answer: Answer,
}

codec_struct!(AnswerDispute { pair, round, answer });

/// Ends a dispute whose round is over. Anybody may send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseDispute {
    /// Who disputes.
    pub pair: Pair,
}

codec_struct!(CloseDispute { pair });

/// A place in a dispute that each party fills once.
///
/// What is said there is ordered by the dispute and not by an account: the state itself refuses a second
/// one, so such a transaction needs no nonce, and none of an operator's other transactions can hold it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which dispute.
    pub pair: Pair,
    /// Where in it.
    pub step: Step,
}

/// Where in a dispute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Its beginning: a pair is in dispute once.
    Open,
    /// A round of it: each party answers once.
    Answer(u8),
    /// Its end.
    Close,
}
