//! The human-readable name of a chain.

use crate::Text;
use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, Read, Write};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::{fmt, str::FromStr};
use thiserror::Error as ThisError;

/// Longest chain id, in bytes.
pub const MAX_CHAIN_ID_BYTES: usize = 48;

/// A chain's name: 1 to 48 characters of `a–z`, `0–9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ChainId(Text<MAX_CHAIN_ID_BYTES>);

/// Why a text is no chain id.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{got:?} is no chain id: expected 1 to 48 characters of a-z, 0-9 and '-'")]
pub struct ChainIdError {
    /// What was given, cut to 64 characters.
    pub got: String,
}

impl ChainId {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`ChainIdError`] for another length or alphabet.
    pub fn new(name: &str) -> Result<Self, ChainIdError> {
        let refused = || ChainIdError { got: name.chars().take(64).collect() };
        if !valid(name) {
            return Err(refused());
        }
        Text::new(name).map(Self).map_err(|_| refused())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

fn valid(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_CHAIN_ID_BYTES
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ChainId {
    type Err = ChainIdError;
    fn from_str(text: &str) -> Result<Self, ChainIdError> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for ChainId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Write for ChainId {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.write(buf);
    }
}

impl EncodeSize for ChainId {
    fn encode_size(&self) -> usize {
        self.0.encode_size()
    }
}

impl Read for ChainId {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, cfg: &()) -> Result<Self, Error> {
        let text = Text::read_cfg(buf, cfg)?;
        if valid(&text) { Ok(Self(text)) } else { Err(Error::Invalid("ChainId", "alphabet")) }
    }
}
