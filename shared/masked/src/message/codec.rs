//! The bytes of each message: a tag, then the fields in order, big endian, payloads behind their
//! length.

use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, Read, ReadExt, Write};
use nesa_chain::Voucher;
use nesa_crypto::sign::Signature;
use nesa_primitives::Hash;

use super::{
    ClientMessage, Limits, Open, Product, Refusal, Request, SeedBytes, ServerMessage, SignedCommit,
    Slot,
};

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
