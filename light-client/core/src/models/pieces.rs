//! Pieces of a model, from this device's store or from strangers, each checked before it is used.

use std::{
    fmt::Display,
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use nesa_model::{Header, ModelLimits, artifact::Piece};
use nesa_platform::storage::StorageError;
use nesa_primitives::Hash;

use super::{ModelStore, ModelStoreError, PieceSource};
use crate::client::lock;

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
    pub async fn header(
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
        let check = |bytes: Bytes| Header::decode_expected(&bytes, model, &limits);
        let header = self.fetch(model, 0, sources, check).await?;
        self.store.put(&namespace(model), "0", header.bytes()).await?;
        Ok(Arc::new(header))
    }

    /// One piece beside the header, checked: from the store, or from the sources, and then kept.
    ///
    /// # Errors
    /// [`ModelStoreError`], also where the model has no such piece.
    pub async fn piece(
        &self,
        header: &Header,
        index: usize,
        sources: &[Arc<dyn PieceSource>],
    ) -> Result<Bytes, ModelStoreError> {
        let pieces = self.pieces(header, index..index.saturating_add(1), sources);
        futures::pin_mut!(pieces);
        let model = header.digest();
        let missing = ModelStoreError::Unavailable { model, index, reason: "no such piece".into() };
        Ok(pieces.try_next().await?.ok_or(missing)?.bytes().clone())
    }

    /// One piece beside the header that the store has, checked; `None` where it has none that matches.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn stored_piece(
        &self,
        header: &Header,
        index: usize,
    ) -> Result<Option<Piece>, StorageError> {
        let mut found = self.stored(header, index..index.saturating_add(1)).await;
        found.pop().map_or(Ok(None), |(_, piece)| piece)
    }

    /// Which pieces of `model` beside the header the store has, in order; whether they match is not checked.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn held(&self, model: &Hash) -> Result<Vec<usize>, StorageError> {
        let keys = self.store.list(&namespace(model)).await?;
        let mut held: Vec<usize> = keys.iter().filter_map(|key| key.parse().ok()).collect();
        held.retain(|index| *index > 0);
        held.sort_unstable();
        Ok(held)
    }

    /// Removes a piece of `model` from the store; that it has none is no error.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn forget(&self, model: &Hash, index: usize) -> Result<(), StorageError> {
        self.store.delete(&namespace(model), &index.to_string()).await
    }

    /// Pieces beside headers that came from sources, were as their model's header says, and were kept, since
    /// this store was opened.
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// The pieces of `range` in order: those in the store by groups, the others from the sources,
    /// several at once, each written to the store on its way.
    pub fn pieces<'a>(
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
                    None => {
                        let check = |bytes| header.check_piece(index, bytes);
                        Ok((self.fetch(&header.digest(), index, sources, check).await?, true))
                    }
                }
            })
            .buffered(PARALLEL)
            .map(move |piece: Result<(Piece, bool), ModelStoreError>| async move {
                let (piece, fresh) = piece?;
                if fresh {
                    let key = piece.index().to_string();
                    self.store.put(&namespace(&header.digest()), &key, piece.bytes()).await?;
                    self.fetched.fetch_add(1, Ordering::Relaxed);
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

    /// One piece that `check` accepts, from the sources in turn. A source that gives another one is
    /// dropped.
    async fn fetch<T, E: Display>(
        &self,
        model: &Hash,
        index: usize,
        sources: &[Arc<dyn PieceSource>],
        check: impl Fn(Bytes) -> Result<T, E>,
    ) -> Result<T, ModelStoreError> {
        let mut reason = "no peer is known".to_owned();
        // Different pieces start with different peers, which spreads the load.
        for offset in 0..sources.len() {
            let source = &sources[(index + offset) % sources.len()];
            if let Some(offence) = lock(&self.refused).get(&source.name()) {
                reason = format!("{} was dropped: {offence}", source.name());
                continue;
            }
            match source.piece(*model, index as u32).await.map(&check) {
                Ok(Ok(piece)) => return Ok(piece),
                Ok(Err(error)) => {
                    tracing::warn!(peer = source.name(), %error, "dropped for a wrong piece");
                    reason = error.to_string();
                    lock(&self.refused).insert(source.name(), reason.clone());
                }
                Err(error) => reason = error,
            }
        }
        Err(ModelStoreError::Unavailable { model: *model, index, reason })
    }
}
