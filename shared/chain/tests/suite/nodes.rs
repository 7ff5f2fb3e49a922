//! Models, nodes, bonds and the mark of faucet coins.

use crate::world::*;
use nesa_chain::{
    Action, Key,
    action::{RegisterModel, RegisterNode, Unbond, UpdateNode},
    keys,
    record::{NodeSet, Snapshot},
    rules::TxError,
};
use nesa_primitives::{Amount, Denom, Hash, decode_exact};
use proptest::prelude::*;

fn set(world: &World) -> NodeSet {
    decode_exact(&world.state[&keys::nodes()], &()).unwrap()
}

fn a_model(digest: u8) -> RegisterModel {
    RegisterModel {
        digest: Hash([digest; 32]),
        name: "m".parse().unwrap(),
        bytes: 1,
        denom: Denom::NES,
        price_per_token: Amount(1),
        lanes: 1,
    }
}

#[test]
fn a_model_is_registered_once_for_a_fee() {
    let mut world = World::new();
    let tx = world.tx(ALICE, Action::RegisterModel(a_model(1)));
    world.one(tx).unwrap();
    assert_eq!(world.balance(ALICE), 10_000_000 - 5_010);
    assert_eq!(world.supply().get(Denom::NES).unwrap().treasury, Amount(5_000));
    let thief = world.tx(BOB, Action::RegisterModel(a_model(1)));
    assert_eq!(world.one(thief), Err(TxError::ModelExists { digest: Hash([1; 32]) }));
    for lanes in [0, 8, u32::MAX] {
        let tx = world.tx(BOB, Action::RegisterModel(RegisterModel { lanes, ..a_model(2) }));
        assert!(matches!(world.one(tx), Err(TxError::Lanes { .. })));
    }
    let denom = Denom(5);
    let tx = world.tx(BOB, Action::RegisterModel(RegisterModel { denom, ..a_model(2) }));
    assert_eq!(world.one(tx), Err(TxError::UnknownDenom { got: denom }));
}

#[test]
fn the_registry_of_models_is_bounded() {
    let mut world = World::new();
    for n in 0..62 {
        let tx = world.tx(ALICE, Action::RegisterModel(a_model(n)));
        world.one(tx).unwrap();
    }
    let tx = world.tx(ALICE, Action::RegisterModel(a_model(62)));
    assert_eq!(world.one(tx), Err(TxError::Full { what: "models", got: 64, max: 64 }));
}

#[test]
fn a_node_needs_the_consent_of_its_key() {
    let mut world = World::new();
    // Bob registers a node key that consented to Alice.
    let alices = world.register(ALICE, 60, 1_000_000).tx.action;
    let tx = world.tx(BOB, alices);
    assert!(matches!(world.one(tx), Err(TxError::Possession(_))));
    // Or that consented on another chain.
    let Action::RegisterNode(mut node) = world.register(BOB, 60, 1_000_000).tx.action else {
        unreachable!()
    };
    node.proof = RegisterNode::prove(&key(60), &address(BOB), &Hash::ZERO);
    let tx = world.tx(BOB, Action::RegisterNode(node));
    assert!(matches!(world.one(tx), Err(TxError::Possession(_))));
}

#[test]
fn registration_is_checked() {
    let mut world = World::new();
    let tx = world.register(ALICE, 60, 999_999);
    assert_eq!(
        world.one(tx),
        Err(TxError::Bond { got: Amount(999_999), expected: Amount(1_000_000) })
    );
    let tx = world.register(ALICE, 60, 10_000_000);
    assert!(matches!(world.one(tx), Err(TxError::Funds { .. })));
    let with = |models: Vec<Hash>| {
        let Action::RegisterNode(node) = world.register(ALICE, 60, 1_000_000).tx.action else {
            unreachable!()
        };
        world.tx(ALICE, Action::RegisterNode(RegisterNode { models, ..node }))
    };
    let unknown = with(vec![Hash::ZERO]);
    let twice = with(vec![model(), model()]);
    let none = with(vec![]);
    assert_eq!(world.one(unknown), Err(TxError::UnknownModel { digest: Hash::ZERO }));
    assert_eq!(world.one(twice), Err(TxError::ModelTwice { digest: model() }));
    assert_eq!(world.one(none), Err(TxError::NoModels { node: address(60) }));
    let tx = world.register(ALICE, 60, 1_000_000);
    world.one(tx).unwrap();
    let again = world.register(BOB, 60, 1_000_000);
    assert_eq!(world.one(again), Err(TxError::NodeExists { node: address(60) }));
    assert_eq!(world.node(60).unwrap().operator, address(ALICE));
    assert!(set(&world).entries.is_sorted_by_key(|e| e.node));
}

#[test]
fn only_the_operator_updates_and_unbonds() {
    let mut world = World::new();
    let addresses = vec!["/ip4/10.0.0.1/tcp/2/ws".parse().unwrap()];
    let update = Action::UpdateNode(UpdateNode { node: address(20), addresses });
    let tx = world.tx(BOB, update.clone());
    assert!(matches!(world.one(tx), Err(TxError::Operator { .. })));
    let tx = world.tx(10, update);
    world.one(tx).unwrap();
    assert_eq!(world.node(20).unwrap().addresses[0].as_str(), "/ip4/10.0.0.1/tcp/2/ws");
    let unbond = |node| Action::Unbond(Unbond { node: address(node) });
    let tx = world.tx(BOB, unbond(20));
    assert!(matches!(world.one(tx), Err(TxError::Operator { .. })));
    let tx = world.tx(BOB, unbond(99));
    assert_eq!(world.one(tx), Err(TxError::UnknownNode { node: address(99) }));
}

#[test]
fn a_bond_returns_after_the_unbonding_time_and_not_before() {
    let mut world = World::new();
    let before = world.balance(11);
    let unbond = Action::Unbond(Unbond { node: address(21) });
    let tx = world.tx(11, unbond.clone());
    world.one(tx).unwrap();
    assert!(set(&world).entries.iter().all(|e| e.node != address(21)));
    let tx = world.tx(11, unbond.clone());
    assert!(matches!(world.one(tx), Err(TxError::Unbonding { .. })));
    world.wait(58_000);
    assert_eq!(world.balance(11), before - 10);
    // The key cannot be registered anew while its bond is held.
    let tx = world.register(11, 21, 1_000_000);
    assert_eq!(world.one(tx), Err(TxError::NodeExists { node: address(21) }));
    world.wait(4_000);
    assert_eq!(world.balance(11), before - 10 + 2_000_000);
    assert!(world.node(21).is_none());
    let tx = world.tx(11, unbond);
    assert_eq!(world.one(tx), Err(TxError::UnknownNode { node: address(21) }));
}

#[test]
fn faucet_coins_stay_marked_through_any_number_of_hands() {
    let mut world = World::new();
    for (from, to, amount) in [(FAUCET, 70, 9_000_000), (70, 71, 8_000_000), (71, 72, 7_000_000)] {
        let tx = world.transfer(from, to, Denom::NES, amount);
        world.one(tx).unwrap();
    }
    assert_eq!(world.account(&address(72)).faucet, Amount(7_000_000));
    let tx = world.register(72, 73, 2_000_000);
    world.one(tx).unwrap();
    assert!(world.node(73).unwrap().faucet_bond());
    // The mark survives unbonding.
    let tx = world.tx(72, Action::Unbond(Unbond { node: address(73) }));
    world.one(tx).unwrap();
    world.wait(63_000);
    let account = world.account(&address(72));
    assert_eq!(account.faucet, account.balance(Denom::NES));
}

#[test]
fn a_gift_of_faucet_coins_does_not_spoil_a_clean_bond() {
    let mut world = World::new();
    let tx = world.transfer(FAUCET, ALICE, Denom::NES, 50_000_000);
    world.one(tx).unwrap();
    let tx = world.register(ALICE, 60, 9_000_000);
    world.one(tx).unwrap();
    assert!(!world.node(60).unwrap().faucet_bond());
    // One une more than the clean coins, and it is marked.
    let clean = world.balance(ALICE) - world.account(&address(ALICE)).faucet.0;
    let tx = world.register(ALICE, 61, clean + 1);
    world.one(tx).unwrap();
    assert!(world.node(61).unwrap().faucet_bond());
}

#[test]
fn snapshots_are_taken_on_time_and_dropped_when_no_query_can_need_them() {
    let mut world = World::new();
    let has = |world: &World, epoch: u64| -> bool {
        let key: Key = keys::snapshot(epoch);
        world.state.contains_key(&key)
    };
    assert!(has(&world, 0));
    world.wait(3_000);
    assert!(has(&world, 1));
    let snapshot: Snapshot = decode_exact(&world.state[&keys::snapshot(1)], &()).unwrap();
    assert_eq!((snapshot.epoch, snapshot.height), (1, 3));
    assert_eq!(snapshot.timestamp_ms, START_MS + 3_000);
    // Epoch 0 serves until snapshot 2 (at 6 s) plus the longest deadline (30 s).
    world.wait(33_000);
    assert!(has(&world, 0));
    world.wait(6_000);
    assert!(!has(&world, 0));
    let (newest, held) = (world.height / 3, (0..=world.height / 3).filter(|e| has(&world, *e)));
    assert!(held.count() <= 14, "snapshots pile up");
    assert!(has(&world, newest) && has(&world, newest - 1));
}

/// A world in which a node lapses when five epochs of three blocks have not heard of it.
fn short_lived() -> World {
    let mut genesis = genesis();
    genesis.params.lapse_epochs = 5;
    World::of(genesis)
}

fn update(world: &World, operator: u8, node: u8, there: bool) -> nesa_chain::SignedTx {
    let addresses =
        if there { vec!["/ip4/10.0.0.1/tcp/2/ws".parse().unwrap()] } else { Vec::new() };
    world.tx(operator, Action::UpdateNode(UpdateNode { node: address(node), addresses }))
}

fn is_drawable(world: &World, node: u8) -> bool {
    set(world).entries.iter().any(|entry| entry.node == address(node))
}

fn epoch(world: &World) -> u64 {
    world.height / 3
}

#[test]
fn a_node_that_is_not_renewed_lapses_and_one_that_is_stays() {
    let mut world = short_lived();
    let everyone = set(&world).entries.len();
    while epoch(&world) < 5 {
        assert_eq!(set(&world).entries.len(), everyone);
        world.block(500, &[]);
    }
    let tx = update(&world, 11, 21, true);
    world.one(tx).unwrap();
    world.wait(3_000);
    // The sixth snapshot is without the others, and with the one that was renewed.
    assert_eq!(epoch(&world), 6);
    let snapshot: Snapshot = decode_exact(&world.state[&keys::snapshot(6)], &()).unwrap();
    assert_eq!(snapshot.set, set(&world));
    let left: Vec<_> = snapshot.set.entries.iter().map(|entry| entry.node).collect();
    assert_eq!(left, [address(21)]);
    // Nobody can be drawn for both sides now, so nobody can be made to pay for it.
    world.wait(6_000);
    let tx = world.tx(ALICE, Action::PayForQuery(world.payment(50, 100)));
    assert!(matches!(world.one(tx), Err(TxError::Committee(_))));
}

#[test]
fn a_lapsed_node_keeps_its_bond_and_may_come_back_or_leave() {
    let mut world = short_lived();
    world.wait(19_000);
    assert!(!is_drawable(&world, 21) && !is_drawable(&world, 22));
    assert_eq!(world.node(21).unwrap().bond, Amount(2_000_000));
    let tx = update(&world, 11, 21, true);
    world.one(tx).unwrap();
    assert!(is_drawable(&world, 21));
    let entry = set(&world).entries.into_iter().find(|e| e.node == address(21)).unwrap();
    assert_eq!((entry.bond, entry.operator), (Amount(2_000_000), address(11)));
    // The other one takes its bond.
    let before = world.balance(12);
    let tx = world.tx(12, Action::Unbond(Unbond { node: address(22) }));
    world.one(tx).unwrap();
    world.wait(62_000);
    assert_eq!(world.balance(12), before - 10 + 3_000_000);
    assert!(world.node(22).is_none());
}

#[test]
fn a_paused_node_is_not_drawn_until_it_says_where_it_is() {
    let mut world = World::new();
    let tx = update(&world, 11, 21, false);
    world.one(tx).unwrap();
    assert!(!is_drawable(&world, 21));
    assert_eq!(world.node(21).unwrap().bond, Amount(2_000_000));
    let tx = update(&world, 11, 21, true);
    world.one(tx).unwrap();
    assert!(is_drawable(&world, 21));
    assert!(set(&world).entries.is_sorted_by_key(|e| e.node));
}

#[test]
fn a_node_that_unbonds_does_not_come_back_by_an_update() {
    let mut world = World::new();
    let tx = world.tx(11, Action::Unbond(Unbond { node: address(21) }));
    world.one(tx).unwrap();
    let tx = update(&world, 11, 21, true);
    world.one(tx).unwrap();
    assert!(!is_drawable(&world, 21));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whoever updates when, a snapshot holds exactly the nodes that were heard of in time and have
    /// not paused.
    #[test]
    fn a_snapshot_holds_who_was_heard_of_in_time(
        steps in prop::collection::vec((0usize..5, any::<bool>(), 0u8..6), 1..25),
    ) {
        let mut world = short_lived();
        // Operators 10 to 14 run nodes 20 to 24, and 10 runs 30 as well, which nobody renews.
        let mut heard = [Some(0u64); 5];
        for (who, there, blocks) in steps {
            let tx = update(&world, 10 + who as u8, 20 + who as u8, there);
            world.one(tx).unwrap();
            heard[who] = there.then(|| epoch(&world));
            for _ in 0..blocks {
                world.block(500, &[]);
            }
            let Some(bytes) = world.state.get(&keys::snapshot(epoch(&world))) else { continue };
            let snapshot: Snapshot = decode_exact(bytes, &()).unwrap();
            if snapshot.height != world.height {
                continue;
            }
            for (n, heard) in (20u8..).zip(heard) {
                let expected = heard.is_some_and(|heard| heard + 5 >= snapshot.epoch);
                let got = snapshot.set.entries.iter().any(|e| e.node == address(n));
                prop_assert_eq!(got, expected, "node {} at epoch {}", n, snapshot.epoch);
            }
        }
    }
}
