//! What is said in a dispute has its place there and no nonce: nothing holds it up, and it happens once.

use crate::{traces::*, world::*};
use nesa_chain::{
    Action, SignedTx,
    action::{AnswerDispute, CloseDispute, OpenDispute, Pair, Transfer},
    rules::TxError,
};
use nesa_primitives::{Amount, Denom};
use nesa_trace::{MAX_DISPUTE_ROUNDS, Ruling};

/// What the operator of a replica that follows a trace answers in this round.
fn answer(world: &World, pair: Pair, by: u8, which: usize) -> Option<SignedTx> {
    let answer = world.answer_of(&pair, which)?.unwrap();
    let round = world.dispute(&pair)?.round;
    let operator = world.sealed_operator(&pair.query, pair.shard, by);
    Some(world.tx(operator, Action::AnswerDispute(AnswerDispute { pair, round, answer })))
}

fn open(world: &World, pair: Pair, by: u8) -> SignedTx {
    let manifest = world.party(&pair.query, pair.shard, 0, |party| party.manifest_slice().unwrap());
    let operator = world.sealed_operator(&pair.query, pair.shard, by);
    world.tx(operator, Action::OpenDispute(OpenDispute { pair, manifest }))
}

/// One honest replica, three that lie, in two queries at once; and another transaction of its operator
/// that no block takes, since the one before it is lost. It loses nothing, and whoever lied loses.
#[test]
fn one_operator_answers_many_disputes_while_its_nonces_are_stuck() {
    let mut world = World::sealed();
    let which = [0usize, 1, 2, 1];
    let ids = [0, 1].map(|_| {
        let payment = world.sealed_payment(terms(&[], 4, true));
        let tx = world.tx(ALICE, Action::PayForQuery(payment));
        world.soon(tx.clone()).unwrap();
        tx.id()
    });
    let each = || ids.into_iter().flat_map(|id| (0u8..).zip(which).map(move |(r, w)| (id, r, w)));
    for (id, replica, which) in each() {
        world.commits(&id, 0, replica, which);
    }
    world.until(world.windows(&ids[1]).commit_ms + 1);
    for (id, replica, which) in each() {
        world.reveals(&id, 0, replica, which).unwrap();
    }
    world.until(world.windows(&ids[1]).reveal_ms + 1);

    let honest = ids.map(|id| world.sealed_operator(&id, 0, 0));
    let stuck: Vec<SignedTx> = honest
        .iter()
        .map(|&operator| {
            let (to, denom, amount) = (address(ALICE), Denom::NES, Amount(1));
            let action = Action::Transfer(Transfer { to, denom, amount });
            world.tx_nonce(operator, world.nonce(operator) + 1, action)
        })
        .collect();
    let nonces = honest.map(|operator| world.nonce(operator));
    let bonds = world.bonds();
    let pairs: Vec<Pair> = ids
        .into_iter()
        .flat_map(|query| (1..4).map(move |right| Pair { query, shard: 0, left: 0, right }))
        .collect();
    let opened: Vec<SignedTx> = pairs.iter().map(|pair| open(&world, *pair, 0)).collect();
    for result in world.block(5, &opened) {
        result.unwrap();
    }
    for _ in 0..MAX_DISPUTE_ROUNDS {
        // All that is owed goes into one block, the newest first, behind what cannot be applied.
        let mut block = stuck.clone();
        for pair in pairs.iter().rev() {
            let right = which[usize::from(pair.right)];
            block.extend(answer(&world, *pair, 0, 0));
            block.extend(answer(&world, *pair, pair.right, right));
        }
        let results = world.block(5, &block);
        for result in &results[..stuck.len()] {
            assert!(matches!(result, Err(TxError::Nonce { .. })));
        }
    }
    for id in ids {
        let sealed = world.sealed_of(&id);
        assert_eq!(sealed.disputes.len(), 3);
        assert!(sealed.disputes.iter().all(|d| d.ruling() == Some(Ruling::RightLies)));
        assert!(!sealed.commit(0, 0).unwrap().liar);
        assert!((1..4).all(|replica| sealed.commit(0, replica).unwrap().liar));
    }
    assert_eq!(honest.map(|operator| world.nonce(operator)), nonces, "no nonce was used");
    for (id, operator) in ids.into_iter().zip(honest) {
        let node = world.sealed_of(&id).commit(0, 0).unwrap().node;
        let lied_elsewhere = ids.into_iter().any(|id| {
            let sealed = world.sealed_of(&id);
            sealed.commits.iter().any(|c| c.node == node && c.liar)
        });
        let number = (0..=255).find(|n| address(*n) == node).unwrap();
        let kept = world.bonds()[&number] == bonds[&number];
        assert!(kept || lied_elsewhere, "operator {operator} lost a bond");
    }
}

/// Answers of an earlier round, openings and ends of a dispute say nothing a second time, whoever sends
/// their bytes again.
#[test]
fn nothing_that_was_said_can_be_said_again() {
    let mut world = World::sealed();
    let id = world.revealed(terms(&[], 3, true), &[&[0, 0, 1]]);
    let pair = Pair { query: id, shard: 0, left: 1, right: 2 };
    let mut said = vec![open(&world, pair, 1)];
    world.soon(said[0].clone()).unwrap();
    for _ in 0..MAX_DISPUTE_ROUNDS {
        for (by, which) in [(1, 0), (2, 1)] {
            for old in &said {
                assert!(world.soon(old.clone()).is_err());
            }
            let Some(tx) = answer(&world, pair, by, which) else { continue };
            world.soon(tx.clone()).unwrap();
            said.push(tx);
        }
    }
    assert!(world.dispute(&pair).is_none() && said.len() > 8);
    let burned = world.supply().denoms[0].burned;
    for old in &said {
        assert!(world.soon(old.clone()).is_err());
    }
    assert_eq!(world.supply().denoms[0].burned, burned, "slashed once");
}

#[test]
fn an_answer_names_its_round() {
    let mut world = World::sealed();
    let id = world.revealed(terms(&[], 3, true), &[&[0, 0, 1]]);
    let pair = Pair { query: id, shard: 0, left: 1, right: 2 };
    world.soon(open(&world, pair, 1)).unwrap();
    for expected in 0..3 {
        assert_eq!(world.dispute(&pair).unwrap().round, expected);
        let answer = world.answer_of(&pair, 0).unwrap().unwrap();
        for got in [expected.wrapping_sub(1), expected + 1, 200] {
            let said = AnswerDispute { pair, round: got, answer: answer.clone() };
            let refused = world.by(&id, 0, 1, Action::AnswerDispute(said));
            assert_eq!(refused, Err(TxError::Round { got, expected }));
        }
        world.answers(pair, 1, 0).unwrap();
        assert!(matches!(world.answers(pair, 1, 0), Err(TxError::Answer(_))), "twice");
        world.answers(pair, 2, 1).unwrap();
    }
}

#[test]
fn what_has_a_place_has_no_nonce_and_one_encoding() {
    let mut world = World::sealed();
    let id = world.revealed(terms(&[], 3, true), &[&[0, 0, 1]]);
    let pair = Pair { query: id, shard: 0, left: 1, right: 2 };
    let operator = world.sealed_operator(&id, 0, 1);
    let nonce = world.nonce(operator);
    assert!(nonce > 0, "it has committed and revealed");
    let opened = open(&world, pair, 1).tx.action;
    for got in [nonce, 1, u64::MAX] {
        let refused = world.soon(world.tx_nonce(operator, got, opened.clone()));
        assert_eq!(refused, Err(TxError::Nonce { got, expected: 0 }));
    }
    // It pays as much as any other.
    let before = world.balance(operator);
    world.soon(world.tx_nonce(operator, 0, opened)).unwrap();
    assert_eq!((world.balance(operator), world.nonce(operator)), (before - 10, nonce));
    world.answers(pair, 1, 0).unwrap();
    world.until(world.dispute(&pair).unwrap().round_ms + 1);
    let close = Action::CloseDispute(CloseDispute { pair });
    let refused = world.soon(world.tx_nonce(BOB, 1, close.clone()));
    assert_eq!(refused, Err(TxError::Nonce { got: 1, expected: 0 }));
    world.soon(world.tx_nonce(BOB, 0, close)).unwrap();
    // Whose purse is empty says nothing.
    let poor = world.tx_nonce(199, 0, Action::CloseDispute(CloseDispute { pair }));
    let refused = world.soon(poor);
    assert!(matches!(refused, Err(TxError::Funds { .. })), "{refused:?}");
}
