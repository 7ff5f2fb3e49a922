//! Parts of a hashed message, proven under its BLAKE3 digest.
//!
//! BLAKE3 is a hash tree over blocks of 1 KiB (the "chunks" of its specification, section 2.4), so any
//! block of a message can be shown under the message's digest with about one sibling per level. Models
//! were hashed before anybody thought of disputes, and every row of a trace is hashed at full
//! speed; both can be opened block by block all the same.
//!
//! A slice states the message's length, which decides the tree's shape. It need not be trusted: a block
//! is hashed with its own number and apart from inner nodes, so under another shape nothing fits.

use crate::answer::Blob;
use blake3::hazmat::{
    ContextKey, HasherExt, Mode, hash_derive_key_context, merge_subtrees_non_root,
    merge_subtrees_root,
};
use commonware_codec::RangeCfg;
use nesa_primitives::{Hash, codec_struct};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use thiserror::Error;

/// Bytes of a block.
pub const BLOCK: usize = 1024;
/// Most blocks in one slice.
pub(crate) const MAX_SLICE_BLOCKS: usize = 16;
/// Longest message that can be sliced, in blocks: a tree of 22 levels.
const MAX_BLOCKS: u32 = (1 << 22) - 1;
const MAX_SIBLINGS: usize = 48;

/// Adjacent blocks of a message and what proves them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Bytes of the whole message.
    pub len: u32,
    /// Number of the first block.
    pub first: u32,
    /// The blocks.
    pub data: Blob,
    /// Digests of the subtrees beside them, from left to right.
    pub siblings: Vec<Hash>,
}

codec_struct!(Slice {
    len,
    first,
    data: RangeCfg::new(0..=MAX_SLICE_BLOCKS * BLOCK),
    siblings: (RangeCfg::new(0..=MAX_SIBLINGS), ()),
});

/// A slice that proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SliceError {
    /// Blocks outside the message, or not whole.
    #[error("{got} bytes from block {first} of a message of {len} bytes")]
    Range {
        /// Bytes given.
        got: usize,
        /// First block.
        first: u32,
        /// Length claimed.
        len: u32,
    },
    /// Too few or too many siblings.
    #[error("{got} siblings, others needed")]
    Siblings {
        /// Siblings given.
        got: usize,
    },
    /// Another message.
    #[error("leads to {got}, expected {expected}")]
    Root {
        /// Digest computed.
        got: Hash,
        /// Digest expected.
        expected: Hash,
    },
}

/// The key of a domain's tree: `"nesa/1 <tag>"`, as in [`nesa_primitives::domain`].
pub(crate) fn key(tag: &str) -> ContextKey {
    hash_derive_key_context(&format!("nesa/1 {tag}"))
}

/// Blocks of a message of `len` bytes.
pub(crate) fn blocks(len: u32) -> u32 {
    len.div_ceil(BLOCK as u32).max(1)
}

/// Where a subtree of more than one block divides.
pub(crate) fn middle(range: &Range<u32>) -> u32 {
    let count = range.len() as u32;
    range.start + (1 << (count.max(2) - 1).ilog2())
}

/// The digest of a subtree's bytes, which begin at block `first`. The root of a whole message is
/// another matter.
pub(crate) fn subtree(key: &ContextKey, first: u32, bytes: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new_from_context_key(key);
    hasher.set_input_offset(u64::from(first) * BLOCK as u64);
    hasher.update(bytes);
    Hash(hasher.finalize_non_root())
}

/// The digest of a whole message.
pub(crate) fn root(key: &ContextKey, message: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new_from_context_key(key);
    hasher.update(message);
    hasher.finalize().into()
}

/// Joins two subtrees; `whole` if together they are the message.
pub(crate) fn join(key: &ContextKey, left: &Hash, right: &Hash, whole: bool) -> Hash {
    let mode = Mode::DeriveKeyMaterial(key);
    if whole {
        merge_subtrees_root(&left.0, &right.0, mode).into()
    } else {
        Hash(merge_subtrees_non_root(&left.0, &right.0, mode))
    }
}

impl Slice {
    /// Cuts `wanted` blocks out of a message; `None` if it has not all of them, or they are too many.
    pub fn of(tag: &str, message: &[u8], wanted: Range<u32>) -> Option<Self> {
        let len = u32::try_from(message.len()).ok()?;
        let all = 0..blocks(len);
        if wanted.is_empty() || wanted.end > all.end || wanted.len() > MAX_SLICE_BLOCKS {
            return None;
        }
        let data = message.get(bytes_of(&wanted, len))?.to_vec();
        let mut siblings = Vec::new();
        collect(&key(tag), message, all, &wanted, &mut siblings);
        Some(Self { len, first: wanted.start, data: Blob(data), siblings })
    }

    /// Checks the slice against the message's digest, and returns the place of its first byte.
    ///
    /// # Errors
    /// [`SliceError`] for a slice of anything else.
    pub fn verify(&self, tag: &str, expected: &Hash) -> Result<usize, SliceError> {
        let Self { len, first, data, siblings } = self;
        let got = data.0.len();
        let out = SliceError::Range { got, first: *first, len: *len };
        let count = got.div_ceil(BLOCK) as u32;
        let wanted = *first..first.checked_add(count).ok_or(out)?;
        let all = 0..blocks(*len);
        if count == 0 || all.end > MAX_BLOCKS || wanted.end > all.end {
            return Err(out);
        }
        if bytes_of(&wanted, *len).len() != got {
            return Err(out);
        }
        let mut climb =
            Climb { key: &key(tag), data: &data.0, wanted, len: *len, siblings: siblings.iter() };
        let short = SliceError::Siblings { got: siblings.len() };
        let got = if all.end == 1 {
            root(climb.key, climb.data)
        } else {
            climb.node(all, true).ok_or(short)?
        };
        if climb.siblings.next().is_some() {
            return Err(short);
        }
        if got == *expected {
            Ok(*first as usize * BLOCK)
        } else {
            Err(SliceError::Root { got, expected: *expected })
        }
    }
}

fn bytes_of(range: &Range<u32>, len: u32) -> Range<usize> {
    range.start as usize * BLOCK..(range.end as usize * BLOCK).min(len as usize)
}

fn collect(
    key: &ContextKey,
    message: &[u8],
    range: Range<u32>,
    wanted: &Range<u32>,
    siblings: &mut Vec<Hash>,
) {
    if range.end <= wanted.start || wanted.end <= range.start {
        let bytes = &message[bytes_of(&range, message.len() as u32)];
        siblings.push(subtree(key, range.start, bytes));
    } else if range.len() > 1 {
        let middle = middle(&range);
        collect(key, message, range.start..middle, wanted, siblings);
        collect(key, message, middle..range.end, wanted, siblings);
    }
}

struct Climb<'a> {
    key: &'a ContextKey,
    data: &'a [u8],
    wanted: Range<u32>,
    len: u32,
    siblings: std::slice::Iter<'a, Hash>,
}

impl Climb<'_> {
    /// The digest of a subtree, from the blocks given and the siblings; `None` if one is missing.
    fn node(&mut self, range: Range<u32>, whole: bool) -> Option<Hash> {
        if range.end <= self.wanted.start || self.wanted.end <= range.start {
            return self.siblings.next().copied();
        }
        if range.len() == 1 {
            let at = bytes_of(&range, self.len);
            let from = self.wanted.start as usize * BLOCK;
            let block = self.data.get(at.start - from..at.end - from)?;
            return Some(subtree(self.key, range.start, block));
        }
        let middle = middle(&range);
        let left = self.node(range.start..middle, false)?;
        let right = self.node(middle..range.end, false)?;
        Some(join(self.key, &left, &right, whole))
    }
}

/// The subtrees at most `levels` below a subtree, from left to right.
pub(crate) fn frontier(range: Range<u32>, levels: u32) -> Vec<Range<u32>> {
    if levels == 0 || range.len() < 2 {
        return vec![range];
    }
    let middle = middle(&range);
    let mut parts = frontier(range.start..middle, levels - 1);
    parts.extend(frontier(middle..range.end, levels - 1));
    parts
}

/// What a [`frontier`]'s digests join to; `None` for another number of digests.
pub(crate) fn join_frontier(
    key: &ContextKey,
    range: Range<u32>,
    levels: u32,
    digests: &mut std::slice::Iter<'_, Hash>,
    whole: bool,
) -> Option<Hash> {
    if levels == 0 || range.len() < 2 {
        return digests.next().copied();
    }
    let middle = middle(&range);
    let left = join_frontier(key, range.start..middle, levels - 1, digests, false)?;
    let right = join_frontier(key, middle..range.end, levels - 1, digests, false)?;
    Some(join(key, &left, &right, whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nesa_primitives::domain;
    use proptest::prelude::*;

    const TAG: &str = "slice test";

    fn message(len: usize) -> Vec<u8> {
        let mut message = vec![0u8; 32];
        message.extend((0..len).map(|i| (i * 7 + i / 251) as u8));
        message
    }

    fn digest(message: &[u8]) -> Hash {
        let mut hasher = domain(TAG, &Hash::ZERO);
        hasher.update(&message[32..]);
        hasher.finalize().into()
    }

    #[test]
    fn every_block_of_every_shape_is_proven() {
        for len in [0, 1, 991, 992, 993, 2016, 2017, 5000, 9000, 20_000, 262_144] {
            let message = message(len);
            let digest = digest(&message);
            let count = blocks(message.len() as u32);
            for first in 0..count.min(40) {
                for end in [first + 1, (first + 3).min(count)] {
                    let slice = Slice::of(TAG, &message, first..end).unwrap();
                    let at = slice.verify(TAG, &digest).unwrap();
                    assert_eq!(&message[at..at + slice.data.0.len()], &slice.data.0[..]);
                }
            }
        }
    }

    #[test]
    fn frontiers_join_to_their_node() {
        let message = message(37_000);
        let (key, count) = (key(TAG), blocks(37_032));
        let cut = |r: &Range<u32>| subtree(&key, r.start, &message[bytes_of(r, 37_032)]);
        for levels in 1..6 {
            let digests: Vec<Hash> = frontier(0..count, levels).iter().map(cut).collect();
            let joined = join_frontier(&key, 0..count, levels, &mut digests.iter(), true);
            assert_eq!(joined, Some(digest(&message)));
        }
    }

    proptest! {
        #[test]
        fn a_changed_slice_proves_nothing(
            len in 0usize..9000, first in any::<u32>(), count in 1u32..4,
            what in 0..5, at in any::<prop::sample::Index>(), by in 1u32..5,
        ) {
            let message = message(len);
            let digest = digest(&message);
            let all = blocks(message.len() as u32);
            let first = first % all;
            let mut slice = Slice::of(TAG, &message, first..(first + count).min(all)).unwrap();
            match what {
                0 => { let i = at.index(slice.data.0.len()); slice.data.0[i] ^= by as u8; }
                1 if !slice.siblings.is_empty() => {
                    let i = at.index(slice.siblings.len());
                    slice.siblings[i].0[3] ^= 1;
                }
                2 => slice.len = slice.len.wrapping_add(by),
                3 => slice.first = slice.first.wrapping_add(by),
                _ => slice.siblings.push(Hash::ZERO),
            }
            // Another length of as many blocks is not seen while the last one is not shown.
            if let Ok(at) = slice.verify(TAG, &digest) {
                prop_assert_eq!(what, 2);
                prop_assert_eq!(&message[at..at + slice.data.0.len()], &slice.data.0[..]);
            }
        }
    }
}
