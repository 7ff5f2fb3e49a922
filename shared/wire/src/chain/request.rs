//! What may be asked.

use super::Limits;
use crate::list;
use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, Read, ReadExt, Write};
use nesa_primitives::{Address, Denom, Hash};

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
