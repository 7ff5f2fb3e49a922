//! The models of a node: from where their pieces lie, opened as far as somebody needs them.
//!
//! The masked lane needs all weights of a model, a shard those of its layers. So a decoder that lies in a file
//! is read when a query needs it: shard by shard for clients who accept that nodes read the text, whole once a
//! client of the masked lane or of a preparation asks, and shards share that memory from then on. An
//! accelerator that takes weights of it reads it once and lets it go. Models of other families are opened when
//! the node starts. Of a model that is fetched ([`Larder`]) the same is true, with the pieces on this device and
//! those of peers in the place of the file.

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
    decoder::{DecoderModel, Shard, ShardError, served_stages},
};
use nesa_platform::task;
use nesa_primitives::Hash;

use crate::larder::{Larder, LarderError, Part};

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
    /// It has no such layers.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// It cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] LarderError),
}

/// Where the pieces of a model are.
enum Place {
    /// All of them are here.
    Here(Arc<dyn Pieces>),
    /// They are fetched.
    Fetched(Arc<Larder>, Arc<Header>),
}

/// Where a model lies, and what is held of it.
pub(crate) struct Source {
    place: Place,
    whole: Mutex<Option<Artifact>>,
}

impl Source {
    pub(crate) fn new(pieces: Arc<dyn Pieces>) -> Arc<Self> {
        let whole = Mutex::new(pieces.whole().cloned());
        Arc::new(Self { place: Place::Here(pieces), whole })
    }

    /// The models of a larder.
    pub(crate) fn fetched(larder: &Arc<Larder>) -> impl Iterator<Item = Arc<Self>> {
        larder.headers().iter().map(|header| {
            let place = Place::Fetched(larder.clone(), header.clone());
            Arc::new(Self { place, whole: Mutex::default() })
        })
    }

    pub(crate) fn header(&self) -> &Arc<Header> {
        match &self.place {
            Place::Here(pieces) => pieces.header(),
            Place::Fetched(_, header) => header,
        }
    }

    /// Whether all of it is here.
    fn is_here(&self) -> bool {
        matches!(self.place, Place::Here(_))
    }

    /// The whole model, if it is held.
    fn held(&self) -> Option<Artifact> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One piece, checked, wherever it is.
    pub(crate) async fn piece(&self, index: usize) -> Result<Bytes, OpenError> {
        if let Some(piece) = self.held().and_then(|artifact| artifact.piece(index)) {
            return Ok(piece);
        }
        match &self.place {
            Place::Here(pieces) => Ok(pieces.piece(index)?.bytes().clone()),
            Place::Fetched(larder, header) => Ok(larder.piece(&header.digest(), index).await?),
        }
    }

    /// One piece, checked, for a peer; `None` where it is not here.
    pub(crate) async fn lent(&self, index: usize) -> Result<Option<Bytes>, OpenError> {
        match &self.place {
            Place::Fetched(larder, header) if self.held().is_none() => {
                Ok(larder.held(&header.digest(), index).await?)
            }
            _ => self.piece(index).await.map(Some),
        }
    }

    /// A shard: in memory that is held already, or from its own pieces. Of what is fetched, parts that are not
    /// `busy` make room for it.
    pub(crate) async fn shard(
        &self,
        layers: Range<usize>,
        busy: &[Part],
    ) -> Result<DecoderModel, OpenError> {
        let collect: Box<dyn FnOnce() -> Result<Shard, ShardError> + Send> =
            match (self.held(), &self.place) {
                (Some(artifact), _) => Box::new(move || Shard::of_artifact(&artifact, layers)),
                (None, Place::Here(pieces)) => {
                    let pieces = pieces.clone();
                    Box::new(move || Shard::of_pieces(&*pieces, layers))
                }
                (None, Place::Fetched(larder, header)) => {
                    return Ok(larder.shard(&header.digest(), layers, busy).await?);
                }
            };
        task::compute(move || Ok(DecoderModel::open_shard(&collect()?)?)).await
    }

    /// The whole model, as it is held or else for the caller alone.
    async fn lend(&self) -> Result<Artifact, OpenError> {
        if let Some(artifact) = self.held() {
            return Ok(artifact);
        }
        match &self.place {
            Place::Here(pieces) => {
                let pieces = pieces.clone();
                Ok(task::compute(move || Artifact::of_pieces(&*pieces)).await?)
            }
            Place::Fetched(larder, header) => Ok(larder.whole(&header.digest()).await?),
        }
    }

    /// The whole model, held from now on.
    async fn hold(&self) -> Result<Artifact, OpenError> {
        let artifact = self.lend().await?;
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(whole.get_or_insert(artifact).clone())
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
        let artifact = self.source.lend().await?;
        task::compute(move || Ok(ExactModel::open(&artifact)?)).await
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

    /// The lane of every model that is here, and the model for whoever needs it once: what is not opened yet is
    /// held no longer than the caller holds it.
    pub(crate) fn each(
        &self,
    ) -> impl Iterator<Item = (Hash, &Lane, impl Future<Output = Result<ExactModel, OpenError>>)>
    {
        let here = self.0.iter().filter(|(_, entry)| entry.source.is_here());
        here.map(|(digest, entry)| (*digest, &entry.lane, entry.lend()))
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
    let artifact = source.hold().await?;
    task::compute(move || Ok(ExactModel::open(&artifact)?)).await
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use nesa_light::models::PieceSource;
    use nesa_model::decoder::toy::{self, ToyDecoder};
    use nesa_platform::{BoxFuture, storage::Store};

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
        assert_eq!(source.lend().await.unwrap().payload().as_ptr(), held.payload().as_ptr());
    }

    #[tokio::test]
    async fn peers_are_given_the_pieces_that_are_here_and_no_others() {
        struct Origin(Artifact);
        impl PieceSource for Origin {
            fn name(&self) -> String {
                "origin".to_owned()
            }
            fn piece(&self, _: Hash, index: u32) -> BoxFuture<'_, Result<Bytes, String>> {
                Box::pin(async move { Ok(self.0.piece(index as usize).unwrap()) })
            }
        }
        let toy = ToyDecoder { d_model: 256, d_ff: 640, ..ToyDecoder::default() };
        let artifact = toy::artifact(&toy).unwrap();
        let (header, count) = (artifact.header().clone(), artifact.header().piece_count());
        let origin: Arc<dyn PieceSource> = Arc::new(Origin(artifact.clone()));
        let larder = Larder::new(vec![header], Store::memory(), vec![origin], u64::MAX);
        let source = Source::fetched(&Arc::new(larder)).next().unwrap();
        assert_eq!(source.lent(0).await.unwrap(), artifact.piece(0));
        let here = source.piece(count - 1).await.unwrap();
        for index in 1..count {
            let expected = (index == count - 1).then(|| here.clone());
            assert_eq!(source.lent(index).await.unwrap(), expected, "piece {index}");
        }
        // Whoever serves the masked lane holds all of it, and fetches it once.
        assert_eq!(source.hold().await.unwrap().to_file(), artifact.to_file());
        assert_eq!(source.lent(1).await.unwrap(), artifact.piece(1));
        let shard = source.shard(1..2, &[]).await.unwrap();
        assert_eq!(shard.layers(), 1..2);
    }
}
