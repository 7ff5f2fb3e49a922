//! Models whose pieces are read when they are needed.

use bytes::Bytes;
use std::sync::Arc;
use thiserror::Error;

use super::{Artifact, ChunkError, Header, Piece};

/// Why a piece cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PieceError {
    /// It is not what the header names: its place holds other bytes now.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// It could not be read.
    #[error("piece {index} cannot be read: {error}")]
    Read {
        /// The piece.
        index: usize,
        /// Why, in words.
        error: String,
    },
}

/// A model whose header is here and whose pieces lie somewhere: in memory, or in a file that others may
/// change or cut.
pub trait Pieces: Send + Sync {
    /// The header, checked.
    fn header(&self) -> &Arc<Header>;

    /// The bytes at a piece's place, which may be any.
    ///
    /// # Errors
    /// [`PieceError`] when there are none.
    fn read(&self, index: usize) -> Result<Bytes, PieceError>;

    /// The whole model, where it is held.
    fn whole(&self) -> Option<&Artifact> {
        None
    }

    /// A piece, checked against the header each time it is read.
    ///
    /// # Errors
    /// [`PieceError`] when its place holds other bytes, or none.
    fn piece(&self, index: usize) -> Result<Piece, PieceError> {
        Ok(self.header().check_piece(index, self.read(index)?)?)
    }
}

impl Pieces for Artifact {
    fn header(&self) -> &Arc<Header> {
        Artifact::header(self)
    }

    fn read(&self, index: usize) -> Result<Bytes, PieceError> {
        let count = self.header.piece_count();
        Ok(Artifact::piece(self, index).ok_or(ChunkError::Index { index, count })?)
    }

    fn whole(&self) -> Option<&Artifact> {
        Some(self)
    }
}

impl Artifact {
    /// Reads all pieces into memory.
    ///
    /// # Errors
    /// [`PieceError`] naming the first that is not there or not what the header names.
    pub fn of_pieces(pieces: &dyn Pieces) -> Result<Self, PieceError> {
        if let Some(whole) = pieces.whole() {
            return Ok(whole.clone());
        }
        let header = pieces.header().clone();
        let mut payload = Vec::with_capacity(header.layout.total_bytes);
        for index in 1..header.piece_count() {
            payload.extend_from_slice(pieces.piece(index)?.bytes());
        }
        Ok(Self { header, payload: payload.into() })
    }
}
