//! Where each record lives in the authenticated state.
//!
//! A key is the hash of a tag and the parts that name the record, so keys are evenly spread and
//! of one size. They need no chain in them: a proof is always against one chain's state root.

use nesa_primitives::{Address, Hash, domain};

/// A place in the state.
pub type Key = Hash;

fn key(tag: &'static str, part: &[u8]) -> Key {
    let mut hasher = domain("state key", &Hash::ZERO);
    hasher.update(&(tag.len() as u64).to_be_bytes());
    hasher.update(tag.as_bytes());
    hasher.update(part);
    hasher.finalize().into()
}

/// [`Account`](crate::record::Account) of an address.
pub fn account(address: &Address) -> Key {
    key("account", &address.0)
}

/// [`ModelRecord`](crate::record::ModelRecord) of a model digest.
pub fn model(digest: &Hash) -> Key {
    key("model", &digest.0)
}

/// [`NodeRecord`](crate::record::NodeRecord) of a node key.
pub fn node(node: &Address) -> Key {
    key("node", &node.0)
}

/// [`NodeSet`](crate::record::NodeSet): all registered models and bonded nodes, as of now.
pub fn nodes() -> Key {
    key("nodes", &[])
}

/// [`Snapshot`](crate::record::Snapshot) of the node set at the end of an epoch's first block.
pub fn snapshot(epoch: u64) -> Key {
    key("snapshot", &epoch.to_be_bytes())
}

/// [`QueryRecord`](crate::record::QueryRecord) of a `PayForQuery` transaction's id.
pub fn query(id: &Hash) -> Key {
    key("query", &id.0)
}

/// [`DisputeRecord`](crate::query::DisputeRecord) of two replicas of one shard of a query.
pub fn dispute(query: &Hash, shard: u8, left: u8, right: u8) -> Key {
    key("dispute", &[&query.0[..], &[shard, left, right]].concat())
}

/// [`Bucket`](crate::record::Bucket) of what falls due in one span of time.
pub fn bucket(number: u64) -> Key {
    key("bucket", &number.to_be_bytes())
}

/// [`BucketPage`](crate::record::BucketPage): which of 1024 buckets hold anything.
pub fn bucket_page(page: u64) -> Key {
    key("bucket page", &page.to_be_bytes())
}

/// [`Params`](crate::params::Params).
pub fn params() -> Key {
    key("params", &[])
}

/// [`Supply`](crate::record::Supply): issued, burned and treasury per denomination.
pub fn supply() -> Key {
    key("supply", &[])
}

/// [`Progress`](crate::record::Progress): how far deadlines and snapshots have been worked off.
pub fn progress() -> Key {
    key("progress", &[])
}
