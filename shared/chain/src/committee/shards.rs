//! The draw of replicas for the shards of a committee's query.
//!
//! From the same order as a masked query's draw. Seats are given replica by replica, each to the
//! operator (then the node) with the fewest seats so far, the earlier drawn on a tie. Replicas and
//! spares of one shard are different operators, and fewer than half of the replicas' bonds hold faucet
//! coins; an operator serves two shards only when there are no others left.

use super::{CommitteeError, Seat, Terms, order};
use crate::{
    limits::{MAX_REPLICAS, MAX_SHARDS, MAX_SPARES, up_to},
    record::{NodeEntry, NodeSet},
};
use nesa_primitives::{Address, Hash, codec_struct};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Candidates of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardSeats {
    /// The replicas in order, then the spares.
    pub seats: Vec<Seat>,
}

codec_struct!(ShardSeats { seats: up_to(MAX_REPLICAS + MAX_SPARES) });

/// Candidates of every shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardCommittee {
    /// One entry per shard.
    pub shards: Vec<ShardSeats>,
}

codec_struct!(ShardCommittee { shards: up_to(MAX_SHARDS) });

impl ShardCommittee {
    /// A candidate; numbers from the count of replicas on are spares.
    pub fn seat(&self, shard: u8, seat: u8) -> Option<&Seat> {
        self.shards.get(usize::from(shard))?.seats.get(usize::from(seat))
    }

    /// The places where a node sits: shard and seat.
    pub fn find<'a>(&'a self, node: &'a Address) -> impl Iterator<Item = (u8, u8)> + 'a {
        let shards = (0u8..).zip(&self.shards);
        shards.flat_map(move |(shard, seats)| {
            let seats = (0u8..).zip(&seats.seats);
            seats.filter(move |(_, s)| s.node == *node).map(move |(seat, _)| (shard, seat))
        })
    }
}

/// Draws the replicas of `query` for `model` from a snapshot's node set. A pure function: every node
/// and every client computes the same.
///
/// # Errors
/// [`CommitteeError::Replicas`] when a shard cannot have different operators for all replicas.
pub fn derive_shards(
    seed: &[u8],
    query: &Hash,
    set: &NodeSet,
    model: &Hash,
    terms: &Terms,
) -> Result<ShardCommittee, CommitteeError> {
    seat(&order(seed, query, set, model), terms)
}

/// Whether any draw from this set fills all places; the answer does not depend on the seed.
///
/// # Errors
/// [`CommitteeError`] as [`derive_shards`] would give.
pub fn possible_shards(set: &NodeSet, model: &Hash, terms: &Terms) -> Result<(), CommitteeError> {
    let order: Vec<&NodeEntry> = set.serving(model).filter(|e| !e.bond.is_zero()).collect();
    seat(&order, terms).map(|_| ())
}

struct Places<'a> {
    /// Nodes in the order drawn. An operator with any clean bond is placed by its clean nodes.
    nodes: Vec<&'a NodeEntry>,
    by_operator: BTreeMap<Address, usize>,
    by_node: BTreeMap<Address, usize>,
    max_faucet: usize,
}

impl Places<'_> {
    /// Gives the next seat of a shard, if anybody may have it.
    fn give(&mut self, shard: &mut ShardSeats) -> bool {
        let faucets = shard.seats.iter().filter(|seat| seat.faucet_bond).count();
        let taken: BTreeSet<Address> = shard.seats.iter().map(|seat| seat.operator).collect();
        let may = |entry: &&&NodeEntry| {
            !taken.contains(&entry.operator) && (!entry.faucet_bond || faucets < self.max_faucet)
        };
        let uses = |entry: &&&NodeEntry| {
            let of = |map: &BTreeMap<Address, usize>, key| map.get(key).copied().unwrap_or(0);
            (of(&self.by_operator, &entry.operator), of(&self.by_node, &entry.node))
        };
        // The first of the least used: `min_by_key` keeps the earliest on a tie.
        let Some(entry) = self.nodes.iter().filter(may).min_by_key(uses).copied() else {
            return false;
        };
        *self.by_operator.entry(entry.operator).or_default() += 1;
        *self.by_node.entry(entry.node).or_default() += 1;
        shard.seats.push(Seat::from(entry));
        true
    }
}

fn seat(order: &[&NodeEntry], terms: &Terms) -> Result<ShardCommittee, CommitteeError> {
    let clean: BTreeSet<Address> =
        order.iter().filter(|entry| !entry.faucet_bond).map(|entry| entry.operator).collect();
    let all: BTreeSet<Address> = order.iter().map(|entry| entry.operator).collect();
    let placed = |entry: &&&NodeEntry| !entry.faucet_bond || !clean.contains(&entry.operator);
    let mut places = Places {
        nodes: order.iter().filter(placed).copied().collect(),
        by_operator: BTreeMap::new(),
        by_node: BTreeMap::new(),
        max_faucet: terms.max_faucet(),
    };
    let mut committee = ShardCommittee { shards: vec![ShardSeats::default(); terms.shards()] };
    for _ in 0..terms.replicas {
        for shard in &mut committee.shards {
            if !places.give(shard) {
                return Err(CommitteeError::Replicas {
                    replicas: terms.replicas.into(),
                    clean: clean.len(),
                    faucet: all.len() - clean.len(),
                    max_faucet: terms.max_faucet(),
                });
            }
        }
    }
    for _ in 0..MAX_SPARES {
        for shard in &mut committee.shards {
            places.give(shard);
        }
    }
    Ok(committee)
}
