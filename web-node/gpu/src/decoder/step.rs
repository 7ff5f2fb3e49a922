//! One submit: the dispatches of all layers over the rows of its spans.

use nesa_kernels::decoder as plain;

use super::batch::{Keep, Part, Span, regions};
use super::{GpuDecoder, GpuSequence, PER_LAYER, Stage};
use crate::device::GpuError;
use crate::input::Kind;
use crate::ops::{Dispatch, LANES, Op};
use crate::view::View;

/// Buffers of one submit; `[rows, …]` each.
pub(super) struct Step<'a> {
    decoder: &'a GpuDecoder,
    spans: &'a [Span],
    keep: Keep,
    rows: usize,
    /// Rows that the head is computed for.
    wanted: usize,
    hidden: wgpu::Buffer,
    x: wgpu::Buffer,
    /// The products: of all stages, each in its own region, or of one after another in the same.
    y: wgpu::Buffer,
    /// Where a stage's product begins in `y`, and the words of all.
    regions: (Vec<usize>, usize),
    scales: wgpu::Buffer,
    offered: wgpu::Buffer,
    queries: wgpu::Buffer,
    turns: wgpu::Buffer,
    logits: Option<wgpu::Buffer>,
    dispatches: Vec<Dispatch>,
}

impl<'a> Step<'a> {
    /// Brings the rows of `spans` to the device; `rows` are all rows of each part.
    pub(super) fn begin(
        decoder: &'a GpuDecoder,
        batch: &[Part<'_>],
        spans: &'a [Span],
        rows: &[Vec<i32>],
        keep: Keep,
    ) -> Self {
        let (c, gpu) = (decoder.model.config(), decoder.gpu());
        let (d, heads) = (c.d_model as usize, usize::from(c.heads));
        let width = usize::from(c.head_width);
        let (mut hidden, mut turns) = (Vec::new(), Vec::new());
        for Span { part, rows: of, .. } in spans {
            hidden.extend(rows[*part][of.start * d..of.end * d].iter().map(|h| h.cast_unsigned()));
            let before = batch[*part].sequence.tokens;
            let positions = decoder.model.turns(before + of.start..before + of.end);
            turns.extend(positions.iter().flat_map(|t| [t.cos, t.sin]).map(i32::cast_unsigned));
        }
        let rows = hidden.len() / d;
        let wanted = spans.iter().map(|span| span.wanted.len()).sum();
        let k = decoder.stages.iter().map(|s| s.weights.k()).max().unwrap_or(1);
        let layers = decoder.model.layers().len() * PER_LAYER;
        let words = decoder.stages.iter().enumerate().map(|(stage, s)| {
            if stage < layers { rows * s.weights.n() } else { wanted * s.weights.n() }
        });
        let regions = match keep {
            Keep::Products => regions(words),
            Keep::Output => (vec![0; decoder.stages.len()], words.max().unwrap_or(0)),
        };
        let head = decoder.head().filter(|_| keep == Keep::Output);
        Self {
            decoder,
            spans,
            keep,
            rows,
            wanted,
            hidden: gpu.words(hidden),
            x: gpu.room(2 * rows * k.next_multiple_of(16) / 4),
            y: gpu.room(regions.1),
            regions,
            scales: gpu.room(2 * rows),
            offered: gpu.room(rows * k),
            queries: gpu.room(rows * heads * width / 2),
            turns: gpu.words(turns),
            logits: head.map(|head| gpu.room(wanted * head.weights.n())),
            dispatches: Vec::with_capacity((12 + 2 * spans.len()) * decoder.stages.len()),
        }
    }

    /// Dispatches so far.
    pub(super) fn dispatches(&self) -> usize {
        self.dispatches.len()
    }

    /// Records all layers, and the head where rows of it are wanted.
    pub(super) fn record(&mut self, batch: &[Part<'_>]) -> Result<(), GpuError> {
        let decoder = self.decoder;
        for layer in 0..decoder.model.layers().len() {
            self.layer(layer, batch)?;
        }
        let Some(head) = decoder.head().filter(|_| self.wanted > 0) else { return Ok(()) };
        let mut into = 0;
        for span in self.spans.iter().filter(|span| !span.wanted.is_empty()) {
            let hidden = self.hidden.clone();
            let count = span.wanted.len();
            self.quantize(Op::Norm, head, &hidden, [span.wanted.start, into, count])?;
            into += count;
        }
        let stage = decoder.stages.len() - 1;
        self.product(stage, self.wanted)?;
        let Some(logits) = self.logits.clone() else { return Ok(()) };
        self.values(Op::Given, stage, &logits, head.weights.n(), self.wanted, plain::LOGIT_LIMIT)
    }

    fn layer(&mut self, layer: usize, batch: &[Part<'_>]) -> Result<(), GpuError> {
        let decoder = self.decoder;
        let first = PER_LAYER * layer;
        let [qkv, out, gate_up, down] = &decoder.stages[first..][..PER_LAYER] else {
            return Ok(());
        };
        let (d, rows) = (decoder.model.config().d_model as usize, self.rows);
        let (hidden, offered) = (self.hidden.clone(), self.offered.clone());
        self.quantize(Op::Norm, qkv, &hidden, [0, 0, rows])?;
        self.product(first, rows)?;
        for span in self.spans {
            self.attention(layer, span, &*batch[span.part].sequence)?;
        }
        self.quantize(Op::Offer, out, &offered, [0, 0, rows])?;
        self.product(first + 1, rows)?;
        self.values(Op::Added, first + 1, &hidden, d, rows, 0)?;
        self.quantize(Op::Norm, gate_up, &hidden, [0, 0, rows])?;
        self.product(first + 2, rows)?;
        self.values(Op::Gated, first + 2, &offered, gate_up.weights.n() / 2, rows, 0)?;
        self.quantize(Op::Offer, down, &offered, [0, 0, rows])?;
        self.product(first + 3, rows)?;
        self.values(Op::Added, first + 3, &hidden, d, rows, 0)
    }

    /// Rows as a stage's input: `count` of them, read from row `first` on and written from row `into` on.
    fn quantize(
        &mut self,
        op: Op,
        stage: &Stage,
        rows: &wgpu::Buffer,
        [first, into, count]: [usize; 3],
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
            into as u32,
        ];
        let buffers = [rows, &stage.factors, &self.x, &self.scales];
        let kernels = &self.decoder.kernels;
        let dispatch = kernels.ops.dispatch(&kernels.gpu, op, &buffers, &numbers, [count, 1])?;
        self.dispatches.push(dispatch);
        Ok(())
    }

    /// Where the product of a stage lies.
    fn region(&self, stage: usize, rows: usize) -> View<'_> {
        View::new(&self.y, self.regions.0[stage], rows * self.decoder.stages[stage].weights.n())
    }

    fn product(&mut self, stage: usize, rows: usize) -> Result<(), GpuError> {
        let weights = &self.decoder.stages[stage].weights;
        let y = self.region(stage, rows);
        let dispatch = self.decoder.gpu().product_on(Kind::Exact, weights, &self.x, y, rows)?;
        self.dispatches.push(dispatch);
        Ok(())
    }

    /// Does something to the values of a product; `width` of them in each of `rows` rows of `out`.
    fn values(
        &mut self,
        op: Op,
        stage: usize,
        out: &wgpu::Buffer,
        width: usize,
        rows: usize,
        limit: i32,
    ) -> Result<(), GpuError> {
        let (decoder, count) = (self.decoder, width * rows);
        let of = &decoder.stages[stage];
        let numbers = [
            width as u32,
            of.weights.n() as u32,
            count as u32,
            of.shift,
            limit.cast_unsigned(),
            decoder.model.silu_table().len() as u32,
        ];
        let y = self.region(stage, rows);
        let mut buffers = vec![y, (&self.scales).into(), (&of.to).into(), out.into()];
        if op == Op::Gated {
            buffers.push((&decoder.silu).into());
        }
        let groups = [count.div_ceil(LANES), 1];
        let kernels = &decoder.kernels;
        let dispatch = kernels.ops.dispatch(&kernels.gpu, op, &buffers, &numbers, groups)?;
        self.dispatches.push(dispatch);
        Ok(())
    }

    /// Queries, keys and values of one sequence's rows, and its attention.
    fn attention(
        &mut self,
        layer: usize,
        span: &Span,
        sequence: &GpuSequence,
    ) -> Result<(), GpuError> {
        let decoder = self.decoder;
        let (c, qkv) = (decoder.model.config(), PER_LAYER * layer);
        let stage = &decoder.stages[qkv];
        let (heads, kv_heads) = (usize::from(c.heads), usize::from(c.kv_heads));
        let (width, tokens) = (usize::from(c.head_width), span.rows.len());
        let numbers = [
            stage.weights.n() as u32,
            stage.shift,
            plain::query_key_limit(width).cast_unsigned(),
            heads as u32,
            kv_heads as u32,
            width as u32,
            (sequence.tokens + span.rows.start) as u32,
            tokens as u32,
            sequence.capacity as u32,
            c.window,
            decoder.model.exp_table().len().saturating_sub(1) as u32,
            span.first as u32,
        ];
        let (keys, values) = (&sequence.keys[layer], &sequence.values[layer]);
        let (y, to) = (self.region(qkv, self.rows), (&stage.to).into());
        let [scales, turns, queries] = [&self.scales, &self.turns, &self.queries].map(View::from);
        let remember = [y, scales, to, turns, queries, keys.into(), values.into()];
        let words = (heads + 2 * kv_heads) * width / 2 * tokens;
        let (ops, gpu) = (&decoder.kernels.ops, &decoder.kernels.gpu);
        let groups = [words.div_ceil(LANES), 1];
        let remember = ops.dispatch(gpu, Op::Remember, &remember, &numbers, groups)?;
        let scores = &decoder.scores[layer];
        let attend = [&self.queries, keys, values, &decoder.exp, scores, &self.offered];
        let attend = ops.dispatch(gpu, Op::Attend, &attend, &numbers, [heads, tokens])?;
        self.dispatches.extend([remember, attend]);
        Ok(())
    }

    /// Submits everything and appends what is kept to `stages`; the bytes that were read back.
    pub(super) async fn submit(self, stages: &mut [Vec<i32>]) -> Result<usize, GpuError> {
        let (decoder, layers) = (self.decoder, self.decoder.model.layers().len() * PER_LAYER);
        let d = decoder.model.config().d_model as usize;
        let width = decoder.head().map_or(0, |head| head.weights.n());
        let wanted = match (self.keep, &self.logits) {
            (Keep::Products, _) => (&self.y, self.regions.1),
            (Keep::Output, Some(logits)) => (logits, self.wanted * width),
            (Keep::Output, None) => (&self.hidden, self.rows * d),
        };
        // Rows of a prompt whose logits nobody wants give nothing back.
        let wanted = if wanted.1 == 0 { (&self.hidden, 1) } else { wanted };
        let read = decoder.gpu().run_all(&self.dispatches, &[wanted]).await?;
        let read = read.into_iter().next().unwrap_or_default();
        let bytes = 4 * read.len();
        let signed = |words: &[u32]| words.iter().map(|w| w.cast_signed()).collect::<Vec<i32>>();
        if self.keep == Keep::Output {
            let skipped = self.logits.is_some() && self.wanted == 0;
            if let (Some(all), false) = (stages.first_mut(), skipped) {
                all.extend(signed(&read));
            }
            return Ok(bytes);
        }
        for (stage, all) in stages.iter_mut().enumerate() {
            let rows = if stage < layers { self.rows } else { self.wanted };
            let from = self.regions.0[stage];
            let words = read.get(from..from + rows * decoder.stages[stage].weights.n());
            all.extend(signed(words.unwrap_or_default()));
        }
        Ok(bytes)
    }
}
