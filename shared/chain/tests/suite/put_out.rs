//! A node that is given up for a spare: its part is compared with nothing, and paid from the client's word.

use crate::{traces::*, world::*};
use nesa_chain::{
    Action,
    action::{ClaimServed, ClaimShard, CommitShard, Pair, Reveal},
    committee::Admission,
    fees::replica_budget,
    query::{Agreement, ShardCommit},
    rules::TxError,
    voucher::ShardVoucher,
};
use nesa_primitives::{Amount, Hash};

/// The root of a part: nobody else reveals it.
const PART: Hash = Hash([9; 32]);

/// The commitment of the candidate `seat` for a replica of the only shard, with the client's admission
/// where it is a spare.
fn commits(world: &World, id: &Hash, replica: u8, seat: u8, root: &Hash, served: u32) -> Action {
    let node = world.replicas(id).seat(0, seat).unwrap().node;
    let admission = Admission { query: *id, shard: 0, replica, node };
    let admission = (seat != replica).then(|| admission.sign(&key(100), &world.chain));
    let commit = world.commit_shard(id, (0, replica), root, served);
    Action::CommitShard(CommitShard { seat, admission, ..commit })
}

/// The claim of the candidate `seat` for a replica of the only shard.
fn claims(world: &mut World, id: &Hash, replica: u8, seat: u8, total: u64) -> Result<(), TxError> {
    let node = world.replicas(id).seat(0, seat).unwrap().node;
    let total = Amount(total);
    let voucher = ShardVoucher::sign(&key(100), &world.chain, *id, (0, replica), node, total);
    world.by(id, 0, seat, Action::ClaimShard(ClaimShard { query: *id, voucher }))
}

fn reveals(world: &mut World, id: &Hash, replica: u8, seat: u8, root: Hash) -> Result<(), TxError> {
    let blind = veil(0, replica);
    world.by(id, 0, seat, Action::Reveal(Reveal { query: *id, shard: 0, replica, root, blind }))
}

/// Seat 1 of three replicas is given up after `part` tokens, seat 3 serves all 30.
fn given_up(world: &mut World, part: u32, part_first: bool) -> (Hash, Hash) {
    let root = LAB.shard(&terms(&[], 3, false), 0).roots[0];
    let id = world.open_sealed(terms(&[], 3, false));
    let part = commits(world, &id, 1, 1, &PART, part);
    let whole = commits(world, &id, 1, 3, &root, 30);
    let both = if part_first { [(1, part), (3, whole)] } else { [(3, whole), (1, part)] };
    for (seat, commit) in both {
        world.by(&id, 0, seat, commit.clone()).unwrap();
        let refused = world.by(&id, 0, seat, commit);
        assert_eq!(refused, Err(TxError::CommittedShard { shard: 0, replica: 1 }));
    }
    world.commits(&id, 0, 0, 0);
    world.commits(&id, 0, 2, 0);
    (id, root)
}

fn reveal_all(world: &mut World, id: &Hash, root: Hash) {
    world.until(world.windows(id).commit_ms + 1);
    // The part is not revealed: it would stand against the others.
    let refused = reveals(world, id, 1, 1, PART);
    assert!(matches!(refused, Err(TxError::Operator { .. })), "{refused:?}");
    reveals(world, id, 1, 3, root).unwrap();
    world.reveals(id, 0, 0, 0).unwrap();
    world.reveals(id, 0, 2, 0).unwrap();
    world.until(world.windows(id).reveal_ms + 1);
}

fn of_seat(commits: &[ShardCommit], seat: u8) -> &ShardCommit {
    commits.iter().find(|commit| commit.seat == seat).unwrap()
}

/// Given up alive, a node commits to the part it computed. Whichever comes first, the spare has the place,
/// the others agree with it, and the one given up is paid what the client signed for.
#[test]
fn a_part_does_not_stand_against_the_whole_and_is_paid() {
    for part_first in [true, false] {
        let mut world = World::sealed();
        let (id, root) = given_up(&mut world, 5, part_first);
        let sealed = world.sealed_of(&id);
        assert_eq!(sealed.commits.len(), 4);
        assert_eq!(sealed.commit(0, 1).map(|c| c.seat), Some(3));
        assert!(sealed.commits.iter().all(|c| c.put_out == (c.seat == 1)));
        reveal_all(&mut world, &id, root);
        assert_eq!(world.sealed_of(&id).agreement(0), Agreement::Agreed(root));
        for (replica, seat, total) in [(0, 0, 200), (2, 2, 200), (1, 3, 200), (1, 1, 35)] {
            claims(&mut world, &id, replica, seat, total).unwrap();
        }
        let commits = world.sealed_of(&id).commits;
        assert_eq!(of_seat(&commits, 1).claimed(), Amount(35));
        assert!(of_seat(&commits, 1).earned().0 > 0);
        world.until(world.windows(&id).close_ms + 2_000);
        // Three that revealed 30 tokens at 7 were paid 200 each: ten each are burned, none for the part.
        let ended = *world.query(&id).status.settlement().unwrap();
        assert_eq!(ended.burned, Amount(30));
    }
}

/// A client gives one up after the whole text, and the spare a single token: both are paid, the one from a
/// budget of its own.
#[test]
fn no_client_uses_a_replica_and_puts_it_out_unpaid() {
    let mut world = World::sealed();
    let id = world.open_sealed(terms(&[], 1, false));
    let query = world.query(&id);
    let budget = replica_budget(query.escrow, &query.sealed.unwrap().terms);
    assert_eq!(budget.0 * 3, query.escrow.0, "of one replica and two spares");
    for (seat, served) in [(0, MAX_TOKENS), (1, MAX_TOKENS), (2, 1)] {
        let commit = commits(&world, &id, 0, seat, &PART, served);
        world.by(&id, 0, seat, commit).unwrap();
    }
    let windows = world.windows(&id);
    world.until(windows.commit_ms + 1);
    reveals(&mut world, &id, 0, 2, PART).unwrap();
    let early = claims(&mut world, &id, 0, 0, 7);
    assert!(matches!(early, Err(TxError::Early { .. })));
    world.until(windows.reveal_ms + 1);
    let whole = 7 * u64::from(MAX_TOKENS);
    for (seat, total) in [(0, whole), (1, whole), (2, 7)] {
        claims(&mut world, &id, 0, seat, total).unwrap();
    }
    world.until(windows.close_ms + 2_000);
    let ended = *world.query(&id).status.settlement().unwrap();
    assert_eq!(ended.returned, Amount(query.escrow.0 - 2 * whole - 7));
}

/// What it signs nothing for is burned, as it is for those whose place was not taken: it gains nothing by
/// having a spare for one that it used. A liar could feign the part, and gains as little.
#[test]
fn a_part_that_nothing_is_signed_for_costs_as_much() {
    let mut world = World::sealed();
    let id = world.open_sealed(terms(&[], 1, false));
    for (seat, served) in [(0, MAX_TOKENS), (1, 2), (2, 1)] {
        let commit = commits(&world, &id, 0, seat, &PART, served);
        world.by(&id, 0, seat, commit).unwrap();
    }
    let windows = world.windows(&id);
    world.until(windows.commit_ms + 1);
    reveals(&mut world, &id, 0, 2, PART).unwrap();
    world.until(windows.reveal_ms + 1);
    claims(&mut world, &id, 0, 1, 7).unwrap();
    world.until(windows.close_ms + 2_000);
    let ended = *world.query(&id).status.settlement().unwrap();
    assert_eq!(ended.burned, Amount(7 * u64::from(MAX_TOKENS) + 7 + 7));
}

/// Of a shard whose replicas disagree nobody is paid; who was given up had no part in that.
#[test]
fn a_mismatch_of_the_others_takes_nothing_from_one_that_was_put_out() {
    let mut world = World::sealed();
    let (id, root) = given_up(&mut world, 5, true);
    world.until(world.windows(&id).commit_ms + 1);
    reveals(&mut world, &id, 1, 3, root).unwrap();
    world.reveals(&id, 0, 0, 0).unwrap();
    world.until(world.windows(&id).reveal_ms + 1);
    assert!(matches!(world.sealed_of(&id).agreement(0), Agreement::Agreed(_)));
    assert_eq!(
        claims(&mut world, &id, 2, 2, 7),
        Err(TxError::NotRevealed { shard: 0, replica: 2 })
    );

    let mut world = World::sealed();
    let (id, root) = {
        let root = LAB.shard(&terms(&[], 3, false), 0).roots[0];
        let id = world.open_sealed(terms(&[], 3, false));
        for (replica, seat, root, served) in
            [(1, 1, PART, 5), (1, 3, root, 30), (0, 0, root, 30), (2, 2, PART, 30)]
        {
            let commit = commits(&world, &id, replica, seat, &root, served);
            world.by(&id, 0, seat, commit).unwrap();
        }
        (id, root)
    };
    world.until(world.windows(&id).commit_ms + 1);
    for (replica, seat, root) in [(1, 3, root), (0, 0, root), (2, 2, PART)] {
        reveals(&mut world, &id, replica, seat, root).unwrap();
    }
    world.until(world.windows(&id).reveal_ms + 1);
    for (replica, seat) in [(0, 0), (1, 3), (2, 2)] {
        let refused = claims(&mut world, &id, replica, seat, 35);
        assert_eq!(refused, Err(TxError::Mismatch { shard: 0 }));
    }
    claims(&mut world, &id, 1, 1, 35).unwrap();
}

/// Nothing but the client's signature for that very node and place pays a part, and no more than it
/// committed to.
#[test]
fn a_part_is_paid_by_its_own_vouchers_only() {
    let mut world = World::sealed();
    let (id, root) = given_up(&mut world, 5, false);
    reveal_all(&mut world, &id, root);
    let above = claims(&mut world, &id, 1, 1, 36);
    assert!(matches!(above, Err(TxError::VoucherAboveServed { .. })), "{above:?}");
    // The spare's voucher in the hands of the one it replaced, and the reverse.
    let voucher = |seat: u8| {
        let node = world.replicas(&id).seat(0, seat).unwrap().node;
        ShardVoucher::sign(&key(100), &world.chain, id, (0, 1), node, Amount(35))
    };
    for (by, voucher) in [(1, voucher(3)), (3, voucher(1))] {
        let refused = world.by(&id, 0, by, Action::ClaimShard(ClaimShard { query: id, voucher }));
        assert!(matches!(refused, Err(TxError::Operator { .. })), "{refused:?}");
    }
    // Another replica's place.
    let node = world.replicas(&id).seat(0, 1).unwrap().node;
    let refused = claims(&mut world, &id, 2, 1, 35);
    assert_eq!(refused, Err(TxError::NotCommitted { node }));
    let served = ClaimServed { query: id, shard: 0, replica: 1 };
    let refused = world.by(&id, 0, 1, Action::ClaimServed(served));
    assert!(matches!(refused, Err(TxError::Operator { .. })), "{refused:?}");
    claims(&mut world, &id, 1, 1, 35).unwrap();
    let again = claims(&mut world, &id, 1, 1, 35);
    assert!(matches!(again, Err(TxError::VoucherNotLarger { .. })), "{again:?}");
}

/// With consent too nobody disputes a part: its node is no party, whatever it would say.
#[test]
fn a_part_is_never_disputed() {
    let mut world = World::sealed();
    let root = LAB.shard(&terms(&[], 2, true), 0).roots[0];
    let id = world.open_sealed(terms(&[], 2, true));
    for (replica, seat, root, served) in [(1, 1, PART, 5), (1, 2, root, 30), (0, 0, root, 30)] {
        let commit = commits(&world, &id, replica, seat, &root, served);
        world.by(&id, 0, seat, commit).unwrap();
    }
    world.until(world.windows(&id).commit_ms + 1);
    reveals(&mut world, &id, 1, 2, root).unwrap();
    reveals(&mut world, &id, 0, 0, root).unwrap();
    world.until(world.windows(&id).reveal_ms + 1);
    let pair = Pair { query: id, shard: 0, left: 0, right: 1 };
    let refused = world.open_dispute(pair, 1);
    assert!(matches!(refused, Err(TxError::NoParty { .. })), "{refused:?}");
    let equal = world.open_dispute(pair, 0);
    assert!(matches!(equal, Err(TxError::OpenDispute(_))), "{equal:?}");
    claims(&mut world, &id, 1, 1, 35).unwrap();
}
