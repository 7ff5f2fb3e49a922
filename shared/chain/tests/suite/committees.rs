//! The draw: disjoint sides, faucet bonds, weights, determinism.

use crate::world::address;
use nesa_chain::{
    action::{Named, Side},
    committee::{Committee, CommitteeError, derive, possible},
    record::{NodeEntry, NodeSet},
};
use nesa_primitives::{Amount, Hash};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const MODEL: Hash = Hash([5; 32]);

fn entry(node: u8, operator: u8, bond: u64, faucet_bond: bool) -> NodeEntry {
    let bond = Amount(bond);
    NodeEntry {
        node: address(node),
        operator: address(operator),
        bond,
        faucet_bond,
        models: 1,
        renewed_epoch: 0,
    }
}

fn set(mut entries: Vec<NodeEntry>) -> NodeSet {
    entries.sort_by_key(|e| e.node);
    NodeSet { models: vec![MODEL], entries }
}

fn draw(set: &NodeSet, n: u64, named: Option<&Named>) -> Result<Committee, CommitteeError> {
    let query = Hash::of_bytes("test query", &Hash::ZERO, &n.to_be_bytes());
    derive(b"seed", &query, set, &MODEL, named)
}

fn check(set: &NodeSet, committee: &Committee, named: Option<&Named>) {
    let operators =
        |side| -> BTreeSet<_> { committee.side(side).iter().map(|s| s.operator).collect() };
    assert!(operators(Side::A).is_disjoint(&operators(Side::B)), "an operator on both sides");
    let nodes: BTreeSet<_> = committee.a.iter().chain(&committee.b).map(|s| s.node).collect();
    assert_eq!(nodes.len(), committee.a.len() + committee.b.len(), "a node drawn twice");
    assert!(committee.a.len() <= 3 && committee.b.len() <= 3);
    for a in committee.a.iter().filter(|s| s.faucet_bond) {
        assert_eq!(named.map(|n| (n.side, n.node)), Some((Side::A, a.node)), "drawn into A");
    }
    for a in &committee.a {
        for b in &committee.b {
            assert!(!(a.faucet_bond && b.faucet_bond), "two faucet bonds in a pair");
        }
    }
    for seat in committee.a.iter().chain(&committee.b) {
        let entry = set.entries.iter().find(|e| e.node == seat.node).unwrap();
        assert_eq!((entry.operator, entry.faucet_bond), (seat.operator, seat.faucet_bond));
        assert!(entry.models & 1 == 1 && !entry.bond.is_zero());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_draw_keeps_the_promises(
        nodes in prop::collection::vec((0u8..6, 0u64..5, any::<bool>(), any::<bool>()), 0..14),
        named in prop::option::of((0usize..14, any::<bool>())),
        n in any::<u64>(),
    ) {
        let entries = nodes.iter().enumerate().map(|(i, (operator, bond, faucet, serves))| {
            let mut e = entry(100 + i as u8, *operator, *bond, *faucet);
            e.models = u64::from(*serves);
            e
        }).collect();
        let set = set(entries);
        let named = named.map(|(i, a)| Named {
            side: if a { Side::A } else { Side::B },
            node: address(100 + i as u8),
        });
        let drawn = draw(&set, n, named.as_ref());
        prop_assert_eq!(drawn.clone().map(|_| ()).is_ok(), possible(&set, &MODEL, named.as_ref()).is_ok(),
            "whether a draw succeeds depends on the seed");
        if let Ok(committee) = drawn {
            check(&set, &committee, named.as_ref());
            prop_assert_eq!(Ok(committee), draw(&set, n, named.as_ref()));
        }
    }
}

#[test]
fn seats_go_to_distinct_operators_first() {
    // Operator 1 has five nodes and nearly all the bond; five others have one small node each.
    let mut nodes: Vec<_> = (0..5).map(|i| entry(100 + i, 1, 1_000_000, false)).collect();
    nodes.extend((0..5).map(|i| entry(110 + i, 2 + i, 10, false)));
    let set = set(nodes);
    for n in 0..200 {
        let committee = draw(&set, n, None).unwrap();
        check(&set, &committee, None);
        let operators: BTreeSet<_> =
            committee.a.iter().chain(&committee.b).map(|s| s.operator).collect();
        assert_eq!(operators.len(), 6);
    }
}

#[test]
fn an_operators_spare_nodes_fill_its_side() {
    let set = set(vec![
        entry(100, 1, 5, false),
        entry(101, 1, 5, false),
        entry(102, 1, 5, false),
        entry(103, 2, 5, false),
    ]);
    let committee = draw(&set, 3, None).unwrap();
    check(&set, &committee, None);
    assert_eq!(committee.a.len() + committee.b.len(), 4);
}

#[test]
fn one_operator_is_no_committee() {
    let set = set(vec![entry(100, 1, 5, false), entry(101, 1, 5, false)]);
    assert!(matches!(draw(&set, 0, None), Err(CommitteeError::EmptySide { side: Side::B, .. })));
    let all_faucet = self::set(vec![entry(100, 1, 5, true), entry(101, 2, 5, true)]);
    assert!(matches!(
        draw(&all_faucet, 0, None),
        Err(CommitteeError::EmptySide { side: Side::A, .. })
    ));
}

#[test]
fn a_named_faucet_node_meets_no_other() {
    let set =
        set(vec![entry(100, 1, 5, true), entry(101, 2, 5_000, true), entry(102, 3, 5, false)]);
    for (side, n) in
        [(Side::A, 0), (Side::B, 1)].into_iter().flat_map(|(s, _)| (0..50).map(move |n| (s, n)))
    {
        let named = Named { side, node: address(100) };
        let committee = draw(&set, n, Some(&named)).unwrap();
        check(&set, &committee, Some(&named));
        assert_eq!(committee.side(side.other())[0].node, address(102));
    }
}

#[test]
fn bonds_are_odds() {
    let set = set((0..4).map(|i| entry(100 + i, 1 + i, u64::from(i) + 1, false)).collect());
    let mut first: BTreeMap<_, u32> = BTreeMap::new();
    for n in 0..4_000 {
        *first.entry(draw(&set, n, None).unwrap().a[0].node).or_default() += 1;
    }
    for i in 0..4u8 {
        let seen = f64::from(first[&address(100 + i)]);
        let expected = 400.0 * f64::from(i + 1);
        // Five standard deviations.
        let sigma = (expected * (1.0 - expected / 4_000.0)).sqrt();
        assert!((seen - expected).abs() < 5.0 * sigma, "node {i}: {seen} of {expected}");
    }
}

#[test]
fn another_seed_or_query_draws_anew() {
    let set = set((0..20).map(|i| entry(100 + i, 1 + i, 5, false)).collect());
    let base = derive(b"seed", &Hash([1; 32]), &set, &MODEL, None).unwrap();
    let seed = derive(b"seee", &Hash([1; 32]), &set, &MODEL, None).unwrap();
    let query = derive(b"seed", &Hash([2; 32]), &set, &MODEL, None).unwrap();
    assert!(base != seed && base != query && seed != query);
}
