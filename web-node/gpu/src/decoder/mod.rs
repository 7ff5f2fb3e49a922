//! A decoder's layers on a device: its weights, its caches, and the steps of several sequences in one submit.
//!
//! ```text
//! rows ─▶ norm ─▶ qkv ─▶ remember ─▶ attend ─▶ offer ─▶ out ─▶ added ─▶ norm ─▶ gate_up ─▶ gated ─▶ offer ─▶ down ─▶ added
//!           └──────────────────────────── each layer, without a word to the host ────────────────────────────┘
//! ```
//!
//! The bytes are those of [`nesa_model::decoder::DecoderRun`]. Rows that begin cross to the device. Back come,
//! in one copy, hidden rows or logits ([`GpuDecoder::step`]), or the products of every linear stage
//! ([`GpuDecoder::products`]): from these the processor can follow the run, check it and record it without a
//! weight of its own. Caches never leave the device.
//!
//! Sequences that go together share every product: their rows lie one under another, and only attention is a
//! dispatch for each. A batch of more rows than one submit should have goes in several ([`batch`]).

mod batch;
mod step;

use std::sync::Arc;

use nesa_model::StageId;
use nesa_model::decoder::{DecoderModel, Input, Logits, Output, RunError};

use crate::device::{Gpu, GpuError};
use crate::ops::check::{self, Case};
use crate::ops::{MAX_HEAD_WIDTH, Ops};
use crate::weights::Weights;
pub use batch::{Part, Products};

/// Linear stages of a layer.
const PER_LAYER: usize = 4;
/// What the operations are compared on before decoders are placed: loud, quiet, and across every edge.
const SELF_TEST: [Case; 3] = [
    Case { seed: 96, tokens: 3, width: 150, quiet: 0 },
    Case { seed: 11, tokens: 2, width: 66, quiet: 12 },
    Case { seed: 5, tokens: 2, width: 1, quiet: 9 },
];

/// Why a device does not run a decoder.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// The device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The input is not one for this model.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The model was opened without weights, or as a part that lacks them.
    #[error("stage {0} is not here")]
    Absent(usize),
    /// Heads wider than the kernels hold, or of an odd width.
    #[error("heads of {got} channels, the kernels take even widths up to {MAX_HEAD_WIDTH}")]
    HeadWidth {
        /// The model's.
        got: usize,
    },
    /// A weight that one binding of the device does not hold.
    #[error("stage {stage} takes {got} bytes, a binding holds {allowed}")]
    Large {
        /// Which stage.
        stage: usize,
        /// Its bytes.
        got: u64,
        /// The device's limit.
        allowed: u64,
    },
    /// A layer's cache that one binding of the device does not hold.
    #[error("a cache of {capacity} tokens takes {got} bytes a layer, a binding holds {allowed}")]
    Cache {
        /// Tokens asked for.
        capacity: usize,
        /// Bytes of keys, or of values, of one layer.
        got: u64,
        /// The device's limit.
        allowed: u64,
    },
    /// More tokens than the sequence's cache was made for.
    #[error("the cache has room for {capacity} tokens, {got} are needed")]
    Full {
        /// Room.
        capacity: usize,
        /// Tokens old and new.
        got: usize,
    },
}

/// The operations of decoders on a device, compiled and held against the processor's: for all decoders on it.
pub struct Kernels {
    gpu: Arc<Gpu>,
    ops: Ops,
}

/// A linear stage and all that surrounds it.
struct Stage {
    weights: Weights,
    /// Multipliers and biases, interleaved.
    to: wgpu::Buffer,
    shift: u32,
    q_max: u32,
    /// Smoothing factors, where `smoothing`, else the gain of the norm before it, where there is one.
    factors: wgpu::Buffer,
    smoothing: bool,
    epsilon: u64,
}

/// A decoder, or some of its layers, on a device.
pub struct GpuDecoder {
    kernels: Arc<Kernels>,
    model: DecoderModel,
    stages: Vec<Stage>,
    /// Scales of the scores, by layer.
    scores: Vec<wgpu::Buffer>,
    silu: wgpu::Buffer,
    exp: wgpu::Buffer,
}

/// What a sequence has seen, on the device: the cache determines the text and stays there.
pub struct GpuSequence {
    /// By layer, `[kv_heads, capacity, head_width / 2]` words of two channels.
    keys: Vec<wgpu::Buffer>,
    values: Vec<wgpu::Buffer>,
    tokens: usize,
    capacity: usize,
}

impl GpuSequence {
    /// Tokens seen.
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Whether no token has been seen.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// Forgets all but the first `tokens`.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens = self.tokens.min(tokens);
    }
}

impl Drop for GpuSequence {
    /// The device has the memory back when its last submit that reads it is done.
    fn drop(&mut self) {
        self.keys.iter().chain(&self.values).for_each(wgpu::Buffer::destroy);
    }
}

impl Kernels {
    /// Compiles the operations and computes each beside the processor's.
    ///
    /// # Errors
    /// [`GpuError`] when the device's bits differ, or it refuses.
    pub async fn prove(gpu: Arc<Gpu>) -> Result<Arc<Self>, GpuError> {
        let ops = Ops::compile(&gpu);
        gpu.check()?;
        for case in SELF_TEST {
            check::all(&gpu, &ops, case).await?;
        }
        Ok(Arc::new(Self { gpu, ops }))
    }
}

impl GpuDecoder {
    /// Brings the layers of `model` that are here to the device.
    ///
    /// # Errors
    /// [`DecoderError`] when the device cannot hold the model.
    pub fn place(kernels: Arc<Kernels>, model: &DecoderModel) -> Result<Self, DecoderError> {
        let gpu = &kernels.gpu;
        let got = usize::from(model.config().head_width);
        if got > MAX_HEAD_WIDTH || !got.is_multiple_of(2) {
            return Err(DecoderError::HeadWidth { got });
        }
        let stages = model.stages_here().map(|index| Stage::place(gpu, model, index));
        let stages = stages.collect::<Result<_, _>>()?;
        let scores = model.layers().map(|l| gpu.words(model.score_scales(l).iter().copied()));
        let scores = scores.collect();
        let table = |table: &[u16]| gpu.words(table.iter().map(|&e| u32::from(e)));
        let (silu, exp) = (table(model.silu_table()), table(model.exp_table()));
        gpu.check()?;
        Ok(Self { model: model.clone(), stages, scores, silu, exp, kernels })
    }

    /// Bytes that the layers of `model` that are here take on a device, and at most what a submit takes
    /// beside them.
    pub fn bytes(model: &DecoderModel) -> u64 {
        let stages = model.stages().get(model.stages_here()).unwrap_or_default();
        let stage = |s: &nesa_model::LinearSpec| {
            let (n, k) = (s.n as u64, s.k.next_multiple_of(16) as u64);
            // Weights, their sums, scales and biases; factors.
            n.saturating_mul(k + 12).saturating_add(4 * k)
        };
        let held = stages.iter().map(stage).fold(0, u64::saturating_add);
        held.saturating_add(2 * batch::MOST_BYTES as u64)
    }

    /// Bytes that the cache of a sequence of at most `tokens` tokens takes.
    pub fn cache_bytes(model: &DecoderModel, tokens: usize) -> u64 {
        let c = model.config();
        let row = 4 * u64::from(c.kv_heads) * u64::from(c.head_width);
        (model.layers().len() as u64).saturating_mul(row).saturating_mul(tokens as u64)
    }

    /// An empty cache for at most `capacity` tokens.
    ///
    /// # Errors
    /// [`DecoderError`] when the device has no room.
    pub fn sequence(&self, capacity: usize) -> Result<GpuSequence, DecoderError> {
        let (c, gpu) = (self.model.config(), self.gpu());
        let words = usize::from(c.kv_heads) * usize::from(c.head_width) / 2;
        let words = words.saturating_mul(capacity);
        let (got, allowed) = ((words as u64).saturating_mul(4), gpu.caps.binding);
        if got > allowed {
            return Err(DecoderError::Cache { capacity, got, allowed });
        }
        let layers = self.model.layers().len();
        let room = || (0..layers).map(|_| gpu.room(words)).collect();
        let sequence = GpuSequence { keys: room(), values: room(), tokens: 0, capacity };
        gpu.check()?;
        Ok(sequence)
    }

    /// Runs new tokens of one sequence through the layers. The sequence is longer by them only if that
    /// succeeds.
    ///
    /// # Errors
    /// [`DecoderError`] when the input does not fit, or the device fails.
    pub async fn step(
        &self,
        sequence: &mut GpuSequence,
        input: &Input,
        logits: Logits,
    ) -> Result<Output, DecoderError> {
        let rows = self.output(Part { sequence, input, logits }).await?;
        Ok(if self.model.gives_logits() { Output::Logits(rows) } else { Output::Hidden(rows) })
    }

    fn gpu(&self) -> &Gpu {
        &self.kernels.gpu
    }

    /// The head, where it is here.
    fn head(&self) -> Option<&Stage> {
        self.stages.get(self.model.layers().len() * PER_LAYER)
    }
}

impl Stage {
    fn place(gpu: &Gpu, model: &DecoderModel, index: usize) -> Result<Self, DecoderError> {
        let id = StageId(u16::try_from(index).map_err(|_| DecoderError::Absent(index))?);
        let absent = DecoderError::Absent(index);
        let (Some(spec), Some(scaling)) = (model.stages().get(index), model.scaling(id)) else {
            return Err(absent);
        };
        let w = model.weights(id);
        if w.is_empty() {
            return Err(absent);
        }
        let got = (spec.n as u64).saturating_mul(spec.k.next_multiple_of(16) as u64);
        let allowed = gpu.caps().binding;
        if got > allowed {
            return Err(DecoderError::Large { stage: index, got, allowed });
        }
        let weights = gpu.upload(&w.bytes(spec.k), spec.n, spec.k)?;
        let pairs = scaling.multiplier.iter().zip(scaling.bias);
        let to = gpu.words(pairs.flat_map(|(m, b)| [*m, b.cast_unsigned()]));
        let norm = model.norm(id);
        let factors = match norm {
            Some(norm) => gpu.words(norm.gain.iter().map(|g| g.cast_unsigned())),
            None => gpu.words(scaling.smooth.iter().map(|&f| u32::from(f))),
        };
        Ok(Self {
            weights,
            to,
            shift: scaling.shift,
            q_max: spec.input_max().cast_unsigned(),
            factors,
            smoothing: norm.is_none() && !scaling.smooth.is_empty(),
            epsilon: norm.map_or(0, |norm| norm.epsilon),
        })
    }
}
