//! Statistics of the f32 original over a fixed text collection: what the scales are chosen from.

use nesa_model::manifest::{STAGES_PER_LAYER, TokenizerConfig};

use crate::bert::{MAX_WORD_CHARS, Vocabulary};
use crate::linalg::add_gram;
use crate::source::Bert;
use crate::yardstick::Observer;

/// Short varied texts that the scales are chosen from, one per line; part of the compiler, so that
/// the same weights always give the same file.
pub(crate) const CALIBRATION: &str = include_str!("../data/calibration.txt");

/// What calibration saw of one layer, or of the head.
pub(crate) struct Statistics {
    /// Per stage, per input channel: largest magnitude.
    pub(crate) input_max: Vec<Vec<f32>>,
    /// Per stage: `Σ x·xᵀ` over all tokens, `[k, k]`, upper triangle; beyond [`MAX_GRAM`] the diagonal.
    pub(crate) moments: Vec<Vec<f64>>,
    /// Per head: largest query and key magnitude.
    pub(crate) query_key_max: Vec<(f32, f32)>,
    /// Largest value magnitude.
    pub(crate) value_max: f32,
    hidden: usize,
}

/// Widest input whose second moments are kept whole.
pub(crate) const MAX_GRAM: usize = 4096;

impl Statistics {
    /// Of nothing yet.
    pub(crate) fn new(bert: &Bert) -> Self {
        Self {
            input_max: vec![Vec::new(); STAGES_PER_LAYER],
            moments: vec![Vec::new(); STAGES_PER_LAYER],
            query_key_max: vec![(0.0, 0.0); bert.config.num_attention_heads],
            value_max: 0.0,
            hidden: bert.config.hidden_size,
        }
    }
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
        let moments = &mut self.moments[stage];
        let x: Vec<f64> = x.iter().map(|&x| x.into()).collect();
        if k <= MAX_GRAM {
            moments.resize(k * k, 0.0);
            add_gram(moments, &x, k);
        } else {
            moments.resize(k, 0.0);
            for row in x.chunks_exact(k) {
                for (m, x) in moments.iter_mut().zip(row) {
                    *m += x * x;
                }
            }
        }
    }

    fn qkv(&mut self, y: &[f32]) {
        let d = self.hidden;
        let width = d / self.query_key_max.len();
        for row in y.chunks_exact(3 * d) {
            for (h, slot) in self.query_key_max.iter_mut().enumerate() {
                for i in h * width..(h + 1) * width {
                    slot.0 = slot.0.max(row[i].abs());
                    slot.1 = slot.1.max(row[d + i].abs());
                }
            }
            for v in &row[2 * d..] {
                self.value_max = self.value_max.max(v.abs());
            }
        }
    }
}

/// The vocabulary, or the tokenizer, as the artifact stores it, and its parameters.
pub(crate) fn vocabulary(bert: &Bert) -> (Vec<u8>, TokenizerConfig) {
    match &bert.vocab {
        Vocabulary::WordPiece { tokens, .. } => {
            let mut bytes = Vec::new();
            for token in tokens {
                bytes.extend_from_slice(token.as_bytes());
                bytes.push(b'\n');
            }
            let find =
                |token: &str| tokens.iter().position(|t| t == token).unwrap_or(usize::MAX) as u32;
            let [start, end] = bert.config.kind.specials();
            let config = TokenizerConfig {
                vocab_bytes: bytes.len() as u32,
                unknown: find("[UNK]"),
                start: find(start),
                end: find(end),
                max_word_chars: MAX_WORD_CHARS,
            };
            (bytes, config)
        }
        Vocabulary::Brought { json, specials: [start, end, unknown] } => {
            let config = TokenizerConfig {
                vocab_bytes: json.len() as u32,
                unknown: *unknown,
                start: *start,
                end: *end,
                max_word_chars: 0,
            };
            (json.clone(), config)
        }
    }
}
