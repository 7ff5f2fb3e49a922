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

use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Encode, Error, FixedSize, Read, ReadExt, Write};
use core::fmt;
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
        Hash::of("masked request", chain, self)
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
    chain, query, side, attempt, blinded_root, served_tokens, signature
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

mod tag {
    pub(super) const OPEN: u8 = 0;
    pub(super) const WORK: u8 = 1;
    pub(super) const VOUCHER: u8 = 2;
    pub(super) const BLAME: u8 = 3;
    pub(super) const FINISH: u8 = 4;
    pub(super) const ACCEPT: u8 = 16;
    pub(super) const PRODUCT: u8 = 17;
    pub(super) const FULL: u8 = 18;
    pub(super) const COMMIT: u8 = 19;
    pub(super) const REFUSED: u8 = 20;
    pub(super) const SHARE: u8 = 0;
    pub(super) const SEED: u8 = 1;
}

fn read_payload(buf: &mut impl Buf, limits: &Limits) -> Result<Bytes, Error> {
    Bytes::read_cfg(buf, &(0..=limits.payload).into())
}

impl Write for SeedBytes {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.write(buf);
    }
}

impl FixedSize for SeedBytes {
    const SIZE: usize = 32;
}

impl Read for SeedBytes {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, cfg: &()) -> Result<Self, Error> {
        <[u8; 32]>::read_cfg(buf, cfg).map(Self)
    }
}

impl Write for Request {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Share { slot, share } => {
                tag::SHARE.write(buf);
                slot.write(buf);
                share.write(buf);
            }
            Self::Seed { slot, seed } => {
                tag::SEED.write(buf);
                slot.write(buf);
                seed.write(buf);
            }
        }
    }
}

impl EncodeSize for Request {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Share { slot, share } => slot.encode_size() + share.encode_size(),
            Self::Seed { slot, seed } => slot.encode_size() + seed.encode_size(),
        }
    }
}

impl Read for Request {
    type Cfg = Limits;
    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        match u8::read(buf)? {
            tag::SHARE => {
                Ok(Self::Share { slot: Slot::read(buf)?, share: read_payload(buf, limits)? })
            }
            tag::SEED => Ok(Self::Seed { slot: Slot::read(buf)?, seed: SeedBytes::read(buf)? }),
            other => Err(Error::InvalidEnum(other)),
        }
    }
}

impl Write for ClientMessage {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Open(open) => {
                tag::OPEN.write(buf);
                open.write(buf);
            }
            Self::Work(request) => {
                tag::WORK.write(buf);
                request.write(buf);
            }
            Self::Voucher(voucher) => {
                tag::VOUCHER.write(buf);
                voucher.write(buf);
            }
            Self::Blame(request) => {
                tag::BLAME.write(buf);
                request.write(buf);
            }
            Self::Finish { blind } => {
                tag::FINISH.write(buf);
                blind.write(buf);
            }
        }
    }
}

impl EncodeSize for ClientMessage {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Open(open) => open.encode_size(),
            Self::Work(request) | Self::Blame(request) => request.encode_size(),
            Self::Voucher(voucher) => voucher.encode_size(),
            Self::Finish { blind } => blind.encode_size(),
        }
    }
}

impl Read for ClientMessage {
    type Cfg = Limits;
    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        Ok(match u8::read(buf)? {
            tag::OPEN => Self::Open(Open::read(buf)?),
            tag::WORK => Self::Work(Request::read_cfg(buf, limits)?),
            tag::VOUCHER => Self::Voucher(Voucher::read(buf)?),
            tag::BLAME => Self::Blame(Request::read_cfg(buf, limits)?),
            tag::FINISH => Self::Finish { blind: Hash::read(buf)? },
            other => return Err(Error::InvalidEnum(other)),
        })
    }
}

impl Write for ServerMessage {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Accept => tag::ACCEPT.write(buf),
            Self::Product(Product { slot, values, signature }) => {
                tag::PRODUCT.write(buf);
                slot.write(buf);
                values.write(buf);
                signature.write(buf);
            }
            Self::Full { slot, values } => {
                tag::FULL.write(buf);
                slot.write(buf);
                values.write(buf);
            }
            Self::Commit(commit) => {
                tag::COMMIT.write(buf);
                commit.write(buf);
            }
            Self::Refused(refusal) => {
                tag::REFUSED.write(buf);
                refusal.write(buf);
            }
        }
    }
}

impl EncodeSize for ServerMessage {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Accept => 0,
            Self::Product(Product { slot, values, signature }) => {
                slot.encode_size() + values.encode_size() + signature.encode_size()
            }
            Self::Full { slot, values } => slot.encode_size() + values.encode_size(),
            Self::Commit(commit) => commit.encode_size(),
            Self::Refused(refusal) => refusal.encode_size(),
        }
    }
}

impl Read for ServerMessage {
    type Cfg = Limits;
    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        Ok(match u8::read(buf)? {
            tag::ACCEPT => Self::Accept,
            tag::PRODUCT => Self::Product(Product {
                slot: Slot::read(buf)?,
                values: read_payload(buf, limits)?,
                signature: Signature::read(buf)?,
            }),
            tag::FULL => Self::Full { slot: Slot::read(buf)?, values: read_payload(buf, limits)? },
            tag::COMMIT => Self::Commit(SignedCommit::read(buf)?),
            tag::REFUSED => Self::Refused(Refusal::read(buf)?),
            other => return Err(Error::InvalidEnum(other)),
        })
    }
}
