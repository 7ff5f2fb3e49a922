//! The tree over a trace's row digests.
//!
//! A binary tree of fixed depth: leaf `token · 2^13 + slot`, a row that was not made being all zeros, an
//! empty subtree the node over two empty ones. So two traces of different lengths still have the same
//! shape, and what they share is where it is in both.

use blake3::hazmat::{ContextKey, HasherExt};
use nesa_primitives::Hash;

use crate::program::SLOT_BITS;
use crate::slice::key;

/// Most levels above a token's rows: models have at most 2^17 positions.
pub(crate) const MAX_TOKEN_BITS: u8 = 17;

/// Levels above the rows of a token in the trace of a query of at most `max_tokens` tokens.
pub fn token_bits(max_tokens: u32) -> u8 {
    let bits = 32 - max_tokens.saturating_sub(1).leading_zeros();
    (bits as u8).min(MAX_TOKEN_BITS)
}

/// Hashes of one kind of tree.
#[derive(Clone)]
pub(crate) struct Nodes {
    key: ContextKey,
    /// By height.
    empty: Vec<Hash>,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        let mut nodes = Self { key: key("trace node"), empty: vec![Hash::ZERO] };
        for height in 0..usize::from(SLOT_BITS + MAX_TOKEN_BITS) {
            let below = nodes.empty[height];
            nodes.empty.push(nodes.node(&below, &below));
        }
        nodes
    }

    pub(crate) fn node(&self, left: &Hash, right: &Hash) -> Hash {
        let mut hasher = blake3::Hasher::new_from_context_key(&self.key);
        hasher.update(&left.0);
        hasher.update(&right.0);
        hasher.finalize().into()
    }

    pub(crate) fn empty(&self, height: u8) -> Hash {
        self.empty.get(usize::from(height)).copied().unwrap_or(Hash::ZERO)
    }

    /// Joins `2^levels` neighbours; `None` for another number.
    pub(crate) fn join(&self, digests: &[Hash], levels: u32) -> Option<Hash> {
        if digests.len() != 1 << levels {
            return None;
        }
        let mut row = digests.to_vec();
        while row.len() > 1 {
            row = row.chunks_exact(2).map(|pair| self.node(&pair[0], &pair[1])).collect();
        }
        row.first().copied()
    }

    /// The node `levels` above `leaves`, number `index`, where the leaves are themselves nodes at
    /// `base`, and absent beyond the last.
    pub(crate) fn subtree(&self, leaves: &[Hash], base: u8, levels: u8, index: u64) -> Hash {
        let first = index << levels;
        if first >= leaves.len() as u64 {
            return self.empty(base + levels);
        }
        if levels == 0 {
            return leaves[first as usize];
        }
        let left = self.subtree(leaves, base, levels - 1, 2 * index);
        let right = self.subtree(leaves, base, levels - 1, 2 * index + 1);
        self.node(&left, &right)
    }

    /// The root that a leaf and its siblings, from the leaf up, lead to.
    pub(crate) fn climb(&self, leaf: &Hash, mut index: u64, path: &[Hash]) -> Hash {
        path.iter().fold(*leaf, |hash, sibling| {
            let right = index & 1 == 1;
            index >>= 1;
            if right { self.node(sibling, &hash) } else { self.node(&hash, sibling) }
        })
    }
}
