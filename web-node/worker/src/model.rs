//! Making the network's model ready: proven on the chain, fetched or read, checked, prepared.
//!
//! ```text
//!   last visit's digest ── read, every piece hashed ──┐ (beside dialling and headers)
//!   bootstrap's digest ─── proven on the chain ───────┴─ equal? use it : fetch, check, prepare
//! ```

use std::{rc::Rc, time::Duration};

use nesa_chain::{keys, record::ModelRecord};
use nesa_light::models::{LoadProgress, ModelStore, Prepared};
use nesa_messages::{ModelInfo, ModelPhase, Problem};
use nesa_platform::{task, time};
use nesa_primitives::Hash;

use crate::{
    app::{App, Chain},
    boot::PINS,
    problem::Shown as _,
};

/// Where the digest of the last visit's model is kept, under [`PINS`].
const MODEL: &str = "model";

impl App {
    /// Reads the model of the last visit from this device while the network is being reached. Its
    /// pieces are hashed as ever; that the chain offers this digest is proven before it is used.
    pub(crate) async fn read_last_model(self: Rc<Self>) {
        let mut early = self.early.lock().await;
        let Ok(Some(digest)) = self.store().get(PINS, MODEL).await else { return };
        let Ok(digest) = String::from_utf8_lossy(&digest).parse::<Hash>() else { return };
        let models = ModelStore::new(self.store());
        if models.is_warm(&digest).await {
            // Without sources nothing is fetched: what is not whole here is left for later.
            *early = models.prepare(&digest, &[], &|_| {}).await.ok();
        }
    }

    /// Makes the model ready, trying again until it is.
    ///
    /// It is the first encoder of those offered: search is what the page begins with. A model of
    /// another kind is taken where there is none, and made ready when a task needs it otherwise.
    pub(crate) async fn model_loop(self: Rc<Self>, chain: Chain) {
        let (mut digest, mut other) = (None, None);
        // Models of the float lane have no header, and nothing to make ready.
        let exact = || chain.offered.iter().filter(|model| !chain.cards.contains_key(model));
        for offered in exact() {
            let header = chain.queries.models().header(offered, chain.queries.sources()).await;
            let Ok(header) = header else { continue };
            if header.manifest().embeds() {
                digest = Some(*offered);
                break;
            }
            other.get_or_insert(*offered);
        }
        let Some(digest) = digest.or(other).or(exact().next().copied()) else {
            let problem = Problem::new(
                "no-model",
                "This network offers no model that searches.",
                "Ask its operator to register one.",
            );
            return self.set_model(ModelPhase::Failed { problem });
        };
        let known = self.prepared().is_some_and(|ready| ready.model.digest() == digest);
        if known {
            return;
        }
        loop {
            match self.clone().load_model(&chain, digest).await {
                Ok(()) => return,
                Err(problem) => self.set_model(ModelPhase::Failed { problem }),
            }
            time::sleep(Duration::from_secs(5)).await;
        }
    }

    async fn load_model(self: Rc<Self>, chain: &Chain, digest: Hash) -> Result<(), Problem> {
        let (record, _) = chain
            .light
            .record::<ModelRecord>(keys::model(&digest), "model", 0)
            .await
            .map_err(|error| error.problem())?;
        let record = record.ok_or_else(|| {
            Problem::new(
                "model-not-registered",
                "The model this origin names is not registered on the chain.",
                "Open this page from another node.",
            )
            .with(digest.to_string(), "a registered model")
        })?;
        let early = self.early.lock().await.take();
        let turn = self.preparing.lock().await;
        let known = self.ready.borrow().get(&digest).cloned();
        let prepared = match early.filter(|ready| ready.model.digest() == digest).or(known) {
            Some(ready) => ready,
            None => self.clone().fetch_model(chain, digest).await?,
        };
        drop(turn);
        self.keep_ready(&prepared);
        if let Err(error) = self.store().put(PINS, MODEL, digest.to_string().as_bytes()).await {
            tracing::warn!(%error, "the model's digest was not kept");
        }
        // A page that may ask needs its wallet and history.
        self.loaded().await;
        let info = ModelInfo {
            name: record.name.as_str().to_owned(),
            digest: digest.to_string(),
            bytes: record.bytes,
            stages: prepared.lane.stages().len() as u32,
            max_tokens: prepared.model.max_tokens() as u32,
        };
        let (cached, took_ms) = (prepared.cached, prepared.ms);
        self.prepared.replace(Some(prepared));
        self.set_status(|status| {
            status.model = Some(info);
            status.model_phase = ModelPhase::Ready { cached, took_ms, thin: false };
        });
        task::yield_now().await;
        Ok(())
    }

    /// Fetches and prepares a model, telling the page how far it is.
    async fn fetch_model(self: Rc<Self>, chain: &Chain, digest: Hash) -> Result<Prepared, Problem> {
        let app = self.clone();
        let last = std::cell::Cell::new(None::<LoadProgress>);
        let listener = move |progress: LoadProgress| {
            // Hundreds of pieces: tell the page about every hundredth part only.
            let step = |p: &LoadProgress| match *p {
                LoadProgress::Downloading { done, total } => (0, done * 100 / total.max(1)),
                LoadProgress::Preparing { done, total } => (1, (done * 100 / total.max(1)) as u64),
            };
            if last.get().as_ref().map(step) == Some(step(&progress)) {
                return;
            }
            last.set(Some(progress));
            app.set_model(match progress {
                LoadProgress::Downloading { done, total } => {
                    ModelPhase::Downloading { done, total }
                }
                LoadProgress::Preparing { done, total } => {
                    ModelPhase::Preparing { done: done as u32, total: total as u32 }
                }
            });
        };
        chain
            .queries
            .models()
            .prepare(&digest, chain.queries.sources(), &listener)
            .await
            .map_err(|error| error.problem())
    }
}
