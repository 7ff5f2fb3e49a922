//! Commit, reveal and claim of the committee lane, attacked.

use crate::{traces::*, world::*};
use nesa_chain::{
    Action, Params,
    action::{ClaimShard, Lane, Named, PayForQuery, Reveal, Side, Verification},
    committee::Admission,
    fees::replica_budget,
    rules::TxError,
};
use nesa_primitives::{Amount, Hash};

#[test]
fn only_the_two_legal_pairs_with_their_terms_are_taken() {
    let mut world = World::sealed();
    let good = world.sealed_payment(terms(&[1], 3, false));
    let masked = world.payment(9, 100);
    let refused = |world: &mut World, pay: PayForQuery| {
        let tx = world.tx(ALICE, Action::PayForQuery(pay));
        world.soon(tx).unwrap_err()
    };
    let pair =
        |lane, verification, of: &PayForQuery| PayForQuery { lane, verification, ..of.clone() };
    for (lane, verification) in
        [(Lane::Sealed, Verification::Freivalds), (Lane::Masked, Verification::Committee)]
    {
        let of = if lane == Lane::Sealed { &good } else { &masked };
        let error = refused(&mut world, pair(lane, verification, of));
        assert_eq!(error, TxError::Pair { lane, verification });
    }
    let with = PayForQuery { terms: Some(terms(&[], 3, false)), ..masked.clone() };
    assert_eq!(refused(&mut world, with), TxError::Terms { got: "some", expected: "none" });
    let without = PayForQuery { terms: None, ..good.clone() };
    assert_eq!(refused(&mut world, without), TxError::Terms { got: "no", expected: "some" });
    let named = Some(Named { side: Side::A, node: address(20) });
    let named = PayForQuery { named, ..good.clone() };
    assert_eq!(refused(&mut world, named), TxError::NamedReplica);
    let bad = PayForQuery { terms: Some(terms(&[], 9, false)), ..good.clone() };
    assert!(matches!(refused(&mut world, bad), TxError::BadTerms(_)));
    let many = PayForQuery { terms: Some(terms(&[1], 6, false)), ..good.clone() };
    let many = PayForQuery { max_fee: Amount(9_000), ..many };
    assert!(matches!(refused(&mut world, many), TxError::Committee(_)));
    // A model says which lanes it allows.
    let lanes = PayForQuery { model: model(), ..good.clone() };
    assert_eq!(refused(&mut world, lanes), TxError::Lanes { got: 2, expected: 1 });
    let cheap = PayForQuery { max_fee: Amount(good.max_fee.0 - 1), ..good.clone() };
    let expected = good.max_fee;
    assert!(
        matches!(refused(&mut world, cheap), TxError::Escrow { expected: e, .. } if e == expected)
    );
    let tx = world.tx(ALICE, Action::PayForQuery(good));
    world.one(tx).unwrap();
}

#[test]
fn replicas_that_agree_are_paid_and_the_rest_returns() {
    let mut world = World::sealed();
    let before = world.balance(ALICE);
    let id = world.revealed(terms(&[1], 3, false), &[&[0, 0, 0], &[0, 0, 0]]);
    let query = world.query(&id);
    assert_eq!((query.price_per_token, query.escrow), (Amount(4), Amount(4 * 80 * 10)));
    for shard in 0..2 {
        for replica in 0..3 {
            world.claims(&id, shard, replica, 4 * 30).unwrap();
        }
    }
    world.until(world.windows(&id).close_ms + 2_000);
    let settled = world.query(&id);
    let ended = *settled.status.settlement().unwrap();
    assert_eq!((ended.burned, ended.returned), (Amount(0), Amount(3_200 - 720)));
    assert_eq!(world.balance(ALICE), before - 10 - 1_000 - 720);
    for commit in &settled.sealed.unwrap().commits {
        assert!(commit.earned().0 >= 99, "83.33 % of 120");
        let number = (0..=255).find(|n| address(*n) == commit.node).unwrap();
        assert_eq!(world.node(number).unwrap().score, 1);
    }
}

#[test]
fn everything_has_its_window() {
    let mut world = World::sealed();
    let id = world.open_sealed(terms(&[], 3, false));
    let windows = world.windows(&id);
    for replica in 0..3 {
        world.commits(&id, 0, replica, 0);
    }
    assert!(matches!(world.reveals(&id, 0, 0, 0), Err(TxError::Early { .. })));
    assert!(matches!(world.claims(&id, 0, 0, 100), Err(TxError::Early { .. })));
    world.until(windows.commit_ms + 1);
    let late = world.commit_shard(&id, (0, 0), &Hash::ZERO, 1);
    let late = world.by(&id, 0, 0, Action::CommitShard(late));
    assert!(matches!(late, Err(TxError::Late { .. })));
    world.reveals(&id, 0, 0, 0).unwrap();
    world.reveals(&id, 0, 1, 0).unwrap();
    assert_eq!(world.reveals(&id, 0, 1, 0), Err(TxError::Revealed { shard: 0, replica: 1 }));
    // Agreement is not known before all could reveal.
    assert!(matches!(world.claims(&id, 0, 0, 100), Err(TxError::Early { .. })));
    world.until(windows.reveal_ms + 1);
    assert!(matches!(world.reveals(&id, 0, 2, 0), Err(TxError::Late { .. })));
    world.claims(&id, 0, 0, 100).unwrap();
    // Who committed and did not reveal is not paid.
    assert_eq!(world.claims(&id, 0, 2, 100), Err(TxError::NotRevealed { shard: 0, replica: 2 }));
    world.until(windows.close_ms + 2_000);
    assert_eq!(world.claims(&id, 0, 1, 100), Err(TxError::Settled { query: id }));
    // Of those that revealed one was paid short of its 210, the other not at all.
    let ended = *world.query(&id).status.settlement().unwrap();
    assert_eq!(ended.burned, Amount(110 + 210));
}

#[test]
fn a_minority_of_reveals_pays_nobody() {
    let mut world = World::sealed();
    let id = world.open_sealed(terms(&[], 3, false));
    for replica in 0..3 {
        world.commits(&id, 0, replica, 0);
    }
    world.until(world.windows(&id).commit_ms + 1);
    world.reveals(&id, 0, 1, 0).unwrap();
    world.until(world.windows(&id).reveal_ms + 1);
    let few = TxError::FewReveals { shard: 0, revealed: 1, needed: 2 };
    assert_eq!(world.claims(&id, 0, 1, 100), Err(few));
}

#[test]
fn a_mismatch_withholds_pay_and_reveals_nothing_without_consent() {
    let mut world = World::sealed();
    let id = world.revealed(terms(&[1], 3, false), &[&[0, 0, 0], &[0, 1, 0]]);
    for replica in 0..3 {
        world.claims(&id, 0, replica, 50).unwrap();
        assert_eq!(world.claims(&id, 1, replica, 50), Err(TxError::Mismatch { shard: 1 }));
    }
    let pair = nesa_chain::action::Pair { query: id, shard: 1, left: 0, right: 1 };
    assert_eq!(world.open_dispute(pair, 0), Err(TxError::NotDisclosed));
    world.until(world.windows(&id).close_ms + 2_000);
    // 30 tokens at 4 each were served by each: what is not paid is burned, up to an increment.
    let ended = *world.query(&id).status.settlement().unwrap();
    assert_eq!(ended.burned, Amount(3 * (120 - 50) + 3 * 120));
    assert_eq!(ended.returned, Amount(3_200 - 3 * 50).checked_sub(ended.burned).unwrap());
}

#[test]
fn a_copied_commitment_cannot_be_revealed() {
    let mut world = World::sealed();
    let id = world.open_sealed(terms(&[], 3, false));
    world.commits(&id, 0, 0, 0);
    let copied = world.sealed_of(&id).commit(0, 0).unwrap().blinded_root;
    let mut copy = world.commit_shard(&id, (0, 1), &Hash::ZERO, 30);
    copy.blinded_root = copied;
    world.by(&id, 0, 1, Action::CommitShard(copy)).unwrap();
    world.until(world.windows(&id).commit_ms + 1);
    world.reveals(&id, 0, 0, 0).unwrap();
    let root = world.sealed_of(&id).commit(0, 0).unwrap().root.unwrap();
    for blind in [veil(0, 0), veil(0, 1)] {
        let reveal = Reveal { query: id, shard: 0, replica: 1, root, blind };
        let refused = world.by(&id, 0, 1, Action::Reveal(reveal));
        assert!(matches!(refused, Err(TxError::Reveal { .. })), "{refused:?}");
    }
    // Nor can one replica reveal for another, or what was not committed.
    let reveal = Reveal { query: id, shard: 0, replica: 0, root, blind: veil(0, 0) };
    let refused = world.by(&id, 0, 1, Action::Reveal(reveal.clone()));
    assert!(matches!(refused, Err(TxError::Operator { .. })));
    let nobody = Reveal { replica: 2, ..reveal };
    let refused = world.by(&id, 0, 2, Action::Reveal(nobody));
    assert_eq!(refused, Err(TxError::NoCommit { shard: 0, replica: 2 }));
}

#[test]
fn only_drawn_replicas_commit_each_once() {
    let mut world = World::sealed();
    let id = world.open_sealed(terms(&[1], 2, false));
    let good = world.commit_shard(&id, (1, 1), &Hash::ZERO, 30);
    let mut refused =
        |by: (u8, u8), commit| world.by(&id, by.0, by.1, Action::CommitShard(commit)).unwrap_err();
    let commit = |f: &dyn Fn(&mut nesa_chain::action::CommitShard)| {
        let mut commit = good.clone();
        f(&mut commit);
        commit
    };
    let wrong_seed = commit(&|c| c.seed.0[0] ^= 1);
    assert!(matches!(refused((1, 1), wrong_seed), TxError::Seed { .. }));
    for (shard, replica) in [(2, 0), (0, 2), (9, 9)] {
        let beyond = commit(&|c| (c.shard, c.replica) = (shard, replica));
        assert!(matches!(refused((1, 1), beyond), TxError::Replica { .. }));
    }
    assert!(matches!(refused((1, 0), good.clone()), TxError::Operator { .. }));
    // Another replica's seat is no place for this one.
    let other = commit(&|c| c.seat = 0);
    assert!(matches!(refused((1, 0), other), TxError::ShardSeat { .. }));
    let beyond = commit(&|c| c.seat = 7);
    assert!(matches!(refused((1, 1), beyond), TxError::ShardSeat { .. }));
    let many = commit(&|c| c.served_tokens = MAX_TOKENS + 1);
    assert!(matches!(refused((1, 1), many), TxError::Served { .. }));
    let masked = nesa_chain::action::Commit {
        query: id,
        side: Side::A,
        attempt: 0,
        blinded_root: Hash::ZERO,
        served_tokens: 1,
        seed: good.seed.clone(),
    };
    world.by(&id, 1, 1, Action::CommitShard(good.clone())).unwrap();
    let twice = world.by(&id, 1, 1, Action::CommitShard(good)).unwrap_err();
    assert_eq!(twice, TxError::CommittedShard { shard: 1, replica: 1 });
    let other = world.by(&id, 1, 1, Action::Commit(masked)).unwrap_err();
    assert_eq!(other, TxError::OtherLane { query: id });
}

#[test]
fn a_spare_takes_a_lost_replicas_place_on_the_clients_word_only() {
    let mut world = World::sealed();
    let id = world.open_sealed(terms(&[], 3, false));
    let node = world.replicas(&id).seat(0, 3).unwrap().node;
    let admission = Admission { query: id, shard: 0, replica: 1, node };
    let mut spare =
        world.commit_shard(&id, (0, 1), &LAB.shard(&terms(&[], 3, false), 0).roots[0], 30);
    spare.seat = 3;
    let (client, chain) = (key(100), world.chain);
    let mut refused = |signature| {
        let commit = nesa_chain::action::CommitShard { admission: signature, ..spare.clone() };
        world.by(&id, 0, 3, Action::CommitShard(commit)).unwrap_err()
    };
    assert_eq!(refused(None), TxError::Admission("none given"));
    let elsewhere = Admission { replica: 2, ..admission };
    let other_node = Admission { node: address(77), ..admission };
    for bad in [
        admission.sign(&key(101), &chain),
        admission.sign(&client, &Hash::ZERO),
        elsewhere.sign(&client, &chain),
        other_node.sign(&client, &chain),
    ] {
        assert_eq!(refused(Some(bad)), TxError::Admission("bad signature"));
    }
    spare.admission = Some(admission.sign(&client, &chain));
    world.by(&id, 0, 3, Action::CommitShard(spare.clone())).unwrap();
    // It serves one place only.
    let second = Admission { replica: 2, ..admission }.sign(&client, &chain);
    let second = nesa_chain::action::CommitShard { replica: 2, admission: Some(second), ..spare };
    assert!(matches!(
        world.by(&id, 0, 3, Action::CommitShard(second)),
        Err(TxError::CommittedShard { .. })
    ));
    world.commits(&id, 0, 0, 0);
    world.until(world.windows(&id).commit_ms + 1);
    world.reveals(&id, 0, 0, 0).unwrap();
    let root = LAB.shard(&terms(&[], 3, false), 0).roots[0];
    let reveal = Reveal { query: id, shard: 0, replica: 1, root, blind: veil(0, 1) };
    world.by(&id, 0, 3, Action::Reveal(reveal)).unwrap();
    world.until(world.windows(&id).reveal_ms + 1);
    let voucher = world.shard_voucher(&id, 0, 1, 200);
    assert_eq!(voucher.node, node);
    world.by(&id, 0, 3, Action::ClaimShard(ClaimShard { query: id, voucher })).unwrap();
}

#[test]
fn vouchers_pay_their_replica_what_it_served_and_no_more() {
    let mut world = World::sealed();
    let id = world.revealed(terms(&[], 3, false), &[&[0, 0, 0]]);
    let query = world.query(&id);
    let budget = replica_budget(query.escrow, &query.sealed.unwrap().terms);
    assert_eq!(budget, Amount(7 * 80));
    let above = world.claims(&id, 0, 0, 7 * 30 + 1);
    assert!(matches!(above, Err(TxError::VoucherAboveServed { .. })));
    world.claims(&id, 0, 0, 100).unwrap();
    for less in [100, 99, 0] {
        let again = world.claims(&id, 0, 0, less);
        assert!(matches!(again, Err(TxError::VoucherNotLarger { .. })));
    }
    world.claims(&id, 0, 0, 210).unwrap();
    // Another replica's voucher, another signer's, and one that was meant for another place.
    let voucher = world.shard_voucher(&id, 0, 1, 100);
    let mut refused = |by: u8, voucher| {
        world.by(&id, 0, by, Action::ClaimShard(ClaimShard { query: id, voucher })).unwrap_err()
    };
    assert!(matches!(refused(2, voucher.clone()), TxError::Operator { .. }));
    let moved = nesa_chain::ShardVoucher { replica: 2, ..voucher.clone() };
    assert!(matches!(refused(2, moved), TxError::Voucher(_)));
    let more = nesa_chain::ShardVoucher { total: Amount(101), ..voucher };
    assert!(matches!(refused(1, more), TxError::Voucher(_)));
}

#[test]
fn parameters_that_would_break_a_promise_are_refused() {
    let bad = |f: &dyn Fn(&mut Params)| {
        let mut params = params();
        f(&mut params);
        params.check().unwrap_err().name
    };
    assert_eq!(bad(&|p| p.reveal_ms = 0), "reveal_ms");
    assert_eq!(bad(&|p| p.step_ms = 0), "step_ms");
    assert_eq!(bad(&|p| p.claim_ms = 0), "claim_ms");
    assert_eq!(bad(&|p| p.slash = 10_001), "slash");
    // Who slashes himself must lose by it.
    assert_eq!(bad(&|p| p.reward = 5_000), "reward");
    assert_eq!(bad(&|p| p.unbonding_ms = p.longest_query_ms() - 1), "unbonding_ms");
    assert_eq!(Params::local(None).check(), Ok(()));
}
