//! What the scales of one layer are chosen from.

use super::config::LlamaConfig;
use super::forward::Watch;
use crate::linalg::add_gram;

/// Widest input whose second moments are kept whole; wider ones keep the diagonal.
pub(crate) const MAX_GRAM: usize = 4096;

/// Statistics of one layer over the calibration tokens.
pub(crate) struct Statistics<'a> {
    config: &'a LlamaConfig,
    /// Per stage, per input channel: largest magnitude.
    pub(crate) input_max: [Vec<f32>; 4],
    /// Per stage: `Σ x·xᵀ`, `[k, k]`, upper triangle; the diagonal alone, `[k]`, beyond
    /// [`MAX_GRAM`].
    pub(crate) moments: [Vec<f64>; 4],
    /// Per channel of queries and keys before rotation: largest magnitude.
    pub(crate) query_key_max: Vec<f32>,
    /// Largest value.
    pub(crate) value_max: f32,
    /// Largest of the feed-forward's second factor.
    pub(crate) up_max: f32,
}

impl<'a> Statistics<'a> {
    pub(crate) fn new(config: &'a LlamaConfig) -> Self {
        let rotated = (config.num_attention_heads + config.num_key_value_heads) * config.head_dim;
        Self {
            config,
            input_max: Default::default(),
            moments: Default::default(),
            query_key_max: vec![0.0; rotated],
            value_max: 0.0,
            up_max: 0.0,
        }
    }
}

/// Folds magnitudes of `rows` into per-channel maxima.
fn widen(max: &mut [f32], rows: &[f32], stride: usize) {
    for row in rows.chunks_exact(stride) {
        for (max, &x) in max.iter_mut().zip(row) {
            *max = max.max(x.abs());
        }
    }
}

impl Watch for Statistics<'_> {
    fn input(&mut self, stage: usize, x: &[f32], k: usize) {
        self.input_max[stage].resize(k, 0.0);
        widen(&mut self.input_max[stage], x, k);
        add_moments(&mut self.moments[stage], x, k);
    }

    fn qkv(&mut self, y: &[f32]) {
        let n = self.config.qkv_width();
        widen(&mut self.query_key_max, y, n);
        let values = self.query_key_max.len();
        for row in y.chunks_exact(n) {
            for v in &row[values..] {
                self.value_max = self.value_max.max(v.abs());
            }
        }
    }

    fn gate_up(&mut self, y: &[f32]) {
        let ff = self.config.intermediate_size;
        for row in y.chunks_exact(2 * ff) {
            for v in &row[ff..] {
                self.up_max = self.up_max.max(v.abs());
            }
        }
    }

    fn hidden(&mut self, _: &[f32]) {}
}

/// Adds the second moments of `x`, `[tokens, k]`.
pub(crate) fn add_moments(moments: &mut Vec<f64>, x: &[f32], k: usize) {
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

/// Largest magnitude of the residual stream.
#[derive(Default)]
pub(crate) struct Peak(pub(crate) f32);

impl Watch for Peak {
    fn input(&mut self, _: usize, _: &[f32], _: usize) {}
    fn qkv(&mut self, _: &[f32]) {}
    fn gate_up(&mut self, _: &[f32]) {}
    fn hidden(&mut self, h: &[f32]) {
        self.0 = h.iter().fold(self.0, |m, v| m.max(v.abs()));
    }
}
