//! What a node must not forget: for each query the running total it holds, and what it owes the
//! chain.
//!
//! An entry is written before the first product, after every voucher, and at the end; it leaves
//! when the settlement is proven. A node that finds entries at start settles them.
//!
//! **A node commits to nothing that it cannot open.** With each voucher the entry gets the blinded
//! root over the answers so far, under a blind that the node can derive again from its key. A node
//! that is killed and started again commits to that, and claims the voucher: what it was paid for is
//! true and is paid, what it answered after the last voucher is not mentioned, and at most one
//! increment is lost. One that was paid nothing commits to nothing.

use bytes::Bytes;
use commonware_codec::{Encode as _, RangeCfg};
use nesa_chain::{Side, Voucher};
use nesa_platform::storage::{StorageError, Store};
use nesa_primitives::{Address, Amount, Hash, codec_struct, decode_exact};

/// The namespace in the store.
const SPACE: &str = "served";
/// Bytes of a seed at most; the chain's own limit.
const MAX_SEED: usize = 64;

/// One query that this node serves or has served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) query: Hash,
    pub(crate) node: Address,
    pub(crate) side: Side,
    pub(crate) attempt: u8,
    pub(crate) seed: Bytes,
    /// Block time of settlement, in ms.
    pub(crate) deadline_ms: u64,
    /// The largest running total.
    pub(crate) voucher: Option<Voucher>,
    /// What the commitment says: to the answers before the last voucher while the session lasts, to
    /// all of them once it has ended; absent while nothing was paid.
    pub(crate) outcome: Option<Committed>,
}

/// The commitment that goes on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) blinded_root: Hash,
    pub(crate) served_tokens: u32,
}

codec_struct!(Committed { blinded_root, served_tokens });
codec_struct!(Entry {
    query,
    node,
    side,
    attempt,
    seed: RangeCfg::from(..=MAX_SEED),
    deadline_ms,
    voucher,
    outcome,
});

impl Entry {
    /// The running total.
    pub(crate) fn total(&self) -> Amount {
        self.voucher.as_ref().map_or(Amount::ZERO, |voucher| voucher.total)
    }
}

/// The entries of one node, on disk or in the browser's database.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    store: Store,
}

impl Journal {
    pub(crate) fn new(store: Store) -> Journal {
        Journal { store }
    }

    /// Writes an entry; when this returns it survives a killed process.
    pub(crate) async fn put(&self, entry: &Entry) -> Result<(), StorageError> {
        self.store.put(SPACE, &entry.query.to_string(), &entry.encode()).await
    }

    pub(crate) async fn contains(&self, query: &Hash) -> Result<bool, StorageError> {
        Ok(self.store.get(SPACE, &query.to_string()).await?.is_some())
    }

    pub(crate) async fn delete(&self, query: &Hash) -> Result<(), StorageError> {
        self.store.delete(SPACE, &query.to_string()).await
    }

    /// All entries; one that does not decode is of an older version, and is dropped.
    pub(crate) async fn all(&self) -> Result<Vec<Entry>, StorageError> {
        let mut entries = Vec::new();
        for key in self.store.list(SPACE).await? {
            let Some(bytes) = self.store.get(SPACE, &key).await? else { continue };
            match decode_exact::<Entry>(&bytes, &()) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    tracing::warn!(%error, key, "a journal entry is dropped");
                    self.store.delete(SPACE, &key).await?;
                }
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(voucher: Option<Voucher>) -> Entry {
        Entry {
            query: Hash([1; 32]),
            node: Address([2; 32]),
            side: Side::B,
            attempt: 1,
            seed: Bytes::from_static(&[3; 48]),
            deadline_ms: 9,
            voucher,
            outcome: Some(Committed { blinded_root: Hash([4; 32]), served_tokens: 5 }),
        }
    }

    #[test]
    fn entries_survive() {
        let key = nesa_crypto::SecretKey::from_seed(&[9; 32]);
        let voucher =
            Voucher::sign(&key, &Hash::ZERO, Hash([1; 32]), Address([2; 32]), Amount(7 * 40 + 3));
        let entry = entry(Some(voucher));
        let bytes = entry.encode();
        assert_eq!(decode_exact::<Entry>(&bytes, &()).unwrap(), entry);
        assert_eq!(entry.total(), Amount(283));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(entry) = decode_exact::<Entry>(&bytes, &()) {
                prop_assert_eq!(&entry.encode()[..], &bytes[..]);
            }
        }
    }
}
