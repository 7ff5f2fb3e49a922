//! Where a dispute takes place, and why it may not begin or an answer not count.

use nesa_crypto::{SecretKey, Signature, sign::verify_strict};
use nesa_primitives::{Address, Hash};
use thiserror::Error;

use crate::opening::OpeningError;
use crate::program::GeometryError;

/// The place and the terms of a dispute, which the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The chain.
    pub chain: Hash,
    /// The query.
    pub query: Hash,
    /// The shard.
    pub shard: u8,
    /// Key that signs input receipts.
    pub client_key: Address,
    /// Digest of the model.
    pub model: Hash,
    /// The revealed roots.
    pub roots: [Hash; 2],
}

const RECEIPT_TAG: &str = "trace input";

impl Context {
    fn receipt(&self, token: u32, digest: &Hash) -> [u8; 69] {
        let mut bytes = [0u8; 69];
        bytes[..32].copy_from_slice(&self.query.0);
        bytes[32] = self.shard;
        bytes[33..37].copy_from_slice(&token.to_be_bytes());
        bytes[37..].copy_from_slice(&digest.0);
        bytes
    }

    /// The client's word that this is the digest of the input it gave for a token. A replica that works
    /// on inputs without one cannot defend itself against another that says it was given something else.
    pub fn sign_receipt(&self, key: &SecretKey, token: u32, digest: &Hash) -> Signature {
        key.sign(RECEIPT_TAG, &self.chain, &self.receipt(token, digest))
    }

    /// Checks [`Context::sign_receipt`].
    pub fn verify_receipt(&self, token: u32, digest: &Hash, signature: &Signature) -> bool {
        let message = self.receipt(token, digest);
        verify_strict(&self.client_key, RECEIPT_TAG, &self.chain, &message, signature).is_ok()
    }
}

/// A dispute that cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The roots are equal.
    #[error("both revealed the same root")]
    Equal,
    /// The model's description is not proven.
    #[error(transparent)]
    Header(#[from] OpeningError),
    /// The model has no such shard.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The query's cuts do not fit the model.
    #[error("shard {shard} does not exist in a model of {layers} layers")]
    Shard {
        /// The shard.
        shard: u8,
        /// Layers of the model.
        layers: u16,
    },
}

/// An answer that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// Not what is waited for.
    #[error("{got}, waiting for {expected}")]
    Kind {
        /// The answer given.
        got: &'static str,
        /// The answer waited for.
        expected: &'static str,
    },
    /// The party has answered this round.
    #[error("answered already")]
    Twice,
    /// Not what the party committed to.
    #[error("{what} do not fit what was said before")]
    Unfit {
        /// What.
        what: &'static str,
    },
    /// An opening that shows nothing.
    #[error(transparent)]
    Opening(#[from] OpeningError),
}
