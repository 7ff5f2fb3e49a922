//! The f32 original of a decoder, a layer at a time: what the exact form is measured against.

use serde_json::Value;
use std::ops::Range;
use std::path::Path;

use super::config::LlamaConfig;
use super::rotary::{attention_factor, frequencies};
use crate::checkpoint::{Checkpoint, read_json};
use crate::source::{Dense, SourceError};
use crate::yardstick::{dense, dot_lanes};

/// Rows of an embedding that are read at a time.
const ROWS: usize = 512;

/// A checkpoint whose layers are read when they are needed.
pub struct Llama {
    /// Its configuration.
    pub config: LlamaConfig,
    /// Its name, from the folder.
    pub name: String,
    checkpoint: Checkpoint,
    frequencies: Vec<f64>,
}

/// One layer's weights.
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    /// Query, key and value, fused in that order.
    pub(crate) qkv: Dense,
    pub(crate) attn_out: Dense,
    pub(crate) ffn_norm: Vec<f32>,
    /// Gate and up, fused in that order.
    pub(crate) gate_up: Dense,
    pub(crate) down: Dense,
}

/// What a layer computes on the way, for calibration.
pub(crate) trait Watch {
    /// Input of a stage of the layer (0 to 3), `[tokens, k]`.
    fn input(&mut self, stage: usize, x: &[f32], k: usize);
    /// Queries, keys and values before rotation, `[tokens, qkv_width]`.
    fn qkv(&mut self, y: &[f32]);
    /// Gate and up, `[tokens, 2 · intermediate]`.
    fn gate_up(&mut self, y: &[f32]);
    /// The residual stream after the layer.
    fn hidden(&mut self, h: &[f32]);
}

/// Watches nothing.
pub(crate) struct Unwatched;

impl Watch for Unwatched {
    fn input(&mut self, _: usize, _: &[f32], _: usize) {}
    fn qkv(&mut self, _: &[f32]) {}
    fn gate_up(&mut self, _: &[f32]) {}
    fn hidden(&mut self, _: &[f32]) {}
}

impl Llama {
    /// Opens a Hugging Face folder.
    ///
    /// # Errors
    /// [`SourceError`] naming the file or property at fault.
    pub fn open(dir: &Path) -> Result<Self, SourceError> {
        let config: Value = read_json(&dir.join("config.json"))?;
        let config = LlamaConfig::from_json(config)?;
        let name = dir.file_name().map_or_else(|| "decoder".into(), |n| n.to_string_lossy());
        let frequencies = frequencies(&config);
        let checkpoint = Checkpoint::open(dir)?;
        Ok(Self { name: name.into_owned(), config, checkpoint, frequencies })
    }

    /// The token embedding, `[vocab, hidden]`.
    pub(crate) fn embedding(&self) -> Result<Vec<f32>, SourceError> {
        self.embedding_rows(0..self.config.vocab_size)
    }

    /// Some of its rows.
    pub(crate) fn embedding_rows(&self, rows: Range<usize>) -> Result<Vec<f32>, SourceError> {
        let c = &self.config;
        self.checkpoint.rows("model.embed_tokens.weight", &[c.vocab_size, c.hidden_size], rows)
    }

    /// Its rows, some at a time.
    pub(crate) fn each_embedding(&self, mut see: impl FnMut(&[f32])) -> Result<(), SourceError> {
        for first in (0..self.config.vocab_size).step_by(ROWS) {
            see(&self.embedding_rows(first..(first + ROWS).min(self.config.vocab_size))?);
        }
        Ok(())
    }

    /// The rows of a sequence of tokens below the vocabulary's size.
    pub(crate) fn embed(&self, tokens: &[u32]) -> Result<Vec<f32>, SourceError> {
        let mut rows = Vec::with_capacity(tokens.len() * self.config.hidden_size);
        for &token in tokens {
            rows.extend(self.embedding_rows(token as usize..token as usize + 1)?);
        }
        Ok(rows)
    }

    /// Gain of the norm before the head.
    pub(crate) fn final_norm(&self) -> Result<Vec<f32>, SourceError> {
        self.checkpoint.get("model.norm.weight", &[self.config.hidden_size])
    }

    /// The head's own weight, `[vocab, hidden]`; `None` when it is the embedding.
    pub(crate) fn head(&self) -> Result<Option<Vec<f32>>, SourceError> {
        let tied = self.config.tie_word_embeddings;
        (!tied).then(|| self.head_rows(0..self.config.vocab_size)).transpose()
    }

    /// Some rows of the head's own weight.
    pub(crate) fn head_rows(&self, rows: Range<usize>) -> Result<Vec<f32>, SourceError> {
        let c = &self.config;
        self.checkpoint.rows("lm_head.weight", &[c.vocab_size, c.hidden_size], rows)
    }

    /// One layer.
    pub(crate) fn layer(&self, i: usize) -> Result<Layer, SourceError> {
        let c = &self.config;
        let (d, ff, w) = (c.hidden_size, c.intermediate_size, c.head_dim);
        let (q, kv) = (c.num_attention_heads * w, c.num_key_value_heads * w);
        let p = format!("model.layers.{i}");
        let norm = |name: &str| self.checkpoint.get(&format!("{p}.{name}.weight"), &[d]);
        let linear = |name: &str, n, k| self.dense(&format!("{p}.{name}"), n, k);
        let join = |mut a: Dense, b: Dense| {
            a.weight.extend(b.weight);
            a.bias.extend(b.bias);
            Dense { n: a.n + b.n, ..a }
        };
        let qkv = join(linear("self_attn.q_proj", q, d)?, linear("self_attn.k_proj", kv, d)?);
        Ok(Layer {
            attention_norm: norm("input_layernorm")?,
            qkv: join(qkv, linear("self_attn.v_proj", kv, d)?),
            attn_out: linear("self_attn.o_proj", d, q)?,
            ffn_norm: norm("post_attention_layernorm")?,
            gate_up: join(linear("mlp.gate_proj", ff, d)?, linear("mlp.up_proj", ff, d)?),
            down: linear("mlp.down_proj", d, ff)?,
        })
    }

    /// A linear map, its bias zero where there is none.
    fn dense(&self, prefix: &str, n: usize, k: usize) -> Result<Dense, SourceError> {
        let weight = self.checkpoint.get(&format!("{prefix}.weight"), &[n, k])?;
        let bias = format!("{prefix}.bias");
        let bias = if self.checkpoint.has(&bias) {
            self.checkpoint.get(&bias, &[n])?
        } else {
            vec![0.0; n]
        };
        Ok(Dense { weight, bias, n, k })
    }

    /// Runs one layer over one sequence, `[tokens, hidden]`, in place.
    pub(crate) fn run_layer(&self, layer: &Layer, h: &mut [f32], watch: &mut impl Watch) {
        let (d, eps) = (self.config.hidden_size, self.config.rms_norm_eps);
        let x = rms_norm(h, &layer.attention_norm, eps);
        watch.input(0, &x, d);
        let mut qkv = dense(&layer.qkv, &x);
        watch.qkv(&qkv);
        let context = self.attention(&mut qkv);
        watch.input(1, &context, layer.attn_out.k);
        add(h, &dense(&layer.attn_out, &context));
        let x = rms_norm(h, &layer.ffn_norm, eps);
        watch.input(2, &x, d);
        let gate_up = dense(&layer.gate_up, &x);
        watch.gate_up(&gate_up);
        let ff = self.config.intermediate_size;
        let product: Vec<f32> = gate_up
            .chunks_exact(2 * ff)
            .flat_map(|row| {
                let (gate, up) = row.split_at(ff);
                gate.iter().zip(up).map(|(&g, &u)| g / (1.0 + libm::expf(-g)) * u)
            })
            .collect();
        watch.input(3, &product, ff);
        add(h, &dense(&layer.down, &product));
        watch.hidden(h);
    }

    /// Rotates queries and keys in place, then attends causally; `[tokens, heads · head_dim]`.
    fn attention(&self, qkv: &mut [f32]) -> Vec<f32> {
        let c = &self.config;
        let (w, heads, kv_heads) = (c.head_dim, c.num_attention_heads, c.num_key_value_heads);
        let n = c.qkv_width();
        let rotated = (heads + kv_heads) * w;
        for (t, row) in qkv.chunks_exact_mut(n).enumerate() {
            for head in row[..rotated].chunks_exact_mut(w) {
                let (low, high) = head.split_at_mut(w / 2);
                for ((a, b), f) in low.iter_mut().zip(high).zip(&self.frequencies) {
                    let angle = t as f64 * f;
                    let (cos, sin) = (libm::cos(angle) as f32, libm::sin(angle) as f32);
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
        let tokens = qkv.len() / n;
        let factor = attention_factor(c) as f32;
        let scale = factor * factor / (w as f32).sqrt();
        let mut context = vec![0f32; tokens * heads * w];
        let mut p = Vec::new();
        for t in 0..tokens {
            let first = c.sliding_window.map_or(0, |window| (t + 1).saturating_sub(window));
            for h in 0..heads {
                let group = h / (heads / kv_heads);
                let at = |t: usize, column: usize| &qkv[t * n + column..t * n + column + w];
                let query = at(t, h * w);
                p.clear();
                p.extend((first..=t).map(|u| dot_lanes(query, at(u, (heads + group) * w)) * scale));
                let max = p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let mut sum = 0f32;
                for p in &mut p {
                    *p = libm::expf(*p - max);
                    sum += *p;
                }
                let out = &mut context[(t * heads + h) * w..(t * heads + h + 1) * w];
                for (u, p) in p.iter().enumerate() {
                    let value = at(first + u, (heads + kv_heads + group) * w);
                    for (o, v) in out.iter_mut().zip(value) {
                        *o += p / sum * v;
                    }
                }
            }
        }
        context
    }
}

/// Root-mean-square norm of each row, times the gain.
pub(crate) fn rms_norm(h: &[f32], gain: &[f32], epsilon: f64) -> Vec<f32> {
    let d = gain.len();
    let mut out = Vec::with_capacity(h.len());
    for row in h.chunks_exact(d) {
        let square = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / d as f64;
        let inverse = 1.0 / (square + epsilon).sqrt();
        out.extend(row.iter().zip(gain).map(|(&v, g)| (f64::from(v) * inverse) as f32 * g));
    }
    out
}

fn add(h: &mut [f32], delta: &[f32]) {
    for (h, d) in h.iter_mut().zip(delta) {
        *h += d;
    }
}

/// Logits of the original after each token of each sequence, `[tokens, vocab]` each.
///
/// # Errors
/// [`SourceError`] when a tensor cannot be read.
pub fn f32_logits(llama: &Llama, sequences: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, SourceError> {
    let d = llama.config.hidden_size;
    let embedding = llama.embedding()?;
    let mut hidden: Vec<Vec<f32>> = sequences.iter().map(|s| look_up(&embedding, d, s)).collect();
    for i in 0..llama.config.num_hidden_layers {
        let layer = llama.layer(i)?;
        for h in &mut hidden {
            llama.run_layer(&layer, h, &mut Unwatched);
        }
    }
    let norm = llama.final_norm()?;
    let weight = llama.head()?.unwrap_or(embedding);
    let (n, k) = (llama.config.vocab_size, d);
    let head = Dense { weight, bias: vec![0.0; n], n, k };
    let logits = |h: &Vec<f32>| dense(&head, &rms_norm(h, &norm, llama.config.rms_norm_eps));
    Ok(hidden.iter().map(logits).collect())
}

/// Embedding rows of a sequence.
pub(crate) fn look_up(embedding: &[f32], d: usize, tokens: &[u32]) -> Vec<f32> {
    tokens.iter().flat_map(|&t| &embedding[t as usize * d..(t as usize + 1) * d]).copied().collect()
}
