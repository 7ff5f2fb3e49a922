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

mod assembler;
mod header;
mod pieces;

use bytes::Bytes;
use commonware_codec::Encode;
use nesa_primitives::Hash;
use std::sync::Arc;
use thiserror::Error;

use crate::layout::{Layout, ModelLimits};
use crate::manifest::Manifest;
use header::{HeaderRecord, chunk_hash};

pub use assembler::{Assembler, LocalPart};
pub use header::{ChunkError, Header, HeaderError, Piece};
pub use pieces::{PieceError, Pieces};

/// First bytes of a compiled model file.
pub const MAGIC: &[u8; 8] = b"NESAEXM1";

/// Bytes of a file before its header.
pub const PREFIX_BYTES: usize = MAGIC.len() + 4;

/// Length of the header of a file that begins with `prefix`, for readers that take a file in pieces.
///
/// # Errors
/// [`ArtifactError::Prefix`] when it is no compiled model.
pub fn header_len(prefix: &[u8]) -> Result<usize, ArtifactError> {
    let rest = prefix.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk::<4>());
    let length = rest.ok_or(ArtifactError::Prefix("the first bytes differ"))?;
    Ok(u32::from_le_bytes(*length) as usize)
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
        let length = header_len(&file)?;
        if length > file.len() - PREFIX_BYTES {
            return Err(ArtifactError::Prefix("the header is cut off"));
        }
        let header = Header::decode(&file[PREFIX_BYTES..PREFIX_BYTES + length], limits)?;
        let payload = file.slice(PREFIX_BYTES + length..);
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
        let mut file = self.header.file_prefix();
        file.reserve_exact(self.payload.len());
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
        PREFIX_BYTES + self.header.bytes.len() + self.payload.len()
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
