//! The draw of replicas for shards.

use crate::{traces::terms, world::address};
use nesa_chain::{
    committee::{
        CommitteeError, ShardCommittee, TermsError, Windows, derive_shards, possible_shards,
    },
    record::{NodeEntry, NodeSet},
};
use nesa_primitives::{Amount, Hash};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const MODEL: Hash = Hash([5; 32]);

fn set(nodes: &[(u8, u8, u64, bool)]) -> NodeSet {
    let mut entries: Vec<NodeEntry> = nodes
        .iter()
        .map(|&(node, operator, bond, faucet_bond)| NodeEntry {
            node: address(node),
            operator: address(operator),
            bond: Amount(bond),
            faucet_bond,
            models: 1,
            renewed_epoch: 0,
        })
        .collect();
    entries.sort_by_key(|e| e.node);
    NodeSet { models: vec![MODEL], entries }
}

fn draw(set: &NodeSet, cuts: &[u16], k: u8, n: u64) -> Result<ShardCommittee, CommitteeError> {
    let query = Hash::of_bytes("test query", &Hash::ZERO, &n.to_be_bytes());
    derive_shards(b"seed", &query, set, &MODEL, &terms(cuts, k, false))
}

#[test]
fn enough_operators_share_no_shard() {
    let nodes: Vec<_> = (0..12).map(|n| (n + 100, n, 1_000, false)).collect();
    let set = set(&nodes);
    for n in 0..30 {
        let drawn = draw(&set, &[2, 5], 3, n).unwrap();
        let replicas: Vec<_> =
            drawn.shards.iter().flat_map(|s| &s.seats[..3]).map(|s| s.operator).collect();
        assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), 9, "an operator in two shards");
        assert!(drawn.shards.iter().all(|s| s.seats.len() == 5), "spares for every shard");
        assert_eq!(draw(&set, &[2, 5], 3, n), Ok(drawn));
    }
    assert_ne!(draw(&set, &[], 3, 1), draw(&set, &[], 3, 2));
}

#[test]
fn too_few_operators_are_named() {
    let nodes = [(100, 0, 5, false), (101, 0, 5, false), (102, 1, 5, false), (103, 2, 5, true)];
    let set = set(&nodes);
    assert!(draw(&set, &[1], 3, 0).is_ok());
    let replicas = |k| match draw(&set, &[1], k, 0) {
        Err(CommitteeError::Replicas { replicas, clean, faucet, max_faucet }) => {
            (replicas, clean, faucet, max_faucet)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(replicas(4), (4, 2, 1, 1));
    assert_eq!(replicas(7), (7, 2, 1, 3));
    // One of two is not a minority.
    let faucets = self::set(&[(100, 0, 5, false), (101, 1, 5, true)]);
    assert!(draw(&faucets, &[], 2, 0).is_err());
    assert!(draw(&faucets, &[], 1, 0).is_ok());
}

#[test]
fn stake_weighs_in_the_draw() {
    let nodes: Vec<_> =
        (0..9).map(|n| (n + 100, n, if n == 0 { 8_000 } else { 1_000 }, false)).collect();
    let set = set(&nodes);
    let mut seats: BTreeMap<_, u32> = BTreeMap::new();
    for n in 0..400 {
        let first = draw(&set, &[], 1, n).unwrap().shards[0].seats[0].operator;
        *seats.entry(first).or_default() += 1;
    }
    let rich = seats[&address(0)];
    assert!((150..250).contains(&rich), "half of the stake drew {rich} of 400");
}

#[test]
fn bad_terms_are_named_and_windows_follow_each_other() {
    let check = |cuts: &[u16], k| terms(cuts, k, false).check();
    assert_eq!(check(&[], 1), Ok(()));
    assert_eq!(check(&[3, 7, 9], 7), Ok(()));
    assert_eq!(check(&[], 0), Err(TermsError::Replicas { got: 0 }));
    assert_eq!(check(&[], 8), Err(TermsError::Replicas { got: 8 }));
    assert_eq!(check(&[0], 3), Err(TermsError::Cuts { got: 0, before: 0 }));
    assert_eq!(check(&[4, 4], 3), Err(TermsError::Cuts { got: 4, before: 4 }));
    assert_eq!(check(&[1, 2, 3, 4, 5, 6, 7, 8], 3), Err(TermsError::Shards { got: 9 }));
    let t = terms(&[3, 7], 3, false);
    assert_eq!(
        (t.layers(0, 9), t.layers(1, 9), t.layers(2, 9)),
        (Some(0..3), Some(3..7), Some(7..9))
    );
    assert_eq!((t.layers(3, 9), t.layers(2, 7), t.layers(1, 5)), (None, None, None));
    let params = crate::world::params();
    let (dumb, frank) = (Windows::of(1_000, false, &params), Windows::of(1_000, true, &params));
    assert_eq!((dumb.commit_ms, dumb.reveal_ms, dumb.dispute_ms), (1_000, 2_000, None));
    assert_eq!(dumb.close_ms, 4_000);
    assert_eq!(frank.dispute_ms, Some(2_500));
    assert!(frank.close_ms >= 2_500 + 19 * 500 + params.claim_ms);
    assert!(frank.close_ms - 1_000 + params.max_deadline_ms <= params.longest_query_ms());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn replicas_are_different_operators_and_faucets_a_minority(
        nodes in prop::collection::vec((0u8..12, 1u64..1_000_000, prop::bool::weighted(0.4)), 1..24),
        shards in 1u16..=8, k in 1u8..=7, n in any::<u64>(),
    ) {
        let nodes: Vec<_> = (100u8..).zip(nodes).map(|(node, (operator, bond, faucet))| {
            (node, operator, bond, faucet)
        }).collect();
        let set = set(&nodes);
        let cuts: Vec<u16> = (1..shards).collect();
        let drawn = draw(&set, &cuts, k, n);
        // Whether it works does not depend on the seed.
        let possible = possible_shards(&set, &MODEL, &terms(&cuts, k, false));
        prop_assert_eq!(drawn.is_ok(), possible.is_ok());
        let clean: BTreeSet<u8> = nodes.iter().filter(|n| !n.3).map(|n| n.1).collect();
        let all: BTreeSet<u8> = nodes.iter().map(|n| n.1).collect();
        let max_faucet = usize::from(k - 1) / 2;
        let room = clean.len() + (all.len() - clean.len()).min(max_faucet);
        prop_assert_eq!(drawn.is_ok(), room >= usize::from(k));
        let Ok(drawn) = drawn else { return Ok(()) };
        prop_assert_eq!(drawn.shards.len(), usize::from(shards));
        for shard in &drawn.shards {
            prop_assert!((usize::from(k)..=usize::from(k) + 2).contains(&shard.seats.len()));
            let operators: BTreeSet<_> = shard.seats.iter().map(|s| s.operator).collect();
            prop_assert_eq!(operators.len(), shard.seats.len());
            prop_assert!(shard.seats.iter().filter(|s| s.faucet_bond).count() <= max_faucet);
        }
    }
}
