//! The names under which streams are opened.

/// A stream protocol. Its name carries a version: an incompatible change takes a new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Headers, state with proofs, transactions, seeds: [`crate::chain`].
    Chain,
    /// The masked lane; one stream per (query, side).
    Masked,
    /// The sealed lane; one stream per (query, shard, replica).
    Shard,
    /// The float lane; one stream per (query, replica).
    Float,
    /// Model weights by digest and index: [`crate::chunks`].
    Chunks,
    /// Thin preparation: shares of r up, shares of rᵀW down; one stream per preparation.
    Prepare,
    /// Sends every frame back: for reachability checks and for measuring a link.
    Echo,
}

impl Protocol {
    /// Every protocol, in a fixed order.
    pub const ALL: [Protocol; 7] = [
        Protocol::Chain,
        Protocol::Masked,
        Protocol::Shard,
        Protocol::Float,
        Protocol::Chunks,
        Protocol::Prepare,
        Protocol::Echo,
    ];

    /// The name negotiated when a stream opens.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Chain => "/nesa/chain/1",
            Protocol::Masked => "/nesa/masked/1",
            Protocol::Shard => "/nesa/shard/1",
            Protocol::Float => "/nesa/float/1",
            Protocol::Chunks => "/nesa/chunks/1",
            Protocol::Prepare => "/nesa/prepare/1",
            Protocol::Echo => "/nesa/echo/1",
        }
    }

    /// The longest frame, in bytes, that a reader of this protocol accepts in either direction.
    ///
    /// Chain answers hold at most [`crate::chain::MAX_KEYS`] large records with their proofs; a masked stage of the widest
    /// supported batch (a few hundred tokens by a few thousand columns of packed shares) fits in
    /// 16 MiB; a shard's step has at most 256 rows of at most 2^14 values, padded by an eighth; a float model's
    /// inputs and answers hold at most four million values; a weight chunk with its proof stays below 2 MiB;
    /// a preparation sends 128 KiB of residues at a time.
    pub const fn max_frame(self) -> usize {
        match self {
            Protocol::Chain => 10 << 20,
            Protocol::Masked => 16 << 20,
            Protocol::Shard => 20 << 20,
            Protocol::Float => 20 << 20,
            Protocol::Chunks => 2 << 20,
            Protocol::Prepare => 256 << 10,
            Protocol::Echo => 1 << 20,
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Protocol;
    use std::collections::HashSet;

    #[test]
    fn names_are_distinct_and_versioned() {
        let names: HashSet<_> = Protocol::ALL.iter().map(|p| p.name()).collect();
        assert_eq!(names.len(), Protocol::ALL.len());
        assert!(names.iter().all(|n| n.starts_with("/nesa/") && n.ends_with("/1")));
    }
}
