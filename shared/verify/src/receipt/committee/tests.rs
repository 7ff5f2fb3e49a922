//! Records that a forged state root could hold: each breaks one rule.

use super::*;
use crate::receipt::{PaymentReceipt, money};
use nesa_chain::{committee::derive_shards, query::Unvouched, record::Snapshot, tx::SignedTx};
use nesa_primitives::decode_exact;

const DISPUTED: &str = include_str!("../../../tests/data/committee-disputed.json");
const GIVEN_UP: &str = include_str!("../../../tests/data/committee-given-up.json");

struct Case {
    last: QueryRecord,
    params: Params,
    drawn: ShardCommittee,
    chain: Hash,
}

fn case() -> Case {
    case_of(DISPUTED)
}

fn case_of(receipt: &str) -> Case {
    let receipt = PaymentReceipt::from_json(receipt).unwrap();
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
fn every_broken_rule_of_a_replaced_node_is_noticed() {
    holds(&case_of(GIVEN_UP)).unwrap();
    type Bend = fn(&mut Sealed);
    /// One that was given up, and was paid.
    fn part(sealed: &mut Sealed) -> &mut ShardCommit {
        sealed.commits.iter_mut().find(|c| c.put_out && c.claim.is_some()).unwrap()
    }
    /// The spare in its place.
    fn holder(sealed: &mut Sealed) -> &mut ShardCommit {
        let (shard, replica) = (part(sealed).shard, part(sealed).replica);
        let at = sealed.place(shard, replica).unwrap();
        &mut sealed.commits[at]
    }
    let bends: [(&str, Bend); 10] = [
        ("said to have its place", |s| part(s).put_out = false),
        ("the spare said to be out", |s| holder(s).put_out = true),
        ("out without a spare", |s| {
            let gone = holder(s).node;
            s.commits.retain(|c| c.node != gone);
        }),
        ("a part revealed", |s| part(s).root = holder(s).root),
        ("a part convicted", |s| part(s).liar = true),
        ("paid for more than it served", |s| part(s).served_tokens = 1),
        ("paid without a voucher", |s| {
            let (total, earned, height) = (Amount(1), Amount(1), u64::MAX);
            part(s).unvouched = Some(Unvouched { total, earned, height });
        }),
        ("a larger voucher", |s| part(s).claim.as_mut().unwrap().voucher.total.0 += 1),
        ("the spare's voucher", |s| {
            let voucher = holder(s).claim.as_ref().unwrap().voucher.clone();
            part(s).claim.as_mut().unwrap().voucher = voucher;
        }),
        ("earned more", |s| part(s).claim.as_mut().unwrap().earned.0 += 1),
    ];
    for (what, bend) in bends {
        let mut bent = case_of(GIVEN_UP);
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
