//! Who serves a query: a public, recomputable draw.
//!
//! ```text
//! seed of the draw view ─┐
//! query id ──────────────┴─> order of all serving nodes, weighted by bond, without replacement
//!                                  │ walk
//!            operator's first node fixes its side; a new operator goes to the side
//!            that has fewer operators (A on a tie); faucet bonds only ever to B,
//!            and none beside a named node that has one
//!                                  │
//!                  A: up to 3 seats      B: up to 3 seats
//! ```
//!
//! The operators of A and of B are disjoint sets, so a retry can replace a failed server without
//! ever showing an operator both halves of a secret. Seats go to distinct operators first; only
//! then do further nodes of an operator fill what is left of its side.

mod odds;
mod shards;
mod terms;

pub use odds::Odds;
pub use shards::{ShardCommittee, ShardSeats, derive_shards, possible_shards};
pub use terms::{Admission, Terms, TermsError, Windows, blind};

use crate::{
    action::{Named, Side},
    limits::{MAX_ATTEMPTS, up_to},
    record::{NodeEntry, NodeSet},
};
use nesa_crypto::sampling::weighted_without_replacement;
use nesa_primitives::{Address, Hash, codec_struct, domain};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Views between a query's inclusion and the view whose seed draws its committee.
pub const DRAW_DELAY_VIEWS: u64 = 2;

/// One candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The node.
    pub node: Address,
    /// Its operator when the snapshot was taken: the one that commits and is paid.
    pub operator: Address,
    /// Whether its bond holds faucet coins.
    pub faucet_bond: bool,
}

codec_struct!(Seat { node, operator, faucet_bond });

impl From<&NodeEntry> for Seat {
    fn from(entry: &NodeEntry) -> Self {
        Self { node: entry.node, operator: entry.operator, faucet_bond: entry.faucet_bond }
    }
}

/// The candidates of both sides; attempt `i` goes to candidate `i`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committee {
    /// Candidates for the masked input.
    pub a: Vec<Seat>,
    /// Candidates for the seeds.
    pub b: Vec<Seat>,
}

codec_struct!(Committee { a: up_to(MAX_ATTEMPTS), b: up_to(MAX_ATTEMPTS) });

impl Committee {
    /// The candidates of a side.
    pub fn side(&self, side: Side) -> &[Seat] {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// The candidate of an attempt.
    pub fn seat(&self, side: Side, attempt: u8) -> Option<&Seat> {
        self.side(side).get(usize::from(attempt))
    }

    /// Where a node sits.
    pub fn find(&self, node: &Address) -> Option<(Side, u8)> {
        [Side::A, Side::B].into_iter().find_map(|side| {
            let place = self.side(side).iter().position(|seat| seat.node == *node)?;
            Some((side, u8::try_from(place).ok()?))
        })
    }

    fn side_mut(&mut self, side: Side) -> &mut Vec<Seat> {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }
}

/// Why no committee can be drawn from a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitteeError {
    /// The named node is not in the snapshot, or does not serve the model.
    #[error("node {node} does not serve the model in the snapshot drawn from")]
    NamedNode {
        /// The node named.
        node: Address,
    },
    /// Too few operators: a side would be empty.
    #[error("side {side} has no candidate among {operators} operators")]
    EmptySide {
        /// The side.
        side: Side,
        /// Operators that serve the model.
        operators: usize,
    },
    /// Too few operators for the replicas of a shard, which are all different ones.
    #[error(
        "{clean} operators without faucet coins and {faucet} with, {replicas} replicas of a shard \
         are wanted, at most {max_faucet} of them with faucet coins"
    )]
    Replicas {
        /// Replicas wanted.
        replicas: usize,
        /// Operators whose bond holds no faucet coins.
        clean: usize,
        /// Operators whose bonds all do.
        faucet: usize,
        /// Most replicas of a shard with such a bond: less than half.
        max_faucet: usize,
    },
}

/// Draws the committee of `query` for `model` from a snapshot's node set.
///
/// `seed` is the (verified) seed of the draw view. A pure function: every node and every client
/// computes the same.
///
/// # Errors
/// [`CommitteeError`] if the named node is unknown or a side stays empty.
pub fn derive(
    seed: &[u8],
    query: &Hash,
    set: &NodeSet,
    model: &Hash,
    named: Option<&Named>,
) -> Result<Committee, CommitteeError> {
    seat(&order(seed, query, set, model), named)
}

/// All nodes that serve `model`, in the order drawn.
fn order<'a>(seed: &[u8], query: &Hash, set: &'a NodeSet, model: &Hash) -> Vec<&'a NodeEntry> {
    let eligible: Vec<&NodeEntry> = set.serving(model).collect();
    let weights: Vec<u64> = eligible.iter().map(|entry| entry.bond.0).collect();
    let order = weighted_without_replacement(&draw_seed(seed, query), &weights, usize::MAX);
    order.into_iter().map(|i| eligible[i]).collect()
}

/// Whether any draw from this set gives both sides a candidate; the answer does not depend on
/// the seed, so it can be asked before the escrow.
///
/// # Errors
/// [`CommitteeError`] as [`derive`] would give.
pub fn possible(set: &NodeSet, model: &Hash, named: Option<&Named>) -> Result<(), CommitteeError> {
    let order: Vec<&NodeEntry> = set.serving(model).filter(|e| !e.bond.is_zero()).collect();
    seat(&order, named).map(|_| ())
}

fn draw_seed(seed: &[u8], query: &Hash) -> Hash {
    let mut hasher = domain("committee", query);
    hasher.update(seed);
    hasher.finalize().into()
}

/// Gives seats in the order drawn.
fn seat(order: &[&NodeEntry], named: Option<&Named>) -> Result<Committee, CommitteeError> {
    let mut committee = Committee::default();
    let mut sides: BTreeMap<Address, Side> = BTreeMap::new();
    let mut closed = None;
    let mut no_faucet = false;
    if let Some(named) = named {
        let entry = order
            .iter()
            .find(|entry| entry.node == named.node)
            .ok_or(CommitteeError::NamedNode { node: named.node })?;
        committee.side_mut(named.side).push(Seat::from(*entry));
        sides.insert(entry.operator, named.side);
        closed = Some(named.side);
        no_faucet = entry.faucet_bond;
    }
    // An operator with any clean bond is placed by its clean nodes, so that whether both sides
    // can be filled does not depend on the order drawn.
    let clean: BTreeSet<Address> =
        order.iter().filter(|entry| !entry.faucet_bond).map(|entry| entry.operator).collect();
    let mut spare: Vec<(Side, Seat)> = Vec::new();
    let mut count = [0usize; 2];
    for entry in order {
        let unplaced = entry.faucet_bond
            && clean.contains(&entry.operator)
            && !sides.contains_key(&entry.operator);
        if unplaced || (no_faucet && entry.faucet_bond) {
            continue;
        }
        let known = sides.get(&entry.operator).copied();
        let side = match (known, closed) {
            (Some(side), _) => side,
            (None, Some(closed)) => closed.other(),
            (None, None) if entry.faucet_bond || count[1] < count[0] => Side::B,
            (None, None) => Side::A,
        };
        if (side == Side::A && entry.faucet_bond) || closed == Some(side) {
            continue;
        }
        let seat = Seat::from(*entry);
        if known.is_none() {
            sides.insert(entry.operator, side);
            count[side as usize] += 1;
            let seats = committee.side_mut(side);
            if seats.len() < MAX_ATTEMPTS {
                seats.push(seat);
            }
        } else {
            spare.push((side, seat));
        }
    }
    for (side, seat) in spare {
        let seats = committee.side_mut(side);
        if seats.len() < MAX_ATTEMPTS {
            seats.push(seat);
        }
    }
    for side in [Side::A, Side::B] {
        if committee.side(side).is_empty() {
            return Err(CommitteeError::EmptySide { side, operators: sides.len() });
        }
    }
    Ok(committee)
}
