//! Everything that client and server say to each other, one message per frame.
//!
//! ```text
//! client → server   Open · Work(share or seed) · Voucher · Blame(the same share or seed) · Finish
//! server → client   Accept · Product · Full · Commit · Refused
//! ```
//!
//! A server answers every `Work`, `Blame` and `Finish` in the order received. The size of each
//! message follows from the stage's shape and the padded token count alone. Messages that carry a
//! live share print their place in the query and nothing else.

mod codec;
#[cfg(test)]
mod tests;

use core::fmt;

use bytes::Bytes;
use commonware_codec::{Encode, Error};
use nesa_chain::{Side, Voucher};
use nesa_crypto::{prg::Seed, sign::Signature};
use nesa_primitives::{Address, DecodeError, Hash, decode_exact};

use crate::spec::{self, Stage};

/// Bytes that a message may take beyond its payload: an upper bound over all kinds.
pub const OVERHEAD: usize = 256;

/// The largest payload a decoder accepts, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a share or product.
    pub payload: usize,
}

/// Which rows of which stage of which pass a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Number of the pass within the query, from 0.
    pub pass: u32,
    /// Padded tokens of the pass.
    pub tokens: u32,
    /// The linear stage.
    pub stage: u16,
    /// Number of the message within the stage, from 0.
    pub part: u16,
}

impl Slot {
    /// Rows that this message carries.
    pub const fn rows(&self) -> u32 {
        spec::rows(self.tokens, self.part)
    }
}

nesa_primitives::codec_struct!(Slot { pass, tokens, stage, part });

/// The client's first message on a stream: which query it is, and in what part the server acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// The chain, as the digest of its trust root.
    pub chain: Hash,
    /// The paid query.
    pub query: Hash,
    /// The model.
    pub model: Hash,
    /// The node addressed, so that one node cannot pass the message on to another.
    pub node: Address,
    /// The part it was drawn for.
    pub side: Side,
    /// Which candidate of that side it is, from 0.
    pub attempt: u8,
    /// By the query's client key, over the fields above.
    pub signature: Signature,
}

nesa_primitives::codec_struct!(Open { chain, query, model, node, side, attempt, signature });

const REQUEST: &str = "masked request";

/// A request for one product.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// To A: x − PRG(seed) mod 2^k, packed.
    Share {
        /// Its place.
        slot: Slot,
        /// `rows × k` values of k bits.
        share: Bytes,
    },
    /// To B: the seed, from which B makes its share.
    Seed {
        /// Its place.
        slot: Slot,
        /// 32 bytes, fresh for this message.
        seed: SeedBytes,
    },
}

/// A seed on the wire. It does not print, and is erased when dropped.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct SeedBytes(pub(crate) [u8; 32]);

impl SeedBytes {
    /// The seed itself.
    pub fn seed(&self) -> Seed {
        Seed::from_bytes(self.0)
    }
}

impl Request {
    /// Its place in the query.
    pub const fn slot(&self) -> Slot {
        match self {
            Self::Share { slot, .. } | Self::Seed { slot, .. } => *slot,
        }
    }

    /// The digest that the server signs. Determined by a live share: it never leaves the two ends
    /// except blinded.
    pub fn digest(&self, chain: &Hash) -> Hash {
        Hash::of(REQUEST, chain, self)
    }

    /// The frame that asks for its product, and its digest, from one encoding.
    pub(crate) fn work(self, chain: &Hash) -> (Bytes, Hash) {
        let frame = ClientMessage::Work(self).encode();
        // A frame is its kind, one byte, and then the request.
        let digest = Hash::of_bytes(REQUEST, chain, &frame[1..]);
        (frame, digest)
    }

    /// Whether the payload is exactly as long as `stage` and the slot say.
    pub fn fits(&self, stage: &Stage) -> bool {
        match self {
            Self::Share { slot, share } => share.len() == stage.share_bytes(slot.rows()),
            Self::Seed { .. } => true,
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Share { .. } => "Share",
            Self::Seed { .. } => "Seed",
        };
        f.debug_struct(name).field("slot", &self.slot()).finish_non_exhaustive()
    }
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// First on every stream.
    Open(Open),
    /// Asks for a product.
    Work(Request),
    /// A running total; sent after each verified pass.
    Voucher(Voucher),
    /// Asks for the full 64-bit product of a share sent before.
    Blame(Request),
    /// No more work: asks for the signed commitment, blinded with these bytes.
    Finish {
        /// 32 random bytes, different for each server.
        blind: Hash,
    },
}

/// A product and the server's signature over its [`Statement`].
#[derive(Clone, PartialEq, Eq)]
pub struct Product {
    /// The request's place.
    pub slot: Slot,
    /// `rows × n` values of k bits, packed.
    pub values: Bytes,
    /// By the node's key, over the [`Statement`].
    pub signature: Signature,
}

impl fmt::Debug for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Product").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// Why a server ends a stream. It says nothing about any share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The message breaks the protocol.
    #[error("the server says the message breaks the protocol")]
    Protocol,
    /// The query is unknown, closed, or drew another node.
    #[error("the server says it does not serve this query")]
    NotDrawn,
    /// The last pass has not been paid, or the escrow is used up.
    #[error("the server says it has not been paid")]
    Unpaid,
    /// The server is busy or stopping.
    #[error("the server is unavailable")]
    Unavailable,
}

nesa_primitives::codec_tag!(Refusal { Protocol = 0, NotDrawn = 1, Unpaid = 2, Unavailable = 3 });

/// The server's commitment to everything it answered in this query. Public: it goes on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedCommit {
    /// The chain.
    pub chain: Hash,
    /// The query.
    pub query: Hash,
    /// The part the node played.
    pub side: Side,
    /// Which candidate of that side.
    pub attempt: u8,
    /// H(blind ‖ root over the statements of its answers).
    pub blinded_root: Hash,
    /// Padded tokens of all passes it took part in.
    pub served_tokens: u32,
    /// By the node's key, over the fields above.
    pub signature: Signature,
}

nesa_primitives::codec_struct!(SignedCommit {
    chain,
    query,
    side,
    attempt,
    blinded_root,
    served_tokens,
    signature
});

/// What a server sends.
#[derive(Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// The answer to `Open`.
    Accept,
    /// The answer to `Work`.
    Product(Product),
    /// The answer to `Blame`: `rows × n` signed 64-bit values, little endian.
    Full {
        /// The request's place.
        slot: Slot,
        /// The values.
        values: Bytes,
    },
    /// The answer to `Finish`.
    Commit(SignedCommit),
    /// The stream ends here.
    Refused(Refusal),
}

impl fmt::Debug for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("Accept"),
            Self::Product(product) => product.fmt(f),
            Self::Full { slot, .. } => {
                f.debug_struct("Full").field("slot", slot).finish_non_exhaustive()
            }
            Self::Commit(commit) => commit.fmt(f),
            Self::Refused(refusal) => f.debug_tuple("Refused").field(refusal).finish(),
        }
    }
}

/// What a server signs about one answer. It binds the request, so that a client cannot later claim
/// that another request was answered thus; and the query, side and attempt, so that the signature
/// means nothing elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// The query.
    pub query: Hash,
    /// The part the node played.
    pub side: Side,
    /// Which candidate of that side.
    pub attempt: u8,
    /// The request's place.
    pub slot: Slot,
    /// [`Request::digest`].
    pub request: Hash,
    /// Digest of the packed product.
    pub product: Hash,
}

nesa_primitives::codec_struct!(Statement { query, side, attempt, slot, request, product });

impl Statement {
    /// The digest of a packed product.
    pub fn product_digest(chain: &Hash, values: &[u8]) -> Hash {
        Hash::of_bytes("masked product", chain, values)
    }

    /// Its leaf digest in the server's commitment.
    pub fn leaf(&self) -> Hash {
        nesa_crypto::merkle::leaf_hash(&self.encode())
    }
}

/// Decodes a client's message, refusing anything but its one canonical encoding.
///
/// # Errors
/// [`DecodeError`] for malformed, over-long or non-canonical bytes.
pub fn decode_client(bytes: &[u8], limits: &Limits) -> Result<ClientMessage, DecodeError> {
    decode_exact(bytes, limits)
}

/// Decodes a server's message, refusing anything but its one canonical encoding.
///
/// # Errors
/// [`DecodeError`] for malformed, over-long or non-canonical bytes.
pub fn decode_server(bytes: &[u8], limits: &Limits) -> Result<ServerMessage, DecodeError> {
    decode_exact(bytes, limits)
}

/// Decodes the first message of a stream, before the query and its model are known.
///
/// # Errors
/// [`DecodeError`] for anything but a well-formed [`Open`].
pub fn decode_open(bytes: &[u8]) -> Result<Open, DecodeError> {
    match decode_exact(bytes, &Limits { payload: 0 })? {
        ClientMessage::Open(open) => Ok(open),
        _ => Err(DecodeError::Malformed(Error::Invalid("masked stream", "expected Open first"))),
    }
}
