//! The plain reference interpreter: the whole exact encoder, one sequence at a time, in the most
//! literal loops.
//!
//! Written from `docs/exact-arithmetic.md` alone, without the kernels, in 128-bit integers so that
//! no bound is assumed; it defines what a model's output is. [`crate::EncoderRun`] computes the same
//! integers quickly, and the tests hold it to that.

use crate::manifest::{Activation, Pooling, STAGES_PER_LAYER};
use crate::{Embedding, Model, StageId, TokenIds};

/// A matrix as rows.
type Rows = Vec<Vec<i128>>;

/// `⌊v / 2^s + ½⌋`.
pub(crate) fn round_shift(v: i128, s: u32) -> i128 {
    (v + (1 << (s - 1))) >> s
}

/// `(inverse, half)` with `1/√v ≈ inverse · 2^(half − 62)`.
pub(crate) fn inverse_root(v: i128) -> (i128, u32) {
    let mut v = v.max(1);
    let mut half = 0;
    while v < 1 << 62 {
        v <<= 2;
        half += 1;
    }
    (((1i128 << 62) - 1) / v.isqrt(), half)
}

pub(crate) fn clamp(v: i128, limit: i128) -> i128 {
    v.max(-limit).min(limit)
}

const RESIDUAL: i128 = (1 << 25) - 1;

fn layer_norm(model: &Model, index: usize, h: &mut [i128]) {
    let p = &model.0.norms[index];
    let n = h.len() as i128;
    let mean = (h.iter().sum::<i128>() + n / 2).div_euclid(n);
    let v: i128 = h.iter().map(|x| (x - mean) * (x - mean)).sum();
    let (inverse, half) = inverse_root(v + i128::from(p.epsilon));
    for (i, x) in h.iter_mut().enumerate() {
        let t = round_shift((*x - mean) * inverse, 32 - half);
        let y = round_shift(t * i128::from(p.gain[i]), p.shift) + i128::from(p.bias[i]);
        *x = clamp(y, (1 << 22) - 1);
    }
}

/// Quantise, multiply, requantise: one linear stage for one row.
fn linear(model: &Model, stage: usize, h: &[i128], limit: impl Fn(usize) -> i128) -> Vec<i128> {
    let spec = &model.stages()[stage];
    let p = &model.0.stages[stage];
    let mut h = h.to_vec();
    for (h, &f) in h.iter_mut().zip(&p.smooth) {
        *h = clamp(round_shift(*h * i128::from(f), 14), RESIDUAL);
    }
    let mut mantissa = h.iter().map(|v| v.abs()).max().unwrap_or(0).max(1);
    let mut exponent = 0;
    while mantissa < 1 << 30 {
        mantissa <<= 1;
        exponent += 1;
    }
    let r = (i128::from(spec.input_max()) << 46) / mantissa;
    let x: Vec<i128> = h.iter().map(|h| round_shift(h * r, 46 - exponent)).collect();
    let weights = model.weights(StageId(stage as u16)).bytes(spec.k);
    (0..spec.n)
        .map(|j| {
            let row = &weights[j * spec.k..(j + 1) * spec.k];
            let y: i128 = row.iter().zip(&x).map(|(&w, x)| i128::from(w) * x).sum();
            let c = (mantissa * i128::from(p.multiplier[j])) >> 31;
            clamp(round_shift(y * c, p.shift + exponent - 31) + i128::from(p.bias[j]), limit(j))
        })
        .collect()
}

fn gelu(model: &Model, u: i128) -> i128 {
    let bin = (u.abs() >> 2) as usize;
    u.max(0) - i128::from(model.0.gelu.get(bin).copied().unwrap_or(0))
}

fn attention(model: &Model, layer: usize, qkv: &Rows) -> Rows {
    let d = model.d_model();
    let heads = usize::from(model.config().heads);
    let width = d / heads;
    let table = &model.0.exp;
    let mut context = vec![vec![0; d]; qkv.len()];
    for h in 0..heads {
        let multiplier = i128::from(model.0.scores[layer][h]);
        for (t, out) in context.iter_mut().enumerate() {
            let score = |u: usize| -> i128 {
                (0..width).map(|i| qkv[t][h * width + i] * qkv[u][d + h * width + i]).sum()
            };
            let scores: Vec<i128> = (0..qkv.len()).map(score).collect();
            let max = scores.iter().copied().max().unwrap_or(0);
            let mut below: Vec<i128> =
                scores.iter().map(|s| ((max - s) * multiplier) >> 40).collect();
            if model.reading().relative {
                let middle = model.max_tokens() - 1;
                let row = &model.0.relative[h * (2 * middle + 1)..];
                let z =
                    |u: usize| ((scores[u] * multiplier) >> 28) + i128::from(row[middle + u - t]);
                let max = (0..qkv.len()).map(z).max().unwrap_or(0);
                below = (0..qkv.len()).map(|u| (max - z(u)) >> 12).collect();
            }
            let entry = |index: &i128| i128::from(table[(*index as usize).min(table.len() - 1)]);
            let e: Vec<i128> = below.iter().map(entry).collect();
            let r = (32767i128 << 31) / e.iter().sum::<i128>();
            for i in 0..width {
                let sum: i128 = e
                    .iter()
                    .enumerate()
                    .map(|(u, e)| round_shift(e * r, 31) * qkv[u][2 * d + h * width + i])
                    .sum();
                out[h * width + i] = round_shift(sum, 8);
            }
        }
    }
    context
}

/// Embeds (or classifies) one sequence of `1..=max_tokens` tokens of the vocabulary; `None` for any other, or for a
/// model opened without its weights.
pub fn embed(model: &Model, tokens: &TokenIds) -> Option<Embedding> {
    let d = model.d_model();
    let vocab = model.config().vocab;
    if tokens.is_empty() || tokens.len() > model.max_tokens() || !model.has_weights() {
        return None;
    }
    if tokens.ids.iter().any(|&id| id >= vocab) {
        return None;
    }
    let shift = u32::from(model.config().embed_shift);
    let query_key = query_key_limit(d / usize::from(model.config().heads));
    let mut hidden: Rows = Vec::new();
    for (t, &id) in tokens.ids.iter().enumerate() {
        let scale = i128::from(model.0.word_scale[id as usize]);
        let word = model.word_row(id as usize);
        let second = tokens.second.is_some_and(|first| t >= first);
        let mut row: Vec<i128> = (0..d)
            .map(|i| {
                let mut position = i128::from(model.0.position[t * d + i]);
                if second && model.reading().segments {
                    position += i128::from(model.0.segment[i]);
                }
                let position = position.clamp(i32::MIN.into(), i32::MAX.into());
                let word = round_shift(i128::from(word[i]) * scale, shift);
                clamp(word + position, RESIDUAL)
            })
            .collect();
        layer_norm(model, 0, &mut row);
        hidden.push(row);
    }
    for layer in 0..usize::from(model.config().layers) {
        let limit = |j| if j < 2 * d { query_key } else { 32767 };
        let qkv: Rows = hidden.iter().map(|h| linear(model, 4 * layer, h, limit)).collect();
        let context = attention(model, layer, &qkv);
        for (h, c) in hidden.iter_mut().zip(&context) {
            let delta = linear(model, 4 * layer + 1, c, |_| RESIDUAL);
            residual(h, &delta);
            layer_norm(model, 1 + 2 * layer, h);
            let mut u = linear(model, 4 * layer + 2, h, |_| (1 << 18) - 1);
            for u in &mut u {
                *u = gelu(model, *u);
            }
            let delta = linear(model, 4 * layer + 3, &u, |_| RESIDUAL);
            residual(h, &delta);
            layer_norm(model, 2 + 2 * layer, h);
        }
    }
    let values = match &model.head().classes {
        None => unit_vector(model.head().pooling, &hidden),
        Some(head) => logits(model, head.hidden, &hidden),
    };
    let values = values.into_iter().map(|v| v as i32).collect();
    Some(Embedding { values, tokens: tokens.len(), truncated: tokens.truncated })
}

/// The largest `L` with `width · L² < 2^31`, at most 8191.
fn query_key_limit(width: usize) -> i128 {
    (0..=8191).rev().find(|l| width as i128 * l * l < 1 << 31).unwrap_or(0)
}

/// `⌊factor · pooled + ½⌋` of each channel.
fn pool(pooling: Pooling, hidden: &Rows, factor: i128) -> Vec<i128> {
    let count = hidden.len() as i128;
    let column = |i: usize| hidden.iter().map(move |row| row[i]);
    (0..hidden[0].len())
        .map(|i| match pooling {
            Pooling::Mean => (factor * column(i).sum::<i128>() + count / 2).div_euclid(count),
            Pooling::First => factor * hidden[0][i],
            Pooling::Greatest => factor * column(i).max().unwrap_or(0),
        })
        .collect()
}

fn unit_vector(pooling: Pooling, hidden: &Rows) -> Vec<i128> {
    let m = pool(pooling, hidden, 16);
    let (inverse, half) = inverse_root(m.iter().map(|m| m * m).sum());
    m.iter().map(|m| round_shift(m * inverse, 38 - half)).collect()
}

fn logits(model: &Model, hidden_layer: Option<Activation>, hidden: &Rows) -> Vec<i128> {
    let stage = STAGES_PER_LAYER * usize::from(model.config().layers);
    let pooled = pool(model.head().pooling, hidden, 1);
    let Some(activation) = hidden_layer else {
        return linear(model, stage, &pooled, |_| (1 << 30) - 1);
    };
    let mut u = linear(model, stage, &pooled, |_| (1 << 18) - 1);
    for u in &mut u {
        *u = match activation {
            Activation::Relu => (*u).max(0),
            Activation::Tanh => {
                let entry = model.0.tanh.get((u.abs() >> 1) as usize);
                u.signum() * entry.map_or(1 << 15, |&v| i128::from(v))
            }
        };
    }
    linear(model, stage + 1, &u, |_| (1 << 30) - 1)
}

fn residual(h: &mut [i128], delta: &[i128]) {
    for (h, d) in h.iter_mut().zip(delta) {
        *h = clamp(*h + d, RESIDUAL);
    }
}
