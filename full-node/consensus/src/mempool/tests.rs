//! The pool under full senders, fees, places and random traffic.

use super::*;
use nesa_chain::{
    Action, Tx,
    action::{AnswerDispute, Pair, Transfer},
};
use nesa_crypto::SecretKey;
use nesa_primitives::Denom;
use nesa_trace::Answer;
use proptest::prelude::*;

fn tx(sender: u8, nonce: u64, fee: u64) -> SignedTx {
    let key = SecretKey::from_seed(&[sender; 32]);
    let to = key.public();
    let action = Action::Transfer(Transfer { to, denom: Denom::NES, amount: Amount(1) });
    Tx { chain: Hash::ZERO, sender: key.public(), nonce, fee: Amount(fee), action }.sign(&key)
}

fn pool(transactions: usize) -> Mempool {
    Mempool::new(Limits {
        transactions,
        per_sender: 4,
        placed_per_sender: 4,
        failures: 2,
        ..Limits::default()
    })
}

fn offered(pool: &Mempool) -> Vec<(u64, u64)> {
    let mut selection = pool.select();
    std::iter::from_fn(|| {
        let tx = selection.offer()?;
        selection.accept();
        Some((tx.tx.fee.0, tx.tx.nonce))
    })
    .collect()
}

#[test]
fn best_fee_first_but_nonces_in_order() {
    let mut pool = pool(16);
    for (sender, nonce, fee) in [(1, 1, 99), (1, 0, 10), (2, 0, 50), (2, 1, 40), (3, 0, 20)] {
        pool.insert(tx(sender, nonce, fee), 100, 0, 0).unwrap();
    }
    assert_eq!(offered(&pool), [(50, 0), (40, 1), (20, 0), (10, 0), (99, 1)]);
    assert_eq!((pool.len(), pool.bytes()), (5, 500));
    // What follows a transaction that fails is not offered.
    let mut selection = pool.select();
    assert_eq!(selection.offer().unwrap().tx.fee, Amount(50));
    assert_eq!(selection.offer().unwrap().tx.fee, Amount(20));
}

#[test]
fn duplicates_stale_far_and_underpriced_are_refused_and_a_better_fee_replaces() {
    let mut pool = pool(16);
    let id = pool.insert(tx(1, 5, 10), 100, 5, 0).unwrap();
    assert_eq!(pool.insert(tx(1, 5, 10), 100, 5, 0), Err(Refused::Duplicate(id)));
    assert_eq!(pool.insert(tx(1, 4, 10), 100, 5, 0), Err(Refused::Stale { got: 4, expected: 5 }));
    assert_eq!(pool.insert(tx(1, 9, 10), 100, 5, 0), Err(Refused::TooFar { got: 9, expected: 5 }));
    assert_eq!(pool.insert(tx(1, 5, 9), 100, 5, 0), Err(Refused::Underpriced { nonce: 5 }));
    let better = pool.insert(tx(1, 5, 11), 100, 5, 0).unwrap();
    assert!(pool.contains(&better) && !pool.contains(&id) && pool.len() == 1);
}

fn answer(sender: u8, right: u8, round: u8, fee: u64) -> SignedTx {
    let pair = Pair { query: Hash([4; 32]), shard: 0, left: 0, right };
    let action =
        Action::AnswerDispute(AnswerDispute { pair, round, answer: Answer::Nodes(vec![]) });
    let SignedTx { tx, .. } = tx(sender, 0, fee);
    Tx { action, ..tx }.sign(&SecretKey::from_seed(&[sender; 32]))
}

#[test]
fn what_has_a_place_waits_for_nothing_and_holds_nothing_up() {
    let mut pool = pool(64);
    // The sender's nonces are stuck: 5 is lost, 6 and 7 wait for it; and its queue is full.
    for nonce in 6..9 {
        pool.insert(tx(1, nonce, 99), 100, 5, 0).unwrap();
    }
    let answers = [(1, 0, 10), (2, 0, 10), (2, 1, 10), (3, 0, 10)];
    for (right, round, fee) in answers {
        pool.insert(answer(1, right, round, fee), 100, 5, 0).unwrap();
    }
    assert_eq!(pool.of_sender(&tx(1, 0, 0).tx.sender).len(), 3);
    let mut selection = pool.select();
    assert_eq!(selection.offer().unwrap().tx.nonce, 6, "the best fee, which does not apply");
    let placed: Vec<_> = std::iter::from_fn(|| selection.offer()).collect();
    assert_eq!(placed.len(), 4, "all four, though what was offered first was not taken");

    // One for each place: a better fee replaces it, an equal one does not.
    let again = pool.insert(answer(1, 2, 1, 10), 100, 5, 0);
    assert!(matches!(again, Err(Refused::Duplicate(_))));
    assert_eq!(pool.insert(answer(1, 2, 1, 9), 100, 5, 0), Err(Refused::Underpriced { nonce: 0 }));
    pool.insert(answer(1, 2, 1, 20), 100, 5, 0).unwrap();
    assert_eq!(pool.len(), 7);
    let fifth = pool.insert(answer(1, 4, 0, 99), 100, 5, 0);
    assert_eq!(fifth, Err(Refused::Placed { got: 4, max: 4 }));
    // Somebody else's place of that name is another one.
    pool.insert(answer(2, 2, 1, 10), 100, 0, 0).unwrap();
    pool.finalized([&answer(1, 2, 1, 10)], 1_000);
    assert_eq!(pool.len(), 7, "what is in a block waits no more, whatever it paid");
    pool.finalized([&tx(1, 8, 10)], 1_000);
    assert_eq!(pool.len(), 4, "a nonce says nothing of places");
    for _ in 0..2 {
        pool.failed(&answer(1, 1, 0, 10));
    }
    assert_eq!(pool.len(), 3);
}

proptest! {
    /// Whatever comes and goes, the pool counts right, stays within its bounds, and offers nonces of
    /// a sender in order and everything that has a place.
    #[test]
    fn counts_and_order_hold(
        ops in prop::collection::vec((0u8..4, 1u8..4, 0u8..6, 1u64..40), 1..120)
    ) {
        let mut pool = Mempool::new(Limits {
            transactions: 12, bytes: 1_000, per_sender: 4, placed_per_sender: 3, failures: 2,
            ..Limits::default()
        });
        for (what, sender, at, fee) in ops {
            let nonced = tx(sender, u64::from(at), fee);
            match what {
                0 => drop(pool.insert(nonced, 100, 0, 0)),
                1 => drop(pool.insert(answer(sender, 1, at, fee), 100, 0, 0)),
                2 => pool.failed(&answer(sender, 1, at, fee)),
                _ => pool.finalized([&nonced, &answer(sender, 1, at, fee)], 0),
            }
            prop_assert!(pool.len() <= 10 && pool.bytes() == 100 * pool.len());
            let held: usize = pool.senders.values().map(BTreeMap::len).sum();
            prop_assert_eq!(held, pool.len());
            for queue in pool.senders.values() {
                prop_assert!(!queue.is_empty() && by_nonce(queue).count() <= 4);
                prop_assert!(queue.len() - by_nonce(queue).count() <= 3);
            }
        }
        let mut selection = pool.select();
        let mut next = BTreeMap::new();
        let mut offered = 0;
        while let Some(tx) = selection.offer() {
            offered += 1;
            if tx.tx.action.place().is_none() {
                let last = next.insert(tx.tx.sender, tx.tx.nonce);
                prop_assert!(last.is_none_or(|last| last < tx.tx.nonce));
            }
            selection.accept();
        }
        prop_assert_eq!(offered, pool.len());
    }
}

#[test]
fn a_full_pool_keeps_what_pays_most() {
    let mut pool = pool(3);
    for sender in 1..=3 {
        pool.insert(tx(sender, 0, 10 * u64::from(sender)), 100, 0, 0).unwrap();
    }
    assert_eq!(pool.insert(tx(4, 0, 10), 100, 0, 0), Err(Refused::Full));
    pool.insert(tx(4, 0, 11), 100, 0, 0).unwrap();
    assert_eq!(offered(&pool), [(30, 0), (20, 0), (11, 0)]);
}

#[test]
fn blocks_failures_and_time_empty_the_pool() {
    let mut pool = pool(16);
    for nonce in 0..3 {
        pool.insert(tx(1, nonce, 10), 100, 0, 0).unwrap();
    }
    pool.insert(tx(2, 0, 10), 100, 0, 1_000_000).unwrap();
    pool.finalized([&tx(1, 1, 10)], 1_000);
    assert_eq!(pool.len(), 2, "nonces 0 and 1 of the sender are used");
    pool.failed(&tx(2, 0, 10));
    assert_eq!(pool.len(), 2);
    pool.failed(&tx(2, 0, 10));
    assert_eq!(pool.len(), 1, "spoiled two proposals");
    pool.finalized([], 700_000);
    assert!(pool.is_empty() && pool.bytes() == 0, "waited too long");
}
