//! Rows between shards, and what names them.

use bytes::Bytes;
use nesa_primitives::{Hash, domain};

/// Rows as they travel: little-endian `i32`, row after row.
pub fn to_bytes(rows: &[i32]) -> Bytes {
    let mut bytes = Vec::with_capacity(rows.len() * 4);
    for value in rows {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes.into()
}

/// The rows of `bytes`; `None` unless they are whole values.
pub fn from_bytes(bytes: &[u8]) -> Option<Vec<i32>> {
    let (values, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| values.iter().map(|v| i32::from_le_bytes(*v)).collect())
}

/// The digest of one row behind layer `layer − 1`, at `position` of the sequence: what replicas are
/// compared by. It is of one row, so that it does not depend on how many were computed together.
pub fn row_digest(model: &Hash, layer: usize, position: usize, row: &[u8]) -> Hash {
    let mut hasher = domain("shard row", model);
    hasher.update(&(layer as u64).to_le_bytes());
    hasher.update(&(position as u64).to_le_bytes());
    hasher.update(row);
    hasher.finalize().into()
}

/// The digest of one row of logits and the token chosen from it, where `position` tokens come before
/// that token.
pub fn logits_digest(model: &Hash, position: usize, logits: &[i32], token: u32) -> Hash {
    let mut hasher = domain("shard logits", model);
    hasher.update(&(position as u64).to_le_bytes());
    hasher.update(&token.to_le_bytes());
    let mut block = [0u8; 256];
    for values in logits.chunks(block.len() / 4) {
        for (bytes, value) in block.as_chunks_mut::<4>().0.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
        hasher.update(&block[..values.len() * 4]);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_survive(rows in proptest::collection::vec(any::<i32>(), 0..80)) {
            prop_assert_eq!(from_bytes(&to_bytes(&rows)).unwrap(), rows);
        }

        #[test]
        fn a_digest_names_place_and_content(row in proptest::collection::vec(any::<i32>(), 1..200), at: usize) {
            let model = Hash([1; 32]);
            let bytes = to_bytes(&row);
            let mut bent = row.clone();
            bent[at % row.len()] ^= 1;
            let name = row_digest(&model, 2, 7, &bytes);
            prop_assert_ne!(name, row_digest(&model, 2, 7, &to_bytes(&bent)));
            prop_assert_ne!(name, row_digest(&model, 3, 7, &bytes));
            prop_assert_ne!(name, row_digest(&model, 2, 8, &bytes));
            let name = logits_digest(&model, 7, &row, 5);
            prop_assert_ne!(name, logits_digest(&model, 7, &bent, 5));
            prop_assert_ne!(name, logits_digest(&model, 7, &row, 6));
            prop_assert_ne!(name, logits_digest(&model, 8, &row, 5));
        }
    }

    #[test]
    fn half_a_value_is_none() {
        assert_eq!(from_bytes(&[0; 7]), None);
    }
}
