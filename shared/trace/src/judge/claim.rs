//! What two parties say about one thing.

use commonware_codec::{EncodeSize, Error, Read, ReadExt, Write};
use nesa_primitives::codec_struct;
use serde::{Deserialize, Serialize};

/// A largest value and where it first stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// The value.
    pub value: i32,
    /// The place.
    pub at: u32,
}

codec_struct!(Peak { value, at });

/// Two claims about one thing, the left party's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// A row that one party has and the other has not. Whether it should be there shows in the first row
    /// of its group.
    Absent {
        /// Slot of the row that decides.
        reference: u16,
        /// Whether the row is missing on the left; else on the right.
        left: bool,
    },
    /// A word that follows from others.
    Word {
        /// Its place in the row.
        index: u32,
        /// What each says it is.
        claims: [i32; 2],
    },
    /// A largest value.
    Peak {
        /// Place of its words in the row.
        index: u32,
        /// The first word of its group of statistics, which both agree on if it is an earlier one.
        base: i32,
        /// What each says it is.
        claims: [Peak; 2],
    },
    /// Part of a sum.
    Sum {
        /// Place of the sum in the row.
        index: u32,
        /// The first word of its group of statistics, which both agree on.
        base: i32,
        /// First term.
        from: u32,
        /// End of the terms.
        to: u32,
        /// What each says the terms add up to.
        claims: [i64; 2],
    },
}

impl Write for Claim {
    fn write(&self, buf: &mut impl bytes::BufMut) {
        match self {
            Self::Absent { reference, left } => {
                buf.put_u8(0);
                reference.write(buf);
                left.write(buf);
            }
            Self::Word { index, claims } => {
                buf.put_u8(1);
                index.write(buf);
                claims.iter().for_each(|claim| claim.write(buf));
            }
            Self::Peak { index, base, claims } => {
                buf.put_u8(2);
                index.write(buf);
                base.write(buf);
                claims.iter().for_each(|claim| claim.write(buf));
            }
            Self::Sum { index, base, from, to, claims } => {
                buf.put_u8(3);
                index.write(buf);
                base.write(buf);
                from.write(buf);
                to.write(buf);
                claims.iter().for_each(|claim| claim.write(buf));
            }
        }
    }
}

impl EncodeSize for Claim {
    fn encode_size(&self) -> usize {
        match self {
            Self::Absent { .. } => 4,
            Self::Word { .. } => 13,
            Self::Peak { .. } => 25,
            Self::Sum { .. } => 33,
        }
    }
}

impl Read for Claim {
    type Cfg = ();
    fn read_cfg(buf: &mut impl commonware_codec::Buf, _: &()) -> Result<Self, Error> {
        match u8::read(buf)? {
            0 => Ok(Self::Absent { reference: ReadExt::read(buf)?, left: ReadExt::read(buf)? }),
            1 => {
                let index = ReadExt::read(buf)?;
                Ok(Self::Word { index, claims: [ReadExt::read(buf)?, ReadExt::read(buf)?] })
            }
            2 => {
                let (index, base) = (ReadExt::read(buf)?, ReadExt::read(buf)?);
                Ok(Self::Peak { index, base, claims: [ReadExt::read(buf)?, ReadExt::read(buf)?] })
            }
            3 => {
                let (index, base) = (ReadExt::read(buf)?, ReadExt::read(buf)?);
                let (from, to) = (ReadExt::read(buf)?, ReadExt::read(buf)?);
                let claims = [ReadExt::read(buf)?, ReadExt::read(buf)?];
                Ok(Self::Sum { index, base, from, to, claims })
            }
            other => Err(Error::InvalidEnum(other)),
        }
    }
}
