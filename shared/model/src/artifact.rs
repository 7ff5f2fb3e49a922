//! The compiled file and its chunked digest.
//!
//! ```text
//! file    = "NESAEXM1" ‖ u32 header length ‖ header ‖ payload        (little endian)
//! header  = manifest ‖ chunk hashes
//! digest  = H("nesa/1 model", header)            chunk hash = H("nesa/1 model chunk", index ‖ bytes)
//! ```
//!
//! The digest is the root of a hash tree whose leaves are chunks of whole rows. A client fetches
//! the header first, checks it against the digest it wants, and can then take each chunk from any
//! stranger, in any order, checking it alone. *Piece* 0 is the header, piece `i` is chunk `i − 1`.

use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, Encode, EncodeSize, Error as CodecError, Read, ReadExt, Write};
use nesa_primitives::{DecodeError, Hash, decode_exact, domain};
use std::sync::Arc;
use thiserror::Error;

use crate::layout::{Layout, LayoutError, ModelLimits};
use crate::manifest::Manifest;

/// First bytes of a compiled model file.
pub const MAGIC: &[u8; 8] = b"NESAEXM1";

const PREFIX: usize = MAGIC.len() + 4;

/// Manifest and chunk hashes: all a client needs to check chunks from strangers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    manifest: Manifest,
    chunk_hashes: Vec<Hash>,
    layout: Layout,
    bytes: Bytes,
    digest: Hash,
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

/// A file that is not a compiled model.
#[derive(Debug, Error)]
pub enum ArtifactError {
    /// Does not begin with [`MAGIC`] and a header length.
    #[error("not a compiled model: {0}")]
    Prefix(&'static str),
    /// A bad header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A payload of the wrong length.
    #[error("payload of {got} bytes, expected {expected}")]
    Length {
        /// Bytes given.
        got: usize,
        /// Bytes the manifest implies.
        expected: usize,
    },
    /// A chunk does not match its hash.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

#[derive(Clone)]
struct HeaderRecord {
    manifest: Manifest,
    chunk_hashes: Vec<Hash>,
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

fn chunk_hash(index: usize, bytes: &[u8]) -> Hash {
    let mut hasher = domain("model chunk", &Hash::ZERO);
    hasher.update(&(index as u32).to_le_bytes());
    hasher.update(bytes);
    hasher.finalize().into()
}

impl Header {
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
    model: Hash,
    index: usize,
    bytes: Bytes,
}

impl Piece {
    /// Which piece it is: 0 is the header, `i` is chunk `i − 1`.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// A whole compiled model, every chunk checked against its header.
#[derive(Clone, Debug)]
pub struct Artifact {
    header: Arc<Header>,
    payload: Bytes,
}

impl Artifact {
    /// Builds an artifact from a manifest and its payload; the compiler's last step.
    ///
    /// # Errors
    /// [`ArtifactError`] when the sizes do not fit each other.
    pub fn build(manifest: Manifest, payload: Bytes) -> Result<Self, ArtifactError> {
        let limits = ModelLimits { max_bytes: usize::MAX, max_header_bytes: usize::MAX };
        let layout = Layout::of(&manifest, &limits).map_err(HeaderError::from)?;
        if payload.len() != layout.total_bytes {
            return Err(ArtifactError::Length { got: payload.len(), expected: layout.total_bytes });
        }
        let chunk_hashes = layout
            .chunks
            .iter()
            .enumerate()
            .map(|(i, c)| chunk_hash(i, &payload[c.range.clone()]))
            .collect();
        let bytes = HeaderRecord { manifest, chunk_hashes }.encode();
        let header = Header::decode(&bytes, &limits)?;
        Ok(Self { header: Arc::new(header), payload })
    }

    /// Opens a whole file, checking every chunk.
    ///
    /// # Errors
    /// [`ArtifactError`] naming the first thing wrong.
    pub fn open(file: impl Into<Bytes>, limits: &ModelLimits) -> Result<Self, ArtifactError> {
        let file: Bytes = file.into();
        if file.len() < PREFIX || &file[..MAGIC.len()] != MAGIC {
            return Err(ArtifactError::Prefix("the first bytes differ"));
        }
        let mut length = [0u8; 4];
        length.copy_from_slice(&file[MAGIC.len()..PREFIX]);
        let length = u32::from_le_bytes(length) as usize;
        if length > file.len() - PREFIX {
            return Err(ArtifactError::Prefix("the header is cut off"));
        }
        let header = Header::decode(&file[PREFIX..PREFIX + length], limits)?;
        let payload = file.slice(PREFIX + length..);
        if payload.len() != header.layout.total_bytes {
            return Err(ArtifactError::Length {
                got: payload.len(),
                expected: header.layout.total_bytes,
            });
        }
        for (i, chunk) in header.layout.chunks.iter().enumerate() {
            header.verify_piece(i + 1, &payload[chunk.range.clone()])?;
        }
        Ok(Self { header: Arc::new(header), payload })
    }

    /// The file's bytes.
    pub fn to_file(&self) -> Vec<u8> {
        let mut file = Vec::with_capacity(PREFIX + self.header.bytes.len() + self.payload.len());
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&(self.header.bytes.len() as u32).to_le_bytes());
        file.extend_from_slice(&self.header.bytes);
        file.extend_from_slice(&self.payload);
        file
    }

    /// The model's digest.
    pub fn digest(&self) -> Hash {
        self.header.digest
    }

    /// The header.
    pub fn header(&self) -> &Arc<Header> {
        &self.header
    }

    /// The payload: local region, then weights.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Size of the file, bytes.
    pub fn file_len(&self) -> usize {
        PREFIX + self.header.bytes.len() + self.payload.len()
    }

    /// One piece, for serving; `None` beyond [`Header::piece_count`].
    pub fn piece(&self, index: usize) -> Option<Bytes> {
        match index.checked_sub(1) {
            None => Some(self.header.bytes.clone()),
            Some(chunk) => {
                let chunk = self.header.layout.chunks.get(chunk)?;
                Some(self.payload.slice(chunk.range.clone()))
            }
        }
    }
}

/// Collects checked pieces in any order, until a model (or its local region) is complete.
///
/// The buffer is reserved only as pieces arrive, and each is checked before it is kept.
#[derive(Debug)]
pub struct Assembler {
    header: Arc<Header>,
    chunks: Vec<Option<Bytes>>,
}

impl Assembler {
    /// Collects every chunk of the model.
    pub fn whole(header: Arc<Header>) -> Self {
        let count = header.layout.chunks.len();
        Self { header, chunks: vec![None; count] }
    }

    /// Collects only the local region, for a client that hands the linear stages to a lane.
    pub fn local(header: Arc<Header>) -> Self {
        let count = header.layout.local_chunks;
        Self { header, chunks: vec![None; count] }
    }

    /// Indices of the pieces still missing.
    pub fn missing(&self) -> impl Iterator<Item = usize> + '_ {
        self.chunks.iter().enumerate().filter(|(_, c)| c.is_none()).map(|(i, _)| i + 1)
    }

    /// Checks and keeps one piece. A piece given twice is kept once; piece 0 is already here.
    ///
    /// # Errors
    /// [`ChunkError`] when it is not the piece the header names.
    pub fn insert(&mut self, index: usize, bytes: impl Into<Bytes>) -> Result<(), ChunkError> {
        let piece = self.header.check_piece(index, bytes)?;
        self.insert_checked(piece)
    }

    /// Keeps one piece that was checked already, without hashing it again.
    ///
    /// # Errors
    /// [`ChunkError`] when another model's header checked it, or it is outside the region.
    pub fn insert_checked(&mut self, piece: Piece) -> Result<(), ChunkError> {
        let Piece { model, index, bytes } = piece;
        if model != self.header.digest {
            return Err(ChunkError::Hash { index, got: model, expected: self.header.digest });
        }
        let count = self.chunks.len() + 1;
        match index.checked_sub(1) {
            None => Ok(()),
            Some(chunk) => match self.chunks.get_mut(chunk) {
                Some(slot) => {
                    *slot = Some(bytes);
                    Ok(())
                }
                None => Err(ChunkError::Index { index, count }),
            },
        }
    }

    fn concat(&mut self) -> Result<Bytes, ChunkError> {
        let count = self.missing().count();
        if count > 0 {
            return Err(ChunkError::Missing { count });
        }
        let total = self.chunks.iter().flatten().map(Bytes::len).sum();
        let mut payload = Vec::with_capacity(total);
        for chunk in &mut self.chunks {
            if let Some(chunk) = chunk.take() {
                payload.extend_from_slice(&chunk);
            }
        }
        Ok(payload.into())
    }

    /// The whole model, once nothing is missing.
    ///
    /// # Errors
    /// [`ChunkError::Missing`] while pieces are missing, or when only the local region was asked
    /// for.
    pub fn finish(mut self) -> Result<Artifact, ChunkError> {
        let absent = self.header.layout.chunks.len() - self.chunks.len();
        if absent > 0 {
            return Err(ChunkError::Missing { count: absent });
        }
        let payload = self.concat()?;
        Ok(Artifact { header: self.header, payload })
    }

    /// The local region alone, once nothing is missing of it; [`crate::Model::open_local`] takes it.
    ///
    /// # Errors
    /// [`ChunkError::Missing`] while pieces are missing.
    pub fn finish_local(mut self) -> Result<LocalPart, ChunkError> {
        self.chunks.truncate(self.header.layout.local_chunks);
        let payload = self.concat()?;
        Ok(LocalPart { header: self.header, payload })
    }
}

/// The local region of a model, checked: embeddings, norms, scales, tables and vocabulary.
#[derive(Clone, Debug)]
pub struct LocalPart {
    pub(crate) header: Arc<Header>,
    pub(crate) payload: Bytes,
}
