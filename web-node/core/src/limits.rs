//! What a node is willing to spend.

use std::time::Duration;

/// Bounds on what a node serves. The defaults suit a native worker; a tab sets its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Queries served at once.
    pub queries: u32,
    /// Bytes received and sent per hour, together, before new queries are declined.
    pub bytes_per_hour: u64,
    /// How long a client may be silent in mid-query.
    pub idle: Duration,
    /// How long one run of a float model may take. It is ended then, wherever it stands.
    pub run: Duration,
    /// A query this close to its deadline is declined: the claim would come too late.
    pub margin: Duration,
    /// Requests of one query that may wait, computed or not.
    pub ahead: usize,
    /// Streams that serve weights at once.
    pub weight_streams: usize,
    /// Memory for the caches of shard sessions, all together, in bytes.
    pub cache_bytes: usize,
    /// Disk for the inputs of shard sessions that may be disputed, all together, in bytes.
    pub evidence_bytes: usize,
    /// Preparations served at once. They are not paid, so they yield to queries.
    pub preparations: u32,
    /// Preparations begun per hour, whoever asks.
    pub preparations_per_hour: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            queries: 8,
            bytes_per_hour: 1 << 40,
            idle: Duration::from_secs(30),
            run: Duration::from_secs(30),
            margin: Duration::from_secs(2),
            ahead: 4,
            weight_streams: 64,
            cache_bytes: 1 << 30,
            evidence_bytes: 1 << 28,
            preparations: 2,
            preparations_per_hour: 600,
        }
    }
}
