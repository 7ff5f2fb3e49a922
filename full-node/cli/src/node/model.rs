//! The compiled model file of a process: found, read, opened, and handed out in pieces.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use nesa_model::artifact::{PREFIX_BYTES, header_len};
use nesa_model::{Artifact, Header, ModelLimits};
use nesa_primitives::Hash;
use nesa_wire::chunks::{Request, Response};

use crate::failure::{Code, Failure};

/// What is read of a file on this machine's own disk: as large as memory may be. Models from others have
/// smaller limits.
const LIMITS: ModelLimits = ModelLimits { max_bytes: 1 << 35, max_header_bytes: 1 << 24 };
/// Extension of compiled models.
const EXTENSION: &str = "nesa";

/// Reads and opens a compiled model; its digest is computed, not believed.
pub(crate) fn open(path: &Path) -> Result<Artifact> {
    let named = || format!("cannot read the model {}", path.display());
    // Its header says how large it is, before any of the rest is read.
    let header = header(path)?;
    let size = std::fs::metadata(path).with_context(named)?.len();
    let whole = (PREFIX_BYTES + header.bytes().len() + header.layout().total_bytes) as u64;
    if size != whole {
        return Err(no_model(path, format!("{size} bytes, its header names {whole}")));
    }
    let bytes = std::fs::read(path).with_context(named)?;
    Artifact::open(bytes, &LIMITS).map_err(|error| no_model(path, error))
}

fn no_model(path: &Path, error: impl std::fmt::Display) -> anyhow::Error {
    Failure::new(
        Code::Usage,
        format!("{} is not a compiled model: {error}", path.display()),
        "make one with `nesa model compile`",
    )
    .into()
}

/// Reads the header of a compiled model alone. Its digest is the model's; that the rest of the file fits it
/// is not checked.
pub(crate) fn header(path: &Path) -> Result<Header> {
    let named = || format!("cannot read the model {}", path.display());
    let mut file = std::fs::File::open(path).with_context(named)?;
    let mut prefix = Vec::new();
    file.by_ref().take(PREFIX_BYTES as u64).read_to_end(&mut prefix).with_context(named)?;
    let length = header_len(&prefix).map_err(|error| no_model(path, error))?;
    if length > LIMITS.max_header_bytes {
        let max = LIMITS.max_header_bytes;
        return Err(no_model(path, format!("header of {length} bytes, at most {max} allowed")));
    }
    let mut header = Vec::new();
    file.take(length as u64).read_to_end(&mut header).with_context(named)?;
    if header.len() != length {
        return Err(no_model(path, "the header is cut off"));
    }
    Header::decode(&header, &LIMITS).map_err(|error| no_model(path, error))
}

/// The first of [`find_all`].
pub(crate) fn find() -> Result<PathBuf> {
    find_all()?.into_iter().next().context("no model")
}

/// The file of a digest among [`find_all`].
pub(crate) fn find_digest(digest: &Hash) -> Result<PathBuf> {
    let is_it = |file: &PathBuf| header(file).is_ok_and(|header| header.digest() == *digest);
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
