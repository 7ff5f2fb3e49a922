//! The tensors of a compiled model while they are made: each goes to its place in the file at once.
//!
//! A manifest's sizes fix where every tensor lies before any scale is known, so nothing is kept but the
//! place: a new file beside the one that is wanted, or memory. The header, which names the scales and the
//! hash of every chunk, is written last; then the file takes its name in one step. Whatever ends the
//! process before that leaves no file of that name, or the one that was there.

use bytes::Bytes;
use nesa_model::artifact::{HeaderError, PREFIX_BYTES};
use nesa_model::layout::{Layout, TensorKind};
use nesa_model::manifest::Manifest;
use nesa_model::{Artifact, ExactModel, Header, ModelLimits};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::NamedTempFile;

use crate::compile::{CompileError, Summary};
use crate::quantize::{fixed_point, quantize_embedding_row};
use crate::source::SourceError;
use crate::verify::verify;

/// Rows of an embedding that are quantised at a time.
const ROWS: usize = 512;

/// Where the tensors go.
pub(crate) enum Place {
    /// Memory, for models that are used at once.
    Memory(Vec<u8>),
    /// A file that becomes the second.
    File(NamedTempFile, PathBuf),
}

impl Place {
    /// Beside `path`, which it will become. A file that is there stays until then.
    pub(crate) fn beside(path: &Path) -> Result<Self, CompileError> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".nesa-")
            .suffix(".part")
            .permissions(std::fs::Permissions::from_mode(0o644))
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .map_err(|error| CompileError::Write { path: path.into(), error })?;
        Ok(Self::File(file, path.into()))
    }
}

/// Tensors on their way into a file.
pub(crate) struct Parts {
    layout: Layout,
    place: Place,
    /// Where the payload begins.
    payload: usize,
    /// Bytes that each tensor has.
    written: Vec<usize>,
}

/// An embedding as the format has it: what a tied head needs to know of it.
pub(crate) struct Words {
    pub(crate) shift: u8,
    /// Real value of one step of each row.
    pub(crate) steps: Vec<f64>,
    /// Largest sum of magnitudes of a row.
    pub(crate) widest: u64,
}

fn range(what: String) -> CompileError {
    CompileError::Range { what }
}

impl Parts {
    /// A place for the tensors of a manifest whose sizes are right; its scales may be any.
    pub(crate) fn new(
        sizes: &Manifest,
        limits: &ModelLimits,
        place: Place,
    ) -> Result<Self, CompileError> {
        let layout = Layout::of(sizes, limits).map_err(HeaderError::from)?;
        let payload = PREFIX_BYTES + Header::length_of(sizes, layout.chunks.len());
        let written = vec![0; layout.tensors.len()];
        let mut parts = Self { layout, place, payload, written };
        if let Place::Memory(bytes) = &mut parts.place {
            *bytes = vec![0; parts.layout.total_bytes];
        }
        Ok(parts)
    }

    /// Keeps a tensor's bytes.
    pub(crate) fn put(&mut self, kind: TensorKind, bytes: &[u8]) -> Result<(), CompileError> {
        self.put_rows(kind, 0, bytes)
    }

    /// Keeps rows of a tensor, the first of which is `first`.
    pub(crate) fn put_rows(
        &mut self,
        kind: TensorKind,
        first: usize,
        bytes: &[u8],
    ) -> Result<(), CompileError> {
        let wrong = || range(format!("{kind:?}"));
        let index = self.layout.tensors.iter().position(|t| t.kind == kind).ok_or_else(wrong)?;
        let tensor = self.layout.tensors[index];
        let start = tensor.offset + first * tensor.row_bytes;
        if start + bytes.len() > tensor.range().end {
            return Err(wrong());
        }
        self.written[index] += bytes.len();
        match &mut self.place {
            Place::Memory(payload) => {
                payload[start..start + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            Place::File(file, path) => {
                let at = (self.payload + start) as u64;
                let written = file.as_file().write_all_at(bytes, at);
                written.map_err(|error| CompileError::Write { path: path.clone(), error })
            }
        }
    }

    /// Keeps 16-bit entries.
    pub(crate) fn put_u16(&mut self, kind: TensorKind, values: &[u16]) -> Result<(), CompileError> {
        self.put(kind, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Keeps values as 32-bit integers.
    pub(crate) fn put_i32(&mut self, kind: TensorKind, values: &[i64]) -> Result<(), CompileError> {
        if values.iter().any(|&v| i32::try_from(v).is_err()) {
            return Err(range(format!("{kind:?}")));
        }
        let bytes = values.iter().flat_map(|&v| (v as i32).to_le_bytes());
        self.put(kind, &bytes.collect::<Vec<u8>>())
    }

    /// Keeps a token embedding, `[count, width]`, given some rows at a time, and its multipliers for a
    /// sum of `unit` per one.
    pub(crate) fn put_words(
        &mut self,
        rows: impl Fn(Range<usize>) -> Result<Vec<f32>, SourceError>,
        (count, width): (usize, usize),
        unit: f64,
    ) -> Result<Words, CompileError> {
        let (mut steps, mut widest) = (Vec::with_capacity(count), 0);
        for first in (0..count).step_by(ROWS) {
            let rows = rows(first..(first + ROWS).min(count))?;
            let mut bytes = Vec::with_capacity(rows.len());
            for row in rows.chunks_exact(width).map(quantize_embedding_row) {
                let magnitudes = row.q.iter().map(|&q| u64::from(q.unsigned_abs()));
                widest = widest.max(magnitudes.sum::<u64>());
                steps.push(row.scale);
                bytes.extend(row.q.iter().map(|&q| q as u8));
            }
            self.put_rows(TensorKind::Word, first, &bytes)?;
        }
        let scales: Vec<f64> = steps.iter().map(|s| s * unit).collect();
        let (scales, shift) =
            fixed_point(&scales, 1..=40).ok_or_else(|| range("word scale".into()))?;
        self.put_i32(TensorKind::WordScale, &scales)?;
        Ok(Words { shift: shift as u8, steps, widest })
    }

    /// Keeps a stage's multipliers and bias; returns the multipliers' shift. A product of one is worth
    /// `steps[j] / per_one`, and output channel `j` has `units_out[j]` per one.
    pub(crate) fn put_requantisation(
        &mut self,
        stage: usize,
        steps: &[f64],
        per_one: f64,
        units_out: &[f64],
        bias: &[f32],
    ) -> Result<u8, CompileError> {
        let multipliers: Vec<f64> =
            steps.iter().zip(units_out).map(|(step, unit)| step * unit / per_one).collect();
        let (multipliers, shift) = fixed_point(&multipliers, 32..=63)
            .ok_or_else(|| range(format!("multipliers of stage {stage}")))?;
        let bias: Vec<i64> = bias
            .iter()
            .zip(units_out)
            .map(|(&b, unit)| (f64::from(b) * unit).round() as i64)
            .collect();
        self.put_i32(TensorKind::Multiplier(stage), &multipliers)?;
        self.put_i32(TensorKind::Bias(stage), &bias)?;
        Ok(shift as u8)
    }

    /// Whether every tensor is whole, and the manifest one of the sizes that were planned.
    fn complete(&self, manifest: &Manifest) -> Result<(), CompileError> {
        for (tensor, &written) in self.layout.tensors.iter().zip(&self.written) {
            if written != tensor.range().len() {
                return Err(range(format!("{:?} of {written} bytes", tensor.kind)));
            }
        }
        let limits = ModelLimits { max_bytes: usize::MAX, max_header_bytes: usize::MAX };
        let layout = Layout::of(manifest, &limits).map_err(HeaderError::from)?;
        let header = PREFIX_BYTES + Header::length_of(manifest, layout.chunks.len());
        if layout != self.layout || header != self.payload {
            return Err(range("the manifest's sizes".into()));
        }
        Ok(())
    }

    /// The model, checked, in memory.
    pub(crate) fn into_artifact(mut self, manifest: Manifest) -> Result<Artifact, CompileError> {
        self.complete(&manifest)?;
        let payload = match &mut self.place {
            Place::Memory(payload) => std::mem::take(payload),
            Place::File(..) => return Err(range("a file where memory was meant".into())),
        };
        let artifact = Artifact::build(manifest, Bytes::from(payload))?;
        ExactModel::open(&artifact)?;
        Ok(artifact)
    }

    /// The model's file, checked, under its name.
    pub(crate) fn into_file(self, manifest: Manifest) -> Result<Summary, CompileError> {
        self.complete(&manifest)?;
        let Place::File(mut file, path) = self.place else {
            return Err(range("memory where a file was meant".into()));
        };
        let write = |error| CompileError::Write { path: path.clone(), error };
        let mut hashes = Vec::with_capacity(self.layout.chunks.len());
        let mut bytes = Vec::new();
        for (i, chunk) in self.layout.chunks.iter().enumerate() {
            bytes.resize(chunk.range.len(), 0);
            let at = (self.payload + chunk.range.start) as u64;
            file.as_file().read_exact_at(&mut bytes, at).map_err(write)?;
            hashes.push(Header::chunk_hash(i, &bytes));
        }
        let limits = ModelLimits { max_bytes: usize::MAX, max_header_bytes: usize::MAX };
        let header = Arc::new(Header::of(manifest, hashes, &limits)?);
        file.as_file().write_all_at(&header.file_prefix(), 0).map_err(write)?;
        let summary = verify(file.as_file()).map_err(|e| e.of(&path))?;
        file.flush().and_then(|()| file.as_file().sync_all()).map_err(write)?;
        file.persist(&path).map_err(|e| write(e.error))?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let synced =
            std::fs::File::open(folder.unwrap_or(Path::new("."))).and_then(|f| f.sync_all());
        synced.map_err(write)?;
        Ok(summary)
    }
}

/// The smallest `b` with `bound < 2^b`, at least 1.
pub(crate) fn bound_bits(bound: u64) -> u8 {
    (64 - bound.leading_zeros()).max(1) as u8
}
