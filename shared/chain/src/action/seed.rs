//! The seed of a view as the first commitment of a query brings it.

use std::fmt;

use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, Read, Write};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::limits::{MAX_SEED_BYTES, up_to};

/// A seed of a view, as bytes that a [`SeedVerifier`](crate::rules::SeedVerifier) understands.
#[derive(Clone, PartialEq, Eq)]
pub struct SeedBytes(pub Vec<u8>);

impl fmt::Debug for SeedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeedBytes({})", hex::encode(&self.0))
    }
}

impl Serialize for SeedBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for SeedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = hex::decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?;
        if bytes.len() > MAX_SEED_BYTES {
            return Err(D::Error::custom("seed longer than 64 bytes"));
        }
        Ok(Self(bytes))
    }
}

impl Write for SeedBytes {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.write(buf);
    }
}

impl EncodeSize for SeedBytes {
    fn encode_size(&self) -> usize {
        self.0.encode_size()
    }
}

impl Read for SeedBytes {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        Vec::read_cfg(buf, &up_to(MAX_SEED_BYTES)).map(Self)
    }
}
