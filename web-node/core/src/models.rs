//! The models of a node: from where their pieces lie, opened as far as somebody needs them.
//!
//! The masked lane needs all weights of a model, a shard those of its layers. So a decoder that lies in a file
//! is read when a query needs it: shard by shard for clients who accept that nodes read the text, whole once a
//! client of the masked lane or of a preparation asks, and shards share that memory from then on. An
//! accelerator that takes weights of it reads it once and lets it go. Models of other families are opened when
//! the node starts.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::lock::Mutex as AsyncMutex;
use nesa_masked::{Lane, spec::SpecError};
use nesa_model::{
    Artifact, ExactModel, Header, ModelError,
    artifact::{PieceError, Pieces},
    decoder::{Shard, ShardError, served_stages},
};
use nesa_platform::task;
use nesa_primitives::Hash;

/// Why a model cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its pieces cannot be had, or are not what its header names.
    #[error(transparent)]
    Piece(#[from] PieceError),
    /// They are those of no possible model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model cannot be served masked.
    #[error(transparent)]
    Lane(#[from] SpecError),
}

/// Where a model lies, and what is held of it.
pub(crate) struct Source {
    pieces: Arc<dyn Pieces>,
    whole: Mutex<Option<Artifact>>,
}

impl Source {
    pub(crate) fn new(pieces: Arc<dyn Pieces>) -> Arc<Self> {
        let whole = Mutex::new(pieces.whole().cloned());
        Arc::new(Self { pieces, whole })
    }

    pub(crate) fn header(&self) -> &Arc<Header> {
        self.pieces.header()
    }

    /// The whole model, if it is held.
    fn held(&self) -> Option<Artifact> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One piece, checked.
    pub(crate) fn piece(&self, index: usize) -> Result<Bytes, PieceError> {
        match self.held().and_then(|artifact| artifact.piece(index)) {
            Some(piece) => Ok(piece),
            None => Ok(self.pieces.piece(index)?.bytes().clone()),
        }
    }

    /// A shard: in memory that is held already, or from its own pieces.
    pub(crate) fn shard(&self, layers: Range<usize>) -> Result<Shard, ShardError> {
        match self.held() {
            Some(artifact) => Shard::of_artifact(&artifact, layers),
            None => Shard::of_pieces(&*self.pieces, layers),
        }
    }

    /// The whole model, as it is held or else for the caller alone.
    fn lend(&self) -> Result<Artifact, PieceError> {
        match self.held() {
            Some(artifact) => Ok(artifact),
            None => Artifact::of_pieces(&*self.pieces),
        }
    }

    /// The whole model, held from now on.
    fn hold(&self) -> Result<Artifact, PieceError> {
        if let Some(artifact) = self.held() {
            return Ok(artifact);
        }
        let artifact = Artifact::of_pieces(&*self.pieces)?;
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(whole.insert(artifact).clone())
    }
}

struct Entry {
    source: Arc<Source>,
    lane: Lane,
    /// One caller opens it at a time.
    model: AsyncMutex<Option<ExactModel>>,
}

impl Entry {
    /// The model, as it is held or else for the caller alone.
    async fn lend(&self) -> Result<ExactModel, OpenError> {
        if let Some(model) = &*self.model.lock().await {
            return Ok(model.clone());
        }
        let source = self.source.clone();
        task::compute(move || Ok(ExactModel::open(&source.lend()?)?)).await
    }
}

/// What the masked lane serves.
pub(crate) struct Models(HashMap<Hash, Entry>);

impl Models {
    /// Finds the lane of each model, opening those that are no decoders.
    ///
    /// # Errors
    /// [`OpenError`] when one cannot be opened or served masked.
    pub(crate) async fn new(sources: &[Arc<Source>]) -> Result<Self, OpenError> {
        let mut models = HashMap::new();
        for source in sources {
            let (lane, model) = match source.header().manifest().decoder() {
                Some(decoder) => (Lane::of_model(&served_stages(decoder))?, None),
                None => {
                    let model = open(source.clone()).await?;
                    (Lane::of_model(model.served_stages())?, Some(model))
                }
            };
            let entry = Entry { source: source.clone(), lane, model: AsyncMutex::new(model) };
            models.insert(source.header().digest(), entry);
        }
        Ok(Self(models))
    }

    /// The lane of a model; `None` if it is not served.
    pub(crate) fn lane(&self, model: &Hash) -> Option<Lane> {
        self.0.get(model).map(|entry| entry.lane.clone())
    }

    /// A model, opened if need be; `None` if it is not served.
    pub(crate) async fn get(&self, model: &Hash) -> Option<Result<ExactModel, OpenError>> {
        let entry = self.0.get(model)?;
        let mut opened = entry.model.lock().await;
        if opened.is_none() {
            match open(entry.source.clone()).await {
                Ok(model) => *opened = Some(model),
                Err(error) => return Some(Err(error)),
            }
        }
        opened.clone().map(Ok)
    }

    /// Every model's lane, and the model for whoever needs it once: what is not opened yet is held no longer
    /// than the caller holds it.
    pub(crate) fn each(
        &self,
    ) -> impl Iterator<Item = (Hash, &Lane, impl Future<Output = Result<ExactModel, OpenError>>)>
    {
        self.0.iter().map(|(digest, entry)| (*digest, &entry.lane, entry.lend()))
    }

    /// Every model and its lane, opened.
    ///
    /// # Errors
    /// [`OpenError`] when one cannot be.
    pub(crate) async fn all(&self) -> Result<HashMap<Hash, (ExactModel, Lane)>, OpenError> {
        let mut all = HashMap::new();
        for (digest, entry) in &self.0 {
            if let Some(model) = self.get(digest).await {
                all.insert(*digest, (model?, entry.lane.clone()));
            }
        }
        Ok(all)
    }
}

async fn open(source: Arc<Source>) -> Result<ExactModel, OpenError> {
    task::compute(move || Ok(ExactModel::open(&source.hold()?)?)).await
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use nesa_model::decoder::toy::{self, ToyDecoder};

    use super::*;

    /// A model that lies in a file, say.
    struct Elsewhere(Artifact);

    impl Pieces for Elsewhere {
        fn header(&self) -> &Arc<Header> {
            self.0.header()
        }

        fn read(&self, index: usize) -> Result<Bytes, PieceError> {
            Ok(self.0.piece(index).unwrap())
        }
    }

    #[tokio::test]
    async fn what_is_lent_is_not_held_and_what_is_asked_for_is() {
        let artifact = toy::artifact(&ToyDecoder::default()).unwrap();
        let digest = artifact.digest();
        let source = Source::new(Arc::new(Elsewhere(artifact)));
        let models = Models::new(std::slice::from_ref(&source)).await.unwrap();
        for (named, lane, open) in models.each() {
            assert_eq!((named, Some(lane.clone())), (digest, models.lane(&digest)));
            let model = open.await.unwrap();
            assert_eq!(Lane::of_model(model.served_stages()).unwrap(), *lane);
            assert!(source.held().is_none());
        }
        models.get(&digest).await.unwrap().unwrap();
        let held = source.held().unwrap();
        // From then on it is lent from there.
        let (_, _, open) = models.each().next().unwrap();
        open.await.unwrap();
        assert_eq!(source.lend().unwrap().payload().as_ptr(), held.payload().as_ptr());
    }
}
