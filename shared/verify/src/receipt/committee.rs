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
    /// `agreed`, `few` where too few revealed, `mismatch`, or `client-lied`.
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
    let taken = |other: &ShardCommit| {
        other.shard == shard && (other.replica == replica || other.operator == commit.operator)
    };
    if sealed.commits[..at].iter().any(taken) {
        return Err(Failure::new(
            "a commitment",
            format!("a second one for replica {replica} of shard {shard}, or by its operator"),
            "one for each, by different operators",
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
    let payable = matches!(agreement, Agreement::Agreed(_) | Agreement::ClientLied);
    if !commit.claimed().is_zero() && (!payable || commit.liar || commit.root.is_none()) {
        return Err(Failure::new(
            "a replica that was paid",
            format!("replica {} of shard {}, {agreement:?}", commit.replica, commit.shard),
            "one that revealed, and did not lie, of a shard whose replicas agree",
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

/// What is burned at the close: an increment of each replica that revealed and did not lie, as far as
/// it is not claimed.
pub(super) fn burned(record: &QueryRecord, sealed: &Sealed, params: &Params) -> Held<Amount> {
    let overflow = || Failure::new("amounts", "more than 2^64", "sums that fit");
    let budget = fees::replica_budget(record.escrow, &sealed.terms);
    let mut burned = Amount::ZERO;
    for commit in sealed.commits.iter().filter(|c| c.root.is_some() && !c.liar) {
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
                })
                .collect();
            replicas.sort_by_key(|replica| replica.replica);
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
    };
    let why = match (grounds, ruling) {
        (Grounds::Opening, _) => "the validators computed the disputed value again from an opening",
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
            _ => format!("too few replicas of shard {number} revealed a trace: {revealed}"),
        }
    });
    let rulings = sealed.disputes.iter().map(|dispute| {
        let (shard, left, right) = (dispute.shard, dispute.left, dispute.right);
        let how = how(dispute);
        format!("replicas {left} and {right} of shard {shard} disputed: {how}")
    });
    shards.chain(rulings).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed set-up is a failed test
mod tests {
    //! Records that a forged state root could hold: each breaks one rule.

    use super::*;
    use crate::receipt::{PaymentReceipt, money};
    use nesa_chain::{committee::derive_shards, query::Unvouched, record::Snapshot, tx::SignedTx};
    use nesa_primitives::decode_exact;

    const DISPUTED: &str = include_str!("../../tests/data/committee-disputed.json");

    struct Case {
        last: QueryRecord,
        params: Params,
        drawn: ShardCommittee,
        chain: Hash,
    }

    fn case() -> Case {
        let receipt = PaymentReceipt::from_json(DISPUTED).unwrap();
        let value = |part: &crate::receipt::StatePart, at: usize| {
            part.entries[at].value.as_ref().unwrap().0.clone()
        };
        let last: QueryRecord = decode_exact(&value(&receipt.paid, 0), &()).unwrap();
        let params: Params = decode_exact(&value(&receipt.paid, 1), &()).unwrap();
        let snapshot: Snapshot = decode_exact(&value(&receipt.snapshot, 0), &()).unwrap();
        let terms = &last.sealed.as_ref().unwrap().terms;
        let set = &snapshot.set;
        let drawn = derive_shards(&receipt.seed.0, &last.id, set, &last.model, terms).unwrap();
        let chain = SignedTx::from_bytes(&receipt.payment.0).unwrap().tx.chain;
        Case { last, params, drawn, chain }
    }

    fn holds(case: &Case) -> Held<()> {
        let sealed = case.last.sealed.as_ref().unwrap();
        check(&case.last, sealed, &case.drawn, &case.chain, u64::MAX)?;
        money::check_payments(&case.last, &case.params).map(drop)
    }

    #[test]
    fn every_broken_rule_is_noticed() {
        holds(&case()).unwrap();
        type Bend = fn(&mut Sealed);
        /// A replica that was paid, of a shard with a liar.
        fn paid(sealed: &mut Sealed) -> &mut ShardCommit {
            let shard = sealed.commits.iter().find(|c| c.liar).unwrap().shard;
            sealed.commits.iter_mut().find(|c| c.shard == shard && c.claim.is_some()).unwrap()
        }
        fn liar(sealed: &mut Sealed) -> &mut ShardCommit {
            sealed.commits.iter_mut().find(|c| c.liar).unwrap()
        }
        let bends: [(&str, Bend); 22] = [
            ("another node", |s| paid(s).node.0[0] ^= 1),
            ("another operator", |s| paid(s).operator.0[0] ^= 1),
            ("another seat", |s| paid(s).seat ^= 1),
            ("another place", |s| paid(s).replica = 6),
            ("another shard", |s| paid(s).shard = 7),
            ("twice", |s| s.commits.push(s.commits[0].clone())),
            ("a liar let off", |s| liar(s).liar = false),
            ("an honest one convicted", |s| paid(s).liar = true),
            ("paid without a reveal", |s| paid(s).root = None),
            ("paid for another trace", |s| paid(s).root = Some(Hash([3; 32]))),
            ("paid for less than it served", |s| paid(s).served_tokens = 1),
            ("more served than asked for", |s| liar(s).served_tokens = u32::MAX),
            ("a larger voucher", |s| paid(s).claim.as_mut().unwrap().voucher.total.0 += 1),
            ("another's voucher", |s| paid(s).claim.as_mut().unwrap().voucher.replica ^= 1),
            ("a voucher of another shard", |s| paid(s).claim.as_mut().unwrap().voucher.shard ^= 1),
            ("a forged voucher", |s| paid(s).claim.as_mut().unwrap().voucher.signature.0[9] ^= 1),
            ("earned more", |s| paid(s).claim.as_mut().unwrap().earned.0 += 1),
            ("paid before it committed", |s| paid(s).claim.as_mut().unwrap().height = 0),
            ("paid without a voucher", |s| {
                let (total, earned, height) = (Amount(1), Amount(1), u64::MAX);
                paid(s).unvouched = Some(Unvouched { total, earned, height });
            }),
            ("no ruling", |s| s.disputes.iter_mut().for_each(|d| d.decision = None)),
            ("a dispute with itself", |s| s.disputes[0].right = s.disputes[0].left),
            ("a dispute without consent", |s| s.terms.disclose = false),
        ];
        for (what, bend) in bends {
            let mut bent = case();
            bend(bent.last.sealed.as_mut().unwrap());
            assert!(holds(&bent).is_err(), "{what}");
        }
    }

    #[test]
    fn what_is_burned_leaves_the_liar_out() {
        let Case { last, params, .. } = case();
        let mut all = last.sealed.clone().unwrap();
        assert_eq!(burned(&last, &all, &params).unwrap(), Amount::ZERO);
        all.commits.iter_mut().for_each(|commit| commit.claim = None);
        let unpaid = burned(&last, &all, &params).unwrap();
        let mut honest = all.clone();
        honest.commits.iter_mut().for_each(|commit| commit.liar = false);
        assert!(burned(&last, &honest, &params).unwrap() > unpaid && !unpaid.is_zero());
    }
}
