//! The part of a query's record that only the committee lane has.

use crate::{
    committee::{ShardCommittee, Terms},
    limits::{MAX_DISPUTES, MAX_REPLICAS, MAX_SHARDS, up_to},
    voucher::ShardVoucher,
};
use nesa_primitives::{Address, Amount, Hash, codec_struct};
use nesa_trace::{Decision, Dispute, Ruling};
use serde::{Deserialize, Serialize};

/// A replica's accepted commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardCommit {
    /// The shard.
    pub shard: u8,
    /// The replica.
    pub replica: u8,
    /// The candidate that took its place.
    pub seat: u8,
    /// The node.
    pub node: Address,
    /// Its operator.
    pub operator: Address,
    /// [`blind`](crate::committee::blind) of the trace's root.
    pub blinded_root: Hash,
    /// Padded tokens it says it served.
    pub served_tokens: u32,
    /// Height of the block that holds the commit.
    pub height: u64,
    /// The trace's root, once revealed.
    pub root: Option<Hash>,
    /// Whether a dispute has shown that it lied: it is no longer counted, and not paid.
    pub liar: bool,
    /// The largest claim so far, paid in full.
    pub claim: Option<ShardClaim>,
    /// What was paid without a voucher, since the client was shown to have lied; what the claim paid
    /// is part of it.
    #[serde(default)]
    pub unvouched: Option<Unvouched>,
}

codec_struct!(ShardCommit {
    shard,
    replica,
    seat,
    node,
    operator,
    blinded_root,
    served_tokens,
    height,
    root,
    liar,
    claim,
    unvouched,
});

impl ShardCommit {
    /// What has been claimed, before the split.
    pub fn claimed(&self) -> Amount {
        let vouched = self.claim.as_ref().map_or(Amount::ZERO, |claim| claim.voucher.total);
        vouched.max(self.unvouched.map_or(Amount::ZERO, |unvouched| unvouched.total))
    }

    /// What the operator has been paid.
    pub fn earned(&self) -> Amount {
        let vouched = self.claim.as_ref().map_or(Amount::ZERO, |claim| claim.earned);
        vouched.max(self.unvouched.map_or(Amount::ZERO, |unvouched| unvouched.earned))
    }

    /// Height of the block of the last payment, if there was one.
    pub fn paid_height(&self) -> Option<u64> {
        let vouched = self.claim.as_ref().map(|claim| claim.height);
        vouched.max(self.unvouched.map(|unvouched| unvouched.height))
    }
}

/// A replica's claim that was paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardClaim {
    /// The client's running total.
    pub voucher: ShardVoucher,
    /// What the operator has been paid for it, earlier claims included.
    pub earned: Amount,
    /// Height of the block that holds the claim.
    pub height: u64,
}

codec_struct!(ShardClaim { voucher, earned, height });

/// What a replica was paid for its work for a client that lied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unvouched {
    /// The price of the tokens it committed to, within its budget.
    pub total: Amount,
    /// What the operator has been paid, earlier claims included.
    pub earned: Amount,
    /// Height of the block that holds the claim.
    pub height: u64,
}

codec_struct!(Unvouched { total, earned, height });

/// Two replicas of one shard in dispute, `left < right`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeEntry {
    /// The shard.
    pub shard: u8,
    /// One replica.
    pub left: u8,
    /// The other.
    pub right: u8,
    /// How it ended, and on what grounds; `None` while answers are awaited.
    pub decision: Option<Decision>,
}

codec_struct!(DisputeEntry { shard, left, right, decision });

impl DisputeEntry {
    /// How it ended; `None` while answers are awaited.
    pub fn ruling(&self) -> Option<Ruling> {
        self.decision.map(|decision| decision.ruling)
    }
}

/// A dispute that goes on, in a place of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeRecord {
    /// How far it has come.
    pub dispute: Dispute,
    /// The round that is answered now, from 0.
    pub round: u8,
    /// Last block time of this round's answers, ms.
    pub round_ms: u64,
}

codec_struct!(DisputeRecord { dispute, round, round_ms });

/// Whether a shard's replicas can be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// All that revealed, proven liars aside, revealed this root, and a strict majority revealed.
    Agreed(Hash),
    /// Too few revealed.
    Few {
        /// How many did.
        revealed: usize,
        /// How many must.
        needed: usize,
    },
    /// Two revealed different roots and neither is shown to have lied.
    Mismatch,
    /// The client signed different inputs for replicas of the shard: their roots say nothing about
    /// them, and all but proven liars are paid.
    ClientLied,
}

/// Committee, commitments and disputes of a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// What was asked for.
    pub terms: Terms,
    /// The committee, once a commit has brought the seed.
    pub committee: Option<ShardCommittee>,
    /// Accepted commits, in the order they came.
    pub commits: Vec<ShardCommit>,
    /// Disputes, in the order they were opened.
    pub disputes: Vec<DisputeEntry>,
}

codec_struct!(Sealed {
    terms,
    committee,
    commits: up_to(MAX_SHARDS * MAX_REPLICAS),
    disputes: up_to(MAX_DISPUTES),
});

impl Sealed {
    /// Before anybody has committed.
    pub fn new(terms: Terms) -> Self {
        Self { terms, committee: None, commits: Vec::new(), disputes: Vec::new() }
    }

    /// The place of a replica's commit in the list.
    pub fn place(&self, shard: u8, replica: u8) -> Option<usize> {
        self.commits.iter().position(|c| c.shard == shard && c.replica == replica)
    }

    /// A replica's commit.
    pub fn commit(&self, shard: u8, replica: u8) -> Option<&ShardCommit> {
        self.commits.get(self.place(shard, replica)?)
    }

    /// Whether a shard can be paid, once the reveals are over.
    ///
    /// A proven liar counts among those who revealed, so that its honest counterpart is paid, but its
    /// root no longer stands in the way.
    pub fn agreement(&self, shard: u8) -> Agreement {
        let blames = |d: &DisputeEntry| d.shard == shard && d.ruling() == Some(Ruling::ClientLies);
        if self.disputes.iter().any(blames) {
            return Agreement::ClientLied;
        }
        let revealed = self.commits.iter().filter(|c| c.shard == shard && c.root.is_some());
        let (count, needed) = (revealed.clone().count(), self.terms.majority());
        let mut roots = revealed.filter(|c| !c.liar).filter_map(|c| c.root);
        match roots.next() {
            Some(_) | None if count < needed => Agreement::Few { revealed: count, needed },
            None => Agreement::Few { revealed: 0, needed },
            Some(root) if roots.all(|other| other == root) => Agreement::Agreed(root),
            Some(_) => Agreement::Mismatch,
        }
    }
}
