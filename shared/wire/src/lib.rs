//! Frames, protocol identifiers and the messages peers exchange.
//!
//! # Design
//!
//! A peer opens one stream per conversation under a [`Protocol`] name and sends frames on it:
//!
//! ```text
//!   stream   ┌── u32 LE length ──┬── payload (≤ the protocol's limit) ──┐ …
//!            └───────────────────┴──────────────────────────────────────┘
//! ```
//!
//! A payload is one message in the workspace codec. What a message *carries* for the chain
//! (headers, certificates, proofs, transactions) stays opaque bytes here: they are decoded, with
//! their own limits, by the crate that can also judge them, so this crate knows nobody above it.
//!
//! There is no I/O in this crate. Reading and writing frames on a live stream, with time limits,
//! belongs to the platform's network facade.
#![deny(missing_docs)]

pub mod chain;
pub mod chunks;
pub mod frame;
mod list;
mod protocol;

pub use protocol::Protocol;

use bytes::Bytes;
use commonware_codec::{Decode, Encode};

/// A message could not be read from a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not a message within the given limits.
    #[error("the message cannot be decoded: {0}")]
    Malformed(String),
    /// The bytes decode, but are not the one encoding of what they say.
    #[error("the message is not in its canonical encoding")]
    NotCanonical,
}

/// Decodes exactly one message from `payload`, within `limits`.
///
/// Trailing bytes and non-canonical encodings are refused, so that equal messages always are
/// equal bytes.
pub fn decode<M: Encode + Decode>(payload: Bytes, limits: &M::Cfg) -> Result<M, DecodeError> {
    let message = M::decode_cfg(payload.clone(), limits)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if message.encode() != payload {
        return Err(DecodeError::NotCanonical);
    }
    Ok(message)
}

/// Encodes one message as the payload of a frame.
pub fn encode<M: Encode>(message: &M) -> Bytes {
    message.encode()
}
