//! What client and preparer say to each other, one message per frame.
//!
//! ```text
//! client → preparer   Open · Rows (stage by stage, rows in order)
//! preparer → client   Accept · Columns (stage by stage, columns in order) · Refused
//! ```
//!
//! Sizes follow from the model's shapes alone. Values are residues of 8 bytes, little endian, below
//! p; messages that carry them print their place and nothing else.

use core::fmt;

use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, Read, ReadExt, Write};
use nesa_primitives::{Address, DecodeError, Hash, decode_exact};
use zeroize::Zeroizing;

use super::VALUES_PER_FRAME;
use crate::field::P;

/// Some residues of a share, 1 to [`VALUES_PER_FRAME`] of them. Erased when dropped; prints how many
/// there are.
#[derive(Clone, PartialEq, Eq)]
pub struct FieldValues(Zeroizing<Vec<u64>>);

impl FieldValues {
    /// Takes residues; `None` if there are none, too many, or one is not below p.
    pub fn new(values: Vec<u64>) -> Option<Self> {
        let values = Zeroizing::new(values);
        let fits = (1..=VALUES_PER_FRAME).contains(&values.len());
        (fits && values.iter().all(|&v| v < P)).then_some(Self(values))
    }

    /// The residues.
    pub fn residues(&self) -> &[u64] {
        &self.0
    }
}

impl fmt::Debug for FieldValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.0.len())
    }
}

impl Write for FieldValues {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.len().write(buf);
        for value in self.0.iter() {
            buf.put_u64_le(*value);
        }
    }
}

impl EncodeSize for FieldValues {
    fn encode_size(&self) -> usize {
        self.0.len().encode_size() + 8 * self.0.len()
    }
}

impl Read for FieldValues {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        let count = usize::read_cfg(buf, &(1..=VALUES_PER_FRAME).into())?;
        if buf.remaining() < 8 * count {
            return Err(Error::EndOfBuffer);
        }
        let values = (0..count).map(|_| buf.get_u64_le()).collect();
        Self::new(values).ok_or(Error::Invalid("share", "a value is not below 2^61 - 1"))
    }
}

/// Rows `first..` of a share of r, for one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowShare {
    /// The linear stage.
    pub stage: u16,
    /// The first row.
    pub first: u32,
    /// One residue per row.
    pub values: FieldValues,
}

nesa_primitives::codec_struct!(RowShare { stage, first, values });

/// Columns `first..` of a share of s, for one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnShare {
    /// The linear stage.
    pub stage: u16,
    /// The first column.
    pub first: u32,
    /// One residue per column.
    pub values: FieldValues,
}

nesa_primitives::codec_struct!(ColumnShare { stage, first, values });

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreparerRequest {
    /// First on every stream.
    Open {
        /// The chain, as the digest of its trust root.
        chain: Hash,
        /// The model.
        model: Hash,
        /// The node addressed.
        node: Address,
    },
    /// Some rows of a share of r.
    Rows(RowShare),
}

/// Why a preparer ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The message breaks the protocol.
    #[error("the preparer says the message breaks the protocol")]
    Protocol,
    /// It does not hold the model, or is another node, or of another chain.
    #[error("the preparer says it does not serve this model")]
    Unknown,
    /// It is at its limits, or stopping.
    #[error("the preparer is unavailable")]
    Unavailable,
}

nesa_primitives::codec_tag!(Refusal { Protocol = 0, Unknown = 1, Unavailable = 2 });

/// What a preparer sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreparerResponse {
    /// The answer to `Open`.
    Accept,
    /// Some columns of its share of s.
    Columns(ColumnShare),
    /// The stream ends here.
    Refused(Refusal),
}

impl Write for PreparerRequest {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Open { chain, model, node } => {
                0u8.write(buf);
                chain.write(buf);
                model.write(buf);
                node.write(buf);
            }
            Self::Rows(rows) => {
                1u8.write(buf);
                rows.write(buf);
            }
        }
    }
}

impl EncodeSize for PreparerRequest {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Open { chain, model, node } => {
                chain.encode_size() + model.encode_size() + node.encode_size()
            }
            Self::Rows(rows) => rows.encode_size(),
        }
    }
}

impl Read for PreparerRequest {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, cfg: &()) -> Result<Self, Error> {
        match u8::read(buf)? {
            0 => Ok(Self::Open {
                chain: Hash::read(buf)?,
                model: Hash::read(buf)?,
                node: Address::read(buf)?,
            }),
            1 => Ok(Self::Rows(RowShare::read_cfg(buf, cfg)?)),
            other => Err(Error::InvalidEnum(other)),
        }
    }
}

impl Write for PreparerResponse {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Accept => 16u8.write(buf),
            Self::Columns(columns) => {
                17u8.write(buf);
                columns.write(buf);
            }
            Self::Refused(refusal) => {
                18u8.write(buf);
                refusal.write(buf);
            }
        }
    }
}

impl EncodeSize for PreparerResponse {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Accept => 0,
            Self::Columns(columns) => columns.encode_size(),
            Self::Refused(refusal) => refusal.encode_size(),
        }
    }
}

impl Read for PreparerResponse {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, cfg: &()) -> Result<Self, Error> {
        match u8::read(buf)? {
            16 => Ok(Self::Accept),
            17 => Ok(Self::Columns(ColumnShare::read_cfg(buf, cfg)?)),
            18 => Ok(Self::Refused(Refusal::read(buf)?)),
            other => Err(Error::InvalidEnum(other)),
        }
    }
}

/// Decodes a client's message, refusing anything but its one canonical encoding.
///
/// # Errors
/// [`DecodeError`] for malformed, over-long or non-canonical bytes.
pub fn decode_request(bytes: &[u8]) -> Result<PreparerRequest, DecodeError> {
    decode_exact(bytes, &())
}

/// Decodes a preparer's message, refusing anything but its one canonical encoding.
///
/// # Errors
/// [`DecodeError`] for malformed, over-long or non-canonical bytes.
pub fn decode_response(bytes: &[u8]) -> Result<PreparerResponse, DecodeError> {
    decode_exact(bytes, &())
}
