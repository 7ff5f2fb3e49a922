//! Pieces of a model, from this device's store or from strangers, each checked before it is used.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use nesa_model::{Header, ModelLimits, artifact::Piece};
use nesa_platform::storage::StorageError;
use nesa_primitives::Hash;

use super::{ModelStore, ModelStoreError, PieceSource};

/// Pieces fetched at once.
pub(super) const PARALLEL: usize = 6;
/// Pieces on their way into the store at once, beside those being fetched.
const WRITTEN: usize = 6;
/// Pieces read from the store in one transaction: 4 MiB at most.
const GROUP: usize = 16;

fn namespace(model: &Hash) -> String {
    format!("model-{model}")
}

impl ModelStore {
    /// Piece 0, checked against the digest.
    pub(super) async fn header(
        &self,
        model: &Hash,
        sources: &[Arc<dyn PieceSource>],
    ) -> Result<Arc<Header>, ModelStoreError> {
        let limits = ModelLimits::default();
        if let Some(bytes) = self.store.get(&namespace(model), "0").await?
            && let Ok(header) = Header::decode_expected(&bytes, model, &limits)
        {
            return Ok(Arc::new(header));
        }
        let mut reason = "no peer is known".to_owned();
        for source in sources {
            match source.piece(*model, 0).await {
                Ok(bytes) => match Header::decode_expected(&bytes, model, &limits) {
                    Ok(header) => {
                        self.store.put(&namespace(model), "0", &bytes).await?;
                        return Ok(Arc::new(header));
                    }
                    Err(error) => reason = error.to_string(),
                },
                Err(error) => reason = error,
            }
        }
        Err(ModelStoreError::Unavailable { model: *model, index: 0, reason })
    }

    /// The pieces of `range` in order: those in the store by groups, the others from the sources,
    /// several at once, each written to the store on its way.
    pub(super) fn pieces<'a>(
        &'a self,
        header: &'a Header,
        range: Range<usize>,
        sources: &'a [Arc<dyn PieceSource>],
    ) -> impl Stream<Item = Result<Piece, ModelStoreError>> + 'a {
        let end = range.end;
        stream::iter(range.step_by(GROUP))
            .then(move |start| self.stored(header, start..(start + GROUP).min(end)))
            .flat_map(stream::iter)
            .map(move |(index, stored)| async move {
                match stored? {
                    Some(piece) => Ok((piece, false)),
                    None => Ok((fetch(header, index, sources).await?, true)),
                }
            })
            .buffered(PARALLEL)
            .map(move |piece: Result<(Piece, bool), ModelStoreError>| async move {
                let (piece, fresh) = piece?;
                if fresh {
                    let key = piece.index().to_string();
                    self.store.put(&namespace(&header.digest()), &key, piece.bytes()).await?;
                }
                Ok(piece)
            })
            .buffered(WRITTEN)
    }

    /// What the store holds of `range`. A piece that does not match any more is fetched again.
    async fn stored(
        &self,
        header: &Header,
        range: Range<usize>,
    ) -> Vec<(usize, Result<Option<Piece>, StorageError>)> {
        let keys: Vec<String> = range.clone().map(|index| index.to_string()).collect();
        match self.store.get_many(&namespace(&header.digest()), &keys).await {
            Ok(found) => range
                .zip(found)
                .map(|(index, bytes)| {
                    (index, Ok(bytes.and_then(|bytes| header.check_piece(index, bytes).ok())))
                })
                .collect(),
            Err(error) => vec![(range.start, Err(error))],
        }
    }
}

/// One checked piece, from the sources in turn.
async fn fetch(
    header: &Header,
    index: usize,
    sources: &[Arc<dyn PieceSource>],
) -> Result<Piece, ModelStoreError> {
    let model = header.digest();
    let mut reason = "no peer is known".to_owned();
    // Different pieces start with different peers, which spreads the load.
    for offset in 0..sources.len() {
        let source = &sources[(index + offset) % sources.len()];
        let answer: Result<Bytes, String> = source.piece(model, index as u32).await;
        match answer.map(|bytes| header.check_piece(index, bytes)) {
            Ok(Ok(piece)) => return Ok(piece),
            Ok(Err(error)) => {
                tracing::warn!(peer = source.name(), %error, "a wrong piece was refused");
                reason = error.to_string();
            }
            Err(error) => reason = error,
        }
    }
    Err(ModelStoreError::Unavailable { model, index, reason })
}
