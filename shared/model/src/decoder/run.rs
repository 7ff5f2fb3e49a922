//! Decoding as a state machine: everything but the linear stages, which it hands out.

use nesa_kernels::decoder as ops;
use nesa_kernels::ops::{Requantize, RowScale, quantize_row};
use nesa_kernels::rotary::{Turn, rotate, turn};
use std::ops::Range;

use super::cache::HeadCache;
use super::feed::{Fed, Feed, Logits, Output, RunError, embed};
use super::{DecoderModel, KvCache};
use crate::manifest::STAGES_PER_LAYER;
use crate::{LinearSpec, ResumeError, StageId};

/// A linear stage a run waits for.
#[derive(Clone, Copy)]
pub struct Pending<'a> {
    /// Which stage.
    pub stage: StageId,
    /// Rows of `x`, padding included.
    pub rows: usize,
    /// `[rows, k]`, each value within the stage's `input_bits`.
    pub x: &'a [i32],
}

struct Sequence {
    cache: KvCache,
    rows: Range<usize>,
    logits: Logits,
}

/// A run over new tokens of several sequences; it never fails once started.
pub struct DecoderRun {
    model: DecoderModel,
    sequences: Vec<Sequence>,
    /// Rows handed out, padding included.
    padded: usize,
    /// `[rows, d_model]`
    hidden: Vec<i32>,
    /// `[rows, head_width / 2]`
    turns: Vec<Turn>,
    stage: usize,
    x: Vec<i32>,
    scales: Vec<RowScale>,
    logits: Vec<i32>,
    finished: bool,
}

impl DecoderRun {
    /// Begins a run without padding.
    ///
    /// # Errors
    /// [`RunError`] when a sequence does not fit the model.
    pub fn start(model: &DecoderModel, feeds: Vec<Feed>) -> Result<Self, RunError> {
        Self::start_padded(model, feeds, 0)
    }

    /// Begins a run whose linear stages have at least `padded` rows: a lane hides how many are real.
    ///
    /// # Errors
    /// [`RunError`] when a sequence does not fit the model, or `padded` (if not 0) the batch.
    pub fn start_padded(
        model: &DecoderModel,
        feeds: Vec<Feed>,
        padded: usize,
    ) -> Result<Self, RunError> {
        let c = *model.config();
        let (d, width) = (c.d_model as usize, usize::from(c.head_width));
        let heads = model.layers().len() * usize::from(c.kv_heads);
        let mut hidden = Vec::new();
        let mut turns = Vec::new();
        let mut sequences = Vec::with_capacity(feeds.len());
        let mut next = 0;
        for (index, mut feed) in feeds.into_iter().enumerate() {
            let tokens = embed(model, index, &feed.input, &mut hidden)?;
            let got = feed.cache.tokens + tokens;
            if tokens == 0 {
                return Err(RunError::Empty { index });
            }
            if got > c.max_tokens as usize {
                return Err(RunError::Length { index, got, max: c.max_tokens as usize });
            }
            if feed.cache.heads.is_empty() && feed.cache.tokens == 0 {
                feed.cache.heads = vec![HeadCache::default(); heads];
            }
            let held = feed.cache.tokens * width;
            feed.cache.settle(width);
            if feed.cache.heads.len() != heads
                || feed.cache.heads.iter().any(|h| h.keys.len() != held)
            {
                let got = feed.cache.heads.len();
                return Err(RunError::Cache { index, got, expected: heads });
            }
            for position in feed.cache.tokens..got {
                let at = |&f| turn(position as u32, f, model.cosine());
                turns.extend(model.frequency().iter().map(at));
            }
            let rows = next..next + tokens;
            next = rows.end;
            sequences.push(Sequence { cache: feed.cache, rows, logits: feed.logits });
        }
        debug_assert_eq!(hidden.len(), next * d);
        if padded != 0 && padded < next {
            return Err(RunError::Padding { tokens: next, padded });
        }
        let mut run = Self {
            model: model.clone(),
            finished: sequences.is_empty(),
            sequences,
            padded: padded.max(next),
            hidden,
            turns,
            stage: model.first_stage(),
            x: Vec::new(),
            scales: Vec::new(),
            logits: Vec::new(),
        };
        if !run.finished {
            run.offer_hidden();
        }
        Ok(run)
    }

    /// The stage the run waits for; `None` when it is finished.
    pub fn pending(&self) -> Option<Pending<'_>> {
        if self.finished {
            return None;
        }
        let rows = self.x.len() / self.spec().k;
        Some(Pending { stage: StageId(self.stage as u16), rows, x: &self.x })
    }

    /// Gives the product `[rows, n]` of the stage [`DecoderRun::pending`] names, and advances to the
    /// next. Any values are safe to give; only right ones give the model's answer.
    ///
    /// # Errors
    /// [`ResumeError`] when the length is wrong or the run is finished; the run is unchanged.
    pub fn resume(&mut self, y: &[i32]) -> Result<(), ResumeError> {
        let Some(pending) = self.pending() else { return Err(ResumeError::Finished) };
        let n = self.spec().n;
        let expected = pending.rows * n;
        if y.len() != expected {
            return Err(ResumeError::Length { stage: pending.stage, got: y.len(), expected });
        }
        let layer = self.stage / STAGES_PER_LAYER;
        if layer == usize::from(self.model.config().layers) {
            let mut logits = vec![0; self.scales.len() * n];
            for (t, row) in logits.chunks_exact_mut(n).enumerate() {
                self.requantize(y, t, 0..n, ops::LOGIT_LIMIT, row);
            }
            self.logits = logits;
            self.finish();
            return Ok(());
        }
        match self.stage % STAGES_PER_LAYER {
            0 => {
                let context = self.attention(y, layer);
                self.stage += 1;
                self.offer(&context);
            }
            1 => {
                self.add(y);
                self.stage += 1;
                self.offer_hidden();
            }
            2 => {
                let ff = n / 2;
                let rows = self.scales.len();
                let mut product = vec![0; rows * ff];
                let (mut gate, mut up) = (vec![0; ff], vec![0; ff]);
                for (t, out) in product.chunks_exact_mut(ff).enumerate() {
                    self.requantize(y, t, 0..ff, ops::GATE_LIMIT, &mut gate);
                    self.requantize(y, t, ff..n, ops::UP_LIMIT, &mut up);
                    ops::swiglu_row(&gate, &up, self.model.silu(), out);
                }
                self.stage += 1;
                self.offer(&product);
            }
            _ => {
                self.add(y);
                self.stage += 1;
                if layer + 1 < self.model.layers().end {
                    self.offer_hidden();
                } else if self.model.gives_logits() {
                    self.keep_wanted_rows();
                    self.offer_hidden();
                } else {
                    self.finish();
                }
            }
        }
        Ok(())
    }

    /// The results, in the order given; `None` until the run is finished.
    pub fn into_output(mut self) -> Option<Vec<Fed>> {
        if !self.finished {
            return None;
        }
        let c = *self.model.config();
        let gives_logits = self.model.gives_logits();
        let width = if gives_logits { c.vocab } else { c.d_model } as usize;
        let rows = if gives_logits { &self.logits } else { &self.hidden };
        let mut rest = &rows[..];
        let mut fed = Vec::with_capacity(self.sequences.len());
        for mut s in self.sequences.drain(..) {
            let tokens = s.rows.len();
            let wanted = match s.logits {
                Logits::Last if gives_logits => 1,
                _ => tokens,
            };
            let (mine, others) = rest.split_at(wanted * width);
            rest = others;
            s.cache.tokens += tokens;
            let output = if gives_logits {
                Output::Logits(mine.to_vec())
            } else {
                Output::Hidden(mine.to_vec())
            };
            fed.push(Fed { cache: s.cache, output });
        }
        Some(fed)
    }

    /// Gives the caches back as they were before the run.
    pub fn cancel(self) -> Vec<KvCache> {
        let width = usize::from(self.model.config().head_width);
        let back = |mut s: Sequence| {
            s.cache.settle(width);
            s.cache
        };
        self.sequences.into_iter().map(back).collect()
    }

    /// Runs to the end with one engine for every stage.
    pub fn run(mut self, engine: &impl crate::Linear) -> Result<Vec<Fed>, ResumeError> {
        while let Some(Pending { stage, rows, x }) = self.pending() {
            let y = engine.apply(stage, x, rows);
            self.resume(&y)?;
        }
        Ok(self.into_output().unwrap_or_default())
    }

    fn spec(&self) -> &LinearSpec {
        &self.model.stages()[self.stage]
    }

    /// Quantises `rows` (`[tokens, k]`) as the input of the current stage, which follows no norm.
    fn offer(&mut self, rows: &[i32]) {
        let (k, q_max) = (self.spec().k, self.spec().input_max() as u32);
        self.x.clear();
        self.x.resize(self.padded * k, 0);
        self.scales.clear();
        let smooth = &self.model.stage(self.stage).smooth;
        let mut smoothed = Vec::new();
        for (row, x) in rows.chunks_exact(k).zip(self.x.chunks_exact_mut(k)) {
            let row = if smooth.is_empty() {
                row
            } else {
                smoothed.clear();
                smoothed.extend_from_slice(row);
                ops::smooth_row(&mut smoothed, smooth);
                &smoothed
            };
            self.scales.push(quantize_row(row, q_max, x));
        }
    }

    /// Normalises and quantises the residual stream as the input of the current stage.
    fn offer_hidden(&mut self) {
        let (k, q_max) = (self.spec().k, self.spec().input_max() as u32);
        let layer = self.stage / STAGES_PER_LAYER;
        let (gain, epsilon) = match self.model.head() {
            Some(head) if layer == usize::from(self.model.config().layers) => {
                (&head.gain, head.epsilon)
            }
            _ => {
                let p = self.model.layer(layer);
                match self.stage % STAGES_PER_LAYER {
                    0 => (&p.attention_gain, p.attention_epsilon),
                    _ => (&p.ffn_gain, p.ffn_epsilon),
                }
            }
        };
        self.x.clear();
        self.x.resize(self.padded * k, 0);
        self.scales.clear();
        let mut t = vec![0; k];
        for (row, x) in self.hidden.chunks_exact(k).zip(self.x.chunks_exact_mut(k)) {
            self.scales.push(ops::rms_quantize_row(row, epsilon, gain, q_max, &mut t, x));
        }
    }

    /// Requantises columns `columns` of row `t` of the current stage's product.
    fn requantize(&self, y: &[i32], t: usize, columns: Range<usize>, limit: i32, out: &mut [i32]) {
        let params = self.model.stage(self.stage);
        let n = self.spec().n;
        let to = Requantize {
            multiplier: &params.multiplier[columns.clone()],
            shift: params.shift,
            bias: &params.bias[columns.clone()],
            limit,
        };
        let y = &y[t * n + columns.start..t * n + columns.end];
        ops::requantize_row(y, self.scales[t], to, out);
    }

    /// Adds the current stage's product to the residual stream.
    fn add(&mut self, y: &[i32]) {
        let d = self.model.config().d_model as usize;
        let mut delta = vec![0; d];
        let mut hidden = std::mem::take(&mut self.hidden);
        for (t, row) in hidden.chunks_exact_mut(d).enumerate() {
            self.requantize(y, t, 0..d, ops::RESIDUAL_LIMIT, &mut delta);
            ops::add_residual(row, &delta);
        }
        self.hidden = hidden;
    }

    /// Rotates and caches the new keys, caches the values, and lets every new query attend.
    fn attention(&mut self, y: &[i32], layer: usize) -> Vec<i32> {
        let c = *self.model.config();
        let (width, heads) = (usize::from(c.head_width), usize::from(c.heads));
        let kv_heads = usize::from(c.kv_heads);
        let (q_end, k_end) = (heads * width, (heads + kv_heads) * width);
        let n = k_end + kv_heads * width;
        let limit = ops::query_key_limit(width);
        let first = (layer - self.model.layers().start) * kv_heads;
        let mut context = vec![0; self.scales.len() * q_end];
        let mut row = vec![0; n];
        let mut query = vec![0i16; width];
        let mut scratch = ops::AttentionScratch::default();
        let mut sequences = std::mem::take(&mut self.sequences);
        for s in &mut sequences {
            for (i, t) in s.rows.clone().enumerate() {
                self.requantize(y, t, 0..k_end, limit, &mut row[..k_end]);
                self.requantize(y, t, k_end..n, ops::VALUE_LIMIT, &mut row[k_end..]);
                let turns = &self.turns[t * width / 2..(t + 1) * width / 2];
                for head in row[..k_end].chunks_exact_mut(width) {
                    rotate(head, turns);
                }
                for g in 0..kv_heads {
                    let cache = &mut s.cache.heads[first + g];
                    let key = &row[q_end + g * width..q_end + (g + 1) * width];
                    let value = &row[k_end + g * width..k_end + (g + 1) * width];
                    cache.keys.extend(key.iter().map(|&v| v as i16));
                    cache.values.extend(value.iter().map(|&v| v as i16));
                }
                let seen = s.cache.tokens + i + 1;
                let from = match c.window as usize {
                    0 => 0,
                    window => seen.saturating_sub(window),
                };
                let scores = &self.model.layer(layer).scores;
                let out = &mut context[t * q_end..(t + 1) * q_end];
                for (h, out) in out.chunks_exact_mut(width).enumerate() {
                    let cache = &s.cache.heads[first + h / (heads / kv_heads)];
                    for (q, &v) in query.iter_mut().zip(&row[h * width..]) {
                        *q = v as i16;
                    }
                    ops::attend(
                        &query,
                        &cache.keys[from * width..seen * width],
                        &cache.values[from * width..seen * width],
                        scores[h],
                        self.model.exp(),
                        &mut scratch,
                        out,
                    );
                }
            }
        }
        self.sequences = sequences;
        context
    }

    /// Before the head, drops the rows nobody asked for.
    fn keep_wanted_rows(&mut self) {
        let d = self.model.config().d_model as usize;
        let mut kept = Vec::new();
        for s in &self.sequences {
            let from = match s.logits {
                Logits::Last => s.rows.end.saturating_sub(1),
                Logits::All => s.rows.start,
            };
            kept.extend_from_slice(&self.hidden[from * d..s.rows.end * d]);
        }
        // How many logits are wanted is public; padding the head, the widest stage, would cost most.
        self.padded = kept.len() / d;
        self.hidden = kept;
    }

    fn finish(&mut self) {
        self.x = Vec::new();
        self.finished = true;
    }
}
