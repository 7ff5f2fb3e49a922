//! Every bound of the format, in one place. They are consensus rules: a change is a new chain.

use commonware_codec::RangeCfg;

/// Longest encoded transaction, in bytes. Only the opening that ends a dispute comes near it; every
/// other action is bounded by its own fields, below 4 KiB.
pub const MAX_TX_BYTES: usize = 32 * 1024;
/// Longest encoded value in the state, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Longest model name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest node address (multiaddr text), in bytes.
pub const MAX_NODE_ADDRESS_BYTES: usize = 200;
/// Most addresses of one node.
pub const MAX_NODE_ADDRESSES: usize = 4;
/// Most models one node serves.
pub const MAX_NODE_MODELS: usize = 16;
/// Most registered models: one bit each in a snapshot entry.
pub const MAX_MODELS: usize = 64;
/// Most registered nodes: 512 entries of 89 bytes fit in one value.
pub const MAX_NODES: usize = 512;
/// Most denominations, NES included.
pub const MAX_DENOMS: usize = 16;
/// Longest seed of a view, in bytes (a compressed curve point).
pub const MAX_SEED_BYTES: usize = 64;
/// Candidates per side of a committee; attempt `i` goes to candidate `i`.
pub const MAX_ATTEMPTS: usize = 3;
/// Most entries that fall due in one deadline bucket.
pub const MAX_BUCKET_ENTRIES: usize = 1024;
/// Most validators in a genesis.
pub const MAX_VALIDATORS: usize = 128;
/// Most accounts in a genesis.
pub const MAX_GENESIS_ACCOUNTS: usize = 4096;
/// Buckets per page of the deadline index.
pub const BUCKETS_PER_PAGE: u64 = 1024;
/// Most due entries handled at the start of one block; the rest wait for the next.
pub const MAX_DUE_PER_BLOCK: usize = 256;
/// Most index pages looked at in one block.
pub const MAX_PAGES_PER_BLOCK: u64 = 64;
/// Most shards of one query.
pub const MAX_SHARDS: usize = 8;
/// Most replicas of one shard.
pub const MAX_REPLICAS: usize = 7;
/// Spare candidates of one shard, for replicas that are lost.
pub const MAX_SPARES: usize = 2;
/// Most rounds of answers in one dispute.
pub const MAX_ROUNDS: u64 = 24;
/// Most disputes of one query: every pair of replicas of every shard, so that none can be crowded out.
pub const MAX_DISPUTES: usize = MAX_SHARDS * MAX_REPLICAS * (MAX_REPLICAS - 1) / 2;
/// Most commits of one query: every seat of both sides.
pub const MAX_SEATS: usize = 2 * MAX_ATTEMPTS;

/// Codec limits of a list of up to `max` items that need no limits themselves.
pub(crate) fn up_to(max: usize) -> (RangeCfg<usize>, ()) {
    (RangeCfg::new(0..=max), ())
}
