//! The encoder as a state machine: everything but the linear stages, which it hands out.
//!
//! A run covers a batch of sequences laid end to end, so that one round trip per stage serves them
//! all. Rows past the real tokens (padding, which hides lengths in a lane) are zero and ignored.
//! The arithmetic is `nesa_kernels::ops`; [`crate::interpreter`] states the same in the plainest way.

use nesa_kernels::ops::{self, Requantize, RowScale};
use nesa_kernels::{Strided, attention_context, attention_scores};
use std::fmt;
use std::ops::Range;
use thiserror::Error;

use crate::manifest::{Activation, Pooling, STAGES_PER_LAYER};
use crate::{Embedding, LinearSpec, Model, StageId, TokenIds};

/// What a run needs next. Its `Debug` shows shapes only: `x` is the user's text in another form.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// A linear stage to compute; give the product to [`EncoderRun::resume`].
    Linear {
        /// Which stage.
        stage: StageId,
        /// Rows of `x`, padding included.
        tokens: usize,
        /// `[tokens, k]`, each value within the stage's `input_bits`.
        x: Vec<i32>,
    },
    /// Finished: one embedding per sequence, in the order given.
    Done(Vec<Embedding>),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linear { stage, tokens, .. } => {
                write!(f, "Linear {{ stage: {stage}, tokens: {tokens} }}")
            }
            Self::Done(embeddings) => write!(f, "Done({} embeddings)", embeddings.len()),
        }
    }
}

/// A batch that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// A sequence is empty or longer than the model allows.
    #[error("sequence {index} has {got} tokens, allowed 1 to {max}")]
    Length {
        /// Which sequence.
        index: usize,
        /// Its tokens.
        got: usize,
        /// The model's limit.
        max: usize,
    },
    /// A token is not in the vocabulary.
    #[error("sequence {index} names token {got}, the vocabulary has {vocab}")]
    Token {
        /// Which sequence.
        index: usize,
        /// The token.
        got: u32,
        /// Size of the vocabulary.
        vocab: u32,
    },
    /// Fewer padded rows than tokens.
    #[error("{tokens} tokens do not fit {padded} rows")]
    Padding {
        /// Tokens in the batch.
        tokens: usize,
        /// Rows asked for.
        padded: usize,
    },
}

/// A product that does not fit the stage a run waits for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResumeError {
    /// The wrong number of values.
    #[error("stage {stage}: {got} values, expected {expected}")]
    Length {
        /// The stage waited for.
        stage: StageId,
        /// Values given.
        got: usize,
        /// Values expected, `tokens · n`.
        expected: usize,
    },
    /// The run is finished.
    #[error("the run is finished")]
    Finished,
}

/// A run over a batch; see the module's description. It never fails once started.
pub struct EncoderRun {
    model: Model,
    /// Rows of each sequence.
    sequences: Vec<Range<usize>>,
    truncated: Vec<bool>,
    /// Rows handed out, padding included.
    padded: usize,
    /// Residual stream, `[tokens, d_model]`, 16 fractional bits.
    hidden: Vec<i32>,
    stage: usize,
    /// Input of the stage waited for, `[padded, k]`, and each row's scale.
    x: Vec<i32>,
    scales: Vec<RowScale>,
    /// One row, for stages whose input is smoothed first.
    smoothed: Vec<i32>,
    /// One row for each sequence while the head is at work.
    pooled: Vec<i32>,
    done: Option<Vec<Embedding>>,
}

impl EncoderRun {
    /// Begins a run without padding.
    ///
    /// # Errors
    /// [`StartError`] when a sequence does not fit the model.
    pub fn start(model: &Model, batch: &[TokenIds]) -> Result<Self, StartError> {
        Self::start_padded(model, batch, batch.iter().map(TokenIds::len).sum())
    }

    /// Begins a run whose linear stages have `padded` rows, at least the batch's tokens.
    ///
    /// # Errors
    /// [`StartError`] when a sequence does not fit the model, or the batch the padding.
    pub fn start_padded(
        model: &Model,
        batch: &[TokenIds],
        padded: usize,
    ) -> Result<Self, StartError> {
        let max = model.max_tokens();
        let vocab = model.config().vocab;
        let mut sequences = Vec::with_capacity(batch.len());
        let mut next = 0;
        for (index, s) in batch.iter().enumerate() {
            if s.is_empty() || s.len() > max {
                return Err(StartError::Length { index, got: s.len(), max });
            }
            if let Some(&got) = s.ids.iter().find(|&&id| id >= vocab) {
                return Err(StartError::Token { index, got, vocab });
            }
            sequences.push(next..next + s.len());
            next += s.len();
        }
        if padded < next {
            return Err(StartError::Padding { tokens: next, padded });
        }
        let d = model.d_model();
        let shift = u32::from(model.config().embed_shift);
        let mut hidden = vec![0; next * d];
        let mut rows = hidden.chunks_exact_mut(d);
        let mut of_second = vec![0; d];
        for s in batch {
            // Segments are told apart where the model has an embedding for them.
            let second = s.second.filter(|_| !model.0.segment.is_empty()).unwrap_or(usize::MAX);
            let positions = model.0.position.chunks_exact(d);
            for (t, (&id, mut position)) in s.ids.iter().zip(positions).enumerate() {
                let id = id as usize;
                if t >= second {
                    for ((sum, p), s) in of_second.iter_mut().zip(position).zip(&model.0.segment) {
                        *sum = p.saturating_add(*s);
                    }
                    position = &of_second;
                }
                if let Some(row) = rows.next() {
                    let scale = model.0.word_scale[id];
                    ops::embed_row(model.word_row(id), scale, shift, position, row);
                }
            }
        }
        let mut run = Self {
            model: model.clone(),
            sequences,
            truncated: batch.iter().map(|s| s.truncated).collect(),
            padded,
            hidden,
            stage: 0,
            x: Vec::new(),
            scales: vec![RowScale { mantissa: 1 << 30, exponent: 0 }; next],
            smoothed: Vec::new(),
            pooled: Vec::new(),
            done: None,
        };
        run.normalise(0);
        if run.sequences.is_empty() {
            run.done = Some(Vec::new());
        } else {
            run.offer_hidden();
        }
        Ok(run)
    }

    /// What the run needs now; the same until [`EncoderRun::resume`].
    pub fn step(&mut self) -> Step {
        match &self.done {
            Some(embeddings) => Step::Done(embeddings.clone()),
            None => Step::Linear {
                stage: StageId(self.stage as u16),
                tokens: self.padded,
                x: self.x.clone(),
            },
        }
    }

    /// Gives the product `[tokens, n]` of the stage [`EncoderRun::step`] named, and advances to the
    /// next. Any values are safe to give; only right ones give the model's answer.
    ///
    /// # Errors
    /// [`ResumeError`] when the length is wrong or the run is finished; the run is unchanged.
    pub fn resume(&mut self, y: Vec<i32>) -> Result<(), ResumeError> {
        self.advance(&y)
    }

    fn advance(&mut self, y: &[i32]) -> Result<(), ResumeError> {
        if self.done.is_some() {
            return Err(ResumeError::Finished);
        }
        let n = self.spec().n;
        let expected = self.padded * n;
        if y.len() != expected {
            let stage = StageId(self.stage as u16);
            return Err(ResumeError::Length { stage, got: y.len(), expected });
        }
        let layer = self.stage / STAGES_PER_LAYER;
        let layers = usize::from(self.model.config().layers);
        if layer == layers {
            self.advance_head(y);
            return Ok(());
        }
        let d = self.model.d_model();
        let tokens = self.hidden.len() / d;
        match self.stage % STAGES_PER_LAYER {
            0 => {
                let context = self.attention(y, layer);
                self.stage += 1;
                self.begin_offer();
                for (t, row) in context.chunks_exact(d).enumerate() {
                    self.offer_row(t, row);
                }
            }
            part @ (1 | 3) => {
                let mut delta = vec![0; d];
                for t in 0..tokens {
                    self.requantize(self.stage, y, t, 0..d, ops::RESIDUAL_LIMIT, &mut delta);
                    ops::add_residual(&mut self.hidden[t * d..(t + 1) * d], &delta);
                }
                self.normalise(1 + 2 * layer + part / 2);
                self.stage += 1;
                if self.stage == layers * STAGES_PER_LAYER {
                    self.finish_layers();
                } else {
                    self.offer_hidden();
                }
            }
            _ => {
                // Row by row through one scratch row: the whole matrix would not stay in a cache.
                let mut row = vec![0; n];
                let from = self.stage;
                self.stage += 1;
                self.begin_offer();
                for t in 0..tokens {
                    self.requantize(from, y, t, 0..n, ops::GELU_LIMIT, &mut row);
                    ops::gelu_row(&mut row, &self.model.0.gelu);
                    self.offer_row(t, &row);
                }
            }
        }
        Ok(())
    }

    /// Runs to the end with one engine for every stage.
    pub fn run(mut self, engine: &impl crate::Linear) -> Result<Vec<Embedding>, ResumeError> {
        let widest = self.model.stages().iter().map(|s| s.n).max().unwrap_or(0);
        let mut y = vec![0; self.padded * widest];
        loop {
            if let Some(embeddings) = self.done {
                return Ok(embeddings);
            }
            let y = &mut y[..self.padded * self.spec().n];
            engine.apply_to(StageId(self.stage as u16), &self.x, self.padded, y);
            self.advance(y)?;
        }
    }

    fn spec(&self) -> &LinearSpec {
        &self.model.stages()[self.stage]
    }

    /// Makes room for the input of the current stage, padding rows zero.
    fn begin_offer(&mut self) {
        let k = self.spec().k;
        self.x.resize(self.padded * k, 0);
        self.x[self.scales.len() * k..].fill(0);
    }

    /// Quantises row `t`, `[k]`, as input of the current stage; its scale replaces the last one's.
    fn offer_row(&mut self, t: usize, row: &[i32]) {
        let spec = &self.model.stages()[self.stage];
        let smooth = &self.model.0.stages[self.stage].smooth;
        let row = if smooth.is_empty() {
            row
        } else {
            self.smoothed.clear();
            self.smoothed.extend_from_slice(row);
            ops::smooth_row(&mut self.smoothed, smooth);
            &self.smoothed
        };
        let x = &mut self.x[t * spec.k..(t + 1) * spec.k];
        self.scales[t] = ops::quantize_row(row, spec.input_max() as u32, x);
    }

    /// Offers the residual stream.
    fn offer_hidden(&mut self) {
        self.begin_offer();
        let hidden = std::mem::take(&mut self.hidden);
        for (t, row) in hidden.chunks_exact(self.model.d_model()).enumerate() {
            self.offer_row(t, row);
        }
        self.hidden = hidden;
    }

    /// Requantises columns `columns` of token `t` of a stage's product, by the scale its input had.
    fn requantize(
        &self,
        stage: usize,
        y: &[i32],
        t: usize,
        columns: Range<usize>,
        limit: i32,
        out: &mut [i32],
    ) {
        let params = &self.model.0.stages[stage];
        let n = self.model.stages()[stage].n;
        let y = &y[t * n + columns.start..t * n + columns.end];
        let to = Requantize {
            multiplier: &params.multiplier[columns.clone()],
            shift: params.shift,
            bias: &params.bias[columns],
            limit,
        };
        ops::requantize_row(y, self.scales[t], to, out);
    }

    fn normalise(&mut self, norm: usize) {
        let d = self.model.d_model();
        let p = &self.model.0.norms[norm];
        for row in self.hidden.chunks_exact_mut(d) {
            ops::layer_norm_row(row, p.epsilon, &p.gain, p.shift, &p.bias);
        }
    }

    /// Attention of every sequence from the fused product; returns contexts `[tokens, d_model]`.
    fn attention(&self, y: &[i32], layer: usize) -> Vec<i32> {
        let d = self.model.d_model();
        let heads = usize::from(self.model.config().heads);
        let width = d / heads;
        let mut context = vec![0; self.hidden.len()];
        let longest = self.sequences.iter().map(Range::len).max().unwrap_or(0);
        // Queries, keys and values side by side, as the stage made them.
        let mut row = vec![0; 3 * d];
        let mut qkv = vec![0i16; longest * 3 * d];
        let mut scores = vec![0i32; longest * longest];
        let mut weights = vec![0i16; longest * longest];
        for sequence in &self.sequences {
            let tokens = sequence.len();
            for (t, narrow) in qkv.chunks_exact_mut(3 * d).take(tokens).enumerate() {
                let (columns, limit) = (0..2 * d, ops::query_key_limit(width));
                let (query_key, value) = row.split_at_mut(2 * d);
                self.requantize(self.stage, y, sequence.start + t, columns, limit, query_key);
                let (columns, limit) = (2 * d..3 * d, ops::VALUE_LIMIT);
                self.requantize(self.stage, y, sequence.start + t, columns, limit, value);
                ops::narrow_row(&row, narrow);
            }
            let head = |part: usize, h: usize| Strided {
                data: &qkv[part * d + h * width..],
                stride: 3 * d,
            };
            let scores = &mut scores[..tokens * tokens];
            let weights = &mut weights[..tokens * tokens];
            for (h, &multiplier) in self.model.0.scores[layer].iter().enumerate() {
                attention_scores(head(0, h), head(1, h), tokens, width, scores);
                let rows = scores.chunks_exact(tokens).zip(weights.chunks_exact_mut(tokens));
                for (t, (s, p)) in rows.enumerate() {
                    let exp = &self.model.0.exp;
                    match self.model.relative_row(h, t) {
                        [] => ops::softmax_row(s, multiplier, exp, p),
                        bias => ops::softmax_biased_row(s, multiplier, bias, exp, p),
                    }
                }
                let p = Strided { data: weights, stride: tokens };
                let out = &mut context[sequence.start * d + h * width..];
                attention_context(p, head(2, h), tokens, width, out, d);
            }
        }
        ops::round_context(&mut context);
        context
    }

    /// The rows of each sequence become one; a head works on them, otherwise they are the result.
    fn finish_layers(&mut self) {
        let d = self.model.d_model();
        let head = *self.model.head();
        let rows = |s: &Range<usize>| &self.hidden[s.start * d..s.end * d];
        if head.classes.is_none() {
            let unit = |s: &Range<usize>| match head.pooling {
                Pooling::Mean => ops::mean_unit_vector(rows(s), d),
                other => ops::mean_unit_vector(&pool(other, rows(s), d), d),
            };
            let values: Vec<Vec<i32>> = self.sequences.iter().map(unit).collect();
            return self.finish(values);
        }
        let pooled = self.sequences.iter().flat_map(|s| pool(head.pooling, rows(s), d));
        self.pooled = pooled.collect();
        self.offer_pooled(d);
    }

    /// Offers one row of `k` per sequence. The other rows are zero: how many sequences there are, a lane
    /// does not see.
    fn offer_pooled(&mut self, k: usize) {
        self.x.clear();
        self.x.resize(self.padded * k, 0);
        let pooled = std::mem::take(&mut self.pooled);
        for (t, row) in pooled.chunks_exact(k).enumerate() {
            self.offer_row(t, row);
        }
        self.pooled = pooled;
    }

    /// Takes the product of one of the head's stages.
    fn advance_head(&mut self, y: &[i32]) {
        let n = self.spec().n;
        let is_last = self.stage + 1 == self.model.stages().len();
        let limit = if is_last { LOGIT_LIMIT } else { ops::GELU_LIMIT };
        let mut rows = vec![0; self.sequences.len() * n];
        for (t, row) in rows.chunks_exact_mut(n).enumerate() {
            self.requantize(self.stage, y, t, 0..n, limit, row);
        }
        if is_last {
            return self.finish(rows.chunks_exact(n).map(<[i32]>::to_vec).collect());
        }
        let activation = self.model.head().classes.and_then(|c| c.hidden);
        for v in &mut rows {
            *v = match activation {
                Some(Activation::Tanh) => tanh(*v, &self.model.0.tanh),
                _ => (*v).max(0),
            };
        }
        self.pooled = rows;
        self.stage += 1;
        self.offer_pooled(n);
    }

    fn finish(&mut self, values: Vec<Vec<i32>>) {
        let about = self.sequences.iter().zip(&self.truncated);
        let results = values.into_iter().zip(about);
        self.done = Some(
            results
                .map(|(values, (s, &truncated))| Embedding { values, tokens: s.len(), truncated })
                .collect(),
        );
        self.x = Vec::new();
    }
}

/// Logits are clamped to this; they have as many fractional bits as an embedding.
const LOGIT_LIMIT: i32 = (1 << 30) - 1;

/// The rows of a sequence, `[tokens, d]`, as one.
fn pool(pooling: Pooling, rows: &[i32], d: usize) -> Vec<i32> {
    let tokens = (rows.len() / d) as i64;
    let column = |i: usize| rows.chunks_exact(d).map(move |row| row[i]);
    match pooling {
        Pooling::First => rows[..d].to_vec(),
        Pooling::Greatest => (0..d).map(|i| column(i).max().unwrap_or(0)).collect(),
        Pooling::Mean => (0..d)
            .map(|i| {
                let sum: i64 = column(i).map(i64::from).sum();
                (sum + tokens / 2).div_euclid(tokens) as i32
            })
            .collect(),
    }
}

/// The hyperbolic tangent, 15 fractional bits, of `u` with 12.
fn tanh(u: i32, table: &[u16]) -> i32 {
    let bin = (u.unsigned_abs() >> TANH_BIN_BITS) as usize;
    let value = i32::from(table.get(bin).copied().unwrap_or(1 << 15));
    if u < 0 { -value } else { value }
}

/// Arguments of the hyperbolic tangent fall into bins of so many units, as a power of two.
pub const TANH_BIN_BITS: u32 = 1;
