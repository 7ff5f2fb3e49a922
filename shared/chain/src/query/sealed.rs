//! The part of a query's record that only the committee lane has.

use crate::{
    committee::{ShardCommittee, Terms},
    limits::{MAX_DISPUTES, MAX_REPLICAS, MAX_SHARDS, MAX_SPARES, up_to},
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
    /// Whether a spare has its place: what it committed to is a part, which is not compared, but what the
    /// client has signed for is paid.
    #[serde(default)]
    pub put_out: bool,
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
    put_out,
    root,
    liar,
    claim,
    unvouched,
});

impl ShardCommit {
    /// Whether it could be paid, or was put out, so that an increment it is not paid for is burned.
    pub const fn is_due(&self) -> bool {
        self.put_out || (self.root.is_some() && !self.liar)
    }

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
    /// All that revealed, proven liars aside, did the same as far as each went, and some went further: the
    /// client left without a word of the end. What it has signed for is good.
    Lengths,
    /// The client signed different inputs for replicas of the shard: their roots say nothing about
    /// them, and all but proven liars are paid.
    ClientLied,
}

impl Agreement {
    /// Whether vouchers of the shard's replicas are good.
    pub const fn pays(self) -> bool {
        matches!(self, Self::Agreed(_) | Self::Lengths | Self::ClientLied)
    }
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
    commits: up_to(MAX_SHARDS * (MAX_REPLICAS + MAX_SPARES)),
    disputes: up_to(MAX_DISPUTES),
});

impl Sealed {
    /// Before anybody has committed.
    pub fn new(terms: Terms) -> Self {
        Self { terms, committee: None, commits: Vec::new(), disputes: Vec::new() }
    }

    /// The place in the list of a replica's commit, that of a spare where one has taken over.
    pub fn place(&self, shard: u8, replica: u8) -> Option<usize> {
        self.commits.iter().position(|c| c.shard == shard && c.replica == replica && !c.put_out)
    }

    /// A replica's commit, that of a spare where one has taken over.
    pub fn commit(&self, shard: u8, replica: u8) -> Option<&ShardCommit> {
        self.commits.get(self.place(shard, replica)?)
    }

    /// The place in the list of a node's commit for a replica, also where a spare has taken over.
    pub fn place_of(&self, (shard, replica): (u8, u8), node: &Address) -> Option<usize> {
        let theirs = |c: &ShardCommit| (c.shard, c.replica) == (shard, replica) && c.node == *node;
        self.commits.iter().position(theirs)
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
        let roots: Vec<Hash> = revealed.filter(|c| !c.liar).filter_map(|c| c.root).collect();
        match roots.split_first() {
            _ if count < needed => Agreement::Few { revealed: count, needed },
            None => Agreement::Few { revealed: 0, needed },
            Some((root, others)) if others.iter().all(|other| other == root) => {
                Agreement::Agreed(*root)
            }
            Some(_) if self.differ_in_length_only(shard, &roots) => Agreement::Lengths,
            Some(_) => Agreement::Mismatch,
        }
    }

    /// Whether for any two of a shard's roots a dispute has shown that one only goes further.
    fn differ_in_length_only(&self, shard: u8, roots: &[Hash]) -> bool {
        let root = |replica| self.commit(shard, replica).and_then(|commit| commit.root);
        let of_lengths =
            |d: &&DisputeEntry| d.shard == shard && d.ruling() == Some(Ruling::Lengths);
        let shown: Vec<_> = self
            .disputes
            .iter()
            .filter(of_lengths)
            .map(|d| (root(d.left), root(d.right)))
            .collect();
        let same = |a: &Hash, b: &Hash| {
            let (a, b) = (Some(*a), Some(*b));
            a == b || shown.contains(&(a, b)) || shown.contains(&(b, a))
        };
        roots.iter().enumerate().all(|(i, a)| roots[i + 1..].iter().all(|b| same(a, b)))
    }
}
