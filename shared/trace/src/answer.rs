//! What the parties of a dispute say.

use crate::opening::Opening;
use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, RangeCfg, Read, ReadExt, Write};
use nesa_crypto::Signature;
use nesa_primitives::{Hash, codec_struct};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;

/// Levels of a tree that one answer goes down.
pub(crate) const LEVELS: u32 = 4;
/// Most digests in one answer.
pub const MAX_NODES: usize = 1 << LEVELS;
/// Most partial sums in one answer.
pub const MAX_SUMS: usize = 16;
/// Longest bytes in one piece, for JSON alone: the codec has closer limits.
const MAX_BLOB: usize = 64 * 1024;

/// Bytes; hex in JSON.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() > 2 * MAX_BLOB {
            return Err(D::Error::custom("bytes longer than 64 KiB"));
        }
        hex::decode(text).map(Self).map_err(D::Error::custom)
    }
}

impl Write for Blob {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.write(buf);
    }
}

impl EncodeSize for Blob {
    fn encode_size(&self) -> usize {
        self.0.encode_size()
    }
}

impl Read for Blob {
    type Cfg = RangeCfg<usize>;
    fn read_cfg(buf: &mut impl Buf, cfg: &RangeCfg<usize>) -> Result<Self, Error> {
        Vec::read_cfg(buf, &(*cfg, ())).map(Self)
    }
}

/// The client's word for one token ([`Context::sign_receipt`](crate::Context::sign_receipt)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Digest of its input, salted.
    pub digest: Hash,
    /// Whether its logits were asked for.
    pub logits: bool,
    /// By the client's key.
    pub signature: Signature,
}

codec_struct!(Receipt { digest, logits, signature });

/// The client's word for how many tokens it asked of a shard
/// ([`Context::sign_end`](crate::Context::sign_end)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// So many, and no more.
    pub tokens: u32,
    /// By the client's key.
    pub signature: Signature,
}

codec_struct!(End { tokens, signature });

/// One party's answer in one round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Digests some levels below the disputed node, from left to right.
    Nodes(Vec<Hash>),
    /// The client's word for the disputed token.
    Receipt(Receipt),
    /// The disputed block of a row.
    Block(Blob),
    /// What the disputed value's sum is made of, from left to right.
    Sums(Vec<i64>),
    /// All that the disputed operation needs. Either party may bring it.
    Opening(Box<Opening>),
    /// The client's word that it asked for no token so late.
    End(End),
}

impl Answer {
    /// A short name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Nodes(_) => "nodes",
            Self::Receipt(_) => "receipt",
            Self::Block(_) => "block",
            Self::Sums(_) => "sums",
            Self::Opening(_) => "opening",
            Self::End(_) => "end",
        }
    }
}

impl Write for Answer {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Nodes(nodes) => {
                buf.put_u8(0);
                nodes.write(buf);
            }
            Self::Receipt(receipt) => {
                buf.put_u8(1);
                receipt.write(buf);
            }
            Self::Block(block) => {
                buf.put_u8(2);
                block.write(buf);
            }
            Self::Sums(sums) => {
                buf.put_u8(3);
                sums.write(buf);
            }
            Self::Opening(opening) => {
                buf.put_u8(4);
                opening.write(buf);
            }
            Self::End(end) => {
                buf.put_u8(5);
                end.write(buf);
            }
        }
    }
}

impl EncodeSize for Answer {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Nodes(nodes) => nodes.encode_size(),
            Self::Receipt(receipt) => receipt.encode_size(),
            Self::Block(block) => block.encode_size(),
            Self::Sums(sums) => sums.encode_size(),
            Self::Opening(opening) => opening.encode_size(),
            Self::End(end) => end.encode_size(),
        }
    }
}

impl Read for Answer {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        match u8::read(buf)? {
            0 => Vec::read_cfg(buf, &((0..=MAX_NODES).into(), ())).map(Self::Nodes),
            1 => ReadExt::read(buf).map(Self::Receipt),
            2 => Blob::read_cfg(buf, &(0..=crate::BLOCK).into()).map(Self::Block),
            3 => Vec::read_cfg(buf, &((0..=MAX_SUMS).into(), ())).map(Self::Sums),
            4 => ReadExt::read(buf).map(|opening| Self::Opening(Box::new(opening))),
            5 => ReadExt::read(buf).map(Self::End),
            other => Err(Error::InvalidEnum(other)),
        }
    }
}
