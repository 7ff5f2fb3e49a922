//! Disputes on the chain: who lied pays, who did not is paid, and it ends in time.

use crate::{traces::*, world::*};
use nesa_chain::{
    Action,
    action::{AnswerDispute, Pair},
    rules::TxError,
};
use nesa_primitives::Hash;
use nesa_trace::{Answer, Decision, Grounds, Ruling};

fn pair(query: Hash, shard: u8, left: u8, right: u8) -> Pair {
    Pair { query, shard, left, right }
}

fn number(world: &World, id: &Hash, shard: u8, replica: u8) -> u8 {
    let node = world.sealed_of(id).commit(shard, replica).unwrap().node;
    (0..=255).find(|n| address(*n) == node).unwrap()
}

#[test]
fn the_liar_is_slashed_and_the_others_are_paid() {
    for lie in [1, 2] {
        let mut world = World::sealed();
        let id = world.revealed(terms(&[1], 3, true), &[&[0, 0, 0], &[0, lie, 0]]);
        let liar = number(&world, &id, 1, 1);
        let winner = world.sealed_operator(&id, 1, 0);
        let (bonds, balance) = (world.bonds(), world.balance(winner));
        let burned = world.supply().denoms[0].burned.0;
        assert_eq!(world.claims(&id, 1, 0, 50), Err(TxError::Mismatch { shard: 1 }));
        let pair = pair(id, 1, 0, 1);
        world.open_dispute(pair, 0).unwrap();
        world.fight(pair, [0, lie]);

        let sealed = world.sealed_of(&id);
        assert_eq!(sealed.disputes[0].ruling(), Some(Ruling::RightLies));
        assert!(sealed.commit(1, 1).unwrap().liar);
        // All of the bond is gone: two fifths to the winner, the rest burned.
        let bond = bonds[&liar];
        assert_eq!(world.bonds()[&liar], 0);
        let others = |bonds: &std::collections::BTreeMap<u8, u64>| bonds.values().sum::<u64>();
        assert_eq!(others(&world.bonds()), others(&bonds) - bond);
        assert_eq!(world.supply().denoms[0].burned.0, burned + bond - bond * 4 / 10);
        assert!(world.balance(winner) + 500 > balance + bond * 4 / 10, "rewarded, less fees");
        assert_eq!(world.claims(&id, 1, 1, 50), Err(TxError::Liar { shard: 1, replica: 1 }));
        for replica in [0, 2] {
            world.claims(&id, 1, replica, 120).unwrap();
        }
        for replica in 0..3 {
            world.claims(&id, 0, replica, 120).unwrap();
        }
        world.until(world.windows(&id).close_ms + 2_000);
        // The liar's part of the escrow returned; nothing of it is burned.
        let ended = *world.query(&id).status.settlement().unwrap();
        assert_eq!((ended.burned.0, ended.returned.0), (0, 3_200 - 5 * 120));
    }
}

#[test]
fn a_slashed_node_is_out_of_the_draws_until_it_leaves() {
    let mut world = World::sealed();
    let id = world.revealed(terms(&[], 2, true), &[&[1, 0]]);
    let liar = number(&world, &id, 0, 0);
    let operator = world.sealed_operator(&id, 0, 0);
    world.open_dispute(pair(id, 0, 0, 1), 1).unwrap();
    world.fight(pair(id, 0, 0, 1), [1, 0]);
    let set: nesa_chain::record::NodeSet =
        nesa_primitives::decode_exact(&world.state[&nesa_chain::keys::nodes()], &()).unwrap();
    assert!(set.entries.iter().all(|entry| entry.node != address(liar)));
    let addresses = vec!["/ip4/127.0.0.1/tcp/2/ws".parse().unwrap()];
    let update = nesa_chain::action::UpdateNode { node: address(liar), addresses };
    let refused = world.one(world.tx(operator, Action::UpdateNode(update)));
    assert!(matches!(refused, Err(TxError::Bond { .. })));
    let unbond = nesa_chain::action::Unbond { node: address(liar) };
    world.one(world.tx(operator, Action::Unbond(unbond))).unwrap();
    // The honest one of two is paid though it is alone now.
    world.claims(&id, 0, 1, 100).unwrap();
}

#[test]
fn who_falls_silent_loses_by_anybodys_word() {
    for rounds in [0, 1, 4] {
        let mut world = World::sealed();
        let id = world.revealed(terms(&[], 3, true), &[&[0, 0, 1]]);
        let pair = pair(id, 0, 1, 2);
        world.open_dispute(pair, 1).unwrap();
        for _ in 0..rounds {
            world.answers(pair, 1, 0).unwrap();
            world.answers(pair, 2, 1).unwrap();
        }
        world.answers(pair, 1, 0).unwrap();
        assert!(matches!(world.closes(pair), Err(TxError::Early { .. })));
        let round = world.dispute(&pair).unwrap().round_ms;
        world.until(round + 1);
        assert!(matches!(world.answers(pair, 2, 1), Err(TxError::Late { .. })));
        world.closes(pair).unwrap();
        assert_eq!(world.sealed_of(&id).disputes[0].ruling(), Some(Ruling::RightLies));
        world.claims(&id, 0, 0, 100).unwrap();
        world.claims(&id, 0, 1, 100).unwrap();
        assert!(matches!(world.closes(pair), Err(TxError::NoDispute { .. })));
    }
}

#[test]
fn what_nobody_ends_ends_with_the_query() {
    let mut world = World::sealed();
    let id = world.revealed(terms(&[], 3, true), &[&[0, 0, 1]]);
    let bonds = world.bonds();
    let (one, both) = (pair(id, 0, 0, 2), pair(id, 0, 1, 2));
    world.open_dispute(one, 0).unwrap();
    world.open_dispute(both, 1).unwrap();
    world.answers(one, 0, 0).unwrap();
    world.until(world.windows(&id).close_ms + 2_000);
    let sealed = world.sealed_of(&id);
    let rulings: Vec<_> = sealed.disputes.iter().map(|d| d.ruling().unwrap()).collect();
    assert_eq!(rulings, [Ruling::RightLies, Ruling::Undecided]);
    let liar = number(&world, &id, 0, 2);
    assert_eq!(world.bonds()[&liar], 0);
    assert_eq!(world.bonds().values().sum::<u64>() + bonds[&liar], bonds.values().sum::<u64>());
    assert!(world.dispute(&one).is_none() && world.dispute(&both).is_none());
}

#[test]
fn a_dispute_has_its_parties_its_time_and_its_reason() {
    let mut world = World::sealed();
    let id = world.revealed(terms(&[], 4, true), &[&[0, 0, 1, 2]]);
    let open = |world: &mut World, pair, by| world.open_dispute(pair, by);
    // Equal roots, no order, no party.
    let equal = open(&mut world, pair(id, 0, 0, 1), 0);
    assert!(matches!(equal, Err(TxError::OpenDispute(_))));
    let order = TxError::DisputePair { left: 2, right: 1 };
    assert_eq!(open(&mut world, pair(id, 0, 2, 1), 1), Err(order));
    let same = TxError::DisputePair { left: 2, right: 2 };
    assert_eq!(open(&mut world, pair(id, 0, 2, 2), 2), Err(same));
    assert!(matches!(open(&mut world, pair(id, 0, 1, 2), 3), Err(TxError::NoParty { .. })));
    assert!(matches!(open(&mut world, pair(id, 0, 1, 6), 1), Err(TxError::NoCommit { .. })));
    open(&mut world, pair(id, 0, 1, 2), 2).unwrap();
    assert!(matches!(open(&mut world, pair(id, 0, 1, 2), 1), Err(TxError::DisputeTwice { .. })));
    // Two liars may be at odds; one honest replica has time for both of them.
    open(&mut world, pair(id, 0, 1, 3), 1).unwrap();
    open(&mut world, pair(id, 0, 2, 3), 3).unwrap();
    let answer = world.answer_of(&pair(id, 0, 1, 2), 0).unwrap().unwrap();
    let stranger = AnswerDispute { pair: pair(id, 0, 1, 2), round: 0, answer };
    let refused = world.by(&id, 0, 0, Action::AnswerDispute(stranger));
    assert!(matches!(refused, Err(TxError::NoParty { .. })));
    let garbage =
        AnswerDispute { pair: pair(id, 0, 1, 2), round: 0, answer: Answer::Nodes(vec![]) };
    let refused = world.by(&id, 0, 1, Action::AnswerDispute(garbage));
    assert!(matches!(refused, Err(TxError::Answer(_))));
    world.until(world.windows(&id).dispute_ms.unwrap() + 1);
    assert!(matches!(open(&mut world, pair(id, 0, 0, 2), 0), Err(TxError::Late { .. })));
}

#[test]
fn early_and_unrevealed_disputes_are_refused() {
    let mut world = World::sealed();
    let id = world.open_sealed(terms(&[], 3, true));
    for (replica, which) in [(0, 0), (1, 1), (2, 0)] {
        world.commits(&id, 0, replica, which);
    }
    assert!(matches!(world.open_dispute(pair(id, 0, 0, 1), 0), Err(TxError::Early { .. })));
    world.until(world.windows(&id).commit_ms + 1);
    world.reveals(&id, 0, 0, 0).unwrap();
    world.until(world.windows(&id).reveal_ms + 1);
    let refused = world.open_dispute(pair(id, 0, 0, 1), 0);
    assert_eq!(refused, Err(TxError::NotRevealed { shard: 0, replica: 1 }));
}

#[test]
fn cuts_that_do_not_fit_the_model_can_be_in_no_dispute() {
    let mut world = World::sealed();
    // Three shards of a model of two layers: what is committed there is anybody's guess.
    let id = world.open_sealed(terms(&[1, 2], 2, true));
    for replica in 0..2 {
        let commit = world.commit_shard(&id, (2, replica), &Hash([replica; 32]), 3);
        world.by(&id, 2, replica, Action::CommitShard(commit)).unwrap();
    }
    world.until(world.windows(&id).commit_ms + 1);
    for replica in 0..2 {
        let (root, blind) = (Hash([replica; 32]), veil(2, replica));
        let reveal = nesa_chain::action::Reveal { query: id, shard: 2, replica, root, blind };
        world.by(&id, 2, replica, Action::Reveal(reveal)).unwrap();
    }
    world.until(world.windows(&id).reveal_ms + 1);
    let pair = pair(id, 2, 0, 1);
    let manifest = world.party(&id, 0, 0, |party| party.manifest_slice().unwrap());
    let open = nesa_chain::action::OpenDispute { pair, manifest };
    let refused = world.by(&id, 2, 0, Action::OpenDispute(open));
    assert!(matches!(refused, Err(TxError::OpenDispute(_))), "{refused:?}");
}

/// A client that hands its replicas different inputs, signed, pays both in full and slashes neither.
#[test]
fn a_client_that_signs_two_inputs_pays_for_both() {
    for shard in [0, 1] {
        let mut world = World::sealed();
        let mut which = [[0, 0, 0], [0, 0, 0]];
        which[usize::from(shard)] = [0, OTHER, 1];
        let id = world.revealed(terms(&[1], 3, true), &[&which[0], &which[1]]);
        let liar = number(&world, &id, shard, 2);
        let bonds = world.bonds();
        let honest = Err(TxError::ClientHonest { shard });
        assert_eq!(world.claims_served(&id, shard, 0), honest, "nothing is shown yet");
        let both = pair(id, shard, 0, 1);
        world.open_dispute(both, 1).unwrap();
        world.fight(both, [0, OTHER]);
        assert_eq!(world.sealed_of(&id).disputes[0].ruling(), Some(Ruling::ClientLies));
        assert_eq!(world.bonds(), bonds, "nobody is slashed");
        // A replica that lies under cover of this is found all the same.
        let third = pair(id, shard, 0, 2);
        world.open_dispute(third, 0).unwrap();
        world.fight(third, [0, 1]);
        assert_eq!(world.sealed_of(&id).disputes[1].ruling(), Some(Ruling::RightLies));
        assert_eq!(world.bonds()[&liar], 0);

        // With a voucher first or without one: all 30 tokens at 4.
        world.claims(&id, shard, 0, 50).unwrap();
        for replica in [0, 1] {
            let operator = world.sealed_operator(&id, shard, replica);
            let before = world.balance(operator);
            world.claims_served(&id, shard, replica).unwrap();
            assert!(world.balance(operator) > before);
            assert_eq!(world.sealed_of(&id).commit(shard, replica).unwrap().claimed().0, 120);
            let twice = world.claims_served(&id, shard, replica);
            assert!(matches!(twice, Err(TxError::VoucherNotLarger { .. })));
        }
        assert_eq!(world.claims_served(&id, shard, 2), Err(TxError::Liar { shard, replica: 2 }));
        let other = 1 - shard;
        let honest = Err(TxError::ClientHonest { shard: other });
        assert_eq!(world.claims_served(&id, other, 0), honest, "the other shard was not lied to");
        for replica in 0..3 {
            world.claims(&id, other, replica, 120).unwrap();
        }
        world.until(world.windows(&id).close_ms + 2_000);
        let ended = *world.query(&id).status.settlement().unwrap();
        assert_eq!((ended.burned.0, ended.returned.0), (0, 3_200 - 5 * 120));
    }
}

/// A client that asks its replicas for different numbers of tokens, or one of them alone for logits, and
/// has signed both, pays all and slashes nobody.
#[test]
fn a_client_that_signs_two_askings_pays_for_both() {
    // The first shard has no logits.
    for (shard, other) in [(0, FEWER), (1, FEWER), (1, MORE_LOGITS)] {
        let mut world = World::sealed();
        let mut which = [[0, 0, 0], [0, 0, 0]];
        which[usize::from(shard)] = [0, other, 0];
        let id = world.revealed(terms(&[1], 3, true), &[&which[0], &which[1]]);
        let bonds = world.bonds();
        let both = pair(id, shard, 0, 1);
        world.open_dispute(both, 1).unwrap();
        world.fight(both, [0, other]);
        let decision = Decision { ruling: Ruling::ClientLies, grounds: Grounds::Receipts };
        assert_eq!(world.sealed_of(&id).disputes[0].decision, Some(decision));
        assert_eq!(world.bonds(), bonds, "nobody is slashed");
        for replica in 0..3 {
            world.claims_served(&id, shard, replica).unwrap();
            assert_eq!(world.sealed_of(&id).commit(shard, replica).unwrap().claimed().0, 120);
        }
        world.until(world.windows(&id).close_ms + 2_000);
        assert!(world.query(&id).status.settlement().is_some());
    }
}

/// The record says what each ruling rests on.
#[test]
fn a_ruling_names_its_grounds() {
    let decided = |which: [usize; 2], answers: usize| {
        let mut world = World::sealed();
        let id = world.revealed(terms(&[], 2, true), &[&which]);
        let both = pair(id, 0, 0, 1);
        world.open_dispute(both, 0).unwrap();
        if answers == usize::MAX {
            world.fight(both, which);
        } else {
            for _ in 0..answers {
                world.answers(both, 0, which[0]).unwrap();
            }
            world.until(world.dispute(&both).unwrap().round_ms + 1);
            world.closes(both).unwrap();
        }
        world.sealed_of(&id).disputes[0].decision.unwrap()
    };
    let decision = |ruling, grounds| Decision { ruling, grounds };
    assert_eq!(decided([0, 1], usize::MAX), decision(Ruling::RightLies, Grounds::Opening));
    assert_eq!(decided([0, 1], 1), decision(Ruling::RightLies, Grounds::Silence));
    assert_eq!(decided([0, 1], 0), decision(Ruling::Undecided, Grounds::Silence));
    assert_eq!(decided([0, OTHER], usize::MAX), decision(Ruling::ClientLies, Grounds::Receipts));
}

/// Nobody else gets what a replica served, nobody gets more than was escrowed for it, and nobody gets
/// it late.
#[test]
fn what_was_served_is_paid_to_who_served_it() {
    let mut world = World::sealed();
    let id = world.revealed(terms(&[], 2, true), &[&[OTHER, 0]]);
    let both = pair(id, 0, 0, 1);
    world.open_dispute(both, 0).unwrap();
    world.fight(both, [OTHER, 0]);
    let claim = nesa_chain::action::ClaimServed { query: id, shard: 0, replica: 0 };
    let stranger = world.by(&id, 0, 1, Action::ClaimServed(claim));
    assert!(matches!(stranger, Err(TxError::Operator { .. })));
    world.until(world.windows(&id).close_ms + 1);
    assert!(world.claims_served(&id, 0, 0).is_err());
    world.until(world.windows(&id).close_ms + 2_000);
    // Each of them could have been paid, so an increment of each is burned as ever.
    let ended = *world.query(&id).status.settlement().unwrap();
    assert!(ended.burned.0 > 0);
}
