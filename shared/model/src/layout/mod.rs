//! Which tensors a manifest implies, where they lie, and how they are cut into chunks.
//!
//! A file's payload has two regions. The *local* one (embeddings, norms, scales, tables,
//! vocabulary) is what a masked client keeps; the *weights*, in order of execution, it may stream
//! once and drop. Chunks are whole rows, at most [`MAX_CHUNK_BYTES`], and never span the regions.

mod classifier;
mod decoder;
mod encoder;

use nesa_kernels::Weight;
use std::borrow::Cow;
use std::ops::Range;
use thiserror::Error;

use crate::manifest::{Manifest, StageConfig, WeightForm};

pub(crate) use classifier::{Shape, shapes as classifier_shapes};
pub(crate) use decoder::stage_shape as decoder_stage_shape;
pub(crate) use encoder::stage_shape as encoder_stage_shape;

/// Largest chunk, in bytes.
pub const MAX_CHUNK_BYTES: usize = 256 * 1024;

/// Bounds on a model that outside bytes may ask this machine to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelLimits {
    /// Largest payload, in bytes.
    pub max_bytes: usize,
    /// Largest header, in bytes.
    pub max_header_bytes: usize,
}

impl Default for ModelLimits {
    /// 1 GiB of payload: far above the models of today, far below what harms a machine that only
    /// allocates as bytes arrive.
    fn default() -> Self {
        Self { max_bytes: 1 << 30, max_header_bytes: 1 << 20 }
    }
}

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// `[vocab, d_model]` of `i8`.
    Word,
    /// `[vocab]` of `u32`, multiplier of each word row.
    WordScale,
    /// `[max_tokens, d_model]` of `i32`, position plus segment embedding.
    Position,
    /// `[d_model]` of `i32`, what the second text of a pair has as segment embedding beyond the first.
    Segment,
    /// `[heads, 2 · max_tokens − 1]` of `i32`, what is added to a score by the distance of its tokens.
    Relative,
    /// `[d_model]` of `i32`; norm index 0 is the embedding's, then two per layer.
    NormGain(usize),
    /// `[d_model]` of `i32`.
    NormBias(usize),
    /// `[n]` of `u32`, requantisation multipliers of a stage.
    Multiplier(usize),
    /// `[n]` of `i32`.
    Bias(usize),
    /// `[k]` of `u16`, input factors of a smoothed stage.
    Smooth(usize),
    /// `[heads]` of `u32`, score multipliers of a layer.
    Score(usize),
    /// `u16` entries.
    GeluTable,
    /// `u16` entries.
    SiluTable,
    /// `u16` entries.
    ExpTable,
    /// `[head_width / 2]` of `u64`, rotary turns per position.
    Frequency,
    /// `i32` entries, the cosine over one turn.
    Cosine,
    /// `u32` entries, powers of e for sampling.
    SampleTable,
    /// `u16` entries, the hyperbolic tangent.
    TanhTable,
    /// Bytes.
    Vocab,
    /// Bytes of a text classifier's labels.
    Labels,
    /// Bytes of `tokenizer.json`.
    Tokenizer,
    /// Bytes of the chat template.
    Template,
    /// `[n, k]` of `i8`, the weight of a stage; or its rows packed, see [`Layout::weight_form`].
    Weight(usize),
}

/// One tensor: `rows × row_bytes` bytes at `offset` in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// What it is for.
    pub kind: TensorKind,
    /// Offset in the payload, bytes.
    pub offset: usize,
    /// Rows.
    pub rows: usize,
    /// Bytes per row.
    pub row_bytes: usize,
}

impl Tensor {
    /// Its bytes' place in the payload.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.rows * self.row_bytes
    }
}

/// Whole rows of one stage's weight inside a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightRows {
    /// The stage.
    pub stage: usize,
    /// The rows of `[n, k]` that the chunk holds, in order.
    pub rows: Range<usize>,
    /// Their place within the chunk, bytes.
    pub bytes: Range<usize>,
}

/// One chunk of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Place in the payload, bytes.
    pub range: Range<usize>,
    /// Weight rows inside; empty for chunks of the local region.
    pub weights: Vec<WeightRows>,
}

/// Everything a manifest implies about its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Tensors in payload order.
    pub tensors: Vec<Tensor>,
    /// Bytes of the local region; the weights follow it.
    pub local_bytes: usize,
    /// Bytes of the payload.
    pub total_bytes: usize,
    /// Chunks in payload order.
    pub chunks: Vec<Chunk>,
    /// How many of the chunks are of the local region.
    pub local_chunks: usize,
    /// For each stage whose rows are packed, their width `k`; in order of the stages, which are the first.
    packed: Vec<usize>,
}

/// A manifest whose sizes make no sense or exceed the limits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// A size is zero or beyond what the arithmetic allows.
    #[error("{what} is {got}, allowed {allowed}")]
    Size {
        /// Which size.
        what: &'static str,
        /// Its value.
        got: u64,
        /// The allowed range, in words.
        allowed: &'static str,
    },
    /// The payload would be larger than allowed.
    #[error("the payload exceeds {max} bytes")]
    TooLarge {
        /// The limit, bytes.
        max: usize,
    },
}

fn within(
    what: &'static str,
    got: u64,
    range: std::ops::RangeInclusive<u64>,
    allowed: &'static str,
) -> Result<usize, LayoutError> {
    if range.contains(&got) {
        Ok(got as usize)
    } else {
        Err(LayoutError::Size { what, got, allowed })
    }
}

impl Layout {
    /// Derives the layout, refusing sizes the arithmetic cannot carry.
    ///
    /// # Errors
    /// [`LayoutError`] naming the first size out of range.
    pub fn of(manifest: &Manifest, limits: &ModelLimits) -> Result<Self, LayoutError> {
        for s in manifest.stages() {
            within("input_bits", s.input_bits.into(), 2..=16, "2 to 16")?;
            within("row_bound_bits", s.row_bound_bits.into(), 1..=31, "1 to 31")?;
            within("stage shift", s.shift.into(), 32..=63, "32 to 63")?;
        }
        let mut plan = Plan { tensors: Vec::new(), offset: 0, packed: Vec::new() };
        let local_tensors = match manifest {
            Manifest::Encoder(m) => encoder::plan(m, &mut plan)?,
            Manifest::Decoder(m) => decoder::plan(m, &mut plan)?,
            Manifest::Classifier(m) => classifier::plan(m, &mut plan)?,
        };
        let total_bytes = plan.offset;
        if total_bytes > limits.max_bytes {
            return Err(LayoutError::TooLarge { max: limits.max_bytes });
        }
        let packed = plan.packed;
        let tensors = plan.tensors;
        let local_bytes = tensors.get(local_tensors).map_or(total_bytes, |t| t.offset);
        let mut chunks = cut(&tensors[..local_tensors]);
        let local_chunks = chunks.len();
        chunks.extend(cut(&tensors[local_tensors..]));
        Ok(Self { tensors, local_bytes, total_bytes, chunks, local_chunks, packed })
    }

    /// How the rows of a stage's weight are kept.
    pub fn weight_form(&self, stage: usize) -> WeightForm {
        if stage < self.packed.len() { WeightForm::Nibbles } else { WeightForm::Bytes }
    }

    /// Whole rows of a stage's weight as they are computed with, `[rows, k]`; `bytes` are the rows as the
    /// payload has them.
    pub fn weight_rows<'a>(&self, stage: usize, bytes: &'a [u8]) -> Cow<'a, [i8]> {
        let k = self.packed.get(stage).copied().unwrap_or_default();
        self.weight(stage, bytes).bytes(k)
    }

    /// Whole rows of a stage's weight, as products take them; `bytes` are the rows as the payload has them.
    pub fn weight<'a>(&self, stage: usize, bytes: &'a [u8]) -> Weight<'a> {
        match self.weight_form(stage) {
            WeightForm::Bytes => Weight::Bytes(nesa_kernels::as_i8(bytes)),
            WeightForm::Nibbles => Weight::Nibbles(bytes),
        }
    }

    /// The tensor of one kind, if this model has it.
    pub fn tensor(&self, kind: TensorKind) -> Option<&Tensor> {
        self.tensors.iter().find(|t| t.kind == kind)
    }
}

struct Plan {
    tensors: Vec<Tensor>,
    offset: usize,
    packed: Vec<usize>,
}

impl Plan {
    // Sizes were range-checked by the caller; what would still leave the machine's integers saturates
    // and meets the limit.
    /// A stage's parameters beside its weight.
    fn push_stage(&mut self, index: usize, (k, n): (usize, usize), stage: &StageConfig) {
        self.push(TensorKind::Multiplier(index), n, 4);
        self.push(TensorKind::Bias(index), n, 4);
        if stage.smoothed {
            self.push(TensorKind::Smooth(index), k, 2);
        }
    }

    fn push(&mut self, kind: TensorKind, rows: usize, row_bytes: usize) {
        self.tensors.push(Tensor { kind, offset: self.offset, rows, row_bytes });
        self.offset = self.offset.saturating_add(rows.saturating_mul(row_bytes));
    }
}

/// Greedy cut into chunks of whole rows.
fn cut(tensors: &[Tensor]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let Some(first) = tensors.first() else { return chunks };
    let mut start = first.offset;
    let mut weights: Vec<WeightRows> = Vec::new();
    let mut used = 0usize;
    for t in tensors {
        let mut row = 0;
        while row < t.rows {
            let free = (MAX_CHUNK_BYTES - used) / t.row_bytes;
            if free == 0 {
                chunks.push(Chunk { range: start..start + used, weights: weights.split_off(0) });
                start += used;
                used = 0;
                continue;
            }
            let take = free.min(t.rows - row);
            if let TensorKind::Weight(stage) = t.kind {
                weights.push(WeightRows {
                    stage,
                    rows: row..row + take,
                    bytes: used..used + take * t.row_bytes,
                });
            }
            used += take * t.row_bytes;
            row += take;
        }
    }
    if used > 0 {
        chunks.push(Chunk { range: start..start + used, weights });
    }
    chunks
}
