//! Statistics of the f32 original over a fixed text collection: what the scales are chosen from.

use nesa_model::{TokenIds, Tokenizer, manifest::TokenizerConfig};

use crate::linalg::add_gram;
use crate::source::{Bert, MAX_WORD_CHARS};
use crate::yardstick::{self, Observer};

/// Short varied texts that the scales are chosen from, one per line; part of the compiler, so that
/// the same weights always give the same file.
pub(crate) const CALIBRATION: &str = include_str!("../data/calibration.txt");

/// What calibration saw.
pub(crate) struct Statistics {
    /// Per stage, per input channel: largest magnitude.
    pub(crate) input_max: Vec<Vec<f32>>,
    /// Per stage: `Σ x·xᵀ` over all tokens, `[k, k]`, upper triangle.
    pub(crate) input_gram: Vec<Vec<f64>>,
    /// Per layer, per head: largest query and key magnitude.
    pub(crate) query_key_max: Vec<Vec<(f32, f32)>>,
    /// Per layer: largest value magnitude.
    pub(crate) value_max: Vec<f32>,
    hidden: usize,
    heads: usize,
}

impl Observer for Statistics {
    fn input(&mut self, stage: usize, x: &[f32], k: usize) {
        let max = &mut self.input_max[stage];
        max.resize(k, 0.0);
        for row in x.chunks_exact(k) {
            for (max, &x) in max.iter_mut().zip(row) {
                *max = max.max(x.abs());
            }
        }
        let gram = &mut self.input_gram[stage];
        gram.resize(k * k, 0.0);
        let x: Vec<f64> = x.iter().map(|&x| x.into()).collect();
        add_gram(gram, &x, k);
    }

    fn qkv(&mut self, layer: usize, y: &[f32]) {
        let d = self.hidden;
        let width = d / self.heads;
        for row in y.chunks_exact(3 * d) {
            for (h, slot) in self.query_key_max[layer].iter_mut().enumerate() {
                for i in h * width..(h + 1) * width {
                    slot.0 = slot.0.max(row[i].abs());
                    slot.1 = slot.1.max(row[d + i].abs());
                }
            }
            for v in &row[2 * d..] {
                self.value_max[layer] = self.value_max[layer].max(v.abs());
            }
        }
    }
}

/// Runs the original over the calibration texts.
pub(crate) fn calibrate(
    bert: &Bert,
    tokenizer: &Tokenizer,
    mut progress: impl FnMut(usize, usize),
) -> Statistics {
    let layers = bert.layers.len();
    let mut statistics = Statistics {
        input_max: vec![Vec::new(); 4 * layers],
        input_gram: vec![Vec::new(); 4 * layers],
        query_key_max: vec![vec![(0.0, 0.0); bert.config.num_attention_heads]; layers],
        value_max: vec![0.0; layers],
        hidden: bert.config.hidden_size,
        heads: bert.config.num_attention_heads,
    };
    let total = CALIBRATION.lines().count();
    for (i, text) in CALIBRATION.lines().enumerate() {
        let TokenIds { ids, .. } = tokenizer.encode(text);
        yardstick::embed(bert, &ids, &mut statistics);
        progress(i + 1, total);
    }
    statistics
}

/// The vocabulary as the artifact stores it, and its parameters.
pub(crate) fn vocabulary(bert: &Bert) -> (Vec<u8>, TokenizerConfig) {
    let mut bytes = Vec::new();
    for token in &bert.vocab {
        bytes.extend_from_slice(token.as_bytes());
        bytes.push(b'\n');
    }
    let find =
        |token: &str| bert.vocab.iter().position(|t| t == token).unwrap_or(usize::MAX) as u32;
    let config = TokenizerConfig {
        vocab_bytes: bytes.len() as u32,
        unknown: find("[UNK]"),
        start: find("[CLS]"),
        end: find("[SEP]"),
        max_word_chars: MAX_WORD_CHARS,
    };
    (bytes, config)
}
