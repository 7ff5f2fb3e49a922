//! The compiled model file of a process: found, read, opened, and handed out in pieces.

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

/// Finds a compiled model: the only `models/*.nesa` near the working directory or the executable.
pub(crate) fn find() -> Result<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    for folder in starts.iter().flatten().flat_map(|start| start.ancestors()) {
        let mut found: Vec<PathBuf> = std::fs::read_dir(folder.join("models"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION))
            .collect();
        found.sort();
        if let Some(first) = found.into_iter().next() {
            return Ok(first);
        }
    }
    Err(Failure::new(
        Code::Usage,
        "no compiled model was found under models/",
        "name one with --model FILE, or make one with `nesa model compile`",
    )
    .into())
}

/// A model that peers may fetch in pieces.
pub(crate) struct ServedModel {
    digest: Hash,
    artifact: Artifact,
}

impl ServedModel {
    pub(crate) fn new(artifact: Artifact) -> Self {
        Self { digest: artifact.digest(), artifact }
    }

    /// Answers a request for the header or one piece. The header's hashes check every piece, so
    /// pieces need no proofs of their own.
    pub(crate) fn answer(&self, request: Request) -> Response {
        match request {
            Request::Manifest { model } if model == self.digest => {
                self.artifact.piece(0).map_or(Response::Unknown, Response::Manifest)
            }
            Request::Chunk { model, index } if model == self.digest => {
                match usize::try_from(index).ok().and_then(|index| self.artifact.piece(index)) {
                    Some(data) => Response::Chunk { index, data, proof: Bytes::new() },
                    None => Response::Unknown,
                }
            }
            Request::Manifest { .. } | Request::Chunk { .. } => Response::Unknown,
        }
    }
}
