//! Decoding as a state machine: everything but the linear stages, which it hands out.

use nesa_kernels::attention::{AttentionScratch, Look};
use nesa_kernels::decoder as ops;
use nesa_kernels::ops::{Requantize, RowScale, quantize_row};
use nesa_kernels::rotary::{Turns, turn};
use std::ops::Range;

use super::cache::HeadCache;
use super::feed::{Fed, Feed, Input, Logits, Output, RunError, embed};
use super::{DecoderModel, KvCache, Observe, Place, Row};
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

pub(super) struct Sequence {
    pub(super) cache: KvCache,
    pub(super) rows: Range<usize>,
    logits: Logits,
}

/// A run over new tokens of several sequences; it never fails once started.
pub struct DecoderRun {
    pub(super) model: DecoderModel,
    pub(super) sequences: Vec<Sequence>,
    /// Rows handed out, padding included.
    padded: usize,
    /// `[rows, d_model]`
    hidden: Vec<i32>,
    /// `[rows, head_width / 2]`
    pub(super) turns: Turns,
    stage: usize,
    x: Vec<i32>,
    pub(super) scales: Vec<RowScale>,
    logits: Vec<i32>,
    finished: bool,
    pub(super) scratch: Scratch,
    pub(super) observer: Option<Box<dyn Observe>>,
    /// Whether only the rows whose logits are wanted are still there.
    only_wanted: bool,
}

/// Memory that the stages of a run use one after another.
#[derive(Default)]
pub(super) struct Scratch {
    /// One row of a product, brought back to fixed point.
    pub(super) row: Vec<i32>,
    /// Queries of one sequence, `[kv_heads, tokens, heads / kv_heads, head_width]`.
    pub(super) queries: Vec<i16>,
    pub(super) looks: Vec<Look>,
    /// Contexts of one key-value head's queries.
    pub(super) contexts: Vec<i32>,
    pub(super) attention: AttentionScratch,
    /// What the next stage takes before it is quantised: `[rows, k]`.
    pub(super) offered: Vec<i32>,
}

impl DecoderRun {
    /// Begins a run without padding.
    ///
    /// # Errors
    /// [`RunError`] when a sequence does not fit the model.
    pub fn start(model: &DecoderModel, feeds: Vec<Feed>) -> Result<Self, RunError> {
        Self::start_padded(model, feeds, 0)
    }

    /// Begins a run without padding that tells an observer each row it makes.
    ///
    /// # Errors
    /// [`RunError`] when a sequence does not fit the model.
    pub fn start_observed(
        model: &DecoderModel,
        feeds: Vec<Feed>,
        observer: Box<dyn Observe>,
    ) -> Result<Self, RunError> {
        Self::begin(model, feeds, 0, Some(observer))
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
        Self::begin(model, feeds, padded, None)
    }

    fn begin(
        model: &DecoderModel,
        feeds: Vec<Feed>,
        padded: usize,
        mut observer: Option<Box<dyn Observe>>,
    ) -> Result<Self, RunError> {
        let c = *model.config();
        let (d, width) = (c.d_model as usize, usize::from(c.head_width));
        let heads = model.layers().len() * usize::from(c.kv_heads);
        let mut hidden = Vec::new();
        let mut turns = Turns::new();
        let mut sequences = Vec::with_capacity(feeds.len());
        let mut next = 0;
        for (index, mut feed) in feeds.into_iter().enumerate() {
            let at = hidden.len();
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
                for &frequency in model.frequency() {
                    turns.push(turn(position as u32, frequency, model.cosine()));
                }
            }
            if let Some(observer) = &mut observer {
                for (i, row) in hidden[at..].chunks_exact(d).enumerate() {
                    let place = Place { sequence: index, token: feed.cache.tokens + i };
                    let token = match &feed.input {
                        Input::Tokens(tokens) => tokens.get(i).copied(),
                        Input::Hidden(_) => None,
                    };
                    observer.row(place, Row::Start { token }, row);
                }
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
            scratch: Scratch::default(),
            observer,
            only_wanted: false,
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
        self.tell(Row::Product { stage: self.stage }, y, n);
        if layer == usize::from(self.model.config().layers) {
            let mut logits = vec![0; self.scales.len() * n];
            for (t, row) in logits.chunks_exact_mut(n).enumerate() {
                self.requantize(y, t, 0..n, ops::LOGIT_LIMIT, row);
            }
            self.tell(Row::Logits, &logits, n);
            self.logits = logits;
            self.finish();
            return Ok(());
        }
        match self.stage % STAGES_PER_LAYER {
            0 => {
                self.attention(y, layer);
                self.stage += 1;
                self.offer();
            }
            1 => {
                self.add(y);
                self.stage += 1;
                self.offer_hidden();
            }
            2 => {
                self.gated(y);
                self.stage += 1;
                self.offer();
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
    pub fn into_output(self) -> Option<Vec<Fed>> {
        if !self.finished {
            return None;
        }
        let c = *self.model.config();
        let gives_logits = self.model.gives_logits();
        let width = if gives_logits { c.vocab } else { c.d_model } as usize;
        let mut rest = if gives_logits { self.logits } else { self.hidden };
        let mut fed = Vec::with_capacity(self.sequences.len());
        for mut s in self.sequences {
            let tokens = s.rows.len();
            let wanted = match s.logits {
                Logits::Last if gives_logits => 1,
                _ => tokens,
            };
            let others = rest.split_off(wanted * width);
            let mine = std::mem::replace(&mut rest, others);
            s.cache.tokens += tokens;
            let output = if gives_logits { Output::Logits(mine) } else { Output::Hidden(mine) };
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
        let mut y = Vec::new();
        while let Some(Pending { stage, rows, x }) = self.pending() {
            let len = rows * self.spec().n;
            if y.len() < len {
                y.resize(len, 0);
            }
            engine.apply_to(stage, x, rows, &mut y[..len]);
            self.resume(&y[..len])?;
        }
        Ok(self.into_output().unwrap_or_default())
    }

    /// Tells the observer rows of `width`: one per token that is still in the run, perhaps followed by
    /// padding.
    pub(super) fn tell(&mut self, row: Row<'_>, values: &[i32], width: usize) {
        if let Some(observer) = &mut self.observer {
            let places = self.sequences.iter().enumerate().flat_map(|(sequence, s)| {
                let last_only = self.only_wanted && s.logits == Logits::Last;
                let from = if last_only { s.rows.len().saturating_sub(1) } else { 0 };
                (from..s.rows.len()).map(move |i| Place { sequence, token: s.cache.tokens + i })
            });
            for (place, values) in places.zip(values.chunks_exact(width)) {
                observer.row(place, row, values);
            }
        }
    }

    fn spec(&self) -> &LinearSpec {
        &self.model.stages()[self.stage]
    }

    /// Quantises what the last stage made as the input of the current one, which follows no norm.
    fn offer(&mut self) {
        let (k, q_max) = (self.spec().k, self.spec().input_max() as u32);
        self.clear_input(self.scratch.offered.len() / k, k);
        let mut offered = std::mem::take(&mut self.scratch.offered);
        if self.observer.is_some() {
            let layer = self.stage / STAGES_PER_LAYER;
            let row = match self.stage % STAGES_PER_LAYER {
                1 => Row::Context { layer },
                _ => Row::Gated { layer },
            };
            self.tell(row, &offered, k);
        }
        let smooth = &self.model.stage(self.stage).smooth;
        for (row, x) in offered.chunks_exact_mut(k).zip(self.x.chunks_exact_mut(k)) {
            if !smooth.is_empty() {
                ops::smooth_row(row, smooth);
            }
            self.scales.push(quantize_row(row, q_max, x));
        }
        self.tell(Row::Smoothed { stage: self.stage }, &offered, k);
        self.scratch.offered = offered;
        self.tell_input(k);
    }

    fn tell_input(&mut self, k: usize) {
        if self.observer.is_some() {
            let x = std::mem::take(&mut self.x);
            self.tell(Row::Input { stage: self.stage }, &x, k);
            self.x = x;
        }
    }

    /// Makes room for the current stage's input of `rows` rows; the padding after them is zero.
    fn clear_input(&mut self, rows: usize, k: usize) {
        self.x.resize(self.padded * k, 0);
        self.x[rows * k..].fill(0);
        self.scales.clear();
    }

    /// Gain and epsilon of the norm before the current stage.
    fn norm_of<'a>(&self, model: &'a DecoderModel) -> (&'a [i32], u64) {
        let layer = self.stage / STAGES_PER_LAYER;
        match model.head() {
            Some(head) if layer == usize::from(model.config().layers) => (&head.gain, head.epsilon),
            _ => {
                let p = model.layer(layer);
                match self.stage % STAGES_PER_LAYER {
                    0 => (&p.attention_gain, p.attention_epsilon),
                    _ => (&p.ffn_gain, p.ffn_epsilon),
                }
            }
        }
    }

    /// Normalises and quantises the residual stream as the input of the current stage.
    fn offer_hidden(&mut self) {
        let (k, q_max) = (self.spec().k, self.spec().input_max() as u32);
        self.clear_input(self.hidden.len() / k, k);
        let (gain, epsilon) = self.norm_of(&self.model);
        let t = &mut self.scratch.row;
        t.resize(k, 0);
        for (row, x) in self.hidden.chunks_exact(k).zip(self.x.chunks_exact_mut(k)) {
            self.scales.push(ops::rms_quantize_row(row, epsilon, gain, q_max, t, x));
        }
        if self.observer.is_some() {
            let hidden = std::mem::take(&mut self.hidden);
            let model = self.model.clone();
            let gain = self.norm_of(&model).0;
            self.tell(Row::Norm { stage: self.stage, gain }, &hidden, k);
            self.hidden = hidden;
            self.tell_input(k);
        }
    }

    /// Requantises columns `columns` of row `t` of the current stage's product.
    pub(super) fn requantize(
        &self,
        y: &[i32],
        t: usize,
        columns: Range<usize>,
        limit: i32,
        out: &mut [i32],
    ) {
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
        let mut hidden = std::mem::take(&mut self.hidden);
        let mut delta = std::mem::take(&mut self.scratch.row);
        delta.resize(d, 0);
        for (t, row) in hidden.chunks_exact_mut(d).enumerate() {
            self.requantize(y, t, 0..d, ops::RESIDUAL_LIMIT, &mut delta);
            ops::add_residual(row, &delta);
        }
        self.tell(Row::Added { stage: self.stage }, &hidden, d);
        self.hidden = hidden;
        self.scratch.row = delta;
    }

    /// SwiGLU of the fused gate and up.
    fn gated(&mut self, y: &[i32]) {
        let n = self.spec().n;
        let ff = n / 2;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.row.resize(n, 0);
        scratch.offered.resize(self.scales.len() * ff, 0);
        let (gate, up) = scratch.row.split_at_mut(ff);
        for (t, out) in scratch.offered.chunks_exact_mut(ff).enumerate() {
            self.requantize(y, t, 0..ff, ops::GATE_LIMIT, gate);
            self.requantize(y, t, ff..n, ops::UP_LIMIT, up);
            ops::swiglu_row(gate, up, self.model.silu(), out);
        }
        self.scratch = scratch;
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
        self.only_wanted = true;
    }

    fn finish(&mut self) {
        self.x = Vec::new();
        self.finished = true;
    }
}
