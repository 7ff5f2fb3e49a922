//! Answers, and refusals.

use super::{BlockAnswer, CertifiedHeader, Limits, MAX_REASON, StateAnswer, TxLocation};
use crate::list;
use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, Read, ReadExt, Write};
use nesa_primitives::Hash;

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
