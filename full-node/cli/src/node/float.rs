//! Float models of a process: ONNX files beside the compiled ones, and the engine that runs them.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use nesa_float::{
    Graph, Limits, model_digest,
    perturb::{Deviation, deviate},
    web,
};
use nesa_node::FloatEngine;
use nesa_platform::{BoxFuture, task};
use nesa_primitives::Hash;

use crate::commands::float::unusable;

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

/// Runs float models, one run at a time for each.
pub(crate) struct Engine(HashMap<Hash, Arc<Mutex<Graph>>>);

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({} models)", self.0.len())
    }
}

impl Engine {
    /// An engine for the files that are float models. With `deviation`, one that pretends: it runs other
    /// weights and names the plan of the model asked.
    pub(crate) fn open<'a>(
        files: impl Iterator<Item = &'a Path>,
        deviation: Option<Deviation>,
    ) -> Result<Self> {
        let mut graphs = HashMap::new();
        for file in files.filter(|file| is_float(file)) {
            let (bytes, digest) = open(file)?;
            let limits = Limits::default();
            let graph = Graph::open(&bytes, limits).map_err(unusable)?;
            let graph = match deviation {
                None => graph,
                Some(deviation) => {
                    let other = deviate(&bytes, deviation, 1, &limits).map_err(unusable)?;
                    Graph::open_as(&other, limits, graph.plan()).map_err(unusable)?
                }
            };
            graphs.insert(digest, Arc::new(Mutex::new(graph)));
        }
        Ok(Self(graphs))
    }
}

impl FloatEngine for Engine {
    fn models(&self) -> Vec<Hash> {
        self.0.keys().copied().collect()
    }

    fn run(&self, model: Hash, inputs: Bytes) -> BoxFuture<'_, Result<Bytes, String>> {
        let graph = self.0.get(&model).cloned();
        Box::pin(async move {
            let graph = graph.ok_or_else(|| format!("no float model {model}"))?;
            task::compute(move || {
                let mut graph = graph.lock().unwrap_or_else(PoisonError::into_inner);
                let answer = web::run(&mut graph, &inputs, &Limits::default());
                answer.map(Bytes::from).map_err(|error| error.to_string())
            })
            .await
        })
    }
}
