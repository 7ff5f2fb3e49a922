//! Payment at the claim: at once, in any number of steps, and nobody loses a right by it.

use crate::world::*;
use nesa_chain::{
    Status,
    action::{Side, Unbond},
    fees,
    params::{FULL, Shares},
    query::QueryRecord,
    rules::TxError,
};
use nesa_primitives::Amount;
use proptest::prelude::*;

/// All that a query has paid to anyone, and what it holds.
fn books(record: &QueryRecord) -> (Vec<Amount>, [Amount; 4]) {
    let paid = record.shares_paid;
    let earned = record.commits.iter().map(|c| c.earned()).collect();
    (earned, [paid.owner, paid.validators, paid.treasury, record.held])
}

#[test]
fn a_claim_pays_in_its_own_block() {
    let mut world = World::new();
    let id = world.open(50, None);
    world.commit(&id, Side::A, 0, 50).unwrap();
    let operator = world.operator(&id, Side::A, 0);
    let before = (world.balance(operator), world.balance(OWNER));
    world.claim(&id, Side::A, 0, 350).unwrap();
    assert_eq!(
        (world.balance(operator), world.balance(OWNER)),
        (before.0 + 292 - 10, before.1 + 25)
    );
    let record = world.query(&id);
    assert!(record.status.is_open(), "the rest waits for the deadline");
    assert_eq!(record.commits[0].claim.as_ref().unwrap().height, world.height);
    assert_eq!(record.unspent(), Some(Amount(1_400 - 350)));
    // 23 for four validators: 5 each, 3 stay until the deadline.
    assert_eq!(record.held, Amount(1_400 - 350 + 3));
}

#[test]
fn a_larger_voucher_pays_the_difference() {
    let mut world = World::new();
    let id = world.open(50, None);
    world.commit(&id, Side::B, 0, 50).unwrap();
    world.claim(&id, Side::B, 0, 140).unwrap();
    let operator = world.operator(&id, Side::B, 0);
    let (earned, before) = (world.query(&id).commits[0].earned(), world.balance(operator));
    world.claim(&id, Side::B, 0, 350).unwrap();
    assert_eq!(world.balance(operator), before + 292 - earned.0 - 10);
    assert_eq!(world.query(&id).commits[0].earned(), Amount(292));
    assert!(matches!(world.claim(&id, Side::B, 0, 140), Err(TxError::VoucherNotLarger { .. })));
}

/// The client goes on with another server and pays that one at once. The first one, replaced and
/// slow, still commits, claims what it holds, and has its unpaid increment burned.
#[test]
fn a_replaced_server_loses_nothing_by_the_others_payment() {
    let mut world = World::new();
    let id = world.open(200, None);
    for (side, attempt) in [(Side::A, 1), (Side::B, 0)] {
        world.commit(&id, side, attempt, 100).unwrap();
        world.claim(&id, side, attempt, 700).unwrap();
    }
    world.wait(4_000);
    world.commit(&id, Side::A, 0, 100).unwrap();
    let operator = world.operator(&id, Side::A, 0);
    let before = world.balance(operator);
    world.claim(&id, Side::A, 0, 70).unwrap();
    assert!(world.balance(operator) > before + 40, "the replaced server is paid");
    world.wait(12_000);
    let settlement = *world.query(&id).status.settlement().unwrap();
    assert_eq!(settlement.burned, Amount(630), "the rest of its increment is nobody's");
    assert_eq!(settlement.returned, Amount(7 * 600 - 700 - 700 - 70 - 630));
}

/// Nothing that a payer can send returns its escrow before the deadline.
#[test]
fn the_rest_returns_at_the_deadline_and_not_before() {
    let mut world = World::new();
    let id = world.open(50, None);
    for side in [Side::A, Side::B] {
        world.commit(&id, side, 0, 50).unwrap();
        world.claim(&id, side, 0, 350).unwrap();
    }
    let (before, deadline) = (world.balance(ALICE), world.query(&id).deadline_ms);
    while world.now < deadline {
        assert_eq!(world.balance(ALICE), before);
        world.block(500, &[]);
    }
    world.wait(1_500);
    assert_eq!(world.balance(ALICE), before + 700);
    assert!(matches!(world.query(&id).status, Status::Settled(_)));
}

#[test]
fn a_node_that_leaves_is_paid_and_a_claim_without_commit_is_not() {
    let mut world = World::new();
    let id = world.open(50, None);
    let node = world.committee(&id).a[0].node;
    assert_eq!(world.claim(&id, Side::A, 0, 70), Err(TxError::NotCommitted { node }));
    world.commit(&id, Side::A, 0, 50).unwrap();
    let operator = world.operator(&id, Side::A, 0);
    let tx = world.tx(operator, nesa_chain::Action::Unbond(Unbond { node }));
    world.one(tx).unwrap();
    let before = world.balance(operator);
    world.claim(&id, Side::A, 0, 350).unwrap();
    assert_eq!(world.balance(operator), before + 292 - 10);
}

/// Faucet coins in an escrow keep their mark on whoever is paid with them.
#[test]
fn faucet_coins_stay_marked_when_paid_in_steps() {
    let mut world = World::new();
    let tx = world.transfer(FAUCET, ALICE, nesa_primitives::Denom::NES, 5_000_000);
    world.one(tx).unwrap();
    let id = world.open(50, None);
    assert_eq!(world.query(&id).held_faucet, Amount(1_400));
    world.commit(&id, Side::A, 0, 50).unwrap();
    let operator = world.operator(&id, Side::A, 0);
    for total in [100, 350] {
        world.claim(&id, Side::A, 0, total).unwrap();
    }
    // Fees are paid with marked coins first.
    assert_eq!(world.account(&address(operator)).faucet, Amount(292 - 10));
    let record = world.query(&id);
    assert_eq!(record.held_faucet, record.held);
}

fn shares() -> impl Strategy<Value = Shares> {
    (0u32..=FULL, 0u32..=FULL, 0u32..=FULL).prop_map(|(a, b, c)| {
        let mut cuts = [a, b, c];
        cuts.sort_unstable();
        let [a, b, c] = cuts;
        Shares { compute: a, owner: b - a, validators: c - b, treasury: FULL - c }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_split_is_whole_fair_and_never_shrinks(
        total in prop_oneof![0u64..50, any::<u64>()],
        more in prop_oneof![0u64..5, any::<u64>()],
        shares in shares(),
    ) {
        let split = fees::split(Amount(total), &shares).unwrap();
        let parts = [split.compute, split.owner, split.validators, split.treasury];
        prop_assert_eq!(parts.iter().map(|p| u128::from(p.0)).sum::<u128>(), u128::from(total));
        let of = [shares.compute, shares.owner, shares.validators, shares.treasury];
        for (part, share) in parts.iter().zip(of) {
            let exact = u128::from(total) * u128::from(share);
            let got = u128::from(part.0) * u128::from(FULL);
            prop_assert!(got.abs_diff(exact) < 3 * u128::from(FULL), "{part} of {total} for {share}");
        }
        let later = fees::split(Amount(total.saturating_add(more)), &shares).unwrap();
        prop_assert!(later.beyond(&split).is_some(), "a part shrank: {split:?} {later:?}");
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However a side's vouchers are cut into claims, and whoever claims in between, everybody ends
    /// up with what one claim each would have paid.
    #[test]
    fn many_claims_pay_what_one_would(
        mut steps in prop::collection::vec((any::<bool>(), 1u64..=350), 1..12),
    ) {
        let (mut many, mut once) = (World::new(), World::new());
        let id = many.open(50, None);
        prop_assert_eq!(once.open(50, None), id);
        for world in [&mut many, &mut once] {
            for side in [Side::A, Side::B] {
                world.commit(&id, side, 0, 50).unwrap();
            }
        }
        steps.sort_by_key(|step| step.1);
        let mut last = [0u64; 2];
        for (b, total) in &steps {
            let side = if *b { Side::B } else { Side::A };
            if *total > last[side as usize] {
                many.claim(&id, side, 0, *total).unwrap();
                last[side as usize] = *total;
            }
        }
        for side in [Side::A, Side::B] {
            if last[side as usize] > 0 {
                once.claim(&id, side, 0, last[side as usize]).unwrap();
            }
        }
        prop_assert_eq!(books(&many.query(&id)), books(&once.query(&id)));
        many.wait(12_000);
        once.wait(12_000);
        prop_assert_eq!(books(&many.query(&id)), books(&once.query(&id)));
    }
}
