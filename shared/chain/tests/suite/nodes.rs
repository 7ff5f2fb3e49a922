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
    for lanes in [0, 2, u32::MAX] {
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
