//! Loaded shards: from a model that is here whole, or from this shard's pieces alone.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use futures::lock::Mutex as AsyncMutex;
use nesa_light::models::{ModelStore, ModelStoreError, PieceSource};
use nesa_model::{
    Artifact, Header, ModelError,
    artifact::PieceError,
    decoder::{DecoderModel, ShardError},
};
use nesa_platform::{storage::Store, task};
use nesa_primitives::Hash;

use super::{desk::Desk, seat::Device};
use crate::{metrics::Counters, models::Source};

/// Shards that may be loaded at once, beside those that sessions still use.
const KEPT: usize = 4;

/// Why a shard cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The node does not offer the model.
    #[error("model {0} is not offered here")]
    Model(Hash),
    /// The model has no such layers.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The pieces are not those of a possible model.
    #[error(transparent)]
    Open(#[from] ModelError),
    /// A piece cannot be read where it lies.
    #[error(transparent)]
    Piece(#[from] PieceError),
    /// The pieces cannot be had.
    #[error(transparent)]
    Fetch(#[from] ModelStoreError),
}

type Place = (Hash, usize, usize);

/// The shards of a node.
pub struct Shelf {
    /// Models whose pieces are here.
    whole: HashMap<Hash, Arc<Source>>,
    /// Models whose shards are fetched when a query needs them.
    fetched: Vec<Hash>,
    store: ModelStore,
    sources: Vec<Arc<dyn PieceSource>>,
    /// Desks that sessions use.
    live: Mutex<HashMap<Place, Weak<Desk>>>,
    /// Those used last stay loaded.
    kept: Mutex<Vec<(Place, Arc<Desk>)>>,
    /// One shard is loaded at a time: that bounds what a load may take.
    loading: AsyncMutex<()>,
    pub(crate) counters: Mutex<Arc<Counters>>,
    /// The device beside the processor, where there is one.
    pub(crate) device: Mutex<Option<Arc<Device>>>,
}

impl Shelf {
    /// A shelf over `whole` models, and `fetched` ones whose pieces come from `sources` and are kept
    /// in `store`.
    pub fn new(
        whole: Vec<Artifact>,
        fetched: Vec<Hash>,
        store: Store,
        sources: Vec<Arc<dyn PieceSource>>,
    ) -> Self {
        let whole = whole.into_iter().map(|artifact| Source::new(Arc::new(artifact)));
        let whole = whole.map(|source| (source.header().digest(), source)).collect();
        Self { fetched, sources, ..Self::empty(whole, store) }
    }

    /// A shelf over models whose pieces are here.
    pub(crate) fn over(sources: Vec<Arc<Source>>, store: Store) -> Self {
        let whole = sources.into_iter().map(|source| (source.header().digest(), source)).collect();
        Self::empty(whole, store)
    }

    fn empty(whole: HashMap<Hash, Arc<Source>>, store: Store) -> Self {
        Self {
            whole,
            fetched: Vec::new(),
            store: ModelStore::new(store),
            sources: Vec::new(),
            live: Mutex::default(),
            kept: Mutex::default(),
            loading: AsyncMutex::new(()),
            counters: Mutex::default(),
            device: Mutex::default(),
        }
    }

    /// Whether shards of the model can be had.
    pub(crate) fn offers(&self, model: &Hash) -> bool {
        self.whole.contains_key(model) || self.fetched.contains(model)
    }

    /// The desk of a shard, loaded if need be.
    pub(crate) async fn desk(
        &self,
        model: &Hash,
        layers: Range<usize>,
    ) -> Result<Arc<Desk>, ShelfError> {
        let place = (*model, layers.start, layers.end);
        if let Some(desk) = self.find(&place) {
            return Ok(desk);
        }
        let _one = self.loading.lock().await;
        if let Some(desk) = self.find(&place) {
            return Ok(desk);
        }
        let shard = match self.whole.get(model) {
            Some(source) => {
                let source = source.clone();
                let opened = task::compute(move || -> Result<_, ShelfError> {
                    Ok(DecoderModel::open_shard(&source.shard(layers)?)?)
                });
                opened.await?
            }
            None if self.fetched.contains(model) => {
                self.store.shard(model, layers, &self.sources, &|_| {}).await?
            }
            None => return Err(ShelfError::Model(*model)),
        };
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let desk = Arc::new(Desk::new(shard, counters, device));
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|_, desk| desk.strong_count() > 0);
        live.insert(place, Arc::downgrade(&desk));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push((place, desk.clone()));
        if kept.len() > KEPT {
            kept.remove(0);
        }
        Ok(desk)
    }

    /// The header of a model that is offered.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub(crate) async fn header(&self, model: &Hash) -> Result<Arc<Header>, ShelfError> {
        match self.whole.get(model) {
            Some(source) => Ok(source.header().clone()),
            None => Ok(self.store.header(model, &self.sources).await?),
        }
    }

    /// One piece of a model that is offered, from this device or its sources.
    ///
    /// # Errors
    /// [`ShelfError`], also where the model has no such piece.
    pub(crate) async fn piece(
        &self,
        model: &Hash,
        header: &Header,
        index: usize,
    ) -> Result<Bytes, ShelfError> {
        match self.whole.get(model) {
            Some(source) => Ok(source.piece(index)?),
            None => Ok(self.store.piece(header, index, &self.sources).await?),
        }
    }

    fn find(&self, place: &Place) -> Option<Arc<Desk>> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.get(place).and_then(Weak::upgrade)
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shelf({} whole, {} fetched)", self.whole.len(), self.fetched.len())
    }
}
