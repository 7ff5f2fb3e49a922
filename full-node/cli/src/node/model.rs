//! The compiled model file of a process: found, read, opened, and handed out in pieces.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use nesa_model::{Artifact, ModelLimits};
use nesa_primitives::Hash;
use nesa_wire::chunks::{Request, Response};

use crate::failure::{Code, Failure};

/// Largest model file read, in bytes.
const MAX_FILE: u64 = 1 << 30;
/// Extension of compiled models.
const EXTENSION: &str = "nesa";

/// Reads and opens a compiled model; its digest is computed, not believed.
pub(crate) fn open(path: &Path) -> Result<Artifact> {
    let named = || format!("cannot read the model {}", path.display());
    let size = std::fs::metadata(path).with_context(named)?.len();
    anyhow::ensure!(size <= MAX_FILE, "{} is larger than a model may be", path.display());
    let bytes = std::fs::read(path).with_context(named)?;
    Artifact::open(bytes, &ModelLimits::default()).map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("{} is not a compiled model: {error}", path.display()),
            "make one with `nesa model compile`",
        )
        .into()
    })
}

/// The first of [`find_all`].
pub(crate) fn find() -> Result<PathBuf> {
    find_all()?.into_iter().next().context("no model")
}

/// The file of a digest among [`find_all`].
pub(crate) fn find_digest(digest: &Hash) -> Result<PathBuf> {
    let is_it = |file: &PathBuf| open(file).is_ok_and(|artifact| artifact.digest() == *digest);
    find_all()?.into_iter().find(is_it).ok_or_else(|| {
        Failure::new(
            Code::Usage,
            format!("no model with digest {digest} was found under models/"),
            "name its file with --model",
        )
        .into()
    })
}

/// Compiled models: the `models/*.nesa` near the working directory or the executable, by name, then
/// those one folder deeper.
pub(crate) fn find_all() -> Result<Vec<PathBuf>> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    for folder in starts.iter().flatten().flat_map(|start| start.ancestors()) {
        let entries = list(&folder.join("models"));
        let deeper = entries.iter().filter(|path| path.is_dir()).flat_map(|path| list(path));
        let found: Vec<PathBuf> =
            entries.iter().cloned().chain(deeper).filter(|path| is_model(path)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(Failure::new(
        Code::Usage,
        "no compiled model was found under models/",
        "name one with --model FILE, or make one with `nesa model compile`",
    )
    .into())
}

/// What a folder holds, by name; nothing if it cannot be read.
fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn is_model(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|extension| extension == EXTENSION)
}

/// Models that peers may fetch in pieces.
pub(crate) struct ServedModels(HashMap<Hash, Artifact>);

impl ServedModels {
    pub(crate) fn new(artifacts: impl IntoIterator<Item = Artifact>) -> Self {
        Self(artifacts.into_iter().map(|artifact| (artifact.digest(), artifact)).collect())
    }

    /// Answers a request for the header or one piece. The header's hashes check every piece, so
    /// pieces need no proofs of their own.
    pub(crate) fn answer(&self, request: Request) -> Response {
        let piece = |model, index: u32| {
            let index = usize::try_from(index).ok()?;
            self.0.get(&model).and_then(|artifact| artifact.piece(index))
        };
        match request {
            Request::Manifest { model } => {
                piece(model, 0).map_or(Response::Unknown, Response::Manifest)
            }
            Request::Chunk { model, index } => match piece(model, index) {
                Some(data) => Response::Chunk { index, data, proof: Bytes::new() },
                None => Response::Unknown,
            },
        }
    }
}
