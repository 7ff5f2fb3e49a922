//! Where a dispute takes place, and why it may not begin or an answer not count.

use nesa_crypto::{SecretKey, sign::verify_strict};
use nesa_primitives::{Address, Hash};
use thiserror::Error;

use crate::answer::{End, Receipt};
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
const END_TAG: &str = "trace end";

impl Context {
    /// Query and shard, then what is said of them.
    fn message<const N: usize>(&self, said: &[&[u8]]) -> [u8; N] {
        let mut bytes = [0u8; N];
        let parts = [&self.query.0[..], &[self.shard]];
        let parts = parts.iter().chain(said).flat_map(|part| part.iter());
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        bytes
    }

    fn receipt(&self, token: u32, digest: &Hash, logits: bool) -> [u8; 70] {
        self.message(&[&token.to_be_bytes(), &digest.0, &[logits.into()]])
    }

    fn end(&self, tokens: u32) -> [u8; 37] {
        self.message(&[&tokens.to_be_bytes()])
    }

    /// The client's word for a token: the digest of the input it gave, and whether it wanted the token's
    /// logits. A replica that works without one cannot defend itself against another that says it was
    /// given or asked something else.
    pub fn sign_receipt(&self, key: &SecretKey, token: u32, digest: Hash, logits: bool) -> Receipt {
        let message = self.receipt(token, &digest, logits);
        let signature = key.sign(RECEIPT_TAG, &self.chain, &message);
        Receipt { digest, logits, signature }
    }

    /// Checks [`Context::sign_receipt`].
    pub fn verify_receipt(&self, token: u32, receipt: &Receipt) -> bool {
        let Receipt { digest, logits, signature } = receipt;
        let message = self.receipt(token, digest, *logits);
        verify_strict(&self.client_key, RECEIPT_TAG, &self.chain, &message, signature).is_ok()
    }

    /// The client's word that it asks so many tokens of this shard and no more. Signed when it asks for no
    /// more, and never before: with it, a receipt for a later token convicts the client.
    pub fn sign_end(&self, key: &SecretKey, tokens: u32) -> End {
        End { tokens, signature: key.sign(END_TAG, &self.chain, &self.end(tokens)) }
    }

    /// Checks [`Context::sign_end`].
    pub fn verify_end(&self, end: &End) -> bool {
        let message = self.end(end.tokens);
        verify_strict(&self.client_key, END_TAG, &self.chain, &message, &end.signature).is_ok()
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
