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
//! opened receipt, or serve.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use commonware_codec::Encode as _;
use futures::{StreamExt as _, TryStreamExt as _};
use nesa_masked::{
    preparation::{Preparation, PrepareError},
    spec::{Lane, SpecError},
};
use nesa_model::{
    Artifact, Assembler, Header, Model, ModelError, ModelLimits,
    artifact::{ChunkError, HeaderError},
};
use nesa_platform::{
    BoxFuture, MaybeSend, MaybeSync,
    net::{Network, Stream},
    random,
    storage::{StorageError, Store},
    task,
    time::Instant,
};
use nesa_primitives::{Hash, decode_exact};
use nesa_wire::{
    Protocol,
    chunks::{Limits, Request, Response},
};

use crate::client::{lock, since};

/// Pieces fetched at once.
const PARALLEL: usize = 6;
/// Where the key that seals preparations is kept.
const KEY_NAMESPACE: &str = "preparation-keys";

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
}

/// Gives pieces of models, unchecked.
pub trait PieceSource: MaybeSend + MaybeSync {
    /// A name for logs.
    fn name(&self) -> String;
    /// Piece `index` of `model`: 0 is the header, `i` is chunk `i − 1`. The error is in words.
    fn piece(&self, model: Hash, index: u32) -> BoxFuture<'_, Result<Bytes, String>>;
}

/// A node reached over libp2p that serves `/nesa/chunks/1`.
pub struct NetworkSource {
    network: Network,
    address: String,
    idle: Mutex<Vec<Stream>>,
}

impl NetworkSource {
    /// A source at `address` (a multiaddress ending in `/p2p/…`), dialled when first asked.
    pub fn new(network: Network, address: impl Into<String>) -> Self {
        Self { network, address: address.into(), idle: Mutex::new(Vec::new()) }
    }

    async fn ask(&self, request: &[u8]) -> Result<Bytes, String> {
        let idle = lock(&self.idle).pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => {
                let node =
                    self.network.dial(&self.address).await.map_err(|error| error.to_string())?;
                self.network
                    .open(node, Protocol::Chunks)
                    .await
                    .map_err(|error| error.to_string())?
            }
        };
        let answer = stream.ask(request).await.map_err(|error| error.to_string())?;
        let mut idle = lock(&self.idle);
        if idle.len() < PARALLEL {
            idle.push(stream);
        }
        Ok(answer)
    }
}

impl PieceSource for NetworkSource {
    fn name(&self) -> String {
        self.address.clone()
    }

    fn piece(&self, model: Hash, index: u32) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            let request = match index {
                0 => Request::Manifest { model },
                index => Request::Chunk { model, index },
            };
            let frame = self.ask(&request.encode()).await?;
            match decode_exact::<Response>(&frame, &Limits::default()) {
                Ok(Response::Manifest(data)) if index == 0 => Ok(data),
                Ok(Response::Chunk { index: got, data, .. }) if got == index => Ok(data),
                Ok(Response::Unknown) => Err("does not hold it".into()),
                Ok(Response::Busy) => Err("busy".into()),
                Ok(_) => Err("answered another question".into()),
                Err(error) => Err(error.to_string()),
            }
        })
    }
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
    pub model: Model,
    /// The linear stages.
    pub lane: Arc<Lane>,
    /// The secrets that check them.
    pub preparation: Arc<Preparation>,
    /// Whether it came from this device's store.
    pub cached: bool,
    /// How long the way here took, in milliseconds.
    pub ms: f64,
}

/// The models of one device.
#[derive(Clone, Debug)]
pub struct ModelStore {
    store: Store,
}

impl ModelStore {
    /// Models kept in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    fn pieces(model: &Hash) -> String {
        format!("model-{model}")
    }

    fn seals(model: &Hash) -> String {
        format!("preparation-{model}")
    }

    /// Whether nothing needs to be downloaded to make `model` ready.
    pub async fn is_warm(&self, model: &Hash) -> bool {
        matches!(self.store.get(&Self::seals(model), "0").await, Ok(Some(_)))
    }

    async fn header(
        &self,
        model: &Hash,
        sources: &[Arc<dyn PieceSource>],
    ) -> Result<Arc<Header>, ModelStoreError> {
        let limits = ModelLimits::default();
        if let Some(bytes) = self.store.get(&Self::pieces(model), "0").await?
            && let Ok(header) = Header::decode_expected(&bytes, model, &limits)
        {
            return Ok(Arc::new(header));
        }
        let mut reason = "no peer is known".to_owned();
        for source in sources {
            match source.piece(*model, 0).await {
                Ok(bytes) => match Header::decode_expected(&bytes, model, &limits) {
                    Ok(header) => {
                        self.store.put(&Self::pieces(model), "0", &bytes).await?;
                        return Ok(Arc::new(header));
                    }
                    Err(error) => reason = error.to_string(),
                },
                Err(error) => reason = error,
            }
        }
        Err(ModelStoreError::Unavailable { model: *model, index: 0, reason })
    }

    /// One checked piece: from the store, otherwise from the sources in turn.
    async fn piece(
        &self,
        header: &Header,
        index: usize,
        sources: &[Arc<dyn PieceSource>],
    ) -> Result<Bytes, ModelStoreError> {
        let model = header.digest();
        let key = index.to_string();
        if let Some(bytes) = self.store.get(&Self::pieces(&model), &key).await?
            && header.verify_piece(index, &bytes).is_ok()
        {
            return Ok(bytes);
        }
        let mut reason = "no peer is known".to_owned();
        // Different pieces start with different peers, which spreads the load.
        for offset in 0..sources.len() {
            let source = &sources[(index + offset) % sources.len()];
            match source.piece(model, index as u32).await {
                Ok(bytes) => match header.verify_piece(index, &bytes) {
                    Ok(()) => {
                        self.store.put(&Self::pieces(&model), &key, &bytes).await?;
                        return Ok(bytes);
                    }
                    Err(error) => {
                        tracing::warn!(peer = source.name(), %error, "a wrong piece was refused");
                        reason = error.to_string();
                    }
                },
                Err(error) => reason = error,
            }
        }
        Err(ModelStoreError::Unavailable { model, index, reason })
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
        let total: u64 = (0..header.piece_count())
            .filter_map(|index| header.piece_len(index))
            .map(|len| len as u64)
            .sum();
        let done = AtomicUsize::new(header.bytes().len());
        let arrived = |bytes: &Bytes| {
            let done = done.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
            listener.take(LoadProgress::Downloading { done: done as u64, total });
        };

        let mut local = Assembler::local(header.clone());
        let missing: Vec<usize> = local.missing().collect();
        let mut pieces = futures::stream::iter(missing)
            .map(|index| {
                let header = &header;
                async move {
                    Ok::<_, ModelStoreError>((index, self.piece(header, index, sources).await?))
                }
            })
            .buffer_unordered(PARALLEL);
        while let Some((index, bytes)) = pieces.try_next().await? {
            arrived(&bytes);
            local.insert(index, bytes)?;
        }
        drop(pieces);
        let local = local.finish_local()?;
        let opened = task::compute(move || Model::open_local(&local)).await?;
        let lane = Arc::new(Lane::of_model(opened.stages())?);

        if let Some(preparation) = self.unseal(model, &lane).await? {
            return Ok(Prepared {
                model: opened,
                lane,
                preparation: Arc::new(preparation),
                cached: true,
                ms: since(start),
            });
        }

        let mut builder = Preparation::builder(*model, &lane, &mut random::rng());
        let weights: Vec<usize> = (header.local_pieces()..header.piece_count()).collect();
        let mut pieces = futures::stream::iter(weights)
            .map(|index| {
                let header = &header;
                async move {
                    Ok::<_, ModelStoreError>((index, self.piece(header, index, sources).await?))
                }
            })
            .buffered(PARALLEL);
        let stages = lane.stages().len();
        while let Some((index, bytes)) = pieces.try_next().await? {
            arrived(&bytes);
            let chunk = &header.layout().chunks[index - 1];
            for rows in &chunk.weights {
                let weights = nesa_kernels::as_i8(&bytes[rows.bytes.clone()]);
                builder.rows(rows.stage as u16, rows.rows.start as u32, weights)?;
                listener.take(LoadProgress::Preparing { done: rows.stage, total: stages });
            }
        }
        drop(pieces);
        let preparation = builder.finish()?;
        listener.take(LoadProgress::Preparing { done: stages, total: stages });
        self.seal(model, &preparation).await?;
        Ok(Prepared {
            model: opened,
            lane,
            preparation: Arc::new(preparation),
            cached: false,
            ms: since(start),
        })
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
        let total: u64 = (0..header.piece_count())
            .filter_map(|index| header.piece_len(index))
            .map(|len| len as u64)
            .sum();
        let mut whole = Assembler::whole(header.clone());
        let missing: Vec<usize> = whole.missing().collect();
        let mut done = header.bytes().len() as u64;
        let mut pieces = futures::stream::iter(missing)
            .map(|index| {
                let header = &header;
                async move {
                    Ok::<_, ModelStoreError>((index, self.piece(header, index, sources).await?))
                }
            })
            .buffer_unordered(PARALLEL);
        while let Some((index, bytes)) = pieces.try_next().await? {
            done += bytes.len() as u64;
            listener.take(LoadProgress::Downloading { done, total });
            whole.insert(index, bytes)?;
        }
        drop(pieces);
        Ok(whole.finish()?)
    }

    async fn seal(&self, model: &Hash, preparation: &Preparation) -> Result<(), ModelStoreError> {
        let key = self.store.secret_key(KEY_NAMESPACE, &model.to_string()).await?;
        let blobs = preparation.seal(&key, &mut random::rng());
        // Blob 0 is written last: it is what says that a preparation is complete.
        for (index, blob) in blobs.iter().enumerate().rev() {
            self.store.put(&Self::seals(model), &index.to_string(), blob).await?;
        }
        Ok(())
    }

    async fn unseal(
        &self,
        model: &Hash,
        lane: &Lane,
    ) -> Result<Option<Preparation>, ModelStoreError> {
        if !self.is_warm(model).await {
            return Ok(None);
        }
        let key = self.store.secret_key(KEY_NAMESPACE, &model.to_string()).await?;
        let mut blobs = Vec::with_capacity(lane.stages().len());
        for index in 0..lane.stages().len() {
            match self.store.get(&Self::seals(model), &index.to_string()).await? {
                Some(blob) => blobs.push(blob.to_vec()),
                None => return Ok(None),
            }
        }
        match Preparation::unseal(*model, lane, &key, &blobs) {
            Ok(preparation) => Ok(Some(preparation)),
            Err(error) => {
                // Altered or of another version: it is made anew, with a fresh r.
                tracing::warn!(%error, "the stored preparation is not used");
                Ok(None)
            }
        }
    }

    /// Throws the preparation away, after a blame check showed that s was wrong.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn discard_preparation(&self, model: &Hash) -> Result<(), StorageError> {
        let namespace = Self::seals(model);
        for key in self.store.list(&namespace).await? {
            self.store.delete(&namespace, &key).await?;
        }
        self.store.delete(KEY_NAMESPACE, &model.to_string()).await
    }
}
