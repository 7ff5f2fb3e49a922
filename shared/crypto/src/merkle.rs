//! Binary Merkle trees in the shape of RFC 6962 (section 2.1), over BLAKE3.
//!
//! ```text
//!                root = H_root(count, top)          count: number of leaves, u64 big-endian
//!                          │
//!                     H_node(l, r)                  split at the largest power of two < count
//!                    ┌─────┴──────┐
//!               H_node(l, r)   H_leaf(d)
//! ```
//!
//! Leaves, nodes and the root live in three domains, so no node passes for a leaf, and the root
//! commits to the number of leaves, so a proof cannot lie about the tree's shape.

use commonware_codec::RangeCfg;
use nesa_primitives::{Hash, codec_struct, domain};
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;

/// Longest path: trees of up to 2^32 leaves.
pub const MAX_DEPTH: usize = 32;

/// The digest of one leaf's data.
pub fn leaf_hash(data: &[u8]) -> Hash {
    let mut hasher = domain("merkle leaf", &Hash::ZERO);
    hasher.update(data);
    hasher.finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = domain("merkle node", &Hash::ZERO);
    hasher.update(&left.0);
    hasher.update(&right.0);
    hasher.finalize().into()
}

fn root_hash(count: u64, top: &Hash) -> Hash {
    let mut hasher = domain("merkle root", &Hash::ZERO);
    hasher.update(&count.to_be_bytes());
    hasher.update(&top.0);
    hasher.finalize().into()
}

/// Largest power of two below `count`; `count ≥ 2`.
const fn split(count: usize) -> usize {
    1 << (usize::BITS - 1 - (count - 1).leading_zeros())
}

fn top(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => Hash::ZERO,
        [one] => *one,
        many => {
            let (left, right) = many.split_at(split(many.len()));
            node_hash(&top(left), &top(right))
        }
    }
}

/// The root over the data of all leaves, in order.
pub fn root<T: AsRef<[u8]>>(leaves: &[T]) -> Hash {
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect();
    root_of_hashes(&hashes)
}

/// The root over leaf digests ([`leaf_hash`]), in order.
pub fn root_of_hashes(hashes: &[Hash]) -> Hash {
    root_hash(hashes.len() as u64, &top(hashes))
}

/// That one leaf stands at one place of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Place of the leaf, from 0.
    pub index: u64,
    /// Number of leaves in the tree.
    pub count: u64,
    /// Sibling digests from the leaf up.
    pub path: Vec<Hash>,
}

codec_struct!(Proof { index, count, path: (RangeCfg::new(0..=MAX_DEPTH), ()) });

/// Why an inclusion proof was refused.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum ProofError {
    /// The place lies outside the tree.
    #[error("leaf {index} of a tree of {count} leaves")]
    OutOfRange {
        /// Place claimed.
        index: u64,
        /// Leaves claimed.
        count: u64,
    },
    /// The path has not the length that this place in this tree needs.
    #[error("path of {got} digests, expected {expected}")]
    Length {
        /// Digests given.
        got: usize,
        /// Digests needed.
        expected: usize,
    },
    /// The path leads to another root.
    #[error("leads to root {got}, expected {expected}")]
    Root {
        /// Root computed.
        got: Hash,
        /// Root expected.
        expected: Hash,
    },
}

/// The proof for leaf `index` of the tree over these leaf digests; `None` outside the tree.
pub fn prove(hashes: &[Hash], index: usize) -> Option<Proof> {
    if index >= hashes.len() {
        return None;
    }
    let mut path = Vec::new();
    descend(hashes, index, &mut path);
    Some(Proof { index: index as u64, count: hashes.len() as u64, path })
}

fn descend(hashes: &[Hash], index: usize, path: &mut Vec<Hash>) {
    if hashes.len() < 2 {
        return;
    }
    let (left, right) = hashes.split_at(split(hashes.len()));
    if index < left.len() {
        descend(left, index, path);
        path.push(top(right));
    } else {
        descend(right, index - left.len(), path);
        path.push(top(left));
    }
}

/// Checks that `data` is the leaf that `proof` says it is, under `root`.
///
/// # Errors
/// [`ProofError`] naming what was got and expected.
pub fn verify(root: &Hash, data: &[u8], proof: &Proof) -> Result<(), ProofError> {
    verify_hash(root, &leaf_hash(data), proof)
}

/// [`verify`] for a leaf whose digest is at hand.
///
/// # Errors
/// [`ProofError`] naming what was got and expected.
pub fn verify_hash(root: &Hash, leaf: &Hash, proof: &Proof) -> Result<(), ProofError> {
    let Proof { index, count, path } = proof;
    if index >= count {
        return Err(ProofError::OutOfRange { index: *index, count: *count });
    }
    // From the leaf's place down to it: on which side the sibling stands at each level.
    let mut sibling_is_left = Vec::with_capacity(MAX_DEPTH);
    let (mut index, mut size) = (*index, *count);
    while size > 1 {
        let half = 1u64 << (63 - (size - 1).leading_zeros());
        if index < half {
            sibling_is_left.push(false);
            size = half;
        } else {
            sibling_is_left.push(true);
            index -= half;
            size -= half;
        }
    }
    if path.len() != sibling_is_left.len() {
        return Err(ProofError::Length { got: path.len(), expected: sibling_is_left.len() });
    }
    let mut hash = *leaf;
    for (sibling, is_left) in path.iter().zip(sibling_is_left.iter().rev()) {
        hash = if *is_left { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) };
    }
    let got = root_hash(*count, &hash);
    if got == *root { Ok(()) } else { Err(ProofError::Root { got, expected: *root }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nesa_primitives::decode_exact;
    use proptest::prelude::*;

    fn leaves(n: usize) -> Vec<Vec<u8>> {
        (0..n).map(|i| vec![i as u8; i % 7]).collect()
    }

    fn hashes(n: usize) -> Vec<Hash> {
        leaves(n).iter().map(|l| leaf_hash(l)).collect()
    }

    #[test]
    fn every_leaf_of_every_size_is_proved() {
        for n in 1..=33 {
            let (data, hashes) = (leaves(n), hashes(n));
            let root = root(&data);
            for (i, leaf) in data.iter().enumerate() {
                verify(&root, leaf, &prove(&hashes, i).unwrap()).unwrap();
            }
            assert_eq!(prove(&hashes, n), None);
        }
    }

    #[test]
    fn a_node_does_not_pass_for_a_leaf() {
        let hashes = hashes(4);
        let root = root_of_hashes(&hashes);
        // Claim the tree has two leaves, the first of them the concatenation of two digests.
        let inner: Vec<u8> = [hashes[0].0, hashes[1].0].concat();
        let right = node_hash(&hashes[2], &hashes[3]);
        let lie = Proof { index: 0, count: 2, path: vec![right] };
        assert!(matches!(verify(&root, &inner, &lie), Err(ProofError::Root { .. })));
        // Even with the inner node's own digest as the leaf, the count gives it away.
        let left = node_hash(&hashes[0], &hashes[1]);
        assert!(matches!(verify_hash(&root, &left, &lie), Err(ProofError::Root { .. })));
    }

    #[test]
    fn another_index_count_or_path_is_refused() {
        let (data, hashes) = (leaves(11), hashes(11));
        let root = root(&data);
        let good = prove(&hashes, 6).unwrap();
        for index in (0..20).filter(|i| *i != 6) {
            assert!(verify(&root, &data[6], &Proof { index, ..good.clone() }).is_err());
        }
        for count in (0..40).filter(|c| *c != 11) {
            assert!(verify(&root, &data[6], &Proof { count, ..good.clone() }).is_err());
        }
        let mut short = good.clone();
        short.path.pop();
        assert!(matches!(verify(&root, &data[6], &short), Err(ProofError::Length { .. })));
        let mut long = good.clone();
        long.path.push(Hash::ZERO);
        assert!(matches!(verify(&root, &data[6], &long), Err(ProofError::Length { .. })));
        let mut swapped = good;
        swapped.path.swap(0, 1);
        assert!(matches!(verify(&root, &data[6], &swapped), Err(ProofError::Root { .. })));
    }

    #[test]
    fn trees_that_duplicate_their_last_leaf_differ() {
        assert_ne!(root(&[b"a", b"b", b"c"]), root(&[b"a", b"b", b"c", b"c"]));
        assert_ne!(root::<&[u8]>(&[]), root(&[b""]));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
            if let Ok(proof) = decode_exact::<Proof>(&bytes, &()) {
                let _ = verify(&Hash::ZERO, b"x", &proof);
            }
        }

        #[test]
        fn no_proof_with_a_flipped_bit_holds(n in 2usize..40, pick in any::<u64>(), bit in any::<u64>()) {
            let (data, hashes) = (leaves(n), hashes(n));
            let index = (pick % n as u64) as usize;
            let mut proof = prove(&hashes, index).unwrap();
            let at = (bit % (proof.path.len() as u64 * 256)) as usize;
            proof.path[at / 256].0[at % 256 / 8] ^= 1 << (at % 8);
            prop_assert!(verify(&root(&data), &data[index], &proof).is_err());
        }
    }
}
