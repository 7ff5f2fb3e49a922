//! Every check that a client makes of a model, on a file that is read a piece at a time.

use nesa_model::artifact::{ArtifactError, HeaderError, PREFIX_BYTES, header_len};
use nesa_model::bounds::check_rows;
use nesa_model::{Assembler, ExactModel, Header, LinearSpec, ModelError, ModelLimits};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

use crate::compile::{CompileError, Summary};

/// A file that is no model, or not a usable one.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// No compiled model, or not whole.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// Parameters that the arithmetic does not allow.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl VerifyError {
    /// As a failure to compile `path`.
    pub(crate) fn of(self, path: &Path) -> CompileError {
        match self {
            Self::Read(error) => CompileError::Write { path: path.into(), error },
            Self::Artifact(error) => error.into(),
            Self::Model(error) => error.into(),
        }
    }
}

impl From<HeaderError> for VerifyError {
    fn from(error: HeaderError) -> Self {
        Self::Artifact(error.into())
    }
}

impl From<nesa_model::artifact::ChunkError> for VerifyError {
    fn from(error: nesa_model::artifact::ChunkError) -> Self {
        Self::Artifact(error.into())
    }
}

/// Checks a file as a client that streams it would: every chunk against the header, the local region by
/// opening it, every weight row against its bound. No more than the local region is held.
///
/// # Errors
/// [`VerifyError`] naming the first thing that is wrong.
pub fn verify(file: &File) -> Result<Summary, VerifyError> {
    let limits = ModelLimits { max_bytes: usize::MAX, max_header_bytes: usize::MAX };
    let mut prefix = [0; PREFIX_BYTES];
    file.read_exact_at(&mut prefix, 0)?;
    let mut header = vec![0; header_len(&prefix)?];
    file.read_exact_at(&mut header, PREFIX_BYTES as u64)?;
    let payload = PREFIX_BYTES + header.len();
    let header = Arc::new(Header::decode(&header, &limits)?);
    let bytes = payload + header.layout().total_bytes;
    if file.metadata()?.len() != bytes as u64 {
        return Err(ArtifactError::Length {
            got: (file.metadata()?.len() as usize).saturating_sub(payload),
            expected: header.layout().total_bytes,
        }
        .into());
    }
    let read = |chunk: usize| -> Result<Vec<u8>, VerifyError> {
        let range = &header.layout().chunks[chunk].range;
        let mut bytes = vec![0; range.len()];
        file.read_exact_at(&mut bytes, (payload + range.start) as u64)?;
        Ok(bytes)
    };
    let mut local = Assembler::local(header.clone());
    for chunk in 0..header.layout().local_chunks {
        local.insert(chunk + 1, read(chunk)?)?;
    }
    let model = ExactModel::open_local(&local.finish_local()?)?;
    let specs: &[LinearSpec] = match &model {
        ExactModel::Decoder(decoder) => decoder.stages(),
        _ => model.served_stages(),
    };
    if let (Some(head), Some(spec)) = (model.decoder().and_then(|d| d.tied_head()), specs.last()) {
        check_rows(spec, 0, &head.bytes(spec.k)).map_err(ModelError::from)?;
    }
    for chunk in header.layout().local_chunks..header.layout().chunks.len() {
        let bytes = read(chunk)?;
        header.verify_piece(chunk + 1, &bytes)?;
        for part in &header.layout().chunks[chunk].weights {
            let rows = header.layout().weight_rows(part.stage, &bytes[part.bytes.clone()]);
            check_rows(&specs[part.stage], part.rows.start, &rows).map_err(ModelError::from)?;
        }
    }
    Ok(Summary {
        digest: header.digest(),
        bytes,
        stages: header.manifest().stages().len(),
        chunks: header.layout().chunks.len(),
    })
}
