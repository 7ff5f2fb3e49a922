//! Models on this device: pieces fetched from strangers, checked one by one, kept; and the secret
//! preparation made from them.
//!
//! ```text
//!   digest (from a proven ModelRecord)
//!      └─ piece 0 = header ── piece i ── … each checked against the header before it is kept
//!            local pieces ──> Model (embeddings, norms, tables, tokenizer)
//!            weight pieces ─> Preparation: fresh r, s = rᵀW, folded row by row as they arrive
//! ```
//!
//! The preparation's secrets are born here, kept only under the store's seal, and discarded when a
//! blame check finds that s was wrong. Weight pieces stay as well: this device may later check an
//! opened receipt, or serve. A thin preparation needs no weight piece: see
//! [`QueryClient::prepare_thin`](crate::QueryClient::prepare_thin).

mod holders;
mod pieces;
mod seals;
mod shard;
mod source;

pub use holders::holders;
pub(crate) use seals::Kind;
pub use source::{NetworkSource, PieceSource};

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use futures::TryStreamExt as _;
use nesa_masked::{
    preparation::{Preparation, PrepareError},
    spec::{Lane, SpecError},
};
use nesa_model::{
    Artifact, Assembler, ExactModel, Header, Model, ModelError,
    artifact::{ChunkError, HeaderError, Piece},
    classifier::ClassifierModel,
    decoder::{DecoderModel, ShardError},
};
use nesa_platform::{
    MaybeSend, MaybeSync, random,
    storage::{StorageError, Store},
    task,
    time::Instant,
};
use nesa_primitives::Hash;

use crate::client::{lock, since};

/// Why a model could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum ModelStoreError {
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No peer gave a piece that matches the digest.
    #[error("piece {index} of model {model} cannot be had: {reason}")]
    Unavailable {
        /// The model.
        model: Hash,
        /// The piece.
        index: usize,
        /// What the last peer did.
        reason: String,
    },
    /// The header does not describe a usable model.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A piece does not match.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The model breaks the bounds of exact arithmetic.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's stages cannot be served masked.
    #[error(transparent)]
    Lane(#[from] SpecError),
    /// The weights break what the header promises.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The model has no such layers.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// How far the way to a ready model is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LoadProgress {
    /// Pieces arrive, each checked.
    Downloading {
        /// Bytes checked.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// s = rᵀW is being folded.
    Preparing {
        /// Stages folded.
        done: usize,
        /// Stages in all.
        total: usize,
    },
}

/// A listener for the way to a ready model.
pub trait LoadListener: MaybeSend + MaybeSync {
    /// Takes one report.
    fn take(&self, progress: LoadProgress);
}

impl<F: Fn(LoadProgress) + MaybeSend + MaybeSync> LoadListener for F {
    fn take(&self, progress: LoadProgress) {
        self(progress);
    }
}

/// A model ready for masked queries.
#[derive(Clone)]
pub struct Prepared {
    /// Everything but the linear stages.
    pub model: ExactModel,
    /// The linear stages.
    pub lane: Arc<Lane>,
    /// The secrets that check them.
    pub preparation: Arc<Preparation>,
    /// Whether it came from this device's store.
    pub cached: bool,
    /// How long the way here took, in milliseconds.
    pub ms: f64,
}

/// A model that does another kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model's family is {got}, expected {expected}")]
pub struct FamilyError {
    /// Its family.
    pub got: &'static str,
    /// The family wanted.
    pub expected: &'static str,
}

impl Prepared {
    /// The encoder.
    ///
    /// # Errors
    /// [`FamilyError`] when it is another kind of model, or an encoder that classifies: its results are no
    /// vectors to compare.
    pub fn encoder(&self) -> Result<&Model, FamilyError> {
        let manifest = self.model.header().manifest();
        let encoder = self.model.encoder().filter(|_| manifest.embeds());
        encoder.ok_or(FamilyError { got: manifest.family(), expected: "encoder" })
    }

    /// The encoder that classifies.
    ///
    /// # Errors
    /// [`FamilyError`] when it is another kind of model, or an encoder that embeds.
    pub fn text_classifier(&self) -> Result<&Model, FamilyError> {
        let manifest = self.model.header().manifest();
        let encoder = self.model.encoder().filter(|_| !manifest.embeds());
        encoder.ok_or(FamilyError { got: manifest.family(), expected: "text classifier" })
    }

    /// The encoder, whatever becomes of its rows.
    pub(crate) fn reader(&self) -> Result<&Model, FamilyError> {
        let got = self.model.header().manifest().family();
        self.model.encoder().ok_or(FamilyError { got, expected: "encoder" })
    }

    /// The decoder.
    ///
    /// # Errors
    /// [`FamilyError`] when it is another kind of model.
    pub fn decoder(&self) -> Result<&DecoderModel, FamilyError> {
        let got = self.model.header().manifest().family();
        self.model.decoder().ok_or(FamilyError { got, expected: "decoder" })
    }

    /// The classifier.
    ///
    /// # Errors
    /// [`FamilyError`] when it is another kind of model.
    pub fn classifier(&self) -> Result<&ClassifierModel, FamilyError> {
        let got = self.model.header().manifest().family();
        self.model.classifier().ok_or(FamilyError { got, expected: "classifier" })
    }
}

/// The models of one device.
#[derive(Clone, Debug)]
pub struct ModelStore {
    store: Store,
    /// Sources that gave a wrong piece, by name, with what was wrong. They are not asked again.
    refused: Arc<Mutex<BTreeMap<String, String>>>,
    /// Pieces that came from sources.
    fetched: Arc<AtomicU64>,
}

impl ModelStore {
    /// Models kept in `store`.
    pub fn new(store: Store) -> Self {
        Self { store, refused: Arc::default(), fetched: Arc::default() }
    }

    /// The store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Sources dropped for a wrong piece, each with what was wrong.
    pub fn refused(&self) -> BTreeMap<String, String> {
        lock(&self.refused).clone()
    }

    /// Makes `model` ready for masked queries: from this device's store when it was ready before,
    /// otherwise by fetching what is missing. Interrupted, it goes on where it stopped.
    ///
    /// # Errors
    /// [`ModelStoreError`].
    pub async fn prepare(
        &self,
        model: &Hash,
        sources: &[Arc<dyn PieceSource>],
        listener: &dyn LoadListener,
    ) -> Result<Prepared, ModelStoreError> {
        let start = Instant::now();
        let header = self.header(model, sources).await?;
        let mut meter = Meter::new(&header, header.piece_count(), listener);
        let (opened, lane) = self.open_local(&header, sources, &mut meter).await?;

        let (preparation, cached) = match self.unseal(Kind::Local, model, &lane).await? {
            Some(kept) => (kept, true),
            None => (self.fold(model, &header, &lane, sources, &mut meter).await?, false),
        };
        let preparation = Arc::new(preparation);
        Ok(Prepared { model: opened, lane, preparation, cached, ms: since(start) })
    }

    /// Everything of `model` but its weights, checked.
    ///
    /// # Errors
    /// [`ModelStoreError`].
    pub(crate) async fn without_weights(
        &self,
        model: &Hash,
        sources: &[Arc<dyn PieceSource>],
        listener: &dyn LoadListener,
    ) -> Result<(ExactModel, Arc<Lane>), ModelStoreError> {
        let header = self.header(model, sources).await?;
        let mut meter = Meter::new(&header, header.local_pieces(), listener);
        self.open_local(&header, sources, &mut meter).await
    }

    async fn open_local(
        &self,
        header: &Arc<Header>,
        sources: &[Arc<dyn PieceSource>],
        meter: &mut Meter<'_>,
    ) -> Result<(ExactModel, Arc<Lane>), ModelStoreError> {
        let mut local = Assembler::local(header.clone());
        self.read(header, 1..header.local_pieces(), sources, meter, |piece| {
            Ok(local.insert_checked(piece)?)
        })
        .await?;
        let local = local.finish_local()?;
        let opened = task::compute(move || ExactModel::open_local(&local)).await?;
        let lane = Arc::new(Lane::of_model(opened.served_stages())?);
        Ok((opened, lane))
    }

    /// Streams every weight row once, keeping only s = rᵀW for a fresh r, and seals it.
    async fn fold(
        &self,
        model: &Hash,
        header: &Arc<Header>,
        lane: &Lane,
        sources: &[Arc<dyn PieceSource>],
        meter: &mut Meter<'_>,
    ) -> Result<Preparation, ModelStoreError> {
        let mut builder = Preparation::builder(*model, lane, &mut random::rng());
        let (total, listener) = (lane.stages().len(), meter.listener);
        let weights = header.local_pieces()..header.piece_count();
        self.read(header, weights, sources, meter, |piece| {
            let chunk = &header.layout().chunks[piece.index() - 1];
            for rows in &chunk.weights {
                let bytes = &piece.bytes()[rows.bytes.clone()];
                let weights = header.layout().weight_rows(rows.stage, bytes);
                builder.rows(rows.stage as u16, rows.rows.start as u32, &weights)?;
                listener.take(LoadProgress::Preparing { done: rows.stage, total });
            }
            Ok(())
        })
        .await?;
        let preparation = builder.finish()?;
        listener.take(LoadProgress::Preparing { done: total, total });
        self.seal(model, &preparation).await?;
        Ok(preparation)
    }

    /// The whole model, weights included: for serving, and for checking opened receipts.
    ///
    /// # Errors
    /// [`ModelStoreError`].
    pub async fn artifact(
        &self,
        model: &Hash,
        sources: &[Arc<dyn PieceSource>],
        listener: &dyn LoadListener,
    ) -> Result<Artifact, ModelStoreError> {
        let header = self.header(model, sources).await?;
        let mut meter = Meter::new(&header, header.piece_count(), listener);
        let mut whole = Assembler::whole(header.clone());
        self.read(&header, 1..header.piece_count(), sources, &mut meter, |piece| {
            Ok(whole.insert_checked(piece)?)
        })
        .await?;
        Ok(whole.finish()?)
    }

    /// Hands each piece of `range`, checked and in order, to `take`.
    async fn read(
        &self,
        header: &Header,
        range: Range<usize>,
        sources: &[Arc<dyn PieceSource>],
        meter: &mut Meter<'_>,
        mut take: impl FnMut(Piece) -> Result<(), ModelStoreError>,
    ) -> Result<(), ModelStoreError> {
        let pieces = self.pieces(header, range, sources);
        futures::pin_mut!(pieces);
        while let Some(piece) = pieces.try_next().await? {
            meter.arrived(piece.bytes().len());
            take(piece)?;
        }
        Ok(())
    }
}

/// Counts checked bytes for a listener.
struct Meter<'a> {
    done: u64,
    total: u64,
    listener: &'a dyn LoadListener,
}

impl<'a> Meter<'a> {
    /// For the first `pieces` pieces.
    fn new(header: &Header, pieces: usize, listener: &'a dyn LoadListener) -> Self {
        let lengths = (0..pieces).filter_map(|index| header.piece_len(index));
        let total = lengths.map(|len| len as u64).sum();
        Self { done: header.bytes().len() as u64, total, listener }
    }

    fn arrived(&mut self, bytes: usize) {
        self.done += bytes as u64;
        self.listener.take(LoadProgress::Downloading { done: self.done, total: self.total });
    }
}
