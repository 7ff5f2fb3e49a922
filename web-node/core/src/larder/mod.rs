//! Models that a node serves without having their files: pieces fetched from peers, each checked against the
//! model's digest, kept on this device within bounds, and found again after a restart.
//!
//! # Design
//!
//! ```text
//!   stock, before the node registers ─┐
//!   a session's shard ────────────────┼─▶ part ─▶ room (parts used longest ago go) ─▶ book ─▶ fetch what is missing
//!   a masked query's whole model ─────┘
//! ```
//!
//! A node learns what it is drawn for when a client opens a session, and queries have deadlines of some seconds. So
//! it fetches beforehand: each model whole where that fits the bound, otherwise as many shards of the usual plan as fit,
//! beginning with one that its own key names, so that nodes differ. What it is drawn for beyond that it fetches
//! when asked, in the place of what was used longest ago.
//!
//! Sessions under way are computed from memory; pieces of a shard in use stay on the device all the same, so that
//! a restart finds them.

mod book;

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{TryStreamExt as _, lock::Mutex as AsyncMutex};
use nesa_light::models::{LoadProgress, ModelStore, ModelStoreError, PieceSource};
use nesa_model::{
    Artifact, Header,
    decoder::{DecoderModel, ShardError, ShardPlan},
};
use nesa_platform::storage::{StorageError, Store};
use nesa_primitives::{Address, Hash};

use book::Book;
pub(crate) use book::Part;

/// Shards that clients cut a model into when their user does not say otherwise.
const USUAL_SHARDS: usize = 2;

/// Why a part of a model cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LarderError {
    /// The model is not fetched here.
    #[error("model {0} is not fetched here")]
    Model(Hash),
    /// It does not fit beside what must stay.
    #[error("model {model}: got {got} bytes of pieces to keep, expected at most {expected}")]
    Full {
        /// The model.
        model: Hash,
        /// Bytes there would be.
        got: u64,
        /// Bytes that may be kept.
        expected: u64,
    },
    /// The model has no such layers.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The device cannot keep it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No peer gives it.
    #[error(transparent)]
    Fetch(#[from] ModelStoreError),
}

/// How far a node is with what it fetches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stocked {
    /// Whether all that is fetched beforehand is there.
    pub ready: bool,
    /// Bytes checked of the part that is being fetched or read.
    pub done: u64,
    /// Bytes of that part.
    pub total: u64,
    /// Bytes of all parts in the book.
    pub kept: u64,
    /// Bytes that may be kept.
    pub budget: u64,
    /// Pieces that came from peers since the node was started.
    pub fetched: u64,
}

/// The models that a node fetches.
pub struct Larder {
    models: Vec<Arc<Header>>,
    pieces: ModelStore,
    book: Book,
    sources: Vec<Arc<dyn PieceSource>>,
    budget: u64,
    /// One at a time changes what is kept.
    changing: AsyncMutex<bool>,
    /// Parts that are being fetched or read.
    pinned: Mutex<Vec<Part>>,
    stocked: Mutex<Stocked>,
}

/// Keeps a part while it is being fetched or read.
struct Pin<'a>(&'a Larder, Part);

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let mut pinned = lock(&self.0.pinned);
        if let Some(at) = pinned.iter().position(|part| *part == self.1) {
            pinned.swap_remove(at);
        }
    }
}

impl Larder {
    /// The models of `headers`, whose pieces come from `sources` and are kept in `store`, `budget` bytes at most.
    pub fn new(
        headers: Vec<Arc<Header>>,
        store: Store,
        sources: Vec<Arc<dyn PieceSource>>,
        budget: u64,
    ) -> Self {
        Self {
            models: headers,
            pieces: ModelStore::new(store.clone()),
            book: Book(store),
            sources,
            budget,
            changing: AsyncMutex::new(false),
            pinned: Mutex::default(),
            stocked: Mutex::new(Stocked { budget, ..Stocked::default() }),
        }
    }

    /// How far it is.
    pub fn stocked(&self) -> Stocked {
        Stocked { fetched: self.pieces.fetched(), ..*lock(&self.stocked) }
    }

    /// The headers of the models.
    pub fn headers(&self) -> &[Arc<Header>] {
        &self.models
    }

    fn header(&self, model: &Hash) -> Result<&Arc<Header>, LarderError> {
        let header = self.models.iter().find(|header| header.digest() == *model);
        header.ok_or(LarderError::Model(*model))
    }

    /// Fetches what is to be there before a session asks, and removes what belongs to models that are not fetched
    /// any more. Interrupted, it goes on where it stopped.
    ///
    /// # Errors
    /// [`LarderError`]; [`LarderError::Full`] where of a model nothing fits.
    pub async fn stock(&self, node: &Address) -> Result<(), LarderError> {
        let entries = self.known().await?;
        for header in &self.models {
            let model = header.digest();
            let mut full = match self.bring(Part::whole(model)).await {
                Ok(()) => continue,
                Err(full @ LarderError::Full { .. }) => full,
                Err(error) => return Err(error),
            };
            // What earlier sessions asked for counts too, and may have been interrupted.
            let earlier = entries.iter().filter(|part| part.model == model);
            let mut some = false;
            for part in earlier.copied().chain(usual(header, node)) {
                match self.bring(part).await {
                    Ok(()) => some = true,
                    Err(error @ LarderError::Full { .. }) => full = error,
                    Err(error) => return Err(error),
                }
            }
            if !some {
                return Err(full);
            }
        }
        lock(&self.stocked).ready = true;
        Ok(())
    }

    /// Removes what is kept of models that are not fetched here.
    ///
    /// # Errors
    /// [`LarderError::Storage`].
    pub async fn tidy(&self) -> Result<(), LarderError> {
        self.known().await.map(drop)
    }

    /// Takes out of the book what belongs to models that are not fetched any more, and what was used longest ago
    /// where less may be kept than before; what stays.
    async fn known(&self) -> Result<Vec<Part>, LarderError> {
        let _one = self.changing.lock().await;
        let (mut stay, mut strange) = (Vec::new(), Vec::new());
        for (_, part) in self.book.read().await? {
            let known = self.header(&part.model).is_ok();
            if known { stay.push(part) } else { strange.push(part) }
        }
        for part in &strange {
            self.book.remove(part).await?;
            // The header lies where piece 0 would.
            for index in [0].into_iter().chain(self.pieces.held(&part.model).await?) {
                self.pieces.forget(&part.model, index).await?;
            }
        }
        // Its pieces go when room is made for the next part, which may have some in common with it.
        while self.weigh(&stay) > self.budget {
            self.book.remove(&stay.remove(0)).await?;
        }
        Ok(stay)
    }

    /// Fetches what is missing of a part, if it fits beside all that is kept.
    async fn bring(&self, part: Part) -> Result<(), LarderError> {
        let _pin = self.room(part, None).await?;
        let header = self.header(&part.model)?;
        let indices = part.pieces(header)?;
        let total = bytes(header, &indices);
        let mut done = 0;
        for range in runs(&indices) {
            let pieces = self.pieces.pieces(header, range, &self.sources);
            futures::pin_mut!(pieces);
            while let Some(piece) = pieces.try_next().await? {
                done += piece.bytes().len() as u64;
                self.note(done, total);
            }
        }
        Ok(())
    }

    /// The layers `layers` of a decoder. Parts that are not `busy` make room.
    pub(crate) async fn shard(
        &self,
        model: &Hash,
        layers: Range<usize>,
        busy: &[Part],
    ) -> Result<DecoderModel, LarderError> {
        let _pin = self.room(Part::of(*model, &layers), Some(busy)).await?;
        let listener = |progress| self.hear(progress);
        Ok(self.pieces.shard(model, layers, &self.sources, &listener).await?)
    }

    /// A whole model.
    pub(crate) async fn whole(&self, model: &Hash) -> Result<Artifact, LarderError> {
        let _pin = self.room(Part::whole(*model), Some(&[])).await?;
        let listener = |progress| self.hear(progress);
        Ok(self.pieces.artifact(model, &self.sources, &listener).await?)
    }

    /// One piece, from this device or its peers.
    pub(crate) async fn piece(&self, model: &Hash, index: usize) -> Result<Bytes, LarderError> {
        Ok(self.pieces.piece(self.header(model)?, index, &self.sources).await?)
    }

    /// One piece for a peer: of those that are here.
    pub(crate) async fn held(
        &self,
        model: &Hash,
        index: usize,
    ) -> Result<Option<Bytes>, LarderError> {
        let header = self.header(model)?;
        if index == 0 {
            return Ok(Some(Bytes::copy_from_slice(header.bytes())));
        }
        let piece = self.pieces.stored_piece(header, index).await?;
        Ok(piece.map(|piece| piece.bytes().clone()))
    }

    /// Makes room for a part, writes it into the book and holds it there. Without `busy` nothing has to go for
    /// it.
    async fn room(&self, part: Part, busy: Option<&[Part]>) -> Result<Pin<'_>, LarderError> {
        let wanted = part.pieces(self.header(&part.model)?)?;
        let mut swept = self.changing.lock().await;
        let entries = self.book.read().await?;
        let kept: Vec<Part> = entries.iter().map(|(_, part)| *part).collect();
        let pinned = lock(&self.pinned).clone();
        let may_go = |other: &Part| {
            busy.is_some_and(|busy| !busy.contains(other)) && !pinned.contains(other)
        };
        let gone = book::room(&kept, &part, self.budget, may_go, |parts| self.weigh(parts));
        let gone = gone.map_err(|got| {
            let (model, expected) = (part.model, self.budget);
            LarderError::Full { model, got, expected }
        })?;
        for old in &gone {
            tracing::info!(model = %old.model, part = ?old, "a part makes room for another");
            self.book.remove(old).await?;
        }
        self.book.put(&part, &entries).await?;
        let mut stay: Vec<Part> = kept.into_iter().filter(|old| !gone.contains(old)).collect();
        stay.push(part);
        if !gone.is_empty() || !*swept {
            self.sweep(&stay).await?;
            *swept = true;
        }
        let kept = self.weigh(&stay);
        let total = bytes(self.header(&part.model)?, &wanted);
        let mut stocked = lock(&self.stocked);
        (stocked.kept, stocked.done, stocked.total) = (kept, 0, total);
        lock(&self.pinned).push(part);
        Ok(Pin(self, part))
    }

    /// Removes pieces that belong to none of `parts`.
    async fn sweep(&self, parts: &[Part]) -> Result<(), StorageError> {
        for header in &self.models {
            let (model, wanted) = (header.digest(), wanted(header, parts));
            for index in self.pieces.held(&model).await? {
                if !wanted.contains(&index) {
                    self.pieces.forget(&model, index).await?;
                }
            }
        }
        Ok(())
    }

    /// Bytes of the pieces of `parts`, which may share some.
    fn weigh(&self, parts: &[Part]) -> u64 {
        self.models.iter().map(|header| bytes(header, &wanted(header, parts))).sum()
    }

    fn hear(&self, progress: LoadProgress) {
        if let LoadProgress::Downloading { done, total } = progress {
            self.note(done, total);
        }
    }

    fn note(&self, done: u64, total: u64) {
        let mut stocked = lock(&self.stocked);
        (stocked.done, stocked.total) = (done, total);
    }
}

impl std::fmt::Debug for Larder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Larder({} models, {} bytes at most)", self.models.len(), self.budget)
    }
}

/// The shards of the usual plan, beginning with one that `node` names; none of a model that is not cut.
fn usual(header: &Header, node: &Address) -> Vec<Part> {
    let layers = header.manifest().decoder().map_or(1, |decoder| decoder.config.layers.into());
    let Ok(plan) = ShardPlan::even(header, USUAL_SHARDS.min(layers)) else { return Vec::new() };
    let first = node.0.iter().map(|byte| usize::from(*byte)).sum::<usize>() % plan.len().max(1);
    let shards = (0..plan.len()).map(|shard| (first + shard) % plan.len());
    let part = |layers| Part::of(header.digest(), &layers);
    shards.filter_map(|shard| plan.layers(shard)).map(part).collect()
}

/// The pieces of those of `parts` that are of the model of `header`.
fn wanted(header: &Arc<Header>, parts: &[Part]) -> BTreeSet<usize> {
    let mine = parts.iter().filter(|part| part.model == header.digest());
    // A part of layers that the model does not have has no pieces.
    mine.filter_map(|part| part.pieces(header).ok()).flatten().collect()
}

fn bytes(header: &Header, indices: &BTreeSet<usize>) -> u64 {
    indices.iter().filter_map(|index| header.piece_len(*index)).map(|len| len as u64).sum()
}

/// Rising indices as ranges.
fn runs(indices: &BTreeSet<usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for &index in indices {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
