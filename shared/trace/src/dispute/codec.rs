//! Bytes of a dispute's state.

use commonware_codec::{Encode, EncodeSize, Error, FixedSize, Read, ReadExt, Write};

use nesa_primitives::decode_exact;

use super::{Decision, Dispute, Grounds, Ruling, Stage};
use crate::program::SLOT_BITS;
use crate::tree::MAX_TOKEN_BITS;

/// Bits of the ruling in a decision's byte; the grounds lie above.
const RULING_BITS: u32 = 4;

/// One byte.
impl Write for Decision {
    fn write(&self, buf: &mut impl bytes::BufMut) {
        let tag = |bytes: bytes::Bytes| bytes.first().copied().unwrap_or_default();
        buf.put_u8(tag(self.ruling.encode()) | (tag(self.grounds.encode()) << RULING_BITS));
    }
}

impl FixedSize for Decision {
    const SIZE: usize = 1;
}

impl Read for Decision {
    type Cfg = ();
    fn read_cfg(buf: &mut impl commonware_codec::Buf, _: &()) -> Result<Self, Error> {
        let byte = u8::read(buf)?;
        let (ruling, grounds) = (byte & ((1 << RULING_BITS) - 1), byte >> RULING_BITS);
        let wrong = |_| Error::InvalidEnum(byte);
        Ok(Self {
            ruling: decode_exact::<Ruling>(&[ruling], &()).map_err(wrong)?,
            grounds: decode_exact::<Grounds>(&[grounds], &()).map_err(wrong)?,
        })
    }
}

impl Write for Stage {
    fn write(&self, buf: &mut impl bytes::BufMut) {
        match self {
            Self::Tree { height, index, digests } => {
                buf.put_u8(0);
                height.write(buf);
                index.write(buf);
                digests.iter().for_each(|digest| digest.write(buf));
            }
            Self::Input { token, digests } => {
                buf.put_u8(1);
                token.write(buf);
                digests.iter().for_each(|digest| digest.write(buf));
            }
            Self::Row { token, slot, from, to, digests } => {
                buf.put_u8(2);
                token.write(buf);
                slot.write(buf);
                from.write(buf);
                to.write(buf);
                digests.iter().for_each(|digest| digest.write(buf));
            }
            Self::Sum { token, slot, index, base, from, to, claims } => {
                buf.put_u8(3);
                token.write(buf);
                slot.write(buf);
                base.write(buf);
                [index, from, to].into_iter().for_each(|word| word.write(buf));
                claims.iter().for_each(|claim| claim.write(buf));
            }
            Self::Opening { token, slot, claim } => {
                buf.put_u8(4);
                token.write(buf);
                slot.write(buf);
                claim.write(buf);
            }
            Self::Done { decision } => {
                buf.put_u8(5);
                decision.write(buf);
            }
            Self::Asked { token, slot, digests } => {
                buf.put_u8(6);
                token.write(buf);
                slot.write(buf);
                digests.iter().for_each(|digest| digest.write(buf));
            }
        }
    }
}

impl EncodeSize for Stage {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Tree { .. } => 9 + 64,
            Self::Input { .. } => 4 + 64,
            Self::Row { .. } => 14 + 64,
            Self::Sum { .. } => 22 + 16,
            Self::Opening { claim, .. } => 6 + claim.encode_size(),
            Self::Done { decision } => decision.encode_size(),
            Self::Asked { .. } => 6 + 64,
        }
    }
}

impl Read for Stage {
    type Cfg = ();
    fn read_cfg(buf: &mut impl commonware_codec::Buf, _: &()) -> Result<Self, Error> {
        Ok(match u8::read(buf)? {
            0 => {
                let (height, index) = (u8::read(buf)?, u64::read(buf)?);
                if height > SLOT_BITS + MAX_TOKEN_BITS {
                    return Err(Error::Invalid("Stage", "height beyond the tree"));
                }
                Self::Tree { height, index, digests: [ReadExt::read(buf)?, ReadExt::read(buf)?] }
            }
            1 => Self::Input {
                token: ReadExt::read(buf)?,
                digests: [ReadExt::read(buf)?, ReadExt::read(buf)?],
            },
            2 => {
                let (token, slot) = (u32::read(buf)?, u16::read(buf)?);
                let (from, to) = (u32::read(buf)?, u32::read(buf)?);
                if from >= to {
                    return Err(Error::Invalid("Stage", "no blocks"));
                }
                let digests = [ReadExt::read(buf)?, ReadExt::read(buf)?];
                Self::Row { token, slot, from, to, digests }
            }
            3 => {
                let (token, slot, base) = (u32::read(buf)?, u16::read(buf)?, i32::read(buf)?);
                let index = u32::read(buf)?;
                let (from, to) = (u32::read(buf)?, u32::read(buf)?);
                if from >= to {
                    return Err(Error::Invalid("Stage", "no terms"));
                }
                let claims = [ReadExt::read(buf)?, ReadExt::read(buf)?];
                Self::Sum { token, slot, index, base, from, to, claims }
            }
            4 => Self::Opening {
                token: ReadExt::read(buf)?,
                slot: ReadExt::read(buf)?,
                claim: ReadExt::read(buf)?,
            },
            5 => Self::Done { decision: ReadExt::read(buf)? },
            6 => Self::Asked {
                token: ReadExt::read(buf)?,
                slot: ReadExt::read(buf)?,
                digests: [ReadExt::read(buf)?, ReadExt::read(buf)?],
            },
            other => return Err(Error::InvalidEnum(other)),
        })
    }
}

impl Write for Dispute {
    fn write(&self, buf: &mut impl bytes::BufMut) {
        self.geometry.write(buf);
        self.token_bits.write(buf);
        self.stage.write(buf);
        self.answers.iter().for_each(|answer| answer.write(buf));
    }
}

impl EncodeSize for Dispute {
    fn encode_size(&self) -> usize {
        self.geometry.encode_size()
            + 1
            + self.stage.encode_size()
            + self.answers.iter().map(EncodeSize::encode_size).sum::<usize>()
    }
}

impl Read for Dispute {
    type Cfg = ();
    fn read_cfg(buf: &mut impl commonware_codec::Buf, _: &()) -> Result<Self, Error> {
        let geometry = ReadExt::read(buf)?;
        let token_bits = u8::read(buf)?;
        if token_bits > MAX_TOKEN_BITS {
            return Err(Error::Invalid("Dispute", "token bits beyond the tree"));
        }
        let stage = ReadExt::read(buf)?;
        let answers = [ReadExt::read(buf)?, ReadExt::read(buf)?];
        Ok(Self { geometry, token_bits, stage, answers })
    }
}
