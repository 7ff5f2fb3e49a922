//! What answers are made of: bytes for the verifier, and where they belong.

use super::Limits;
use crate::list;
use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, Read, ReadExt, Write};
use nesa_primitives::Hash;

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
