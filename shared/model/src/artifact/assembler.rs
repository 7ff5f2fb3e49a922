//! Models from pieces that come in any order.

use bytes::Bytes;
use std::sync::Arc;

use super::{Artifact, ChunkError, Header, Piece};

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
