//! The one hash of the project, BLAKE3, and the one way to separate its uses.

use crate::hex_array;
use bytes::BufMut;
use commonware_codec::{Buf, Encode, Error, FixedSize, Read, Write};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A 32-byte BLAKE3 digest. Shown, parsed and written to JSON as 64 lower-case hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(#[serde(with = "hex_array")] pub [u8; 32]);

impl Hash {
    /// All zeros: stands for "no chain" in [`domain`], and for a hash not set.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of `bytes` in the domain `tag` of `chain`.
    pub fn of_bytes(tag: &'static str, chain: &Hash, bytes: &[u8]) -> Self {
        let mut hasher = domain(tag, chain);
        hasher.update(bytes);
        hasher.finalize().into()
    }

    /// The digest of a value's canonical encoding in the domain `tag` of `chain`.
    pub fn of(tag: &'static str, chain: &Hash, value: &impl Encode) -> Self {
        Self::of_bytes(tag, chain, &value.encode())
    }

    /// The bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A hasher separated by purpose and by chain.
///
/// The tag becomes a BLAKE3 key-derivation context `"nesa/1 <tag>"`, so two tags can never meet,
/// whatever is hashed; the chain (the digest of the trust root) comes first in the message, so a
/// value made for one chain means nothing on another. [`Hash::ZERO`] is for what belongs to no
/// chain, such as a model's digest. What follows must be encoded unambiguously (fixed sizes, or
/// the codec).
pub fn domain(tag: &'static str, chain: &Hash) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_derive_key(&format!("nesa/1 {tag}"));
    hasher.update(&chain.0);
    hasher
}

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex_array::parse(text).map(Self)
    }
}

impl Write for Hash {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.write(buf);
    }
}

impl FixedSize for Hash {
    const SIZE: usize = 32;
}

impl Read for Hash {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, cfg: &()) -> Result<Self, Error> {
        <[u8; 32]>::read_cfg(buf, cfg).map(Self)
    }
}
