//! Assembles the exact form of a decoder, a layer at a time.

use bytes::Bytes;
use nesa_kernels::attention::CONTEXT_BITS;
use nesa_kernels::decoder::{
    GAIN_LIMIT, GAIN_SHIFT, SILU_FRACTION_BITS, UP_LIMIT, VALUE_LIMIT, query_key_limit,
};
use nesa_kernels::ops::SCORE_SHIFT;
use nesa_kernels::sample::LOGIT_BITS;
use nesa_model::artifact::HeaderError;
use nesa_model::bounds::row_bound;
use nesa_model::decoder::DecoderModel;
use nesa_model::layout::{Layout, TensorKind};
use nesa_model::manifest::{
    DecoderConfig, DecoderManifest, Manifest, RmsNormConfig, STAGES_PER_LAYER, StageConfig,
};
use nesa_model::{Artifact, ModelLimits};
use nesa_primitives::Text;

use super::config::LlamaConfig;
use super::forward::{Llama, Watch as _, look_up, rms_norm};
use super::rotary::{attention_factor, cosine_table, turns};
use super::statistics::{MAX_GRAM, Peak, Statistics, add_moments};
use super::text::TextFiles;
use crate::compile::{CompileError, Progress};
use crate::parts::{Parts, bound_bits};
use crate::quantize::{
    QuantizedWeight, quantize_embedding_row, quantize_weight, quantize_weight_plainly,
    smoothing_factors,
};
use crate::source::Dense;
use crate::tables::{self, EXP_STEPS};

/// Choices a compilation makes; the default is what measured best.
#[derive(Clone, Debug)]
pub struct DecoderOptions {
    /// Bits of the input of each of a layer's four stages (QKV, attention output, gate and up, down)
    /// and of the head. A stage whose rows would not fit takes as many as do.
    pub input_bits: [u8; STAGES_PER_LAYER + 1],
    /// How much of the inputs' unevenness moves into the weights (SmoothQuant's alpha).
    pub smoothing: f64,
    /// Longest sequence, if shorter than the checkpoint's.
    pub max_tokens: Option<usize>,
}

impl Default for DecoderOptions {
    fn default() -> Self {
        Self { input_bits: [12, 12, 12, 14, 12], smoothing: 0.4, max_tokens: None }
    }
}

/// Room above the largest query, key or value seen in calibration.
const HEADROOM: f64 = 1.5;
/// Room above the largest residual, or feed-forward product, whose outliers grow with the text.
const OUTLIER_ROOM: f64 = 8.0;
/// Fractional bits of the residual stream at most.
const HIDDEN_BITS: i32 = 20;
/// Bits of an input at most (the format's limit).
const MAX_INPUT_BITS: u8 = 16;
/// A multiplier at the least shift, 32, is below 2^31; a little less, for rounding.
const LARGEST_MULTIPLIER: f64 = 0.499;

/// Compiles a checkpoint, choosing scales from `calibration`: token sequences of ordinary text.
/// `text` is carried along as it is.
///
/// # Errors
/// [`CompileError`] naming the tensor or number that does not fit.
pub fn compile_decoder(
    llama: &Llama,
    text: &TextFiles,
    calibration: &[Vec<u32>],
    options: &DecoderOptions,
    progress: &mut impl FnMut(Progress),
) -> Result<Artifact, CompileError> {
    let c = &llama.config;
    let embedding = llama.embedding()?;
    let embed = |s: &Vec<u32>| look_up(&embedding, c.hidden_size, s);
    let mut hidden: Vec<Vec<f32>> = calibration.iter().map(embed).collect();

    // First to learn how large the residual stream grows, then once more to quantise.
    let mut peak = Peak::default();
    peak.hidden(&embedding);
    for i in 0..c.num_hidden_layers {
        let layer = llama.layer(i)?;
        for h in &mut hidden {
            llama.run_layer(&layer, h, &mut peak);
        }
        progress(Progress { step: "measure", done: i + 1, total: c.num_hidden_layers });
    }
    let room = f64::from(i32::MAX / 2) / (OUTLIER_ROOM * f64::from(peak.0).max(1e-6));
    let bits = libm::floor(libm::log2(room)) as i32;
    if bits < 4 {
        return Err(CompileError::Range { what: format!("residual peak {}", peak.0) });
    }
    let unit = libm::ldexp(1.0, bits.min(HIDDEN_BITS));

    let parts = Parts::default();
    let mut b = Builder { c, options, unit, parts, stages: vec![], norms: vec![] };
    let embed_shift = b.parts.put_words(&embedding, c.hidden_size, unit)?;
    hidden = calibration.iter().map(embed).collect();
    for i in 0..c.num_hidden_layers {
        let layer = llama.layer(i)?;
        let mut statistics = Statistics::new(c);
        for h in &mut hidden {
            llama.run_layer(&layer, h, &mut statistics);
        }
        b.layer(i, &layer, statistics)?;
        progress(Progress { step: "quantise", done: i + 1, total: c.num_hidden_layers });
    }
    b.head(&llama.final_norm()?, llama.head()?, &embedding, &hidden)?;

    let silu = tables::silu();
    let exp = tables::exp();
    let turns = turns(&super::rotary::frequencies(c));
    b.parts.put(TensorKind::Frequency, turns.iter().flat_map(|v| v.to_le_bytes()));
    b.parts.put(TensorKind::Cosine, cosine_table().iter().flat_map(|v| v.to_le_bytes()));
    b.parts.put_u16(TensorKind::SiluTable, &silu);
    b.parts.put_u16(TensorKind::ExpTable, &exp);
    b.parts.put(TensorKind::SampleTable, tables::sample().iter().flat_map(|v| v.to_le_bytes()));
    b.parts.put(TensorKind::Tokenizer, text.tokenizer.iter().copied());
    b.parts.put(TensorKind::Template, text.template.iter().copied());

    let positions = options.max_tokens.unwrap_or(usize::MAX).min(c.max_position_embeddings);
    let config = DecoderConfig {
        vocab: size(c.vocab_size, "vocab_size")?,
        d_model: size(c.hidden_size, "hidden_size")?,
        d_ff: size(c.intermediate_size, "intermediate_size")?,
        heads: size(c.num_attention_heads, "num_attention_heads")?,
        kv_heads: size(c.num_key_value_heads, "num_key_value_heads")?,
        head_width: size(c.head_dim, "head_dim")?,
        layers: size(c.num_hidden_layers, "num_hidden_layers")?,
        max_tokens: positions.min(1 << 17) as u32,
        window: c.sliding_window.unwrap_or(0).min(u32::MAX as usize) as u32,
        embed_shift,
        tied: c.tie_word_embeddings,
        silu_entries: size(silu.len(), "SiLU table")?,
        exp_entries: size(exp.len(), "exponential table")?,
        tokenizer_bytes: size(text.tokenizer.len(), "tokenizer.json")?,
        template_bytes: size(text.template.len(), "chat template")?,
    };
    let name = Text::new(llama.name.clone())?;
    let manifest = DecoderManifest {
        name,
        config,
        special: text.special.clone(),
        stages: b.stages,
        norms: b.norms,
    };
    let manifest = Manifest::Decoder(manifest);
    let limits = ModelLimits { max_bytes: usize::MAX, ..ModelLimits::default() };
    let layout = Layout::of(&manifest, &limits).map_err(HeaderError::from)?;
    let payload = b.parts.into_payload(&layout)?;
    let artifact = Artifact::build(manifest, Bytes::from(payload))?;
    DecoderModel::open(&artifact)?;
    progress(Progress { step: "check", done: 1, total: 1 });
    Ok(artifact)
}

fn size<T: TryFrom<usize>>(value: usize, what: &str) -> Result<T, CompileError> {
    T::try_from(value).map_err(|_| CompileError::Range { what: format!("{what} of {value}") })
}

/// How a stage's input reaches it.
enum Source<'a> {
    /// Through a norm with this gain; the factors become part of it.
    Norm { gain: &'a [f32], index: usize },
    /// As it is, this many units per one.
    Unit(f64),
}

struct Builder<'a> {
    c: &'a LlamaConfig,
    options: &'a DecoderOptions,
    /// Units of the residual stream per one.
    unit: f64,
    parts: Parts,
    stages: Vec<StageConfig>,
    norms: Vec<RmsNormConfig>,
}

impl Builder<'_> {
    fn layer(
        &mut self,
        i: usize,
        layer: &super::forward::Layer,
        mut s: Statistics<'_>,
    ) -> Result<(), CompileError> {
        let (d, ff) = (self.c.hidden_size, self.c.intermediate_size);
        let (mut units, scores) = self.query_key_units(&s.query_key_max);
        self.parts.put_i32(TensorKind::Score(i), &scores)?;
        let value = f64::from(VALUE_LIMIT) / (HEADROOM * f64::from(s.value_max).max(1e-3));
        units.resize(layer.qkv.n, value);
        let context = libm::ldexp(value, CONTEXT_BITS as i32);
        let gate = f64::from(1u32 << SILU_FRACTION_BITS);
        // The product may be far larger than its factors.
        let product_max = s.input_max[3].iter().fold(1e-3f32, |m, &v| m.max(v));
        let up = (f64::from(UP_LIMIT) / f64::from(s.up_max).max(1e-3))
            .min(f64::from(i32::MAX / 2) / f64::from(product_max));
        let up = libm::ldexp(1.0, libm::floor(libm::log2(up / OUTLIER_ROOM)).min(16.0) as i32);
        let mut gate_up = vec![gate; ff];
        gate_up.resize(2 * ff, up);
        let residual = vec![self.unit; d];

        let moments = &mut s.moments;
        let mut take = |stage: usize| std::mem::take(&mut moments[stage]);
        let norm = Source::Norm { gain: &layer.attention_norm, index: 2 * i };
        self.stage(4 * i, &layer.qkv, norm, &s.input_max[0], take(0), &units)?;
        let from = Source::Unit(context);
        self.stage(4 * i + 1, &layer.attn_out, from, &s.input_max[1], take(1), &residual)?;
        let norm = Source::Norm { gain: &layer.ffn_norm, index: 2 * i + 1 };
        self.stage(4 * i + 2, &layer.gate_up, norm, &s.input_max[2], take(2), &gate_up)?;
        let from = Source::Unit(up);
        self.stage(4 * i + 3, &layer.down, from, &s.input_max[3], take(3), &residual)
    }

    /// Units of each query and key channel, and each head's score multiplier.
    ///
    /// Rotation turns the two channels of a pair into each other, so they share a unit; beyond that, a
    /// factor given to a key's pair and taken from its queries' changes no score. It evens them out.
    fn query_key_units(&self, max: &[f32]) -> (Vec<f64>, Vec<i64>) {
        let (w, heads) = (self.c.head_dim, self.c.num_attention_heads);
        let kv_heads = self.c.num_key_value_heads;
        let (pairs, group) = (w / 2, heads / kv_heads);
        let limit = f64::from(query_key_limit(w)) / HEADROOM;
        let pair = |head: usize, i: usize| {
            f64::from(max[head * w + i].max(max[head * w + pairs + i])).max(1e-3)
        };
        let mut units = vec![0.0; (heads + kv_heads) * w];
        let mut scores = vec![0; heads];
        let factor = attention_factor(self.c);
        for g in 0..kv_heads {
            let queries = g * group..(g + 1) * group;
            let even: Vec<f64> = (0..pairs)
                .map(|i| {
                    let query = queries.clone().map(|h| pair(h, i)).fold(0.0, f64::max);
                    (query / pair(heads + g, i)).sqrt()
                })
                .collect();
            let mut fill = |head: usize, even: &dyn Fn(usize) -> f64| {
                let largest = (0..pairs).map(|i| pair(head, i) * even(i)).fold(0.0, f64::max);
                for i in 0..pairs {
                    units[head * w + i] = even(i) * limit / largest;
                    units[head * w + pairs + i] = even(i) * limit / largest;
                }
                limit / largest
            };
            let key = fill(heads + g, &|i| even[i]);
            for h in queries {
                let query = fill(h, &|i| 1.0 / even[i]);
                let per_score = query * key * (w as f64).sqrt() / (factor * factor);
                scores[h] = (libm::ldexp(EXP_STEPS, SCORE_SHIFT as i32) / per_score).round() as i64;
            }
        }
        (units, scores)
    }

    /// One stage; output channel `j` has `units_out[j]` per one.
    fn stage(
        &mut self,
        index: usize,
        dense: &Dense,
        source: Source<'_>,
        input_max: &[f32],
        mut moments: Vec<f64>,
        units_out: &[f64],
    ) -> Result<(), CompileError> {
        let k = dense.k;
        let fixed = smoothing_factors(dense, input_max, self.options.smoothing);
        let factors: Vec<f64> = fixed.iter().map(|&f| f64::from(f) / 16384.0).collect();
        let smoothed = matches!(source, Source::Unit(_));
        let mut weight: Vec<f64> = dense.weight.iter().map(|&w| w.into()).collect();
        for row in weight.chunks_exact_mut(k) {
            for (w, f) in row.iter_mut().zip(&factors) {
                *w /= f;
            }
        }
        let quantized = if moments.len() == k * k && k <= MAX_GRAM {
            for (i, row) in moments.chunks_exact_mut(k).enumerate() {
                for (m, &fj) in row.iter_mut().zip(&factors) {
                    *m *= factors[i] * fj;
                }
            }
            quantize_weight(&weight, &moments, k)
        } else {
            for (m, f) in moments.iter_mut().zip(&factors) {
                *m *= f * f;
            }
            quantize_weight_plainly(&weight, &moments, k)
        };
        drop(weight);
        if smoothed {
            self.parts.put_u16(TensorKind::Smooth(index), &fixed);
        }
        let weight = quantized.q.iter().map(|&q| q as u8);
        self.parts.put(TensorKind::Weight(index), weight);
        self.finish_stage(index, &quantized, source, &factors, &dense.bias, units_out)
    }

    /// A stage's parameters beside its weight.
    fn finish_stage(
        &mut self,
        index: usize,
        quantized: &QuantizedWeight,
        source: Source<'_>,
        factors: &[f64],
        bias: &[f32],
        units_out: &[f64],
    ) -> Result<(), CompileError> {
        let k = factors.len();
        let part = match index / STAGES_PER_LAYER {
            layer if layer < self.c.num_hidden_layers => index % STAGES_PER_LAYER,
            _ => STAGES_PER_LAYER,
        };
        let widest = |bits: u8| {
            let max = (1i32 << (bits - 1)) - 1;
            quantized.q.chunks_exact(k).map(|r| row_bound(r, max)).max().unwrap_or(0)
        };
        let smoothed = matches!(source, Source::Unit(_));
        let unit_in = match source {
            Source::Unit(unit) => unit,
            Source::Norm { gain, index } => {
                let gain: Vec<f64> =
                    gain.iter().zip(factors).map(|(&g, f)| f64::from(g) * f).collect();
                let largest = gain.iter().fold(1e-12f64, |m, g| m.max(g.abs()));
                let unit = f64::from(GAIN_LIMIT) / largest;
                let fixed: Vec<i64> = gain.iter().map(|g| (g * unit).round() as i64).collect();
                self.parts.put_i32(TensorKind::NormGain(index), &fixed)?;
                let epsilon = self.c.rms_norm_eps * k as f64 * self.unit * self.unit;
                self.norms.push(RmsNormConfig { epsilon: epsilon.round().max(1.0) as u64 });
                libm::ldexp(unit, -(GAIN_SHIFT as i32)) / (k as f64).sqrt()
            }
        };
        let q_max = |bits: u8| f64::from((1u32 << (bits - 1)) - 1);
        // A wide output over a large gain needs a finer input, or its multipliers do not fit.
        let largest = quantized
            .steps
            .iter()
            .zip(units_out)
            .fold(0.0f64, |m, (step, unit)| m.max(step * unit));
        let fits = |&bits: &u8| largest / (q_max(bits) * unit_in) < LARGEST_MULTIPLIER;
        let sums = |&bits: &u8| widest(bits) >> 31 == 0;
        let wanted = self.options.input_bits[part];
        let input_bits = (wanted..=MAX_INPUT_BITS)
            .take_while(sums)
            .find(fits)
            .or_else(|| (2..=wanted).rev().find(sums))
            .ok_or_else(|| CompileError::Range { what: format!("rows of stage {index}") })?;
        let bound = widest(input_bits);
        let shift = self.parts.put_requantisation(
            index,
            &quantized.steps,
            q_max(input_bits) * unit_in,
            units_out,
            bias,
        )?;
        self.stages.push(StageConfig {
            input_bits,
            row_bound_bits: bound_bits(bound),
            shift,
            smoothed,
        });
        Ok(())
    }

    fn head(
        &mut self,
        gain: &[f32],
        head: Option<Vec<f32>>,
        embedding: &[f32],
        hidden: &[Vec<f32>],
    ) -> Result<(), CompileError> {
        let (k, n) = (self.c.hidden_size, self.c.vocab_size);
        let index = self.c.num_hidden_layers * STAGES_PER_LAYER;
        let source = Source::Norm { gain, index: 2 * self.c.num_hidden_layers };
        let units = vec![f64::from(1u32 << LOGIT_BITS); n];
        let Some(weight) = head else {
            let rows: Vec<_> = embedding.chunks_exact(k).map(quantize_embedding_row).collect();
            let steps = rows.iter().map(|r| r.scale).collect();
            let q = rows.into_iter().flat_map(|r| r.q).collect();
            let (quantized, bias) = (QuantizedWeight { q, steps }, vec![0.0; n]);
            return self.finish_stage(index, &quantized, source, &vec![1.0; k], &bias, &units);
        };
        let (mut input_max, mut moments) = (vec![0f32; k], Vec::new());
        for h in hidden {
            let x = rms_norm(h, gain, self.c.rms_norm_eps);
            for row in x.chunks_exact(k) {
                for (m, v) in input_max.iter_mut().zip(row) {
                    *m = m.max(v.abs());
                }
            }
            add_moments(&mut moments, &x, k);
        }
        let dense = Dense { weight, bias: vec![0.0; n], n, k };
        self.stage(index, &dense, source, &input_max, moments, &units)
    }
}
