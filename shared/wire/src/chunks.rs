//! `/nesa/chunks/1`: model weights by digest and index.
//!
//! The client asks, the server answers in the order asked; several requests may be outstanding on
//! one stream. A chunk's bytes and its Merkle proof are opaque here: the client checks them
//! against the model digest that it already trusts, so any peer may serve them.

use crate::list;
use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, Read, ReadExt, Write};
use nesa_primitives::Hash;

/// What a decoder of chunk messages accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one chunk.
    pub chunk: usize,
    /// Bytes of one chunk's proof.
    pub proof: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { chunk: 1 << 20, proof: 16 << 10 }
    }
}

/// Asks for one part of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The manifest, from which the digest is computed.
    Manifest {
        /// The model's digest.
        model: Hash,
    },
    /// One chunk, numbered as in the manifest.
    Chunk {
        /// The model's digest.
        model: Hash,
        /// The chunk's number.
        index: u32,
    },
}

/// Answers one [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// The manifest's bytes.
    Manifest(Bytes),
    /// A chunk.
    Chunk {
        /// The chunk's number.
        index: u32,
        /// The chunk's bytes.
        data: Bytes,
        /// Its Merkle proof; empty where the manifest itself lists the chunk's hash.
        proof: Bytes,
    },
    /// The server does not hold what was asked.
    Unknown,
    /// The server is at its limit; ask again later or elsewhere.
    Busy,
}

impl Write for Request {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Request::Manifest { model } => {
                0u8.write(buf);
                model.write(buf);
            }
            Request::Chunk { model, index } => {
                1u8.write(buf);
                model.write(buf);
                index.write(buf);
            }
        }
    }
}

impl EncodeSize for Request {
    fn encode_size(&self) -> usize {
        1 + match self {
            Request::Manifest { .. } => Hash::SIZE,
            Request::Chunk { .. } => Hash::SIZE + u32::SIZE,
        }
    }
}

impl Read for Request {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        match u8::read(buf)? {
            0 => Ok(Request::Manifest { model: Hash::read(buf)? }),
            1 => Ok(Request::Chunk { model: Hash::read(buf)?, index: u32::read(buf)? }),
            tag => Err(Error::InvalidEnum(tag)),
        }
    }
}

impl Write for Response {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Response::Manifest(data) => {
                0u8.write(buf);
                data.write(buf);
            }
            Response::Chunk { index, data, proof } => {
                1u8.write(buf);
                index.write(buf);
                data.write(buf);
                proof.write(buf);
            }
            Response::Unknown => 2u8.write(buf),
            Response::Busy => 3u8.write(buf),
        }
    }
}

impl EncodeSize for Response {
    fn encode_size(&self) -> usize {
        1 + match self {
            Response::Manifest(data) => data.encode_size(),
            Response::Chunk { data, proof, .. } => {
                u32::SIZE + data.encode_size() + proof.encode_size()
            }
            Response::Unknown | Response::Busy => 0,
        }
    }
}

impl Read for Response {
    type Cfg = Limits;

    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        match u8::read(buf)? {
            0 => Ok(Response::Manifest(list::bytes(buf, limits.chunk)?)),
            1 => Ok(Response::Chunk {
                index: u32::read(buf)?,
                data: list::bytes(buf, limits.chunk)?,
                proof: list::bytes(buf, limits.proof)?,
            }),
            2 => Ok(Response::Unknown),
            3 => Ok(Response::Busy),
            tag => Err(Error::InvalidEnum(tag)),
        }
    }
}
