//! Everything that client and node say to each other, one message per frame.
//!
//! ```text
//! in the clear    client → node   Hello · Open(binding, envelope)
//!                 node → client   Prekey · Refused
//! sealed          client → node   Step · Truncate · Voucher · Finish
//!                 node → client   Accept · Stepped · Truncated · Commit · Refused
//! ```
//!
//! A node answers `Step`, `Truncate` and `Finish` in the order received. A client that closes its stream
//! cancels what it asked for. What carries text prints its size only.

use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Error, RangeCfg, Read, ReadExt as _, Write};
use nesa_chain::ShardVoucher;
use nesa_crypto::{
    Signature,
    seal::{Binding, Envelope, EnvelopeLimits, Prekey, Role},
};
use nesa_primitives::{Address, Hash, codec_struct, codec_tag};
use nesa_trace::End;
use std::fmt;

use crate::MAX_STEP;

/// Bytes of a clear message beside what it carries; an upper bound over all kinds.
pub const OVERHEAD: usize = 4096;
/// Bytes of an envelope's ciphertext at most: an opening is small.
pub const MAX_ENVELOPE: usize = 2048;

/// What a decoder of sealed messages accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of rows in one message.
    pub rows: usize,
}

impl Limits {
    /// Rows of a step of a model that is `d_model` wide.
    pub fn of_width(d_model: usize) -> Self {
        Self { rows: MAX_STEP.saturating_mul(d_model).saturating_mul(4) }
    }

    /// Bytes of a frame at most.
    pub fn frame(&self) -> usize {
        let content = self.rows.saturating_add(MAX_STEP * 104 + OVERHEAD);
        nesa_crypto::seal::Sealer::frame_len(content).saturating_add(OVERHEAD)
    }
}

/// A frame on the stream.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    /// From the client, first: asks `node` for its prekey of `chain`.
    Hello {
        /// The chain.
        chain: Hash,
        /// The node addressed.
        node: Address,
    },
    /// From the node: its prekey.
    Prekey(Prekey),
    /// From the client: the envelope, and what it is bound to.
    Open {
        /// What it opens under.
        binding: Binding,
        /// An [`crate::Opening`].
        envelope: Envelope,
    },
    /// A sealed message of either side.
    Sealed(Bytes),
    /// From the node, before a session stands.
    Refused(Refusal),
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello { node, .. } => write!(f, "Hello({node})"),
            Self::Prekey(prekey) => prekey.fmt(f),
            Self::Open { binding, .. } => write!(f, "Open({:?})", binding.role),
            Self::Sealed(bytes) => write!(f, "Sealed({} bytes)", bytes.len()),
            Self::Refused(refusal) => write!(f, "Refused({refusal:?})"),
        }
    }
}

/// Why a node ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The message breaks the protocol.
    #[error("the node says the message breaks the protocol")]
    Protocol,
    /// The envelope is for another prekey, of an epoch that is over perhaps.
    #[error("the node cannot open the envelope")]
    Envelope,
    /// The query is unknown, closed, or drew another node.
    #[error("the node says it does not serve this query")]
    NotDrawn,
    /// More tokens are unpaid than the node gives on credit, or the escrow is used up.
    #[error("the node says it has not been paid")]
    Unpaid,
    /// The node is busy, has no memory left, or stops.
    #[error("the node is unavailable")]
    Unavailable,
}

codec_tag!(Refusal { Protocol = 0, Envelope = 1, NotDrawn = 2, Unpaid = 3, Unavailable = 4 });

/// New tokens for a shard.
#[derive(Clone, PartialEq, Eq)]
pub enum Input {
    /// For the first shard.
    Tokens(Vec<u32>),
    /// For the others: rows as [`crate::activation::to_bytes`] writes them.
    Rows(Bytes),
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens(tokens) => write!(f, "{} tokens", tokens.len()),
            Self::Rows(rows) => write!(f, "{} bytes of rows", rows.len()),
        }
    }
}

/// What the client wants of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Digests alone: the results are known, and the cache is being filled again.
    Digests,
    /// The rows for the next shard too.
    Rows,
    /// Of the last shard: the token after the last new one.
    Last,
    /// Of the last shard: the token after each new one.
    All,
}

codec_tag!(Want { Digests = 0, Rows = 1, Last = 2, All = 3 });

impl Want {
    /// Whether the logits of the `i`th of `count` tokens are wanted.
    pub const fn logits(self, i: usize, count: usize) -> bool {
        match self {
            Self::Digests | Self::Rows => false,
            Self::Last => i + 1 == count,
            Self::All => true,
        }
    }
}

/// One step of a sequence through one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Number of the step in this session, from 0.
    pub seq: u32,
    /// Tokens before the new ones: what the node's cache must hold.
    pub position: u32,
    /// The new ones.
    pub input: Input,
    /// What is wanted.
    pub want: Want,
    /// With consent to disclosure the client's word for each token's input and whether its logits are
    /// wanted ([`Context::sign_receipt`](nesa_trace::Context::sign_receipt)); else none.
    pub receipts: Vec<Signature>,
}

/// What a node made of a step.
#[derive(Clone, PartialEq, Eq)]
pub struct Stepped {
    /// The step.
    pub seq: u32,
    /// Of each new row; of the last shard, of each row of logits that was computed: the last one, or
    /// all for [`Want::All`].
    pub digests: Vec<Hash>,
    /// Of the last shard, a token per digest.
    pub tokens: Vec<u32>,
    /// The rows for the next shard, if wanted; else empty.
    pub rows: Bytes,
}

impl fmt::Debug for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stepped({}, {} digests)", self.seq, self.digests.len())
    }
}

/// A node's commitment to all it answered in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// [`blind`](nesa_chain::committee::blind) of the root over the digests.
    pub blinded_root: Hash,
    /// Tokens served.
    pub served_tokens: u32,
    /// By the node's key, over chain, query, role and the fields above.
    pub signature: Signature,
}

codec_struct!(Commitment { blinded_root, served_tokens, signature });

/// What [`Commitment::signature`] covers, beside the chain.
pub fn commitment_message(query: &Hash, role: Role, root: &Hash, served_tokens: u32) -> Vec<u8> {
    let mut bytes = query.0.to_vec();
    bytes.extend_from_slice(&[role.shard, role.seat]);
    bytes.extend_from_slice(&root.0);
    bytes.extend_from_slice(&served_tokens.to_be_bytes());
    bytes
}

/// The domain of [`Commitment::signature`].
pub const COMMITMENT_TAG: &str = "shard commitment";

/// What a client says under the seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// New tokens.
    Step(Step),
    /// Forget all but the first tokens: the user edits, or asks again.
    Truncate {
        /// Tokens kept.
        tokens: u32,
    },
    /// A running total; sent when replicas agree.
    Voucher(ShardVoucher),
    /// No more steps: asks for the commitment, blinded with these bytes.
    Finish {
        /// 32 random bytes.
        blind: Hash,
        /// With consent to disclosure the client's word for how many tokens it asked of the shard; else
        /// none.
        end: Option<End>,
    },
}

/// What a node says under the seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The session stands.
    Accept,
    /// The answer to `Step`.
    Stepped(Stepped),
    /// The answer to `Truncate`.
    Truncated {
        /// Tokens the cache holds now.
        tokens: u32,
    },
    /// The answer to `Finish`.
    Commit(Commitment),
    /// The stream ends here.
    Refused(Refusal),
}

impl Write for Frame {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Hello { chain, node } => {
                buf.put_u8(0);
                chain.write(buf);
                node.write(buf);
            }
            Self::Prekey(prekey) => {
                buf.put_u8(1);
                prekey.write(buf);
            }
            Self::Open { binding, envelope } => {
                buf.put_u8(2);
                binding.write(buf);
                envelope.write(buf);
            }
            Self::Sealed(bytes) => {
                buf.put_u8(3);
                bytes.write(buf);
            }
            Self::Refused(refusal) => {
                buf.put_u8(4);
                refusal.write(buf);
            }
        }
    }
}

impl EncodeSize for Frame {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Hello { .. } => 64,
            Self::Prekey(prekey) => prekey.encode_size(),
            Self::Open { binding, envelope } => binding.encode_size() + envelope.encode_size(),
            Self::Sealed(bytes) => bytes.encode_size(),
            Self::Refused(refusal) => refusal.encode_size(),
        }
    }
}

/// What a decoder of frames accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Bytes of a sealed message.
    pub sealed: usize,
}

impl Read for Frame {
    type Cfg = FrameLimits;
    fn read_cfg(buf: &mut impl Buf, limits: &FrameLimits) -> Result<Self, Error> {
        match u8::read(buf)? {
            0 => Ok(Self::Hello { chain: Hash::read(buf)?, node: Address::read(buf)? }),
            1 => Ok(Self::Prekey(Prekey::read(buf)?)),
            2 => {
                let binding = Binding::read(buf)?;
                let cfg = EnvelopeLimits { ciphertext: MAX_ENVELOPE };
                Ok(Self::Open { binding, envelope: Envelope::read_cfg(buf, &cfg)? })
            }
            3 => Ok(Self::Sealed(Bytes::read_cfg(buf, &RangeCfg::from(..=limits.sealed))?)),
            4 => Ok(Self::Refused(Refusal::read(buf)?)),
            tag => Err(Error::InvalidEnum(tag)),
        }
    }
}

impl Write for Input {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Tokens(tokens) => {
                buf.put_u8(0);
                tokens.write(buf);
            }
            Self::Rows(rows) => {
                buf.put_u8(1);
                rows.write(buf);
            }
        }
    }
}

impl EncodeSize for Input {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Tokens(tokens) => tokens.encode_size(),
            Self::Rows(rows) => rows.encode_size(),
        }
    }
}

impl Read for Input {
    type Cfg = Limits;
    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        match u8::read(buf)? {
            0 => Ok(Self::Tokens(Vec::read_cfg(buf, &(RangeCfg::new(0..=MAX_STEP), ()))?)),
            1 => Ok(Self::Rows(Bytes::read_cfg(buf, &RangeCfg::from(..=limits.rows))?)),
            tag => Err(Error::InvalidEnum(tag)),
        }
    }
}

impl Write for Step {
    fn write(&self, buf: &mut impl BufMut) {
        self.seq.write(buf);
        self.position.write(buf);
        self.input.write(buf);
        self.want.write(buf);
        self.receipts.write(buf);
    }
}

impl EncodeSize for Step {
    fn encode_size(&self) -> usize {
        4 + 4 + self.input.encode_size() + 1 + self.receipts.encode_size()
    }
}

impl Read for Step {
    type Cfg = Limits;
    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        let (seq, position) = (u32::read(buf)?, u32::read(buf)?);
        let (input, want) = (Input::read_cfg(buf, limits)?, Want::read(buf)?);
        let receipts = Vec::read_cfg(buf, &(RangeCfg::new(0..=MAX_STEP), ()))?;
        Ok(Self { seq, position, input, want, receipts })
    }
}

impl Write for Stepped {
    fn write(&self, buf: &mut impl BufMut) {
        self.seq.write(buf);
        self.digests.write(buf);
        self.tokens.write(buf);
        self.rows.write(buf);
    }
}

impl EncodeSize for Stepped {
    fn encode_size(&self) -> usize {
        4 + self.digests.encode_size() + self.tokens.encode_size() + self.rows.encode_size()
    }
}

impl Read for Stepped {
    type Cfg = Limits;
    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        let few = (RangeCfg::new(0..=MAX_STEP), ());
        let seq = u32::read(buf)?;
        let (digests, tokens) = (Vec::read_cfg(buf, &few)?, Vec::read_cfg(buf, &few)?);
        let rows = Bytes::read_cfg(buf, &RangeCfg::from(..=limits.rows))?;
        Ok(Self { seq, digests, tokens, rows })
    }
}

impl Write for Request {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Step(step) => {
                buf.put_u8(0);
                step.write(buf);
            }
            Self::Truncate { tokens } => {
                buf.put_u8(1);
                tokens.write(buf);
            }
            Self::Voucher(voucher) => {
                buf.put_u8(2);
                voucher.write(buf);
            }
            Self::Finish { blind, end } => {
                buf.put_u8(3);
                blind.write(buf);
                end.write(buf);
            }
        }
    }
}

impl EncodeSize for Request {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Step(step) => step.encode_size(),
            Self::Truncate { .. } => 4,
            Self::Voucher(voucher) => voucher.encode_size(),
            Self::Finish { end, .. } => 32 + end.encode_size(),
        }
    }
}

impl Read for Request {
    type Cfg = Limits;
    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        match u8::read(buf)? {
            0 => Ok(Self::Step(Step::read_cfg(buf, limits)?)),
            1 => Ok(Self::Truncate { tokens: u32::read(buf)? }),
            2 => Ok(Self::Voucher(ShardVoucher::read(buf)?)),
            3 => Ok(Self::Finish { blind: Hash::read(buf)?, end: Option::read(buf)? }),
            tag => Err(Error::InvalidEnum(tag)),
        }
    }
}

impl Write for Response {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Accept => buf.put_u8(0),
            Self::Stepped(stepped) => {
                buf.put_u8(1);
                stepped.write(buf);
            }
            Self::Truncated { tokens } => {
                buf.put_u8(2);
                tokens.write(buf);
            }
            Self::Commit(commitment) => {
                buf.put_u8(3);
                commitment.write(buf);
            }
            Self::Refused(refusal) => {
                buf.put_u8(4);
                refusal.write(buf);
            }
        }
    }
}

impl EncodeSize for Response {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Accept => 0,
            Self::Stepped(stepped) => stepped.encode_size(),
            Self::Truncated { .. } => 4,
            Self::Commit(commitment) => commitment.encode_size(),
            Self::Refused(refusal) => refusal.encode_size(),
        }
    }
}

impl Read for Response {
    type Cfg = Limits;
    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        match u8::read(buf)? {
            0 => Ok(Self::Accept),
            1 => Ok(Self::Stepped(Stepped::read_cfg(buf, limits)?)),
            2 => Ok(Self::Truncated { tokens: u32::read(buf)? }),
            3 => Ok(Self::Commit(Commitment::read(buf)?)),
            4 => Ok(Self::Refused(Refusal::read(buf)?)),
            tag => Err(Error::InvalidEnum(tag)),
        }
    }
}
