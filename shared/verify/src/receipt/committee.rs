//! The part of a payment receipt that only a committee's query has: replicas of shards, what they
//! committed to and revealed, their disputes, and what each of them was paid.

use super::{
    Failure,
    check::{Held, same},
};
use nesa_chain::{
    Ruling,
    committee::ShardCommittee,
    fees,
    params::Params,
    query::{Agreement, DisputeEntry, QueryRecord, Sealed, ShardCommit},
};
use nesa_primitives::{Address, Amount, Hash};
use nesa_trace::{Decision, Grounds, Side};
use serde::Serialize;

/// What no payment receipt of a committee's query shows, whatever its checks say.
pub const COMMITTEE_DOES_NOT_SHOW: [&str; 5] = [
    "that the answer was right: replicas that lie alike reveal equal traces, and nobody disputes them",
    "what was asked or answered: neither is in this record, and nothing in it says which text the traces \
     belong to",
    "that nobody read the text: the nodes did",
    "that the operators of the nodes are different people, or did not share one computation",
    "that no quorum of validator keys, present, past or a dealer's, has forged the headers",
];

/// One shard, and how its replicas stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardSummary {
    /// The shard.
    pub shard: u8,
    /// `agreed`, `few` where too few revealed, `mismatch`, `lengths` where some only went further than
    /// others, or `client-lied`.
    pub standing: &'static str,
    /// The trace root that all replicas revealed who are not shown to have lied, where they agree.
    pub root: Option<Hash>,
    /// Its replicas that committed.
    pub replicas: Vec<ReplicaSummary>,
}

/// One replica and what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicaSummary {
    /// Which replica.
    pub replica: u8,
    /// The candidate that took its place.
    pub seat: u8,
    /// The node.
    pub node: Address,
    /// Who ran it when the snapshot was taken.
    pub operator: Address,
    /// Its blinded commitment.
    pub blinded_root: Hash,
    /// The root of its trace, if it revealed.
    pub root: Option<Hash>,
    /// Tokens it committed to.
    pub served_tokens: u32,
    /// What it was granted.
    pub claimed: Amount,
    /// Whether a dispute has shown that it lied.
    pub liar: bool,
    /// Whether a spare has taken its place, so that only what the client signed for is paid.
    pub put_out: bool,
}

/// The nodes that committed, each once, in the order of their commits: whose records the receipt holds.
pub(super) fn nodes(sealed: &Sealed) -> Vec<Address> {
    let mut nodes = Vec::new();
    for commit in &sealed.commits {
        if !nodes.contains(&commit.node) {
            nodes.push(commit.node);
        }
    }
    nodes
}

/// Every commitment is by a drawn node in its place, every ruling is of two that revealed different
/// roots, who lied is who was convicted, and every payment is one that the rules allow.
pub(super) fn check(
    last: &QueryRecord,
    sealed: &Sealed,
    drawn: &ShardCommittee,
    chain: &Hash,
    proven_at: u64,
) -> Held<()> {
    if sealed.committee.as_ref().is_some_and(|committee| committee != drawn) {
        return Err(Failure::new("committee in the record", "another", "the one recomputed"));
    }
    for (i, commit) in sealed.commits.iter().enumerate() {
        check_commit(sealed, i, commit, drawn)?;
        check_claims(last, sealed, commit, chain, proven_at)?;
    }
    for dispute in &sealed.disputes {
        let (shard, left, right) = (dispute.shard, dispute.left, dispute.right);
        let root = |replica| sealed.commit(shard, replica).and_then(|commit| commit.root);
        let (a, b) = (root(left), root(right));
        if !sealed.terms.disclose || left >= right || a.is_none() || b.is_none() || a == b {
            return Err(Failure::new(
                "a dispute",
                format!("of replicas {left} and {right} of shard {shard}"),
                "of two, in order, that revealed different roots, with the payer's consent",
            ));
        }
    }
    Ok(())
}

fn check_commit(
    sealed: &Sealed,
    at: usize,
    commit: &ShardCommit,
    drawn: &ShardCommittee,
) -> Held<()> {
    let (shard, replica, replicas) = (commit.shard, commit.replica, sealed.terms.replicas);
    let seat = drawn.seat(shard, commit.seat);
    let expected = seat.map(|seat| (seat.node, seat.operator));
    let placed = replica < replicas && (commit.seat == replica || commit.seat >= replicas);
    if expected != Some((commit.node, commit.operator)) || !placed {
        return Err(Failure::new(
            "a commitment",
            format!("by node {} of {}", commit.node, commit.operator),
            format!("by the drawn node {expected:?} of shard {shard}"),
        ));
    }
    let of_shard = |other: &&ShardCommit| other.shard == shard;
    let others = sealed.commits[..at].iter().filter(of_shard);
    if others.clone().any(|other| other.operator == commit.operator) {
        return Err(Failure::new(
            "a commitment",
            format!("a second one for shard {shard} by operator {}", commit.operator),
            "one for each operator",
        ));
    }
    // The last spare that came has the place, and only it.
    let later = |other: &ShardCommit| other.replica == replica && other.seat > commit.seat;
    let put_out = sealed.commits.iter().filter(of_shard).any(later);
    if others.clone().any(|other| (other.replica, other.seat) == (replica, commit.seat)) {
        return Err(Failure::new("a seat's commitments", "two", "one"));
    }
    same("put out by a spare", commit.put_out, put_out)?;
    if put_out && (commit.root.is_some() || commit.liar || commit.unvouched.is_some()) {
        return Err(Failure::new(
            "a replica whose place a spare has taken",
            "a revealed root, a conviction or a payment without a voucher",
            "none of these",
        ));
    }
    let convicted = sealed.disputes.iter().any(|dispute| {
        let is = |number: u8, side| {
            number == replica && dispute.ruling().is_some_and(|ruling| ruling.convicts(side))
        };
        dispute.shard == shard && (is(dispute.left, Side::Left) || is(dispute.right, Side::Right))
    });
    same("shown to have lied", commit.liar, convicted)
}

/// What a replica was paid is signed by the payer, or owed by one that is shown to have lied, and its
/// shard could be paid.
fn check_claims(
    last: &QueryRecord,
    sealed: &Sealed,
    commit: &ShardCommit,
    chain: &Hash,
    proven_at: u64,
) -> Held<()> {
    if commit.served_tokens > last.max_tokens {
        return Err(Failure::new("tokens served", commit.served_tokens, last.max_tokens));
    }
    let agreement = sealed.agreement(commit.shard);
    let payable = commit.is_due() && (commit.put_out || agreement.pays());
    if !commit.claimed().is_zero() && !payable {
        return Err(Failure::new(
            "a replica that was paid",
            format!("replica {} of shard {}, {agreement:?}", commit.replica, commit.shard),
            "one that revealed, and did not lie, of a shard whose replicas agree, or one that was put out",
        ));
    }
    let worth = worth(last, sealed, commit)?;
    if commit.claimed() > worth {
        return Err(Failure::new("claimed", commit.claimed(), format!("at most {worth}")));
    }
    if let Some(claim) = &commit.claim {
        let voucher = &claim.voucher;
        same("query of a voucher", voucher.query, last.id)?;
        same("node of a voucher", voucher.node, commit.node)?;
        same("shard of a voucher", voucher.shard, commit.shard)?;
        same("replica of a voucher", voucher.replica, commit.replica)?;
        voucher
            .verify(&last.client_key, chain)
            .map_err(|error| Failure::new("voucher", error, "the payer's signature"))?;
    }
    if let Some(unvouched) = &commit.unvouched {
        if agreement != Agreement::ClientLied {
            return Err(Failure::new("paid without a voucher", unvouched.total, "nothing"));
        }
        same("paid without a voucher", unvouched.total, worth)?;
    }
    let heights = [
        commit.claim.as_ref().map(|claim| claim.height),
        commit.unvouched.map(|unvouched| unvouched.height),
    ];
    if let Some(height) =
        heights.into_iter().flatten().find(|h| *h < commit.height || *h > proven_at)
    {
        let expected = format!("{} to {proven_at}", commit.height);
        return Err(Failure::new("height of a claim", height, expected));
    }
    Ok(())
}

/// The most that a replica can be paid: the price of its tokens, within its budget.
fn worth(last: &QueryRecord, sealed: &Sealed, commit: &ShardCommit) -> Held<Amount> {
    let overflow = || Failure::new("amounts", "more than 2^64", "sums that fit");
    let worth = fees::price(last.price_per_token, commit.served_tokens).ok_or_else(overflow)?;
    Ok(worth.min(fees::replica_budget(last.escrow, &sealed.terms)))
}

/// What is burned at the close: an increment of each replica that revealed and did not lie, or was put
/// out, as far as it is not claimed.
pub(super) fn burned(record: &QueryRecord, sealed: &Sealed, params: &Params) -> Held<Amount> {
    let overflow = || Failure::new("amounts", "more than 2^64", "sums that fit");
    let budget = fees::replica_budget(record.escrow, &sealed.terms);
    let mut burned = Amount::ZERO;
    for commit in sealed.commits.iter().filter(|c| c.is_due()) {
        let left = budget.checked_sub(commit.claimed()).ok_or_else(overflow)?;
        let price = record.price_per_token;
        let disputed = fees::disputed(price, commit.served_tokens, commit.claimed(), params)
            .ok_or_else(overflow)?;
        burned = burned.checked_add(disputed.min(left)).ok_or_else(overflow)?;
    }
    Ok(burned)
}

/// The shards in order.
pub(super) fn summaries(sealed: &Sealed) -> Vec<ShardSummary> {
    let shards = (0u8..=u8::MAX).take(sealed.terms.shards());
    shards
        .map(|shard| {
            let (standing, root) = match sealed.agreement(shard) {
                Agreement::Agreed(root) => ("agreed", Some(root)),
                Agreement::Few { .. } => ("few", None),
                Agreement::Mismatch => ("mismatch", None),
                Agreement::Lengths => ("lengths", None),
                Agreement::ClientLied => ("client-lied", None),
            };
            let mut replicas: Vec<_> = sealed
                .commits
                .iter()
                .filter(|commit| commit.shard == shard)
                .map(|commit| ReplicaSummary {
                    replica: commit.replica,
                    seat: commit.seat,
                    node: commit.node,
                    operator: commit.operator,
                    blinded_root: commit.blinded_root,
                    root: commit.root,
                    served_tokens: commit.served_tokens,
                    claimed: commit.claimed(),
                    liar: commit.liar,
                    put_out: commit.put_out,
                })
                .collect();
            replicas.sort_by_key(|replica| (replica.replica, replica.seat));
            ShardSummary { shard, standing, root, replicas }
        })
        .collect()
}

/// How a dispute ended and what that rests on, in words.
fn how(dispute: &DisputeEntry) -> String {
    let (left, right) = (dispute.left, dispute.right);
    let Some(Decision { ruling, grounds }) = dispute.decision else {
        return "not decided yet".to_owned();
    };
    let who = match ruling {
        Ruling::LeftLies => format!("replica {left} lied"),
        Ruling::RightLies => format!("replica {right} lied"),
        Ruling::BothLie => "both lied".to_owned(),
        Ruling::Undecided => "nobody is shown to have lied".to_owned(),
        Ruling::ClientLies => "the client had signed two askings for one place".to_owned(),
        Ruling::Lengths => "nobody lied as far as both went, and one went further".to_owned(),
    };
    let why = match (grounds, ruling) {
        (Grounds::Opening, _) => "the validators computed the disputed value again from an opening",
        (_, Ruling::Lengths) => "without the client's word of the end",
        (Grounds::Silence, Ruling::Undecided) => "whoever could have shown more was silent",
        (Grounds::Silence, _) => {
            "it did not answer in time, and the other did; nothing was computed"
        }
        (Grounds::Receipts, _) => "both replicas showed its signatures",
        (Grounds::Form, _) => "by the form of what the replicas said; nothing was computed",
    };
    format!("{who} ({why})")
}

/// What the committee showed, in words.
pub(super) fn notes(sealed: &Sealed) -> Vec<String> {
    let replicas = sealed.terms.replicas;
    let shards = summaries(sealed).into_iter().map(|shard| {
        let revealed = shard.replicas.iter().filter(|r| r.root.is_some() && !r.liar).count();
        let number = shard.shard;
        match (shard.standing, shard.root) {
            (_, Some(root)) => format!(
                "{revealed} of {replicas} replicas of shard {number} revealed the same trace, {root}"
            ),
            ("client-lied", _) => {
                format!("the client asked the replicas of shard {number} for different things")
            }
            ("mismatch", _) => format!("the replicas of shard {number} revealed different traces"),
            ("lengths", _) => {
                format!("the traces of shard {number} are the same, and some go further than others")
            }
            _ => format!("too few replicas of shard {number} revealed a trace: {revealed}"),
        }
    });
    let rulings = sealed.disputes.iter().map(|dispute| {
        let (shard, left, right) = (dispute.shard, dispute.left, dispute.right);
        let how = how(dispute);
        format!("replicas {left} and {right} of shard {shard} disputed: {how}")
    });
    let given_up = sealed.commits.iter().filter(|commit| commit.put_out).map(|commit| {
        let (shard, replica, paid) = (commit.shard, commit.replica, commit.claimed());
        let node = commit.node;
        format!("{node} was given up as replica {replica} of shard {shard}, and paid {paid} for its part")
    });
    shards.chain(rulings).chain(given_up).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed set-up is a failed test
mod tests;
