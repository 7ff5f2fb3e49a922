//! The attention stage of a run: from the fused query, key and value product to contexts.

use nesa_kernels::attention::{Cache, Look, attend};
use nesa_kernels::decoder as ops;
use nesa_kernels::ops::narrow_row;
use nesa_kernels::rotary::rotate;
use std::ops::Range;

use super::cache::HeadCache;
use super::run::{DecoderRun, Scratch};
use super::{Attended, Observe, Place, Row};

/// How a layer's rows divide into heads.
#[derive(Clone, Copy)]
struct HeadShape {
    width: usize,
    heads: usize,
    kv_heads: usize,
}

/// An observer of one sequence's attention.
struct Watch<'a> {
    observer: &'a mut dyn Observe,
    sequence: usize,
    /// Tokens seen before this run.
    before: usize,
    layer: usize,
}

impl Watch<'_> {
    fn place(&self, token: usize) -> Place {
        Place { sequence: self.sequence, token: self.before + token }
    }
}

impl HeadShape {
    /// Channels of all queries.
    fn queries(&self) -> usize {
        self.heads * self.width
    }
}

impl DecoderRun {
    /// Rotates and caches the new keys, caches the values, and lets every new query attend.
    pub(super) fn attention(&mut self, y: &[i32], layer: usize) {
        let c = *self.model.config();
        let shape = HeadShape {
            width: usize::from(c.head_width),
            heads: usize::from(c.heads),
            kv_heads: usize::from(c.kv_heads),
        };
        let first = (layer - self.model.layers().start) * shape.kv_heads;
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut sequences = std::mem::take(&mut self.sequences);
        let mut observer = self.observer.take();
        scratch.offered.resize(self.scales.len() * shape.queries(), 0);
        for (index, s) in sequences.iter_mut().enumerate() {
            let mut watch = observer.as_mut().map(|observer| Watch {
                observer: &mut **observer,
                sequence: index,
                before: s.cache.tokens,
                layer,
            });
            let caches = &mut s.cache.heads[first..first + shape.kv_heads];
            self.remember(y, s.rows.clone(), shape, caches, &mut scratch, &mut watch);
            let tokens = s.cache.tokens;
            self.look_back(layer, s.rows.clone(), tokens, shape, caches, &mut scratch, &mut watch);
        }
        self.sequences = sequences;
        self.scratch = scratch;
        self.observer = observer;
    }

    /// Brings a sequence's new queries to `scratch`, its keys and values to the caches.
    fn remember(
        &self,
        y: &[i32],
        rows: Range<usize>,
        shape: HeadShape,
        caches: &mut [HeadCache],
        scratch: &mut Scratch,
        watch: &mut Option<Watch<'_>>,
    ) {
        let HeadShape { width, heads, kv_heads } = shape;
        let (q_end, k_end) = (shape.queries(), shape.queries() + kv_heads * width);
        let n = k_end + kv_heads * width;
        let limit = ops::query_key_limit(width);
        let (tokens, group) = (rows.len(), heads / kv_heads);
        let Scratch { row, queries, .. } = scratch;
        row.resize(n, 0);
        queries.resize(tokens * q_end, 0);
        for (i, t) in rows.enumerate() {
            self.requantize(y, t, 0..k_end, limit, &mut row[..k_end]);
            self.requantize(y, t, k_end..n, ops::VALUE_LIMIT, &mut row[k_end..]);
            let turns = self.turns.view(t * width / 2..(t + 1) * width / 2);
            for head in row[..k_end].chunks_exact_mut(width) {
                rotate(head, turns);
            }
            if let Some(watch) = watch {
                let (place, layer) = (watch.place(i), watch.layer);
                watch.observer.row(place, Row::Qkv { layer }, row);
            }
            for (g, query) in row[..q_end].chunks_exact(group * width).enumerate() {
                narrow_row(query, &mut queries[(g * tokens + i) * group * width..]);
            }
            let (keys, values) = row[q_end..].split_at(kv_heads * width);
            let keys = keys.chunks_exact(width).zip(values.chunks_exact(width));
            for (cache, (key, value)) in caches.iter_mut().zip(keys) {
                cache.keys.extend(key.iter().map(|&v| v as i16));
                cache.values.extend(value.iter().map(|&v| v as i16));
            }
        }
    }

    /// Contexts of a sequence's new queries, which are in `scratch`, to the rows that are offered next.
    /// The caches hold `before` older tokens.
    #[allow(clippy::too_many_arguments, reason = "one call, each argument its own thing")]
    fn look_back(
        &self,
        layer: usize,
        rows: Range<usize>,
        before: usize,
        shape: HeadShape,
        caches: &[HeadCache],
        scratch: &mut Scratch,
        watch: &mut Option<Watch<'_>>,
    ) {
        let HeadShape { width, heads, kv_heads } = shape;
        let (tokens, group) = (rows.len(), heads / kv_heads);
        let window = match self.model.config().window as usize {
            0 => usize::MAX,
            window => window,
        };
        let Scratch { queries, looks, contexts, attention, offered, .. } = scratch;
        contexts.resize(tokens * group * width, 0);
        let heads = caches.iter().zip(self.model.layer(layer).scores.chunks_exact(group));
        let heads = heads.zip(queries.chunks_exact(tokens * group * width));
        for (g, ((cache, scores), queries)) in heads.enumerate() {
            looks.clear();
            for i in 0..tokens {
                let seen = before + i + 1;
                let seen = seen.saturating_sub(window)..seen;
                looks.extend(scores.iter().map(|&score| Look { seen: seen.clone(), score }));
            }
            if let Some(watch) = watch {
                for (i, queries) in queries.chunks_exact(group * width).enumerate() {
                    let seen = before + i + 1;
                    let attended = Attended {
                        layer,
                        kv_head: g,
                        queries,
                        keys: &cache.keys,
                        values: &cache.values,
                        seen: seen.saturating_sub(window)..seen,
                        scores,
                        exp: self.model.exp(),
                    };
                    let place = watch.place(i);
                    watch.observer.attended(place, &attended);
                }
            }
            let cache = Cache { keys: &cache.keys, values: &cache.values };
            attend(queries, looks, cache, self.model.exp(), attention, contexts);
            for (t, context) in rows.clone().zip(contexts.chunks_exact(group * width)) {
                let at = t * shape.queries() + g * group * width;
                offered[at..at + group * width].copy_from_slice(context);
            }
        }
    }
}
