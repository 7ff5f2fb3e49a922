//! A decoder's layers on a device: its weights, its caches, and a whole step in one submit.
//!
//! ```text
//! rows ─▶ norm ─▶ qkv ─▶ remember ─▶ attend ─▶ offer ─▶ out ─▶ added ─▶ norm ─▶ gate_up ─▶ gated ─▶ offer ─▶ down ─▶ added
//!           └──────────────────────────── each layer, without a word to the host ────────────────────────────┘
//! ```
//!
//! The bytes are those of [`nesa_model::decoder::DecoderRun`]. Only the rows that begin, and hidden rows or
//! logits at the end, cross between host and device; caches never do.

use std::sync::Arc;

use nesa_kernels::decoder as plain;
use nesa_model::StageId;
use nesa_model::decoder::{DecoderModel, Input, Logits, Output, RunError};

use crate::device::{Gpu, GpuError};
use crate::input::Kind;
use crate::ops::check::{self, Case};
use crate::ops::{Dispatch, LANES, MAX_HEAD_WIDTH, Op, Ops};
use crate::weights::Weights;

/// Linear stages of a layer.
const PER_LAYER: usize = 4;
/// What the operations are compared on when a decoder is placed: loud, quiet, and across every edge.
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
    /// More tokens than the sequence's cache was made for.
    #[error("the cache has room for {capacity} tokens, {got} are needed")]
    Full {
        /// Room.
        capacity: usize,
        /// Tokens old and new.
        got: usize,
    },
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
    gpu: Arc<Gpu>,
    model: DecoderModel,
    ops: Ops,
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

/// Buffers of one step; `[rows, …]` each.
struct Step<'a> {
    decoder: &'a GpuDecoder,
    tokens: usize,
    hidden: wgpu::Buffer,
    x: wgpu::Buffer,
    y: wgpu::Buffer,
    scales: wgpu::Buffer,
    offered: wgpu::Buffer,
    queries: wgpu::Buffer,
    turns: wgpu::Buffer,
    dispatches: Vec<Dispatch>,
}

impl GpuDecoder {
    /// Brings the layers of `model` that are here to the device, once every operation has given the
    /// processor's bits on it.
    ///
    /// # Errors
    /// [`DecoderError`] when the device's bits differ, or it cannot hold the model.
    pub async fn place(gpu: Arc<Gpu>, model: &DecoderModel) -> Result<Self, DecoderError> {
        let c = model.config();
        let got = usize::from(c.head_width);
        if got > MAX_HEAD_WIDTH || !got.is_multiple_of(2) {
            return Err(DecoderError::HeadWidth { got });
        }
        let ops = Ops::compile(&gpu);
        gpu.check()?;
        for case in SELF_TEST {
            check::all(&gpu, &ops, case).await?;
        }
        let stages = model.stages_here().map(|index| Stage::place(&gpu, model, index));
        let stages = stages.collect::<Result<_, _>>()?;
        let scores = model.layers().map(|l| gpu.words(model.score_scales(l).iter().copied()));
        let scores = scores.collect();
        let table = |table: &[u16]| gpu.words(table.iter().map(|&e| u32::from(e)));
        let (silu, exp) = (table(model.silu_table()), table(model.exp_table()));
        gpu.check()?;
        Ok(Self { gpu, model: model.clone(), ops, stages, scores, silu, exp })
    }

    /// An empty cache for at most `capacity` tokens.
    ///
    /// # Errors
    /// [`DecoderError`] when the device has no room.
    pub fn sequence(&self, capacity: usize) -> Result<GpuSequence, DecoderError> {
        let c = self.model.config();
        let words = usize::from(c.kv_heads) * capacity * usize::from(c.head_width) / 2;
        let layers = self.model.layers().len();
        let room = || (0..layers).map(|_| self.gpu.room(words)).collect();
        let sequence = GpuSequence { keys: room(), values: room(), tokens: 0, capacity };
        self.gpu.check()?;
        Ok(sequence)
    }

    /// Runs new tokens of one sequence through the layers, in one submit. The sequence is longer by them
    /// only if that succeeds.
    ///
    /// # Errors
    /// [`DecoderError`] when the input does not fit, or the device fails.
    pub async fn step(
        &self,
        sequence: &mut GpuSequence,
        input: &Input,
        logits: Logits,
    ) -> Result<Output, DecoderError> {
        let c = self.model.config();
        let d = c.d_model as usize;
        let rows = self.model.rows_of(sequence.tokens, input)?;
        let tokens = rows.len() / d;
        let got = sequence.tokens + tokens;
        if got > sequence.capacity {
            return Err(DecoderError::Full { capacity: sequence.capacity, got });
        }
        let mut step = self.begin(sequence.tokens, &rows, tokens);
        let layers = self.stages.len() / PER_LAYER;
        for layer in 0..layers {
            step.layer(layer, sequence)?;
        }
        let output = if let Some(head) = self.stages.get(layers * PER_LAYER) {
            let first = if logits == Logits::Last { tokens - 1 } else { 0 };
            let wanted = tokens - first;
            step.norm(head, first, wanted)?;
            step.product(head, wanted)?;
            let all = wanted * head.weights.n();
            let out = self.gpu.room(all);
            step.values(Op::Given, head, &out, head.weights.n(), wanted, plain::LOGIT_LIMIT)?;
            Output::Logits(step.finish(Some((out, all))).await?)
        } else {
            Output::Hidden(step.finish(None).await?)
        };
        sequence.tokens = got;
        Ok(output)
    }

    fn begin(&self, before: usize, rows: &[i32], tokens: usize) -> Step<'_> {
        let c = self.model.config();
        let (heads, width) = (usize::from(c.heads), usize::from(c.head_width));
        let k = self.stages.iter().map(|s| s.weights.k()).max().unwrap_or(1);
        let n = self.stages.iter().map(|s| s.weights.n()).max().unwrap_or(1);
        let gpu = &self.gpu;
        let turns = self.model.turns(before..before + tokens);
        Step {
            decoder: self,
            tokens,
            hidden: gpu.words(rows.iter().map(|h| h.cast_unsigned())),
            x: gpu.room(2 * tokens * k.next_multiple_of(16) / 4),
            y: gpu.room(tokens * n),
            scales: gpu.room(2 * tokens),
            offered: gpu.room(tokens * k),
            queries: gpu.room(tokens * heads * width / 2),
            turns: gpu
                .words(turns.iter().flat_map(|t| [t.cos.cast_unsigned(), t.sin.cast_unsigned()])),
            dispatches: Vec::with_capacity(12 * self.stages.len()),
        }
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
        let weights = gpu.upload(&w.bytes(spec.k), spec.n, spec.k)?;
        if weights.parts.len() != 1 {
            let got = (spec.n * spec.k.next_multiple_of(16)) as u64;
            return Err(DecoderError::Large { stage: index, got, allowed: gpu.caps().binding });
        }
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

impl Step<'_> {
    fn layer(&mut self, layer: usize, sequence: &GpuSequence) -> Result<(), GpuError> {
        let decoder = self.decoder;
        let [qkv, out, gate_up, down] = &decoder.stages[PER_LAYER * layer..][..PER_LAYER] else {
            return Ok(());
        };
        let c = decoder.model.config();
        let d = c.d_model as usize;
        let (hidden, offered) = (self.hidden.clone(), self.offered.clone());
        self.norm(qkv, 0, self.tokens)?;
        self.product(qkv, self.tokens)?;
        self.attention(layer, qkv, sequence)?;
        self.offer(out)?;
        self.product(out, self.tokens)?;
        self.values(Op::Added, out, &hidden, d, self.tokens, 0)?;
        self.norm(gate_up, 0, self.tokens)?;
        self.product(gate_up, self.tokens)?;
        self.values(Op::Gated, gate_up, &offered, gate_up.weights.n() / 2, self.tokens, 0)?;
        self.offer(down)?;
        self.product(down, self.tokens)?;
        self.values(Op::Added, down, &hidden, d, self.tokens, 0)
    }

    /// Normalises `rows` rows of the residual stream from `first` on as a stage's input.
    fn norm(&mut self, stage: &Stage, first: usize, rows: usize) -> Result<(), GpuError> {
        let hidden = self.hidden.clone();
        self.quantize(Op::Norm, stage, &hidden, first, rows)
    }

    /// What attention or the gate made, as a stage's input.
    fn offer(&mut self, stage: &Stage) -> Result<(), GpuError> {
        let offered = self.offered.clone();
        self.quantize(Op::Offer, stage, &offered, 0, self.tokens)
    }

    fn quantize(
        &mut self,
        op: Op,
        stage: &Stage,
        rows: &wgpu::Buffer,
        first: usize,
        count: usize,
    ) -> Result<(), GpuError> {
        let k = stage.weights.k();
        let numbers = [
            k as u32,
            (k.next_multiple_of(16) / 4) as u32,
            stage.q_max,
            u32::from(stage.smoothing),
            stage.epsilon as u32,
            (stage.epsilon >> 32) as u32,
            first as u32,
            0,
        ];
        let buffers = [rows, &stage.factors, &self.x, &self.scales];
        let (ops, gpu) = (&self.decoder.ops, &self.decoder.gpu);
        self.dispatches.push(ops.dispatch(gpu, op, &buffers, &numbers, [count, 1])?);
        Ok(())
    }

    fn product(&mut self, stage: &Stage, rows: usize) -> Result<(), GpuError> {
        let gpu = &self.decoder.gpu;
        let dispatch = gpu.product_on(Kind::Exact, &stage.weights, &self.x, &self.y, rows)?;
        self.dispatches.push(dispatch);
        Ok(())
    }

    /// Does something to the values of the last product; `width` of them in each of `rows` rows of `out`.
    fn values(
        &mut self,
        op: Op,
        stage: &Stage,
        out: &wgpu::Buffer,
        width: usize,
        rows: usize,
        limit: i32,
    ) -> Result<(), GpuError> {
        let (decoder, count) = (self.decoder, width * rows);
        let numbers = [
            width as u32,
            stage.weights.n() as u32,
            count as u32,
            stage.shift,
            limit.cast_unsigned(),
            decoder.model.silu_table().len() as u32,
        ];
        let mut buffers = vec![&self.y, &self.scales, &stage.to, out];
        if op == Op::Gated {
            buffers.push(&decoder.silu);
        }
        let groups = [count.div_ceil(LANES), 1];
        let dispatch = decoder.ops.dispatch(&decoder.gpu, op, &buffers, &numbers, groups)?;
        self.dispatches.push(dispatch);
        Ok(())
    }

    fn attention(
        &mut self,
        layer: usize,
        stage: &Stage,
        sequence: &GpuSequence,
    ) -> Result<(), GpuError> {
        let decoder = self.decoder;
        let c = decoder.model.config();
        let (heads, kv_heads) = (usize::from(c.heads), usize::from(c.kv_heads));
        let width = usize::from(c.head_width);
        let numbers = [
            stage.weights.n() as u32,
            stage.shift,
            plain::query_key_limit(width).cast_unsigned(),
            heads as u32,
            kv_heads as u32,
            width as u32,
            sequence.tokens as u32,
            self.tokens as u32,
            sequence.capacity as u32,
            c.window,
            decoder.model.exp_table().len().saturating_sub(1) as u32,
            0,
        ];
        let (keys, values) = (&sequence.keys[layer], &sequence.values[layer]);
        let remember = [&self.y, &self.scales, &stage.to, &self.turns, &self.queries, keys, values];
        let words = (heads + 2 * kv_heads) * width / 2 * self.tokens;
        let (ops, gpu) = (&decoder.ops, &decoder.gpu);
        let groups = [words.div_ceil(LANES), 1];
        self.dispatches.push(ops.dispatch(gpu, Op::Remember, &remember, &numbers, groups)?);
        let scores = &decoder.scores[layer];
        let attend = [&self.queries, keys, values, &decoder.exp, scores, &self.offered];
        let groups = [heads, self.tokens];
        self.dispatches.push(ops.dispatch(gpu, Op::Attend, &attend, &numbers, groups)?);
        Ok(())
    }

    /// Submits everything; gives the words of `out`, or the residual stream.
    async fn finish(self, out: Option<(wgpu::Buffer, usize)>) -> Result<Vec<i32>, GpuError> {
        let d = self.decoder.model.config().d_model as usize;
        let (buffer, words) = out.unwrap_or((self.hidden, self.tokens * d));
        let mut read = self.decoder.gpu.run_all(&self.dispatches, &[(&buffer, words)]).await?;
        let words = read.pop().unwrap_or_default();
        Ok(words.into_iter().map(u32::cast_signed).collect())
    }
}
