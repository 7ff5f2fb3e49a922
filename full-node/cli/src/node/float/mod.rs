//! Float models of a process: ONNX files beside the compiled ones, and the engine that runs them.
//!
//! Graphs come from strangers, and nothing that is known before a run bounds how long it takes. So each
//! model runs in a process of its own ([`child`]), which is killed when the answer is no longer waited
//! for, and started again for the next run.

mod child;
mod process;

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use nesa_fingerprint::{Calibration, Card};
use nesa_float::{Graph, Limits, model_digest};
use nesa_node::FloatEngine;
use nesa_platform::BoxFuture;
use nesa_primitives::Hash;

pub(crate) use child::serve;
use process::Process;

use crate::commands::float::{calibrate, unusable};

/// Whether a path is a float model's.
pub(crate) fn is_float(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "onnx")
}

/// A float model's file: checked, with its digest.
pub(crate) fn open(path: &Path) -> Result<(Vec<u8>, Hash)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Graph::open(&bytes, Limits::default()).map_err(unusable)?;
    let digest = model_digest(&bytes);
    Ok((bytes, digest))
}

/// What clients are told of a float model: with the calibration beside its file, if there is one.
pub(crate) fn card(path: &Path) -> Result<Card> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let graph = Graph::open(&bytes, Limits::default()).map_err(unusable)?;
    let beside = calibrate::beside(path);
    let calibration = match std::fs::read_to_string(&beside) {
        Ok(text) => {
            let read: Calibration = serde_json::from_str(&text)
                .with_context(|| format!("{} is no calibration", beside.display()))?;
            Some(read)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", beside.display()));
        }
    };
    let card = graph.card(calibration);
    match card.check(&card.plan.model) {
        Ok(()) => Ok(card),
        // An outdated calibration is no reason not to start; without one the model cannot be asked here.
        Err(error) => {
            tracing::warn!(file = %beside.display(), %error, "a calibration is not told to clients");
            Ok(Card { calibration: None, ..card })
        }
    }
}

/// Runs float models, one run at a time for each, each in a process of its own.
pub(crate) struct Engine(HashMap<Hash, Arc<Model>>);

/// One model, and the process that holds it while it is idle.
struct Model {
    file: PathBuf,
    digest: Hash,
    int8: bool,
    idle: tokio::sync::Mutex<Option<Process>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({} models)", self.0.len())
    }
}

impl Engine {
    /// An engine for the files that are float models. With `int8`, one that pretends: it runs weights
    /// rounded to 8 bits and names the plan of the model asked.
    pub(crate) fn open<'a>(files: impl Iterator<Item = &'a Path>, int8: bool) -> Result<Self> {
        let mut models = HashMap::new();
        for file in files.filter(|file| is_float(file)) {
            let (_, digest) = open(file)?;
            let (file, idle) = (file.to_owned(), tokio::sync::Mutex::default());
            models.insert(digest, Arc::new(Model { file, digest, int8, idle }));
        }
        Ok(Self(models))
    }
}

impl FloatEngine for Engine {
    fn models(&self) -> Vec<Hash> {
        self.0.keys().copied().collect()
    }

    fn run(&self, model: Hash, inputs: Bytes) -> BoxFuture<'_, Result<Bytes, String>> {
        let found = self.0.get(&model).cloned();
        Box::pin(async move {
            let model = found.ok_or_else(|| format!("no float model {model}"))?;
            model.run(&inputs).await
        })
    }
}

impl Model {
    /// One run. Dropped in the middle of it, the process goes with it and the next run has a fresh one.
    async fn run(&self, inputs: &[u8]) -> Result<Bytes, String> {
        let mut idle = self.idle.lock().await;
        let mut process = match idle.take() {
            Some(process) => process,
            None => Process::start(&self.file, &self.digest, self.int8)
                .map_err(|error| format!("{error:#}"))?,
        };
        let told = process.run(inputs).await.map_err(|error| format!("{error:#}"))?;
        // Only a process that answered is used again.
        *idle = Some(process);
        told
    }
}
