//! Queries before their deadline, and everyone who tries to cheat.

use crate::world::*;
use nesa_chain::{
    Action, Voucher,
    action::{Claim, Commit, Named, PayForQuery, Side, Unbond},
    committee::CommitteeError,
    rules::TxError,
};
use nesa_primitives::{Amount, Denom, Hash};

fn refused(world: &mut World, change: impl FnOnce(&mut PayForQuery)) -> TxError {
    let mut pay = world.payment(50, 100);
    pay.deadline_ms = world.now + 500 + 10_000;
    change(&mut pay);
    let tx = world.tx(ALICE, Action::PayForQuery(pay));
    world.one(tx).unwrap_err()
}

#[test]
fn escrow_and_draw_fee_are_taken_at_once() {
    let mut world = World::new();
    let before = world.balance(ALICE);
    let id = world.open(50, None);
    let record = world.query(&id);
    assert_eq!(record.escrow, Amount(7 * 2 * 100));
    assert_eq!(world.balance(ALICE), before - 1_400 - 1_000 - 10);
    assert_eq!(world.supply().get(Denom::NES).unwrap().treasury, Amount(1_000));
    assert_eq!((record.included_view, record.draw_view), (2, 4));
    assert!(record.status.is_open() && record.committee.is_none());
}

#[test]
fn what_a_query_asks_for_is_checked() {
    let mut world = World::new();
    let now = world.now;
    assert_eq!(
        refused(&mut world, |p| p.model = Hash::ZERO),
        TxError::UnknownModel { digest: Hash::ZERO }
    );
    assert_eq!(
        refused(&mut world, |p| p.denom = USD),
        TxError::Denom { got: USD, expected: Denom::NES }
    );
    assert_eq!(
        refused(&mut world, |p| p.model = usd_model()),
        TxError::Denom { got: Denom::NES, expected: USD }
    );
    for tokens in [0, 1_001, u32::MAX] {
        let error = refused(&mut world, |p| p.max_tokens = tokens);
        assert_eq!(error, TxError::Tokens { got: tokens, max: 1_000 });
    }
    assert_eq!(
        refused(&mut world, |p| p.max_fee = Amount(1_399)),
        TxError::Escrow { got: Amount(1_399), expected: Amount(1_400) }
    );
    assert!(matches!(refused(&mut world, |p| p.max_fee = Amount(u64::MAX)), TxError::Funds { .. }));
    for deadline in [0, now, now + 2_000, now + 60_000, u64::MAX] {
        let error = refused(&mut world, |p| p.deadline_ms = deadline);
        assert!(matches!(error, TxError::Deadline { .. }), "{error}");
    }
    let stranger = Named { side: Side::A, node: address(99) };
    assert_eq!(
        refused(&mut world, |p| p.named = Some(stranger)),
        TxError::Committee(CommitteeError::NamedNode { node: address(99) })
    );
}

#[test]
fn a_drawn_operator_commits_once_for_its_own_seat() {
    let mut world = World::new();
    let id = world.open(50, None);
    let recomputed = world.committee(&id);
    world.commit(&id, Side::A, 0, 50).unwrap();
    let record = world.query(&id);
    assert_eq!(record.committee.as_ref(), Some(&recomputed), "the chain drew what a client draws");
    assert_eq!(record.commits[0].node, recomputed.a[0].node);
    assert_eq!(
        world.commit(&id, Side::A, 0, 50),
        Err(TxError::Committed { side: Side::A, attempt: 0 })
    );
    world.commit(&id, Side::B, 0, 50).unwrap();
}

#[test]
fn nobody_commits_for_another_seat_side_or_attempt() {
    let mut world = World::new();
    let id = world.open(50, None);
    let a0 = world.operator(&id, Side::A, 0);
    let b0 = world.operator(&id, Side::B, 0);
    for (side, attempt, sender) in
        [(Side::A, 0, b0), (Side::B, 0, a0), (Side::B, 1, b0), (Side::A, 0, ALICE)]
    {
        let action = Action::Commit(world.commit_action(&id, side, attempt, 50));
        let tx = world.tx(sender, action);
        assert!(matches!(world.one(tx), Err(TxError::Operator { .. })), "{side} {attempt}");
    }
    for attempt in [3, 255] {
        let action = Action::Commit(world.commit_action(&id, Side::A, attempt, 50));
        let tx = world.tx(a0, action);
        assert!(matches!(world.one(tx), Err(TxError::Seat { .. })));
    }
    assert!(world.query(&id).commits.is_empty());
    assert!(world.query(&id).committee.is_none(), "a refused commit draws nothing");
}

#[test]
fn a_wrong_seed_draws_nothing() {
    let mut world = World::new();
    let id = world.open(50, None);
    let draw_view = world.query(&id).draw_view;
    let a0 = world.operator(&id, Side::A, 0);
    for wrong in [seed(draw_view + 1), seed(draw_view - 2), nesa_chain::action::SeedBytes(vec![])] {
        let commit = Commit { seed: wrong, ..world.commit_action(&id, Side::A, 0, 50) };
        let tx = world.tx(a0, Action::Commit(commit));
        assert_eq!(world.one(tx), Err(TxError::Seed { view: draw_view }));
    }
    // Later commits are held to the same seed.
    world.commit(&id, Side::A, 0, 50).unwrap();
    let b0 = world.operator(&id, Side::B, 0);
    let commit = Commit { seed: seed(0), ..world.commit_action(&id, Side::B, 0, 50) };
    let tx = world.tx(b0, Action::Commit(commit));
    assert_eq!(world.one(tx), Err(TxError::Seed { view: draw_view }));
}

#[test]
fn a_server_cannot_have_served_more_than_was_asked() {
    let mut world = World::new();
    let id = world.open(50, None);
    assert_eq!(world.commit(&id, Side::A, 0, 51), Err(TxError::Served { got: 51, max: 50 }));
}

#[test]
fn unknown_and_late_queries_take_no_commit() {
    let mut world = World::new();
    let id = world.open(50, None);
    let mut commit = world.commit_action(&id, Side::A, 0, 50);
    commit.query = Hash([7; 32]);
    let tx = world.tx(10, Action::Commit(commit));
    assert_eq!(world.one(tx), Err(TxError::UnknownQuery { query: Hash([7; 32]) }));
    let deadline = world.query(&id).deadline_ms;
    // Exactly at the deadline is in time, a millisecond later is not.
    let a0 = world.operator(&id, Side::A, 0);
    let b0 = world.operator(&id, Side::B, 0);
    let a = world.tx(a0, Action::Commit(world.commit_action(&id, Side::A, 0, 50)));
    let b = world.tx(b0, Action::Commit(world.commit_action(&id, Side::B, 0, 50)));
    let gap = deadline - world.now;
    world.block(gap, &[a]).pop().unwrap().unwrap();
    let late = world.block(1, std::slice::from_ref(&b)).pop().unwrap();
    assert!(matches!(late, Err(TxError::Late { .. }) | Err(TxError::Settled { .. })), "{late:?}");
    world.wait(2_000);
    assert_eq!(world.one(b), Err(TxError::Settled { query: id }));
}

#[test]
fn a_claim_needs_a_commit_and_the_clients_signature() {
    let mut world = World::new();
    let id = world.open(50, None);
    let a0 = world.operator(&id, Side::A, 0);
    let node = world.committee(&id).a[0].node;
    assert_eq!(world.claim(&id, Side::A, 0, 70), Err(TxError::NotCommitted { node }));
    world.commit(&id, Side::A, 0, 50).unwrap();
    // Signed by the payer's account, by the server itself, or by another client.
    for signer in [ALICE, a0, 101] {
        let voucher = world.voucher(&id, Side::A, 0, 70, signer);
        let tx = world.tx(a0, Action::Claim(Claim { query: id, voucher }));
        assert!(matches!(world.one(tx), Err(TxError::Voucher(_))));
    }
    // Raised after signing, or for another chain.
    let mut raised = world.voucher(&id, Side::A, 0, 70, 100);
    raised.total = Amount(350);
    let foreign = Voucher::sign(&key(100), &Hash::ZERO, id, node, Amount(70));
    for voucher in [raised, foreign] {
        let tx = world.tx(a0, Action::Claim(Claim { query: id, voucher }));
        assert!(matches!(world.one(tx), Err(TxError::Voucher(_))));
    }
    world.claim(&id, Side::A, 0, 70).unwrap();
}

#[test]
fn a_voucher_serves_one_query_and_one_node() {
    let mut world = World::new();
    let (first, second) = (world.open(50, None), world.open(50, None));
    for id in [first, second] {
        world.commit(&id, Side::A, 0, 50).unwrap();
        world.commit(&id, Side::B, 0, 50).unwrap();
    }
    let voucher = world.voucher(&first, Side::A, 0, 70, 100);
    let a0 = world.operator(&first, Side::A, 0);
    let b0 = world.operator(&first, Side::B, 0);
    // Into another query.
    let claim = Claim { query: second, voucher: voucher.clone() };
    let tx = world.tx(a0, Action::Claim(claim));
    assert!(matches!(world.one(tx), Err(TxError::VoucherQuery { .. })));
    // By another operator, or with the node's name exchanged.
    let tx = world.tx(b0, Action::Claim(Claim { query: first, voucher: voucher.clone() }));
    assert!(matches!(world.one(tx), Err(TxError::Operator { .. })));
    let mut stolen = voucher;
    stolen.node = world.committee(&first).b[0].node;
    let tx = world.tx(b0, Action::Claim(Claim { query: first, voucher: stolen }));
    assert!(matches!(world.one(tx), Err(TxError::Voucher(_))));
}

#[test]
fn totals_only_grow_and_a_replayed_voucher_adds_nothing() {
    let mut world = World::new();
    let id = world.open(50, None);
    world.commit(&id, Side::A, 0, 50).unwrap();
    world.claim(&id, Side::A, 0, 70).unwrap();
    for total in [70, 69, 0] {
        assert!(matches!(
            world.claim(&id, Side::A, 0, total),
            Err(TxError::VoucherNotLarger { .. })
        ));
    }
    world.claim(&id, Side::A, 0, 140).unwrap();
    assert_eq!(world.query(&id).commits[0].claimed(), Amount(140));
}

#[test]
fn a_voucher_above_the_work_or_the_budget_is_refused() {
    let mut world = World::new();
    let id = world.open(50, None);
    world.commit(&id, Side::A, 0, 50).unwrap();
    assert_eq!(
        world.claim(&id, Side::A, 0, 351),
        Err(TxError::VoucherAboveServed { got: Amount(351), expected: Amount(350) })
    );
    assert!(matches!(
        world.claim(&id, Side::A, 0, u64::MAX),
        Err(TxError::VoucherAboveServed { .. })
    ));
    // Three servers of one side, each with a full voucher: the side's half holds two of them.
    world.claim(&id, Side::A, 0, 350).unwrap();
    world.commit(&id, Side::A, 1, 50).unwrap();
    world.claim(&id, Side::A, 1, 350).unwrap();
    world.commit(&id, Side::A, 2, 50).unwrap();
    assert_eq!(
        world.claim(&id, Side::A, 2, 1),
        Err(TxError::Budget { side: Side::A, got: Amount(1), expected: Amount(0) })
    );
    // The other side's half is untouched by that.
    world.commit(&id, Side::B, 0, 50).unwrap();
    world.claim(&id, Side::B, 0, 350).unwrap();
}

#[test]
fn a_node_that_registers_after_seeing_the_request_is_not_drawn_for_it() {
    let mut world = World::new();
    world.wait(7_000);
    let id = world.open(50, None);
    let tx = world.register(ALICE, 60, 9_000_000);
    world.one(tx).unwrap();
    world.wait(3_000);
    assert!(world.committee(&id).find(&address(60)).is_none());
    let epoch = world.query(&id).snapshot_epoch;
    assert!(world.query(&id).included_height - epoch * 3 >= 3, "the snapshot is an interval old");
}

#[test]
fn a_node_that_unbonds_in_mid_query_still_serves_and_is_paid() {
    let mut world = World::new();
    let id = world.open(50, None);
    let seat = world.committee(&id).a[0];
    let operator = world.operator(&id, Side::A, 0);
    let tx = world.tx(operator, Action::Unbond(Unbond { node: seat.node }));
    world.one(tx).unwrap();
    world.commit(&id, Side::A, 0, 50).unwrap();
    let before = world.balance(operator);
    world.claim(&id, Side::A, 0, 350).unwrap();
    assert_eq!(world.balance(operator), before + 292 - 10);
}

#[test]
fn a_named_server_takes_its_side_alone_and_the_other_is_someone_else() {
    let mut world = World::new();
    for side in [Side::A, Side::B] {
        let id = world.open(50, Some(Named { side, node: address(20) }));
        let committee = world.committee(&id);
        assert_eq!(committee.side(side).len(), 1);
        assert_eq!(committee.side(side)[0].node, address(20));
        let others = committee.side(side.other());
        assert_eq!(others.len(), 3);
        assert!(others.iter().all(|seat| seat.operator != address(10)));
        world.commit(&id, side, 0, 50).unwrap();
    }
}

#[test]
fn a_bucket_takes_a_bounded_number_of_deadlines() {
    let mut genesis = genesis();
    genesis.accounts[0].balances[0].amount = Amount(10_000_000_000);
    let mut world = World::of(genesis);
    let deadline = world.now + 20_500;
    let mut refused = 0;
    for batch in 0..11 {
        let txs: Vec<_> = (0..100)
            .map(|n| {
                let pay = PayForQuery { deadline_ms: deadline, ..world.payment(1, 100) };
                world.tx_nonce(ALICE, batch * 100 + n, Action::PayForQuery(pay))
            })
            .collect();
        for result in world.block(100, &txs) {
            match result {
                Ok(()) => {}
                Err(TxError::Full { got, .. }) => {
                    assert_eq!(got, 1024);
                    refused += 1;
                }
                Err(TxError::Nonce { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(refused > 0);
    // They are worked off 256 a block, none is forgotten.
    world.now = deadline;
    let mut settled = Vec::new();
    for _ in 0..5 {
        world.block(1_000, &[]);
        settled.push(world.due.settled.len());
    }
    assert_eq!(settled, [256, 256, 256, 256, 0]);
}
