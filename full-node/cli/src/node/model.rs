//! The compiled model file of a process: found, read, opened, and handed out in pieces.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use nesa_compiler::verify;
use nesa_model::artifact::{PREFIX_BYTES, PieceError, Pieces, header_len};
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

/// A compiled model on this machine's disk, of which the header alone is held.
///
/// The file may be changed or cut while it is served: each piece is checked when it is read, so that this is an
/// error and never other bytes.
pub(crate) struct ModelFile {
    header: Arc<Header>,
    file: File,
}

impl ModelFile {
    /// Opens a file after all checks that a client makes of a model; no more than its local region is held
    /// meanwhile.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let header = header(path)?;
        let file = File::open(path)
            .with_context(|| format!("cannot read the model {}", path.display()))?;
        let summary = verify(&file).map_err(|error| no_model(path, error))?;
        if summary.digest != header.digest() {
            return Err(no_model(path, "it changed while it was read"));
        }
        Ok(Self { header: Arc::new(header), file })
    }
}

impl Pieces for ModelFile {
    fn header(&self) -> &Arc<Header> {
        &self.header
    }

    fn read(&self, index: usize) -> Result<Bytes, PieceError> {
        let Some(chunk) = index.checked_sub(1) else {
            return Ok(Bytes::copy_from_slice(self.header.bytes()));
        };
        // One too many is empty, which no piece is.
        let range = self.header.layout().chunks.get(chunk).map_or(0..0, |c| c.range.clone());
        let mut bytes = vec![0; range.len()];
        let payload = PREFIX_BYTES + self.header.bytes().len();
        let read = self.file.read_exact_at(&mut bytes, (payload + range.start) as u64);
        let failed = |error: std::io::Error| PieceError::Read { index, error: error.to_string() };
        read.map_err(failed)?;
        Ok(bytes.into())
    }
}

/// Models that peers may fetch in pieces.
pub(crate) struct ServedModels(HashMap<Hash, ModelFile>);

impl ServedModels {
    pub(crate) fn new(files: impl IntoIterator<Item = ModelFile>) -> Self {
        Self(files.into_iter().map(|file| (file.header.digest(), file)).collect())
    }

    /// Answers a request for the header or one piece. The header's hashes check every piece, so
    /// pieces need no proofs of their own.
    pub(crate) fn answer(&self, request: Request) -> Response {
        let piece = |model, index: u32| {
            let piece = self.0.get(&model)?.piece(usize::try_from(index).ok()?);
            let piece = piece.inspect_err(|error| {
                tracing::warn!(%error, %model, "a piece cannot be served");
            });
            Some(piece.ok()?.bytes().clone())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use super::*;
    use nesa_model::artifact::ChunkError;
    use nesa_model::decoder::toy::{self, ToyDecoder};
    use nesa_model::decoder::{DecoderModel, Shard, ShardError};

    /// Weights of several chunks.
    fn artifact() -> Artifact {
        let toy = ToyDecoder { d_model: 256, d_ff: 640, ..ToyDecoder::default() };
        toy::artifact(&toy).unwrap()
    }

    fn chunk(served: &ServedModels, model: Hash, index: u32) -> Option<Bytes> {
        match served.answer(Request::Chunk { model, index }) {
            Response::Chunk { data, .. } => Some(data),
            Response::Unknown => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pieces_and_shards_of_a_file_are_those_of_the_model() {
        let artifact = artifact();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toy.nesa");
        std::fs::write(&path, artifact.to_file()).unwrap();
        let file = ModelFile::open(&path).unwrap();
        for index in 0..artifact.header().piece_count() {
            assert_eq!(Some(file.piece(index).unwrap().bytes()), artifact.piece(index).as_ref());
        }
        let beyond = artifact.header().piece_count();
        assert!(matches!(file.piece(beyond), Err(PieceError::Chunk(ChunkError::Index { .. }))));
        assert_eq!(Artifact::of_pieces(&file).unwrap().to_file(), artifact.to_file());
        let shard = DecoderModel::open_shard(&Shard::of_pieces(&file, 1..2).unwrap()).unwrap();
        let whole = DecoderModel::open(&artifact).unwrap();
        for spec in &whole.stages()[4..8] {
            assert!(!shard.weights(spec.id).is_empty());
            assert_eq!(shard.weights(spec.id).bytes(spec.k), whole.weights(spec.id).bytes(spec.k));
        }
    }

    /// Whatever becomes of a file under a node, nobody gets other bytes.
    #[test]
    fn files_that_change_are_errors() {
        let artifact = artifact();
        let (model, count) = (artifact.digest(), artifact.header().piece_count());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toy.nesa");
        let whole = artifact.to_file();
        std::fs::write(&path, &whole).unwrap();
        let served = ServedModels::new([ModelFile::open(&path).unwrap()]);
        let file = ModelFile::open(&path).unwrap();
        assert!((1..count as u32).all(|i| chunk(&served, model, i).is_some()));
        assert_eq!(chunk(&served, model, count as u32), None);
        assert_eq!(chunk(&served, Hash::ZERO, 1), None);

        // One bit of the last chunk: that one is refused, all others are served.
        let disk = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let last = whole.len() - 1;
        disk.write_all_at(&[whole[last] ^ 1], last as u64).unwrap();
        for i in 1..count as u32 {
            assert_eq!(chunk(&served, model, i).is_some(), i + 1 < count as u32, "piece {i}");
        }
        assert!(matches!(
            file.piece(count - 1),
            Err(PieceError::Chunk(ChunkError::Hash { index, .. })) if index == count - 1
        ));
        let failed = Shard::of_pieces(&file, 2..3).unwrap_err();
        assert!(matches!(failed, ShardError::Piece(PieceError::Chunk(_))), "{failed}");
        assert!(Shard::of_pieces(&file, 0..1).is_ok(), "the first layers are as they were");
        assert!(Artifact::of_pieces(&file).is_err());
        assert!(ModelFile::open(&path).is_err());

        // Cut in the middle of a chunk.
        disk.set_len(last as u64).unwrap();
        assert!(matches!(file.piece(count - 1), Err(PieceError::Read { .. })));
        assert_eq!(chunk(&served, model, count as u32 - 1), None);
        // Away altogether.
        disk.set_len(0).unwrap();
        assert!((1..count as u32).all(|i| chunk(&served, model, i).is_none()));
    }
}
