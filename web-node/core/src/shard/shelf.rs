//! Loaded shards: from a model that is here whole, or from this shard's pieces alone.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use futures::lock::Mutex as AsyncMutex;
use nesa_model::{Artifact, Header};
use nesa_primitives::Hash;

use super::{desk::Desk, seat::Device};
use crate::{
    compute::Cores,
    larder::{Larder, Part},
    metrics::Counters,
    models::{OpenError, Source},
};

/// Shards that may be loaded at once, beside those that sessions still use.
const KEPT: usize = 4;

/// Why a shard cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The node does not offer the model.
    #[error("model {0} is not offered here")]
    Model(Hash),
    /// Its pieces cannot be had, or are not those of a possible model.
    #[error(transparent)]
    Open(#[from] OpenError),
}

type Place = (Hash, usize, usize);

/// The shards of a node.
pub struct Shelf {
    /// Models whose pieces are here or fetched.
    models: HashMap<Hash, Arc<Source>>,
    /// Desks that sessions use.
    live: Mutex<HashMap<Place, Weak<Desk>>>,
    /// Those used last stay loaded.
    kept: Mutex<Vec<(Place, Arc<Desk>)>>,
    /// One shard is loaded at a time: that bounds what a load may take.
    loading: AsyncMutex<()>,
    pub(crate) counters: Mutex<Arc<Counters>>,
    /// The device beside the processor, where there is one.
    pub(crate) device: Mutex<Option<Arc<Device>>>,
    /// The processor's threads.
    pub(crate) cores: Mutex<Cores>,
}

impl Shelf {
    /// A shelf over `whole` models, and those of a larder.
    pub fn new(whole: Vec<Artifact>, larder: Option<&Arc<Larder>>) -> Self {
        let whole = whole.into_iter().map(|artifact| Source::new(Arc::new(artifact)));
        Self::over(whole.chain(larder.into_iter().flat_map(Source::fetched)).collect())
    }

    pub(crate) fn over(sources: Vec<Arc<Source>>) -> Self {
        Self {
            models: sources.into_iter().map(|s| (s.header().digest(), s)).collect(),
            live: Mutex::default(),
            kept: Mutex::default(),
            loading: AsyncMutex::new(()),
            counters: Mutex::default(),
            device: Mutex::default(),
            cores: Mutex::default(),
        }
    }

    fn source(&self, model: &Hash) -> Result<&Arc<Source>, ShelfError> {
        self.models.get(model).ok_or(ShelfError::Model(*model))
    }

    /// Whether shards of the model can be had.
    pub(crate) fn offers(&self, model: &Hash) -> bool {
        self.models.contains_key(model)
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
        let shard = self.source(model)?.shard(layers, &self.busy()).await?;
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let cores = self.cores.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let desk = Arc::new(Desk::new(shard, counters, device, cores));
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
    pub(crate) fn header(&self, model: &Hash) -> Result<Arc<Header>, ShelfError> {
        Ok(self.source(model)?.header().clone())
    }

    /// One piece of a model that is offered, from this device or its sources.
    ///
    /// # Errors
    /// [`ShelfError`], also where the model has no such piece.
    pub(crate) async fn piece(&self, model: &Hash, index: usize) -> Result<Bytes, ShelfError> {
        Ok(self.source(model)?.piece(index).await?)
    }

    /// The shards that sessions use now.
    fn busy(&self) -> Vec<Part> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |place: &Place| kept.iter().filter(|(other, _)| other == place).count();
        let used = live.iter().filter(|(place, desk)| desk.strong_count() > idle(place));
        used.map(|((model, start, end), _)| Part::of(*model, &(*start..*end))).collect()
    }

    fn find(&self, place: &Place) -> Option<Arc<Desk>> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.get(place).and_then(Weak::upgrade)
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shelf({} models)", self.models.len())
    }
}
