//! The f32 original, in plain code: what the exact form is measured against.
//!
//! Sums run over eight fixed lanes and transcendental functions come from `libm`, so that every
//! machine computes the same floats and calibration can never change a compiled file.

use nesa_model::TokenIds;
use nesa_model::manifest::{Activation, Pooling};

use crate::bert::FeedForward;
use crate::source::{Bert, Dense, Layer, Norm, SourceError};

const LANES: usize = 8;

/// Sees intermediate values during a forward pass; calibration listens here.
pub trait Observer {
    /// Input of a linear stage of the layer (0 to 3), or of the head (0 or 1), `[tokens, k]`.
    fn input(&mut self, _stage: usize, _x: &[f32], _k: usize) {}
    /// Fused queries, keys and values of a layer, `[tokens, 3·hidden]`.
    fn qkv(&mut self, _y: &[f32]) {}
}

/// Observes nothing.
pub struct Silent;

impl Observer for Silent {}

/// Sum of products over eight fixed lanes, folded in a fixed order.
#[inline(always)]
pub(crate) fn dot_lanes(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a, at) = a.as_chunks::<LANES>();
    let (b, bt) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    let mut tail = 0f32;
    for (a, b) in at.iter().zip(bt) {
        tail += a * b;
    }
    fold(lanes) + tail
}

#[inline(always)]
fn fold([a, b, c, d, e, f, g, h]: [f32; LANES]) -> f32 {
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

/// Tokens that share one pass over a weight row.
const TOKENS: usize = 4;

/// Each product sums in [`dot_lanes`]' order, several tokens at a time.
#[inline(always)]
fn dense_plain(dense: &Dense, x: &[f32], y: &mut [f32]) {
    let (k, n) = (dense.k, dense.n);
    let tokens = x.len() / k;
    let whole = if k % LANES == 0 { tokens / TOKENS * TOKENS } else { 0 };
    let m = k / LANES;
    for t in (0..whole).step_by(TOKENS) {
        let rows: [&[[f32; LANES]]; TOKENS] =
            std::array::from_fn(|r| &x[(t + r) * k..(t + r + 1) * k].as_chunks().0[..m]);
        let [x0, x1, x2, x3] = rows;
        for (j, w) in dense.weight.chunks_exact(k).enumerate() {
            let w = &w.as_chunks::<LANES>().0[..m];
            let mut l = [[0f32; LANES]; TOKENS];
            for c in 0..m {
                for i in 0..LANES {
                    l[0][i] += w[c][i] * x0[c][i];
                    l[1][i] += w[c][i] * x1[c][i];
                    l[2][i] += w[c][i] * x2[c][i];
                    l[3][i] += w[c][i] * x3[c][i];
                }
            }
            for (r, lanes) in l.into_iter().enumerate() {
                y[(t + r) * n + j] = fold(lanes) + 0.0 + dense.bias[j];
            }
        }
    }
    for t in whole..tokens {
        for (j, w) in dense.weight.chunks_exact(k).enumerate() {
            y[t * n + j] = dot_lanes(w, &x[t * k..(t + 1) * k]) + dense.bias[j];
        }
    }
}

/// Compiled once more with AVX2; without contraction the floats are the same.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dense_avx2(dense: &Dense, x: &[f32], y: &mut [f32]) {
    dense_plain(dense, x, y);
}

/// `y = w·x + b` for rows of `x`, `[tokens, k]`.
pub(crate) fn dense(dense: &Dense, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0f32; x.len() / dense.k * dense.n];
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2, checked on the line above.
        unsafe { dense_avx2(dense, x, &mut y) };
        return y;
    }
    dense_plain(dense, x, &mut y);
    y
}

fn layer_norm(norm: &Norm, epsilon: f64, h: &mut [f32]) {
    let d = norm.gain.len();
    for row in h.chunks_exact_mut(d) {
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / d as f64;
        let squared = |&v: &f32| (f64::from(v) - mean) * (f64::from(v) - mean);
        let var = row.iter().map(squared).sum::<f64>() / d as f64;
        let inverse = 1.0 / (var + epsilon).sqrt();
        for ((v, g), b) in row.iter_mut().zip(&norm.gain).zip(&norm.bias) {
            *v = ((f64::from(*v) - mean) * inverse) as f32 * g + b;
        }
    }
}

/// `x·Φ(x)`, the exact GELU.
pub fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

fn attention(bert: &Bert, qkv: &[f32]) -> Vec<f32> {
    let (d, heads) = (bert.config.hidden_size, bert.config.num_attention_heads);
    let width = d / heads;
    let tokens = qkv.len() / (3 * d);
    let scale = 1.0 / (width as f32).sqrt();
    let mut context = vec![0f32; tokens * d];
    let mut p = vec![0f32; tokens];
    for h in 0..heads {
        let at = |part: usize, t: usize| {
            let start = t * 3 * d + part * d + h * width;
            &qkv[start..start + width]
        };
        for t in 0..tokens {
            for (u, p) in p.iter_mut().enumerate() {
                *p = dot_lanes(at(0, t), at(1, u)) * scale;
            }
            if let Some(row) = bert.relative.get(h * (2 * bert.max_tokens - 1)..) {
                // The key's distance from the query, of a row whose middle is none.
                let row = row.get(bert.max_tokens - 1 - t..).unwrap_or(&[]);
                for (p, bias) in p.iter_mut().zip(row) {
                    *p += bias;
                }
            }
            let max = p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0f32;
            for p in &mut p {
                *p = libm::expf(*p - max);
                sum += *p;
            }
            let out = &mut context[t * d + h * width..t * d + (h + 1) * width];
            for (u, p) in p.iter().enumerate() {
                let p = p / sum;
                for (o, v) in out.iter_mut().zip(at(2, u)) {
                    *o += p * v;
                }
            }
        }
    }
    context
}

/// What a feed-forward's activation makes of a value.
pub(crate) fn activate(kind: FeedForward, x: f32) -> f32 {
    match kind {
        FeedForward::Gelu => 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
        FeedForward::GeluTanh => {
            let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + libm::tanhf(inner))
        }
        FeedForward::Relu => x.max(0.0),
    }
}

/// The rows of a token sequence after the embedding, `[tokens, hidden]`.
///
/// # Errors
/// [`SourceError`] when the words cannot be read.
pub(crate) fn start(bert: &Bert, text: &TokenIds) -> Result<Vec<f32>, SourceError> {
    let d = bert.config.hidden_size;
    let mut h = Vec::with_capacity(text.len() * d);
    for (t, (&id, position)) in text.ids.iter().zip(bert.position.chunks_exact(d)).enumerate() {
        let word = bert.words(id as usize..id as usize + 1)?;
        h.extend(word.iter().zip(position).map(|(w, p)| w + p));
        if text.second.is_some_and(|first| t >= first) && !bert.segment.is_empty() {
            add(&mut h[t * d..], &bert.segment);
        }
    }
    layer_norm(&bert.embed_norm, bert.config.layer_norm_eps, &mut h);
    Ok(h)
}

/// What a layer makes of the rows of one sequence.
pub(crate) fn run_layer(bert: &Bert, layer: &Layer, h: &mut [f32], observer: &mut impl Observer) {
    let d = bert.config.hidden_size;
    let eps = bert.config.layer_norm_eps;
    observer.input(0, h, d);
    let qkv = dense(&layer.qkv, h);
    observer.qkv(&qkv);
    let context = attention(bert, &qkv);
    observer.input(1, &context, d);
    add(h, &dense(&layer.attn_out, &context));
    layer_norm(&layer.attn_norm, eps, h);
    observer.input(2, h, d);
    let mut u = dense(&layer.ffn_in, h);
    for u in &mut u {
        *u = activate(bert.config.activation, *u);
    }
    observer.input(3, &u, layer.ffn_out.k);
    add(h, &dense(&layer.ffn_out, &u));
    layer_norm(&layer.ffn_norm, eps, h);
}

/// What becomes of the last rows of one sequence: a unit vector, or the logits of classes.
pub(crate) fn finish(bert: &Bert, h: &[f32], observer: &mut impl Observer) -> Vec<f32> {
    let d = bert.config.hidden_size;
    let mut pooled = vec![0f64; d];
    match bert.pooling() {
        Pooling::Mean => {
            for row in h.chunks_exact(d) {
                for (m, &v) in pooled.iter_mut().zip(row) {
                    *m += f64::from(v);
                }
            }
        }
        Pooling::First => pooled = h[..d].iter().map(|&v| v.into()).collect(),
        Pooling::Greatest => {
            pooled.fill(f64::NEG_INFINITY);
            for row in h.chunks_exact(d) {
                for (m, &v) in pooled.iter_mut().zip(row) {
                    *m = m.max(f64::from(v));
                }
            }
        }
    }
    let Some(head) = &bert.classes else {
        let norm = pooled.iter().map(|m| m * m).sum::<f64>().sqrt();
        return pooled.iter().map(|m| (m / norm) as f32).collect();
    };
    let pooled: Vec<f32> = pooled.iter().map(|&v| v as f32).collect();
    observer.input(0, &pooled, d);
    let (hidden, activation) = &head.hidden;
    let mut u = dense(hidden, &pooled);
    for u in &mut u {
        *u = match activation {
            Activation::Tanh => libm::tanhf(*u),
            Activation::Relu => u.max(0.0),
        };
    }
    observer.input(1, &u, d);
    dense(&head.classes, &u)
}

/// Runs the original over token sequences, a layer at a time over all: for each a unit vector, `[hidden]`,
/// or the logits of its classes.
///
/// # Errors
/// [`SourceError`] when a tensor cannot be read.
pub fn run(bert: &Bert, sequences: &[TokenIds]) -> Result<Vec<Vec<f32>>, SourceError> {
    let mut hidden: Vec<Vec<f32>> =
        sequences.iter().map(|text| start(bert, text)).collect::<Result<_, _>>()?;
    for i in 0..bert.config.num_hidden_layers {
        let layer = bert.layer(i)?;
        for h in &mut hidden {
            run_layer(bert, &layer, h, &mut Silent);
        }
    }
    Ok(hidden.iter().map(|h| finish(bert, h, &mut Silent)).collect())
}

fn add(h: &mut [f32], delta: &[f32]) {
    for (h, d) in h.iter_mut().zip(delta) {
        *h += d;
    }
}
