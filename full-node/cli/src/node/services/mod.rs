//! What a validator answers to peers over libp2p, besides relaying for them.

pub(crate) mod chain;
pub(crate) mod chunks;
pub(crate) mod faucet;
pub(crate) mod forger;
pub(crate) mod limiter;
