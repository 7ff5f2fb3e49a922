//! A client that leaves its replicas at different lengths without a word: nobody lied, and what it signed for
//! is good.

use crate::{traces::*, world::*};
use nesa_chain::{action::Pair, query::Agreement, rules::TxError};
use nesa_primitives::{Amount, Hash};
use nesa_trace::{Decision, Grounds, Ruling, Stage};

/// The terms of all: two shards, the first of which has no logits to differ in.
fn cut(replicas: u8) -> nesa_chain::Terms {
    terms(&[1], replicas, true)
}

/// Both answer down to the end of the shorter trace; then `speaks` alone says what it has.
fn down(world: &mut World, pair: Pair, which: [usize; 2], speaks: Option<u8>) {
    while !matches!(
        world.dispute(&pair).unwrap().dispute.stage,
        Stage::Asked { slot: 0, .. } | Stage::Done { .. }
    ) {
        world.answers(pair, pair.left, which[0]).unwrap();
        world.answers(pair, pair.right, which[1]).unwrap();
    }
    for (by, which) in [pair.left, pair.right].into_iter().zip(which) {
        if speaks == Some(by) {
            world.answers(pair, by, which).unwrap();
        }
    }
}

/// The time for answers is over.
fn ends(world: &mut World, pair: Pair) {
    world.until(world.dispute(&pair).unwrap().round_ms + 1);
    world.closes(pair).unwrap();
}

fn pair(query: Hash, left: u8, right: u8) -> Pair {
    Pair { query, shard: 0, left, right }
}

#[test]
fn what_a_client_signed_before_it_left_is_paid() {
    // The one that was asked for more shows so, or says nothing either.
    for speaks in [Some(0), None] {
        let mut world = World::sealed();
        let id = world.revealed(cut(3), &[&[0, FEWER, 0], &[0, 0, 0]]);
        let bonds = world.bonds();
        assert_eq!(world.claims(&id, 0, 0, 100), Err(TxError::Mismatch { shard: 0 }));
        world.open_dispute(pair(id, 0, 1), 0).unwrap();
        assert_eq!(world.claims(&id, 0, 0, 100), Err(TxError::Mismatch { shard: 0 }));
        down(&mut world, pair(id, 0, 1), [0, FEWER], speaks);
        ends(&mut world, pair(id, 0, 1));
        let sealed = world.sealed_of(&id);
        let decision = Decision { ruling: Ruling::Lengths, grounds: Grounds::Silence };
        assert_eq!(sealed.disputes[0].decision, Some(decision));
        // Replica 2 revealed the root of replica 0: it needs no dispute of its own.
        assert_eq!(sealed.agreement(0), Agreement::Lengths);
        assert_eq!(world.bonds(), bonds, "nobody is slashed");
        let honest = Err(TxError::ClientHonest { shard: 0 });
        assert_eq!(world.claims_served(&id, 0, 0), honest, "without a voucher nobody is paid");
        for replica in 0..3 {
            world.claims(&id, 0, replica, 100).unwrap();
        }
        world.until(world.windows(&id).close_ms + 2_000);
        // 30 tokens at 4 were served by each: the rest of them is what it loses, and all of the other shard.
        let ended = *world.query(&id).status.settlement().unwrap();
        assert_eq!(ended.burned, Amount(3 * 20 + 3 * 120));
    }
}

/// Who shows the client's word of the end, where the other shows nothing, is right as ever.
#[test]
fn a_word_of_the_end_still_convicts_who_made_a_token_up() {
    let mut world = World::sealed();
    let id = world.revealed(cut(2), &[&[0, FEWER], &[0, 0]]);
    world.open_dispute(pair(id, 0, 1), 0).unwrap();
    down(&mut world, pair(id, 0, 1), [0, FEWER], Some(1));
    ends(&mut world, pair(id, 0, 1));
    assert_eq!(world.sealed_of(&id).disputes[0].ruling(), Some(Ruling::LeftLies));
    world.claims(&id, 0, 1, 100).unwrap();
    assert_eq!(world.claims(&id, 0, 0, 100), Err(TxError::Liar { shard: 0, replica: 0 }));
}

/// A liar among replicas of two lengths is not covered by them: nobody is paid until it is found.
#[test]
fn different_lengths_cover_no_liar() {
    let mut world = World::sealed();
    let id = world.revealed(cut(3), &[&[0, FEWER, 1], &[0, 0, 0]]);
    world.open_dispute(pair(id, 0, 1), 0).unwrap();
    world.open_dispute(pair(id, 0, 2), 0).unwrap();
    world.fight(pair(id, 0, 2), [0, 1]);
    let sealed = world.sealed_of(&id);
    assert_eq!(sealed.disputes[1].ruling(), Some(Ruling::RightLies));
    assert_eq!(sealed.agreement(0), Agreement::Mismatch);
    down(&mut world, pair(id, 0, 1), [0, FEWER], Some(0));
    ends(&mut world, pair(id, 0, 1));
    assert_eq!(world.sealed_of(&id).agreement(0), Agreement::Lengths);
    world.claims(&id, 0, 0, 100).unwrap();
    world.claims(&id, 0, 1, 100).unwrap();
    assert_eq!(world.claims(&id, 0, 2, 100), Err(TxError::Liar { shard: 0, replica: 2 }));
}

/// Two that each only go further than a third may still differ from each other.
#[test]
fn every_two_must_be_shown_to_differ_in_length_only() {
    let mut world = World::sealed();
    let id = world.revealed(cut(3), &[&[0, FEWER, OTHER], &[0, 0, 0]]);
    world.open_dispute(pair(id, 0, 1), 0).unwrap();
    down(&mut world, pair(id, 0, 1), [0, FEWER], Some(0));
    ends(&mut world, pair(id, 0, 1));
    assert_eq!(world.sealed_of(&id).disputes[0].ruling(), Some(Ruling::Lengths));
    assert_eq!(world.sealed_of(&id).agreement(0), Agreement::Mismatch);
    assert_eq!(world.claims(&id, 0, 0, 100), Err(TxError::Mismatch { shard: 0 }));
}
