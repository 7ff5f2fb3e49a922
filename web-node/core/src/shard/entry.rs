//! What a node writes down of a session, so that a later run of it can bring it to its payment.

use bytes::Bytes;
use commonware_codec::RangeCfg;
use nesa_chain::voucher::ShardVoucher;
use nesa_crypto::Signature;
use nesa_primitives::{Address, Hash, codec_struct};
use nesa_sealed::{Terms, server::Outcome};

use super::chain::ProvenShard;

/// Bytes of a seed at most; the chain's own limit.
const MAX_SEED: usize = 64;

/// What a node owes the chain for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) query: Hash,
    pub(super) node: Address,
    pub(super) shard: u8,
    pub(super) replica: u8,
    pub(super) seat: u8,
    pub(super) admission: Option<Signature>,
    pub(super) seed: Bytes,
    /// Block time of the last commit, in ms.
    pub(super) deadline_ms: u64,
    pub(super) root: Hash,
    pub(super) blind: Hash,
    pub(super) served_tokens: u32,
    pub(super) voucher: Option<ShardVoucher>,
}

codec_struct!(Entry {
    query,
    node,
    shard,
    replica,
    seat,
    admission,
    seed: RangeCfg::from(..=MAX_SEED),
    deadline_ms,
    root,
    blind,
    served_tokens,
    voucher,
});

impl Entry {
    pub(super) fn new(proven: &ProvenShard, node: Address, outcome: Outcome) -> Self {
        let Terms { query, role, .. } = proven.terms;
        Self {
            query,
            node,
            shard: role.shard,
            replica: outcome.replica,
            seat: role.seat,
            admission: outcome.admission,
            seed: proven.seed.clone(),
            deadline_ms: proven.deadline_ms,
            root: outcome.root,
            blind: outcome.blind,
            served_tokens: outcome.served_tokens,
            voucher: outcome.voucher,
        }
    }

    pub(super) fn key(&self) -> String {
        place(&self.query, self.shard, self.replica)
    }
}

/// Where the session of a replica is kept.
pub(super) fn place(query: &Hash, shard: u8, replica: u8) -> String {
    format!("{query}-{shard}-{replica}")
}

/// Where a proven session is kept.
pub(super) fn place_of(proven: &ProvenShard) -> String {
    place(&proven.terms.query, proven.terms.role.shard, proven.replica)
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_codec::Encode as _;
    use nesa_crypto::SecretKey;
    use nesa_primitives::{Amount, decode_exact};
    use proptest::prelude::*;

    #[test]
    fn entries_survive_a_restart() {
        let key = SecretKey::from_seed(&[9; 32]);
        let (query, node) = (Hash([1; 32]), Address([2; 32]));
        let voucher = ShardVoucher::sign(&key, &Hash::ZERO, query, (1, 2), node, Amount(280));
        let entry = Entry {
            query,
            node,
            shard: 1,
            replica: 2,
            seat: 4,
            admission: Some(voucher.signature),
            seed: Bytes::from_static(&[3; 48]),
            deadline_ms: 9,
            root: Hash([4; 32]),
            blind: Hash([5; 32]),
            served_tokens: 56,
            voucher: Some(voucher),
        };
        assert_eq!(decode_exact::<Entry>(&entry.encode(), &()).unwrap(), entry);
        // A node may serve several places of one query.
        let other = Entry { shard: 0, ..entry.clone() };
        assert_ne!(entry.key(), other.key());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(entry) = decode_exact::<Entry>(&bytes, &()) {
                prop_assert_eq!(&entry.encode()[..], &bytes[..]);
            }
        }
    }
}
