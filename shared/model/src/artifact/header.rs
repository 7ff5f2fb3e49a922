//! The header, and pieces checked against it.

use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, Encode, EncodeSize, Error as CodecError, Read, ReadExt, Write};
use nesa_primitives::{DecodeError, Hash, decode_exact, domain};
use thiserror::Error;

use crate::layout::{Layout, LayoutError, ModelLimits};
use crate::manifest::Manifest;

/// Manifest and chunk hashes: all a client needs to check chunks from strangers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) manifest: Manifest,
    pub(super) chunk_hashes: Vec<Hash>,
    pub(super) layout: Layout,
    pub(super) bytes: Bytes,
    pub(super) digest: Hash,
}

/// A header that cannot be used.
#[derive(Debug, Error)]
pub enum HeaderError {
    /// Longer than the limit.
    #[error("header of {got} bytes, at most {max} allowed")]
    TooLong {
        /// Its length, bytes.
        got: usize,
        /// The limit, bytes.
        max: usize,
    },
    /// Not a header in canonical form.
    #[error("header: {0}")]
    Decode(#[from] DecodeError),
    /// Sizes out of range.
    #[error("header: {0}")]
    Layout(#[from] LayoutError),
    /// The number of hashes does not fit the manifest.
    #[error("header carries {got} chunk hashes, its manifest implies {expected}")]
    ChunkCount {
        /// Hashes given.
        got: usize,
        /// Chunks implied.
        expected: usize,
    },
    /// Not the model that was asked for.
    #[error("model digest {got}, expected {expected}")]
    Digest {
        /// Digest of the bytes given.
        got: Hash,
        /// Digest wanted.
        expected: Hash,
    },
}

/// A chunk that is not the one the header names.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChunkError {
    /// No such piece.
    #[error("piece {index}, the model has {count}")]
    Index {
        /// Index asked for.
        index: usize,
        /// Pieces there are.
        count: usize,
    },
    /// Wrong length.
    #[error("piece {index} has {got} bytes, expected {expected}")]
    Length {
        /// The piece.
        index: usize,
        /// Bytes given.
        got: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// Wrong content.
    #[error("piece {index} hashes to {got}, expected {expected}")]
    Hash {
        /// The piece.
        index: usize,
        /// Hash of the bytes given.
        got: Hash,
        /// Hash in the header.
        expected: Hash,
    },
    /// Some pieces have not been given yet.
    #[error("{count} pieces are missing")]
    Missing {
        /// How many.
        count: usize,
    },
}

#[derive(Clone)]
pub(super) struct HeaderRecord {
    pub(super) manifest: Manifest,
    pub(super) chunk_hashes: Vec<Hash>,
}

impl Write for HeaderRecord {
    fn write(&self, buf: &mut impl BufMut) {
        self.manifest.write(buf);
        self.chunk_hashes.write(buf);
    }
}

impl EncodeSize for HeaderRecord {
    fn encode_size(&self) -> usize {
        self.manifest.encode_size() + self.chunk_hashes.encode_size()
    }
}

impl Read for HeaderRecord {
    /// Most chunk hashes.
    type Cfg = usize;
    fn read_cfg(buf: &mut impl Buf, max: &usize) -> Result<Self, CodecError> {
        let manifest = Manifest::read(buf)?;
        let chunk_hashes = Vec::read_cfg(buf, &((..=*max).into(), ()))?;
        Ok(Self { manifest, chunk_hashes })
    }
}

pub(super) fn chunk_hash(index: usize, bytes: &[u8]) -> Hash {
    let mut hasher = domain("model chunk", &Hash::ZERO);
    hasher.update(&(index as u32).to_le_bytes());
    hasher.update(bytes);
    hasher.finalize().into()
}

impl Header {
    /// The header of a manifest whose chunks hash to `chunk_hashes` (see [`Header::chunk_hash`]): for
    /// whoever writes a file a piece at a time.
    ///
    /// # Errors
    /// As [`Header::decode`].
    pub fn of(
        manifest: Manifest,
        chunk_hashes: Vec<Hash>,
        limits: &ModelLimits,
    ) -> Result<Self, HeaderError> {
        Self::decode(&HeaderRecord { manifest, chunk_hashes }.encode(), limits)
    }

    /// Bytes of the header of a manifest with so many chunks. They do not depend on the values of scales
    /// and shifts, so a place can be kept for a header before these are known.
    pub fn length_of(manifest: &Manifest, chunks: usize) -> usize {
        let chunk_hashes = vec![Hash::ZERO; chunks];
        HeaderRecord { manifest: manifest.clone(), chunk_hashes }.encode_size()
    }

    /// The hash that a header holds of chunk `index`.
    pub fn chunk_hash(index: usize, bytes: &[u8]) -> Hash {
        chunk_hash(index, bytes)
    }

    /// What a file has before its payload: magic, length, header.
    pub fn file_prefix(&self) -> Vec<u8> {
        let mut prefix = Vec::with_capacity(super::PREFIX_BYTES + self.bytes.len());
        prefix.extend_from_slice(super::MAGIC);
        prefix.extend_from_slice(&(self.bytes.len() as u32).to_le_bytes());
        prefix.extend_from_slice(&self.bytes);
        prefix
    }

    /// Decodes a header from outside bytes.
    ///
    /// # Errors
    /// [`HeaderError`] for anything not canonical or beyond the limits.
    pub fn decode(bytes: &[u8], limits: &ModelLimits) -> Result<Self, HeaderError> {
        if bytes.len() > limits.max_header_bytes {
            return Err(HeaderError::TooLong { got: bytes.len(), max: limits.max_header_bytes });
        }
        let record: HeaderRecord = decode_exact(bytes, &(bytes.len() / 32))?;
        let layout = Layout::of(&record.manifest, limits)?;
        if record.chunk_hashes.len() != layout.chunks.len() {
            return Err(HeaderError::ChunkCount {
                got: record.chunk_hashes.len(),
                expected: layout.chunks.len(),
            });
        }
        Ok(Self {
            manifest: record.manifest,
            chunk_hashes: record.chunk_hashes,
            layout,
            digest: Hash::of_bytes("model", &Hash::ZERO, bytes),
            bytes: Bytes::copy_from_slice(bytes),
        })
    }

    /// [`Header::decode`], and the digest must be the one wanted.
    ///
    /// # Errors
    /// [`HeaderError::Digest`] when it is another model's, else as [`Header::decode`].
    pub fn decode_expected(
        bytes: &[u8],
        expected: &Hash,
        limits: &ModelLimits,
    ) -> Result<Self, HeaderError> {
        let got = Hash::of_bytes("model", &Hash::ZERO, bytes);
        if got != *expected {
            return Err(HeaderError::Digest { got, expected: *expected });
        }
        Self::decode(bytes, limits)
    }

    /// The model's digest: its identity on chain and off.
    pub fn digest(&self) -> Hash {
        self.digest
    }

    /// What the model says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where its tensors lie and how they are cut.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The header's own bytes, piece 0.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Pieces to fetch: the header and the chunks.
    pub fn piece_count(&self) -> usize {
        self.layout.chunks.len() + 1
    }

    /// Pieces `0..local_pieces()` hold all that a masked client keeps; the rest are weight rows.
    pub fn local_pieces(&self) -> usize {
        self.layout.local_chunks + 1
    }

    /// Length of a piece, bytes.
    pub fn piece_len(&self, index: usize) -> Option<usize> {
        match index.checked_sub(1) {
            None => Some(self.bytes.len()),
            Some(chunk) => self.layout.chunks.get(chunk).map(|c| c.range.len()),
        }
    }

    /// Checks one piece from a stranger and marks it as checked.
    ///
    /// # Errors
    /// As [`Header::verify_piece`].
    pub fn check_piece(&self, index: usize, bytes: impl Into<Bytes>) -> Result<Piece, ChunkError> {
        let bytes = bytes.into();
        self.verify_piece(index, &bytes)?;
        Ok(Piece { model: self.digest, index, bytes })
    }

    /// Checks one piece from a stranger.
    ///
    /// # Errors
    /// [`ChunkError`] saying what was got and what the header names.
    pub fn verify_piece(&self, index: usize, bytes: &[u8]) -> Result<(), ChunkError> {
        let Some(expected) = self.piece_len(index) else {
            return Err(ChunkError::Index { index, count: self.piece_count() });
        };
        if bytes.len() != expected {
            return Err(ChunkError::Length { index, got: bytes.len(), expected });
        }
        let (got, expected) = match index.checked_sub(1) {
            None => (Hash::of_bytes("model", &Hash::ZERO, bytes), self.digest),
            Some(chunk) => (chunk_hash(chunk, bytes), self.chunk_hashes[chunk]),
        };
        if got != expected {
            return Err(ChunkError::Hash { index, got, expected });
        }
        Ok(())
    }
}

/// A piece that [`Header::check_piece`] found to be the one its header names.
#[derive(Clone, Debug)]
pub struct Piece {
    pub(super) model: Hash,
    pub(super) index: usize,
    pub(super) bytes: Bytes,
}

impl Piece {
    /// Digest of the model whose header checked it.
    pub fn model(&self) -> Hash {
        self.model
    }

    /// Which piece it is: 0 is the header, `i` is chunk `i − 1`.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}
