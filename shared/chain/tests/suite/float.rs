//! The float lane on the chain: replicas that reveal different roots, and a client that decides.

use crate::{traces::*, world::*};
use nesa_chain::{
    Action,
    action::{Lane, Pair, PayForQuery, Verification},
    rules::TxError,
};
use nesa_primitives::{Amount, Hash};

fn payment(world: &World, replicas: u8) -> PayForQuery {
    PayForQuery {
        lane: Lane::Float,
        verification: Verification::Statistical,
        ..world.sealed_payment(terms(&[], replicas, false))
    }
}

/// Opens a query whose replicas reveal the roots with these numbers.
fn revealed(world: &mut World, which: &[usize]) -> Hash {
    let pay = payment(world, which.len() as u8);
    let tx = world.tx(ALICE, Action::PayForQuery(pay));
    let id = tx.id();
    world.one(tx).unwrap();
    for (replica, which) in (0u8..).zip(which) {
        world.commits(&id, 0, replica, *which);
    }
    world.until(world.windows(&id).commit_ms + 1);
    for (replica, which) in (0u8..).zip(which) {
        world.reveals(&id, 0, replica, *which).unwrap();
    }
    world.until(world.windows(&id).reveal_ms + 1);
    id
}

#[test]
fn replicas_whose_roots_differ_are_paid_on_the_clients_word() {
    let mut world = World::float();
    let before = world.balance(ALICE);
    let id = revealed(&mut world, &[0, 1, 2]);
    // 30 served at 7 each. The client pays the two that agree by its calibration.
    world.claims(&id, 0, 0, 210).unwrap();
    world.claims(&id, 0, 1, 210).unwrap();
    world.until(world.windows(&id).close_ms + 2_000);
    let ended = *world.query(&id).status.settlement().unwrap();
    // What is withheld from the third is burned, so that nobody gains by finding fault.
    assert_eq!(ended.burned, Amount(210));
    let escrow = world.query(&id).escrow;
    assert_eq!(ended.returned, Amount(escrow.0 - 3 * 210));
    assert_eq!(world.balance(ALICE), before - 10 - 1_000 - 3 * 210);
}

#[test]
fn nobody_can_claim_without_commit_reveal_and_voucher() {
    let mut world = World::float();
    let pay = payment(&world, 3);
    let tx = world.tx(ALICE, Action::PayForQuery(pay));
    let id = tx.id();
    world.one(tx).unwrap();
    world.commits(&id, 0, 0, 0);
    world.commits(&id, 0, 1, 1);
    world.until(world.windows(&id).commit_ms + 1);
    world.reveals(&id, 0, 0, 0).unwrap();
    world.until(world.windows(&id).reveal_ms + 1);
    assert_eq!(world.claims(&id, 0, 1, 210), Err(TxError::NotRevealed { shard: 0, replica: 1 }));
    let node = world.replicas(&id).seat(0, 2).unwrap().node;
    assert_eq!(world.claims(&id, 0, 2, 210), Err(TxError::NotCommitted { node }));
    assert!(matches!(world.claims(&id, 0, 0, 211), Err(TxError::VoucherAboveServed { .. })));
    // One reveal of three is enough here: agreement is the client's to judge.
    world.claims(&id, 0, 0, 210).unwrap();
}

#[test]
fn honest_replicas_that_differ_cannot_be_disputed() {
    let mut world = World::float();
    let id = revealed(&mut world, &[0, 1, 0]);
    let pair = Pair { query: id, shard: 0, left: 0, right: 1 };
    assert_eq!(world.open_dispute(pair, 0), Err(TxError::NotDisclosed));
}

#[test]
fn only_its_own_terms_are_taken() {
    let mut world = World::float();
    let good = payment(&world, 3);
    let mut refused = |pay: PayForQuery| {
        let tx = world.tx(ALICE, Action::PayForQuery(pay));
        world.soon(tx).unwrap_err()
    };
    let with = |terms| PayForQuery { terms, ..good.clone() };
    for bad in [terms(&[1], 3, false), terms(&[], 3, true), terms(&[], 1, false)] {
        assert!(matches!(refused(with(Some(bad))), TxError::Terms { .. }));
    }
    assert_eq!(refused(with(None)), TxError::Terms { got: "no", expected: "some" });
    for (lane, verification) in [
        (Lane::Float, Verification::Committee),
        (Lane::Float, Verification::Freivalds),
        (Lane::Sealed, Verification::Statistical),
    ] {
        let pay = PayForQuery { lane, verification, ..good.clone() };
        assert_eq!(refused(pay), TxError::Pair { lane, verification });
    }
    // A model that does not offer the lane.
    let pay = PayForQuery { model: model(), ..good.clone() };
    assert_eq!(refused(pay), TxError::Lanes { got: 4, expected: 1 });
    let tx = world.tx(ALICE, Action::PayForQuery(good));
    world.one(tx).unwrap();
}
