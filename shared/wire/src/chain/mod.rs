//! `/nesa/chain/1`: what a light client asks of any node.
//!
//! Requests and responses alternate on a stream; after [`Request::Subscribe`] the server alone
//! speaks and sends a [`Response::Head`] for every new finalised block until either side closes.
//!
//! Nothing in an answer is believed because a peer said it. Headers come with certificates, state
//! with proofs, and both are opaque bytes here, decoded and judged by the verifier.
mod answer;
mod request;
mod response;

pub use answer::{BlockAnswer, CertifiedHeader, StateAnswer, StateEntry, TxLocation};
pub use request::Request;
pub use response::{Refusal, Response};

/// The most state keys in one request.
pub const MAX_KEYS: usize = 64;
/// The most headers in one answer.
pub const MAX_HEADERS: usize = 256;
/// The longest text in a refusal, in bytes.
pub const MAX_REASON: usize = 200;

/// What a decoder of chain messages accepts; all in bytes unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Keys in a state request or answer (a count).
    pub keys: usize,
    /// Headers in an answer (a count).
    pub headers: usize,
    /// Transactions in a block (a count).
    pub transactions: usize,
    /// One header.
    pub header: usize,
    /// One finalisation certificate.
    pub finalization: usize,
    /// One transaction.
    pub transaction: usize,
    /// One state value.
    pub value: usize,
    /// One proof.
    pub proof: usize,
    /// One view's seed.
    pub seed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            keys: MAX_KEYS,
            headers: MAX_HEADERS,
            transactions: 4096,
            header: 2 << 10,
            finalization: 2 << 10,
            transaction: 32 << 10,
            value: 64 << 10,
            // A proof of absence holds the neighbouring record, 64 KiB at most, and its path.
            proof: 80 << 10,
            seed: 256,
        }
    }
}
