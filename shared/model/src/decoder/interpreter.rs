//! The plain reference interpreter of decoders: a whole sequence at a time, no cache, in the most literal
//! loops.
//!
//! Written from `docs/exact-arithmetic.md` alone, without the kernels, in 128-bit integers so that
//! no bound is assumed; it defines what a model's logits are. [`super::DecoderRun`] computes the
//! same integers quickly, and the tests hold it to that.

use super::DecoderModel;
use crate::StageId;
use crate::interpreter::{clamp, inverse_root, round_shift};

/// A matrix as rows.
type Rows = Vec<Vec<i128>>;

const RESIDUAL: i128 = (1 << 30) - 1;

/// A quantised row and what its product is worth: `value = y · mantissa · 2^−exponent`.
struct Quantized {
    x: Vec<i128>,
    mantissa: i128,
    exponent: i128,
}

fn quantize(t: &[i128], input_max: i128) -> Quantized {
    let mut mantissa = t.iter().map(|v| v.abs()).max().unwrap_or(0).max(1);
    let mut exponent = 0;
    while mantissa < 1 << 30 {
        mantissa <<= 1;
        exponent += 1;
    }
    let r = (input_max << 46) / mantissa;
    let x = t.iter().map(|t| round_shift(t * r, (46 - exponent) as u32)).collect();
    Quantized { x, mantissa, exponent }
}

/// Root-mean-square norm, gain and quantisation.
fn normalise(h: &[i128], gain: &[i32], epsilon: u64, input_max: i128) -> Quantized {
    let max = h.iter().map(|v| v.abs()).max().unwrap_or(0);
    let mut s = 0;
    while max >> s >= 1 << 24 {
        s += 1;
    }
    let a: Vec<i128> = h.iter().map(|&h| if s == 0 { h } else { round_shift(h, s) }).collect();
    let v = a.iter().map(|a| a * a).sum::<i128>() + (i128::from(epsilon) >> (2 * s));
    let t: Vec<i128> =
        a.iter().zip(gain).map(|(a, &g)| round_shift(a * i128::from(g), 26)).collect();
    let q = quantize(&t, input_max);
    let (inverse, half) = inverse_root(v);
    let product = q.mantissa * inverse;
    let half = i128::from(half);
    if product >= 1 << 61 {
        Quantized { mantissa: product >> 31, exponent: q.exponent + 31 - half, ..q }
    } else {
        Quantized { mantissa: product >> 30, exponent: q.exponent + 32 - half, ..q }
    }
}

/// Smoothing and quantisation of a row that follows no norm.
fn offer(model: &DecoderModel, stage: usize, h: &[i128]) -> Quantized {
    let mut h = h.to_vec();
    for (h, &f) in h.iter_mut().zip(&model.stage(stage).smooth) {
        *h = clamp(round_shift(*h * i128::from(f), 14), RESIDUAL);
    }
    quantize(&h, model.stages()[stage].input_max().into())
}

/// Multiply and requantise: one linear stage for one row.
fn linear(
    model: &DecoderModel,
    stage: usize,
    q: &Quantized,
    limit: impl Fn(usize) -> i128,
) -> Vec<i128> {
    let spec = &model.stages()[stage];
    let p = model.stage(stage);
    let weights = model.weights(StageId(stage as u16)).bytes(spec.k);
    (0..spec.n)
        .map(|j| {
            let row = &weights[j * spec.k..(j + 1) * spec.k];
            let y: i128 = row.iter().zip(&q.x).map(|(&w, x)| i128::from(w) * x).sum();
            let c = (q.mantissa * i128::from(p.multiplier[j])) >> 31;
            let shift = i128::from(p.shift) + q.exponent - 31;
            clamp(round_shift(y * c, shift as u32) + i128::from(p.bias[j]), limit(j))
        })
        .collect()
}

/// Cosine of `phase / 2^64` turns, 30 fractional bits.
fn cosine(model: &DecoderModel, phase: u64) -> i128 {
    let table = model.cosine();
    let step = (phase >> 52) as usize;
    let between = i128::from((phase >> 32) & 0xf_ffff);
    let (from, to) = (i128::from(table[step]), i128::from(table[step + 1]));
    from + round_shift((to - from) * between, 20)
}

fn rotate(model: &DecoderModel, head: &mut [i128], position: usize) {
    let pairs = head.len() / 2;
    for i in 0..pairs {
        let phase = (position as u64).wrapping_mul(model.frequency()[i]);
        let (cos, sin) = (cosine(model, phase), cosine(model, phase.wrapping_sub(1 << 62)));
        let (a, b) = (head[i], head[i + pairs]);
        head[i] = round_shift(a * cos - b * sin, 30);
        head[i + pairs] = round_shift(b * cos + a * sin, 30);
    }
}

fn attention(model: &DecoderModel, layer: usize, qkv: &Rows) -> Rows {
    let c = model.config();
    let (width, heads) = (usize::from(c.head_width), usize::from(c.heads));
    let kv_heads = usize::from(c.kv_heads);
    let (keys, values) = (heads * width, (heads + kv_heads) * width);
    let table = model.exp();
    let mut context = vec![vec![0; heads * width]; qkv.len()];
    for (t, out) in context.iter_mut().enumerate() {
        let first = if c.window == 0 { 0 } else { (t + 1).saturating_sub(c.window as usize) };
        for h in 0..heads {
            let group = h / (heads / kv_heads);
            let score = |u: usize| -> i128 {
                (0..width).map(|i| qkv[t][h * width + i] * qkv[u][keys + group * width + i]).sum()
            };
            let scores: Vec<i128> = (first..=t).map(score).collect();
            let max = scores.iter().copied().max().unwrap_or(0);
            let multiplier = i128::from(model.layer(layer).scores[h]);
            let e: Vec<i128> = scores
                .iter()
                .map(|s| {
                    let index = ((max - s) * multiplier) >> 40;
                    i128::from(table[(index as usize).min(table.len() - 1)])
                })
                .collect();
            let mut total: i128 = e.iter().sum();
            let mut z = 0;
            while total < 1 << 31 {
                total <<= 1;
                z += 1;
            }
            let r = ((1 << 62) - 1) / total;
            for i in 0..width {
                let sum: i128 = e
                    .iter()
                    .enumerate()
                    .map(|(u, e)| e * qkv[first + u][values + group * width + i])
                    .sum();
                out[h * width + i] = round_shift(round_shift(sum << z, 16) * r, 39);
            }
        }
    }
    context
}

/// The logits after each token of a sequence, `[tokens][vocab]`; `None` for an empty or too long
/// sequence, a token outside the vocabulary, or a model that is not here whole.
pub fn logits(model: &DecoderModel, tokens: &[u32]) -> Option<Vec<Vec<i32>>> {
    let c = model.config();
    let head = model.head()?;
    if tokens.is_empty() || tokens.len() > c.max_tokens as usize || !model.has_weights() {
        return None;
    }
    let mut hidden: Rows = Vec::new();
    for &token in tokens {
        let (row, scale) = model.word(token as usize)?;
        let value = |&q: &i8| round_shift(i128::from(q) * i128::from(scale), c.embed_shift.into());
        hidden.push(row.iter().map(|q| clamp(value(q), RESIDUAL)).collect());
    }
    let (width, heads) = (usize::from(c.head_width), usize::from(c.heads));
    let rotated = (heads + usize::from(c.kv_heads)) * width;
    let mut longest = 0i128;
    while (longest + 3).pow(2) * (width as i128) < 1 << 31 {
        longest += 1;
    }
    let longest = longest.min(16383);
    let input_max = |stage: usize| i128::from(model.stages()[stage].input_max());
    for layer in 0..usize::from(c.layers) {
        let p = model.layer(layer);
        let mut qkv: Rows = Vec::new();
        for (t, h) in hidden.iter().enumerate() {
            let q = normalise(h, &p.attention_gain, p.attention_epsilon, input_max(4 * layer));
            let limit = |j| if j < rotated { longest } else { 32767 };
            let mut row = linear(model, 4 * layer, &q, limit);
            for head in row[..rotated].chunks_mut(width) {
                rotate(model, head, t);
            }
            qkv.push(row);
        }
        let context = attention(model, layer, &qkv);
        for (h, context) in hidden.iter_mut().zip(&context) {
            let q = offer(model, 4 * layer + 1, context);
            add(h, &linear(model, 4 * layer + 1, &q, |_| RESIDUAL));

            let ff = c.d_ff as usize;
            let q = normalise(h, &p.ffn_gain, p.ffn_epsilon, input_max(4 * layer + 2));
            let limit = |j| if j < ff { (1 << 22) - 1 } else { (1 << 26) - 1 };
            let gate_up = linear(model, 4 * layer + 2, &q, limit);
            let product: Vec<i128> = (0..ff)
                .map(|i| {
                    let gate = gate_up[i];
                    let bin = (gate.abs() >> 2) as usize;
                    let below = model.silu().get(bin).copied().unwrap_or(0);
                    let silu = gate.max(0) - i128::from(below);
                    clamp(round_shift(silu * gate_up[ff + i], 12), RESIDUAL)
                })
                .collect();
            let q = offer(model, 4 * layer + 3, &product);
            add(h, &linear(model, 4 * layer + 3, &q, |_| RESIDUAL));
        }
    }
    let last = c.stages() - 1;
    let logits = hidden.iter().map(|h| {
        let q = normalise(h, &head.gain, head.epsilon, input_max(last));
        let row = linear(model, last, &q, |_| (1 << 27) - 1);
        row.into_iter().map(|v| v as i32).collect()
    });
    Some(logits.collect())
}

fn add(h: &mut [i128], delta: &[i128]) {
    for (h, d) in h.iter_mut().zip(delta) {
        *h = clamp(*h + d, RESIDUAL);
    }
}
