//! `/nesa/chain/1`: what a light client asks of any node.
//!
//! Requests and responses alternate on a stream; after [`Request::Subscribe`] the server alone
//! speaks and sends a [`Response::Head`] for every new finalised block until either side closes.
//!
//! Nothing in an answer is believed because a peer said it. Headers come with certificates, state
//! with proofs, and both are opaque bytes here, decoded and judged by the verifier.

use crate::list;
use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, Read, ReadExt, Write};
use nesa_primitives::{Address, Denom, Hash};

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
            transaction: 16 << 10,
            value: 64 << 10,
            // A proof of absence holds the neighbouring record, 64 KiB at most, and its path.
            proof: 80 << 10,
            seed: 256,
        }
    }
}

/// Asks a node about its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Which chain, and how far it has come.
    Status,
    /// Headers from height `from` upward, at most `max` of them.
    Headers {
        /// The first height wanted.
        from: u64,
        /// The most headers to send; the server may send fewer.
        max: u16,
    },
    /// The values of up to [`MAX_KEYS`] state keys, each with a proof, at one recent header.
    State {
        /// The keys.
        keys: Vec<Hash>,
    },
    /// Hands over a signed transaction, encoded.
    Submit {
        /// The signed transaction's bytes.
        transaction: Bytes,
    },
    /// Where a transaction was included.
    TxStatus {
        /// The transaction's id.
        id: Hash,
    },
    /// The threshold signature that is the seed of `view`.
    Seed {
        /// The view.
        view: u64,
    },
    /// A whole block.
    Block {
        /// Its height.
        height: u64,
    },
    /// Turns the stream into a feed of new heads.
    Subscribe,
    /// Asks the faucet of a local network for money.
    Faucet {
        /// Who is to receive it.
        address: Address,
        /// In which denomination.
        denom: Denom,
    },
}

/// A header and, where the block was finalised in its own right, its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedHeader {
    /// The encoded header.
    pub header: Bytes,
    /// The encoded finalisation; absent for a block finalised through a descendant.
    pub finalization: Option<Bytes>,
}

/// One key of a [`StateAnswer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    /// The key.
    pub key: Hash,
    /// Its value; `None` claims that the key is absent, which the proof must show as well.
    pub value: Option<Bytes>,
    /// The encoded proof against the header's state root.
    pub proof: Bytes,
}

/// Values with proofs at one finalised header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateAnswer {
    /// The encoded header whose state root the proofs are against.
    pub header: Bytes,
    /// The encoded finalisation of that header.
    pub finalization: Bytes,
    /// One entry per requested key, in the order asked.
    pub entries: Vec<StateEntry>,
}

/// Where a transaction was included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxLocation {
    /// The block's height.
    pub height: u64,
    /// The transaction's place in the block.
    pub index: u32,
    /// The encoded proof against the header's transaction root.
    pub proof: Bytes,
}

/// A whole block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockAnswer {
    /// The header and its certificate.
    pub head: CertifiedHeader,
    /// The encoded signed transactions, in order.
    pub transactions: Vec<Bytes>,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The request makes no sense here.
    Invalid,
    /// The server is at its limit; ask again later or elsewhere.
    Busy,
    /// The server has no longer, or not yet, what was asked.
    Unavailable,
    /// The transaction breaks a rule of the chain.
    Rejected,
}

/// Answers one [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To [`Request::Status`].
    Status {
        /// Digest of the trust root the node follows.
        chain: Hash,
        /// Height of its last finalised block.
        height: u64,
        /// That block's view.
        view: u64,
        /// That block's timestamp, in milliseconds since 1970.
        timestamp_ms: u64,
    },
    /// To [`Request::Headers`], in ascending order without gaps.
    Headers(Vec<CertifiedHeader>),
    /// To [`Request::State`].
    State(StateAnswer),
    /// To [`Request::Submit`]: the transaction waits for inclusion.
    Submitted {
        /// The transaction's id.
        id: Hash,
    },
    /// To [`Request::TxStatus`]; `None` while it is not in a finalised block.
    TxStatus(Option<TxLocation>),
    /// To [`Request::Seed`]; `None` while the view has not ended.
    Seed(Option<Bytes>),
    /// To [`Request::Block`].
    Block(Option<BlockAnswer>),
    /// To [`Request::Subscribe`], again and again.
    Head(CertifiedHeader),
    /// To [`Request::Faucet`].
    Funded {
        /// The transaction that pays.
        id: Hash,
    },
    /// The request was refused.
    Refused {
        /// Of what kind the refusal is.
        refusal: Refusal,
        /// In words, at most [`MAX_REASON`] bytes.
        reason: String,
    },
}

impl Response {
    /// A refusal, its reason cut to [`MAX_REASON`] bytes at a character boundary.
    pub fn refused(refusal: Refusal, reason: impl Into<String>) -> Response {
        let mut reason = reason.into();
        let mut end = reason.len().min(MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        Response::Refused { refusal, reason }
    }
}

impl Write for Request {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Request::Status => 0u8.write(buf),
            Request::Headers { from, max } => {
                1u8.write(buf);
                from.write(buf);
                max.write(buf);
            }
            Request::State { keys } => {
                2u8.write(buf);
                keys.write(buf);
            }
            Request::Submit { transaction } => {
                3u8.write(buf);
                transaction.write(buf);
            }
            Request::TxStatus { id } => {
                4u8.write(buf);
                id.write(buf);
            }
            Request::Seed { view } => {
                5u8.write(buf);
                view.write(buf);
            }
            Request::Block { height } => {
                6u8.write(buf);
                height.write(buf);
            }
            Request::Subscribe => 7u8.write(buf),
            Request::Faucet { address, denom } => {
                8u8.write(buf);
                address.write(buf);
                denom.0.write(buf);
            }
        }
    }
}

impl EncodeSize for Request {
    fn encode_size(&self) -> usize {
        1 + match self {
            Request::Status | Request::Subscribe => 0,
            Request::Headers { .. } => u64::SIZE + u16::SIZE,
            Request::State { keys } => keys.encode_size(),
            Request::Submit { transaction } => transaction.encode_size(),
            Request::TxStatus { .. } => Hash::SIZE,
            Request::Seed { .. } | Request::Block { .. } => u64::SIZE,
            Request::Faucet { .. } => Address::SIZE + u32::SIZE,
        }
    }
}

impl Read for Request {
    type Cfg = Limits;

    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        Ok(match u8::read(buf)? {
            0 => Request::Status,
            1 => Request::Headers { from: u64::read(buf)?, max: u16::read(buf)? },
            2 => Request::State { keys: list::read(buf, limits.keys, &())? },
            3 => Request::Submit { transaction: list::bytes(buf, limits.transaction)? },
            4 => Request::TxStatus { id: Hash::read(buf)? },
            5 => Request::Seed { view: u64::read(buf)? },
            6 => Request::Block { height: u64::read(buf)? },
            7 => Request::Subscribe,
            8 => Request::Faucet { address: Address::read(buf)?, denom: Denom(u32::read(buf)?) },
            tag => return Err(Error::InvalidEnum(tag)),
        })
    }
}

impl Write for CertifiedHeader {
    fn write(&self, buf: &mut impl BufMut) {
        self.header.write(buf);
        self.finalization.write(buf);
    }
}

impl EncodeSize for CertifiedHeader {
    fn encode_size(&self) -> usize {
        self.header.encode_size() + self.finalization.encode_size()
    }
}

impl Read for CertifiedHeader {
    type Cfg = Limits;

    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        Ok(CertifiedHeader {
            header: list::bytes(buf, limits.header)?,
            finalization: list::optional(buf, limits.finalization)?,
        })
    }
}

impl Write for StateEntry {
    fn write(&self, buf: &mut impl BufMut) {
        self.key.write(buf);
        self.value.write(buf);
        self.proof.write(buf);
    }
}

impl EncodeSize for StateEntry {
    fn encode_size(&self) -> usize {
        Hash::SIZE + self.value.encode_size() + self.proof.encode_size()
    }
}

impl Read for StateEntry {
    type Cfg = Limits;

    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        Ok(StateEntry {
            key: Hash::read(buf)?,
            value: list::optional(buf, limits.value)?,
            proof: list::bytes(buf, limits.proof)?,
        })
    }
}

impl Write for StateAnswer {
    fn write(&self, buf: &mut impl BufMut) {
        self.header.write(buf);
        self.finalization.write(buf);
        self.entries.write(buf);
    }
}

impl EncodeSize for StateAnswer {
    fn encode_size(&self) -> usize {
        self.header.encode_size() + self.finalization.encode_size() + self.entries.encode_size()
    }
}

impl Read for StateAnswer {
    type Cfg = Limits;

    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        Ok(StateAnswer {
            header: list::bytes(buf, limits.header)?,
            finalization: list::bytes(buf, limits.finalization)?,
            entries: list::read(buf, limits.keys, limits)?,
        })
    }
}

impl Write for TxLocation {
    fn write(&self, buf: &mut impl BufMut) {
        self.height.write(buf);
        self.index.write(buf);
        self.proof.write(buf);
    }
}

impl EncodeSize for TxLocation {
    fn encode_size(&self) -> usize {
        u64::SIZE + u32::SIZE + self.proof.encode_size()
    }
}

impl Read for TxLocation {
    type Cfg = Limits;

    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        Ok(TxLocation {
            height: u64::read(buf)?,
            index: u32::read(buf)?,
            proof: list::bytes(buf, limits.proof)?,
        })
    }
}

impl Write for BlockAnswer {
    fn write(&self, buf: &mut impl BufMut) {
        self.head.write(buf);
        self.transactions.write(buf);
    }
}

impl EncodeSize for BlockAnswer {
    fn encode_size(&self) -> usize {
        self.head.encode_size() + self.transactions.encode_size()
    }
}

impl Read for BlockAnswer {
    type Cfg = Limits;

    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        let head = CertifiedHeader::read_cfg(buf, limits)?;
        let item = commonware_codec::RangeCfg::from(..=limits.transaction);
        Ok(BlockAnswer { head, transactions: list::read(buf, limits.transactions, &item)? })
    }
}

impl Refusal {
    fn tag(self) -> u8 {
        match self {
            Refusal::Invalid => 0,
            Refusal::Busy => 1,
            Refusal::Unavailable => 2,
            Refusal::Rejected => 3,
        }
    }

    fn from_tag(tag: u8) -> Result<Self, Error> {
        Ok(match tag {
            0 => Refusal::Invalid,
            1 => Refusal::Busy,
            2 => Refusal::Unavailable,
            3 => Refusal::Rejected,
            tag => return Err(Error::InvalidEnum(tag)),
        })
    }
}

impl Write for Response {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Response::Status { chain, height, view, timestamp_ms } => {
                0u8.write(buf);
                chain.write(buf);
                height.write(buf);
                view.write(buf);
                timestamp_ms.write(buf);
            }
            Response::Headers(headers) => {
                1u8.write(buf);
                headers.write(buf);
            }
            Response::State(answer) => {
                2u8.write(buf);
                answer.write(buf);
            }
            Response::Submitted { id } => {
                3u8.write(buf);
                id.write(buf);
            }
            Response::TxStatus(location) => {
                4u8.write(buf);
                location.write(buf);
            }
            Response::Seed(seed) => {
                5u8.write(buf);
                seed.write(buf);
            }
            Response::Block(block) => {
                6u8.write(buf);
                block.write(buf);
            }
            Response::Head(head) => {
                7u8.write(buf);
                head.write(buf);
            }
            Response::Funded { id } => {
                8u8.write(buf);
                id.write(buf);
            }
            Response::Refused { refusal, reason } => {
                9u8.write(buf);
                refusal.tag().write(buf);
                list::write_text(reason, buf);
            }
        }
    }
}

impl EncodeSize for Response {
    fn encode_size(&self) -> usize {
        1 + match self {
            Response::Status { .. } => Hash::SIZE + 3 * u64::SIZE,
            Response::Headers(headers) => headers.encode_size(),
            Response::State(answer) => answer.encode_size(),
            Response::Submitted { .. } | Response::Funded { .. } => Hash::SIZE,
            Response::TxStatus(location) => location.encode_size(),
            Response::Seed(seed) => seed.encode_size(),
            Response::Block(block) => block.encode_size(),
            Response::Head(head) => head.encode_size(),
            Response::Refused { reason, .. } => 1 + list::text_size(reason),
        }
    }
}

impl Read for Response {
    type Cfg = Limits;

    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        Ok(match u8::read(buf)? {
            0 => Response::Status {
                chain: Hash::read(buf)?,
                height: u64::read(buf)?,
                view: u64::read(buf)?,
                timestamp_ms: u64::read(buf)?,
            },
            1 => Response::Headers(list::read(buf, limits.headers, limits)?),
            2 => Response::State(StateAnswer::read_cfg(buf, limits)?),
            3 => Response::Submitted { id: Hash::read(buf)? },
            4 => Response::TxStatus(Option::<TxLocation>::read_cfg(buf, limits)?),
            5 => Response::Seed(list::optional(buf, limits.seed)?),
            6 => Response::Block(Option::<BlockAnswer>::read_cfg(buf, limits)?),
            7 => Response::Head(CertifiedHeader::read_cfg(buf, limits)?),
            8 => Response::Funded { id: Hash::read(buf)? },
            9 => Response::Refused {
                refusal: Refusal::from_tag(u8::read(buf)?)?,
                reason: list::text(buf, MAX_REASON)?,
            },
            tag => return Err(Error::InvalidEnum(tag)),
        })
    }
}
