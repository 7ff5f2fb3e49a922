//! Settlement: what the deadline does with the rest of an escrow, and that lying gains nothing.

use crate::world::*;
use nesa_chain::{
    Action, Status,
    action::{PayForQuery, Side},
    keys,
    query::Settlement,
};
use nesa_primitives::{Amount, Denom, Hash};

fn settled(world: &mut World, id: &Hash) -> Settlement {
    world.wait(12_000);
    *world.query(id).status.settlement().unwrap()
}

#[test]
fn full_service_pays_everyone_their_share() {
    let mut world = World::new();
    let id = world.open(50, None);
    for side in [Side::A, Side::B] {
        world.commit(&id, side, 0, 50).unwrap();
        world.claim(&id, side, 0, 350).unwrap();
    }
    let settlement = settled(&mut world, &id);
    let record = world.query(&id);
    assert!(matches!(record.status, Status::Settled(_)));
    // 350 a side: 8333 : 700 : 667 : 300 make 292, 25, 23, 10.
    assert_eq!(record.commits.iter().map(|c| c.earned().0).collect::<Vec<_>>(), [292, 292]);
    assert_eq!(record.shares_paid.owner, Amount(50));
    assert_eq!(record.shares_paid.validators, Amount(44));
    // 2 × 10 and the 2 of 46 that four validators cannot share evenly.
    assert_eq!(record.shares_paid.treasury, Amount(22));
    assert_eq!(settlement.burned, Amount::ZERO);
    assert_eq!(settlement.returned, Amount(700));
    for seat in [world.committee(&id).a[0], world.committee(&id).b[0]] {
        let n = (0..=255).find(|n| address(*n) == seat.node).unwrap();
        assert_eq!(world.node(n).unwrap().score, 1);
    }
}

#[test]
fn an_unserved_query_returns_the_whole_escrow_but_not_the_draw_fee() {
    let mut world = World::new();
    let before = world.balance(ALICE);
    let id = world.open(50, None);
    let settlement = settled(&mut world, &id);
    assert!(matches!(world.query(&id).status, Status::Expired(_)));
    assert_eq!(settlement.returned, Amount(1_400));
    assert_eq!(world.balance(ALICE), before - 1_000 - 10);
}

#[test]
fn a_server_that_claims_without_a_voucher_gains_nothing() {
    let mut world = World::new();
    let id = world.open(50, None);
    let operator = world.operator(&id, Side::A, 0);
    world.commit(&id, Side::A, 0, 50).unwrap();
    let before = world.balance(operator);
    let settlement = settled(&mut world, &id);
    assert_eq!(world.balance(operator), before);
    assert_eq!(world.query(&id).claimed(), Some(Amount::ZERO));
    assert_eq!(settlement.burned, Amount(350));
}

/// The client takes the work and refuses to sign: it pays the same, to nobody.
#[test]
fn a_client_that_falsely_complains_gains_nothing() {
    let (mut honest, mut liar) = (World::new(), World::new());
    let mut rest = Vec::new();
    for (world, signs) in [(&mut honest, true), (&mut liar, false)] {
        let id = world.open(50, None);
        for side in [Side::A, Side::B] {
            world.commit(&id, side, 0, 50).unwrap();
            if signs {
                world.claim(&id, side, 0, 350).unwrap();
            }
        }
        world.wait(12_000);
        rest.push(world.balance(ALICE));
    }
    assert!(rest[1] <= rest[0], "complaining left the client richer: {rest:?}");
}

/// Complaining after each increment and going on with the next candidate saves nothing either.
#[test]
fn hopping_from_server_to_server_gains_nothing() {
    let (mut honest, mut hopper) = (World::new(), World::new());
    let id = honest.open(300, None);
    honest.commit(&id, Side::A, 0, 300).unwrap();
    honest.claim(&id, Side::A, 0, 2_100).unwrap();
    honest.wait(12_000);
    let id = hopper.open(300, None);
    for attempt in 0..3 {
        // Each serves one increment of 100 tokens, sees no voucher, and stops.
        hopper.commit(&id, Side::A, attempt, 100).unwrap();
    }
    hopper.wait(12_000);
    assert_eq!(hopper.query(&id).status.settlement().unwrap().burned, Amount(2_100));
    assert_eq!(hopper.balance(ALICE), honest.balance(ALICE));
}

/// A colluding server says it served everything: at most one increment burns.
#[test]
fn a_lying_commit_burns_at_most_one_increment() {
    let mut world = World::new();
    let id = world.open(1_000, None);
    world.commit(&id, Side::A, 0, 1_000).unwrap();
    world.claim(&id, Side::A, 0, 700).unwrap();
    let settlement = settled(&mut world, &id);
    assert_eq!(settlement.burned, Amount(7 * 100));
}

#[test]
fn paid_and_burned_never_exceed_the_escrow() {
    let mut world = World::new();
    let id = world.open(50, None);
    for side in [Side::A, Side::B] {
        for attempt in 0..world.committee(&id).side(side).len() as u8 {
            world.commit(&id, side, attempt, 50).unwrap();
        }
        world.claim(&id, side, 0, 350).unwrap();
    }
    // Five liars on top: each side still loses no more than its half.
    let settlement = settled(&mut world, &id);
    assert_eq!(settlement.burned, Amount(700));
    assert_eq!(settlement.returned, Amount::ZERO);
}

#[test]
fn a_settled_query_takes_no_claim_and_is_settled_once() {
    let mut world = World::new();
    let id = world.open(50, None);
    world.commit(&id, Side::A, 0, 50).unwrap();
    let first = settled(&mut world, &id);
    let balance = world.balance(ALICE);
    assert!(world.claim(&id, Side::A, 0, 350).is_err());
    world.wait(5_000);
    assert_eq!(world.query(&id).status.settlement(), Some(&first));
    assert_eq!(world.balance(ALICE), balance);
}

#[test]
fn settlement_comes_after_the_deadline_and_within_a_bucket() {
    let mut world = World::new();
    let id = world.open(50, None);
    let deadline = world.query(&id).deadline_ms;
    while world.now < deadline {
        assert!(world.query(&id).status.is_open());
        world.block(100, &[]);
    }
    world.wait(1_100);
    let at = world.query(&id).status.settlement().unwrap().timestamp_ms;
    assert!(at > deadline && at <= deadline + 1_100, "{at} {deadline}");
}

#[test]
fn a_query_in_stablecoins_is_settled_in_stablecoins() {
    let mut world = World::new();
    let nes = world.balance(ALICE);
    let pay = PayForQuery { model: usd_model(), denom: USD, ..world.payment(50, 100) };
    let tx = world.tx(ALICE, Action::PayForQuery(pay));
    let id = tx.id();
    world.one(tx).unwrap();
    world.commit(&id, Side::B, 0, 50).unwrap();
    world.claim(&id, Side::B, 0, 350).unwrap();
    let operator = world.operator(&id, Side::B, 0);
    settled(&mut world, &id);
    assert_eq!(world.account(&address(operator)).balance(USD), Amount(5_000_292));
    assert_eq!(world.account(&address(ALICE)).balance(USD), Amount(5_000_000 - 350));
    assert_eq!(world.balance(ALICE), nes - 1_010);
    assert_eq!(world.supply().get(USD).unwrap().treasury, Amount(10 + 3));
}

#[test]
fn a_long_pause_is_caught_up_with_and_old_queries_are_forgotten() {
    let mut world = World::new();
    let id = world.open(50, None);
    world.block(40 * 24 * 3_600_000, &[]);
    for _ in 0..60 {
        world.block(1_000, &[]);
    }
    assert!(matches!(world.query(&id).status, Status::Expired(_)));
    world.wait(95_000);
    assert!(!world.state.contains_key(&keys::query(&id)));
    // Deadlines work as before.
    let id = world.open(50, None);
    world.wait(12_000);
    assert!(matches!(world.query(&id).status, Status::Expired(_)));
    assert_eq!(world.supply().get(Denom::NES).unwrap().burned, Amount::ZERO);
}
