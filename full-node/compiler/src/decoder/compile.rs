//! Assembles the exact form of a decoder, a layer at a time.

use nesa_kernels::attention::CONTEXT_BITS;
use nesa_kernels::decoder::{
    GAIN_LIMIT, GAIN_SHIFT, SILU_FRACTION_BITS, UP_LIMIT, VALUE_LIMIT, query_key_limit,
};
use nesa_kernels::ops::SCORE_SHIFT;
use nesa_kernels::sample::LOGIT_BITS;
use nesa_model::bounds::row_bound;
use nesa_model::layout::TensorKind;
use nesa_model::manifest::{
    DecoderConfig, DecoderManifest, Manifest, RmsNormConfig, STAGES_PER_LAYER, StageConfig,
    WeightForm,
};
use nesa_model::{Artifact, ModelLimits};
use nesa_primitives::Text;
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use super::config::LlamaConfig;
use super::forward::{Llama, Watch as _, rms_norm};
use super::rotary::{attention_factor, cosine_table, turns};
use super::statistics::{MAX_GRAM, Peak, Statistics, add_moments};
use super::text::TextFiles;
use crate::compile::{CompileError, Progress, Summary};
use crate::parts::{Parts, Place, Words, bound_bits};
use crate::quantize::{LEAST_WEIGHT, Quantizer, smoothing_factors, widen};
use crate::source::{Dense, SourceError};
use crate::tables::{self, EXP_STEPS};

/// Weights that are quantised at a time.
const BLOCK: usize = 1 << 18;

/// Some of the rows of a weight.
type WeightRows<'a> = dyn Fn(Range<usize>) -> Result<Cow<'a, [f32]>, SourceError> + 'a;

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
    /// How the layers' weights are kept: in a byte each, or in four bits at some loss.
    pub weights: WeightForm,
}

impl Default for DecoderOptions {
    fn default() -> Self {
        Self {
            input_bits: [12, 12, 12, 14, 12],
            smoothing: 0.4,
            max_tokens: None,
            weights: WeightForm::Bytes,
        }
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

/// Compiles a checkpoint in memory, choosing scales from `calibration`: token sequences of ordinary text.
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
    let place = Place::Memory(Vec::new());
    let (parts, manifest) = build(llama, text, calibration, options, place, progress)?;
    let artifact = parts.into_artifact(manifest)?;
    progress(Progress { step: "check", done: 1, total: 1 });
    Ok(artifact)
}

/// [`compile_decoder`] to a file. No more than some rows of the embedding, and one layer of the checkpoint
/// with what quantising it takes, is held at a time; the file takes its name when it is whole and has
/// passed every check a client makes.
///
/// # Errors
/// As [`compile_decoder`]; there is no file then, or the one that was there.
pub fn compile_decoder_file(
    llama: &Llama,
    text: &TextFiles,
    calibration: &[Vec<u32>],
    options: &DecoderOptions,
    out: &Path,
    progress: &mut impl FnMut(Progress),
) -> Result<Summary, CompileError> {
    let place = Place::beside(out)?;
    let (parts, manifest) = build(llama, text, calibration, options, place, progress)?;
    let summary = parts.into_file(manifest)?;
    progress(Progress { step: "check", done: 1, total: 1 });
    Ok(summary)
}

fn build(
    llama: &Llama,
    text: &TextFiles,
    calibration: &[Vec<u32>],
    options: &DecoderOptions,
    place: Place,
    progress: &mut impl FnMut(Progress),
) -> Result<(Parts, Manifest), CompileError> {
    let c = &llama.config;
    let (silu, exp) = (tables::silu(), tables::exp());
    let mut manifest = sizes(llama, text, options, (silu.len(), exp.len()))?;
    let limits = ModelLimits { max_bytes: usize::MAX, ..ModelLimits::default() };
    let mut parts = Parts::new(&Manifest::Decoder(manifest.clone()), &limits, place)?;
    let embed = |s: &Vec<u32>| llama.embed(s);
    let mut hidden = calibration.iter().map(embed).collect::<Result<Vec<Vec<f32>>, _>>()?;

    // First to learn how large the residual stream grows, then once more to quantise.
    let mut peak = Peak::default();
    llama.each_embedding(|rows| peak.hidden(rows))?;
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

    let words = |rows| llama.embedding_rows(rows);
    let words = parts.put_words(words, (c.vocab_size, c.hidden_size), unit)?;
    manifest.config.embed_shift = words.shift;
    let mut b = Builder { c, options, unit, parts, stages: vec![], norms: vec![] };
    for (h, s) in hidden.iter_mut().zip(calibration) {
        *h = llama.embed(s)?;
    }
    for i in 0..c.num_hidden_layers {
        let layer = llama.layer(i)?;
        let mut statistics = Statistics::new(c);
        for h in &mut hidden {
            llama.run_layer(&layer, h, &mut statistics);
        }
        b.layer(i, layer, statistics)?;
        progress(Progress { step: "quantise", done: i + 1, total: c.num_hidden_layers });
    }
    b.head(llama, &words, &hidden)?;

    let Builder { mut parts, stages, norms, .. } = b;
    let turns = turns(&super::rotary::frequencies(c));
    let bytes = |values: Vec<[u8; 8]>| values.concat();
    parts.put(TensorKind::Frequency, &bytes(turns.iter().map(|v| v.to_le_bytes()).collect()))?;
    let words = |values: Vec<[u8; 4]>| values.concat();
    let cosine = cosine_table();
    parts.put(TensorKind::Cosine, &words(cosine.iter().map(|v| v.to_le_bytes()).collect()))?;
    parts.put_u16(TensorKind::SiluTable, &silu)?;
    parts.put_u16(TensorKind::ExpTable, &exp)?;
    let sample = tables::sample();
    parts.put(TensorKind::SampleTable, &words(sample.iter().map(|v| v.to_le_bytes()).collect()))?;
    parts.put(TensorKind::Tokenizer, &text.tokenizer)?;
    parts.put(TensorKind::Template, &text.template)?;
    manifest.stages = stages;
    manifest.norms = norms;
    Ok((parts, Manifest::Decoder(manifest)))
}

/// A manifest whose sizes are right; scales, shifts and epsilons are yet to be found.
fn sizes(
    llama: &Llama,
    text: &TextFiles,
    options: &DecoderOptions,
    (silu, exp): (usize, usize),
) -> Result<DecoderManifest, CompileError> {
    let c = &llama.config;
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
        embed_shift: 1,
        tied: c.tie_word_embeddings,
        silu_entries: size(silu, "SiLU table")?,
        exp_entries: size(exp, "exponential table")?,
        tokenizer_bytes: size(text.tokenizer.len(), "tokenizer.json")?,
        template_bytes: size(text.template.len(), "chat template")?,
    };
    let stages = config.stages();
    let stage = |i: usize| StageConfig {
        input_bits: 2,
        row_bound_bits: 1,
        shift: 32,
        smoothed: i + 1 < stages && i % 2 == 1,
    };
    Ok(DecoderManifest {
        name: Text::new(llama.name.clone())?,
        weights: options.weights,
        special: text.special.clone(),
        stages: (0..stages).map(stage).collect(),
        norms: vec![RmsNormConfig { epsilon: 1 }; config.norms()],
        config,
    })
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
        layer: super::forward::Layer,
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
        let mut gate_up_units = vec![gate; ff];
        gate_up_units.resize(2 * ff, up);
        let residual = vec![self.unit; d];

        let moments = &mut s.moments;
        let mut take = |stage: usize| std::mem::take(&mut moments[stage]);
        // Each weight is dropped when it is done.
        let super::forward::Layer { attention_norm, qkv, attn_out, ffn_norm, gate_up, down } =
            layer;
        let norm = Source::Norm { gain: &attention_norm, index: 2 * i };
        self.dense(4 * i, qkv, norm, &s.input_max[0], take(0), &units)?;
        let from = Source::Unit(context);
        self.dense(4 * i + 1, attn_out, from, &s.input_max[1], take(1), &residual)?;
        let norm = Source::Norm { gain: &ffn_norm, index: 2 * i + 1 };
        self.dense(4 * i + 2, gate_up, norm, &s.input_max[2], take(2), &gate_up_units)?;
        let from = Source::Unit(up);
        self.dense(4 * i + 3, down, from, &s.input_max[3], take(3), &residual)
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

    fn dense(
        &mut self,
        index: usize,
        dense: Dense,
        source: Source<'_>,
        input_max: &[f32],
        moments: Vec<f64>,
        units_out: &[f64],
    ) -> Result<(), CompileError> {
        let Dense { weight, bias, n, k } = dense;
        let rows = |r: Range<usize>| Ok(Cow::Borrowed(&weight[r.start * k..r.end * k]));
        self.stage(index, (&rows, n, &bias), source, input_max, moments, units_out)
    }

    /// One stage, its weight `n` rows that are asked for some at a time; output channel `j` has
    /// `units_out[j]` per one.
    fn stage(
        &mut self,
        index: usize,
        (rows, n, bias): (&WeightRows<'_>, usize, &[f32]),
        source: Source<'_>,
        input_max: &[f32],
        mut moments: Vec<f64>,
        units_out: &[f64],
    ) -> Result<(), CompileError> {
        let k = input_max.len();
        let blocks = |rows: usize| (0..n).step_by(rows).map(move |r| r..(r + rows).min(n));
        let some = (BLOCK / k).max(8);
        let mut weight_max = vec![LEAST_WEIGHT; k];
        for block in blocks(some) {
            widen(&mut weight_max, &rows(block)?);
        }
        let fixed = smoothing_factors(&weight_max, input_max, self.options.smoothing);
        let factors: Vec<f64> = fixed.iter().map(|&f| f64::from(f) / 16384.0).collect();
        if moments.len() == k * k && k <= MAX_GRAM {
            for (i, row) in moments.chunks_exact_mut(k).enumerate() {
                for (m, &fj) in row.iter_mut().zip(&factors) {
                    *m *= factors[i] * fj;
                }
            }
        } else {
            for (m, f) in moments.iter_mut().zip(&factors) {
                *m *= f * f;
            }
        }
        let is_head = index == self.c.num_hidden_layers * STAGES_PER_LAYER;
        let form = if is_head { WeightForm::Bytes } else { self.options.weights };
        let quantizer = Quantizer::new(moments, k, form);
        let (mut steps, mut widest) = (Vec::with_capacity(n), 0);
        for block in blocks(some) {
            let first = block.start;
            let mut weight: Vec<f64> = rows(block)?.iter().map(|&w| w.into()).collect();
            for row in weight.chunks_exact_mut(k) {
                for (w, f) in row.iter_mut().zip(&factors) {
                    *w /= f;
                }
            }
            let quantized = quantizer.rows(&weight);
            widest = quantized.q.chunks_exact(k).map(|r| row_bound(r, 1)).fold(widest, u64::max);
            self.parts.put_rows(TensorKind::Weight(index), first, &quantized.bytes())?;
            steps.extend(quantized.steps);
        }
        drop(quantizer);
        if matches!(source, Source::Unit(_)) {
            self.parts.put_u16(TensorKind::Smooth(index), &fixed)?;
        }
        self.finish_stage(index, (&steps, widest), source, &factors, bias, units_out)
    }

    /// A stage's parameters beside its weight, whose rows have these steps and at most such a sum of
    /// magnitudes.
    fn finish_stage(
        &mut self,
        index: usize,
        (steps, largest_sum): (&[f64], u64),
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
        let widest = |bits: u8| largest_sum * ((1 << (bits - 1)) - 1);
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
        let products = steps.iter().zip(units_out);
        let largest = products.fold(0.0f64, |m, (step, unit)| m.max(step * unit));
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
            steps,
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
        llama: &Llama,
        words: &Words,
        hidden: &[Vec<f32>],
    ) -> Result<(), CompileError> {
        let (k, n) = (self.c.hidden_size, self.c.vocab_size);
        let index = self.c.num_hidden_layers * STAGES_PER_LAYER;
        let gain = &llama.final_norm()?;
        let source = Source::Norm { gain, index: 2 * self.c.num_hidden_layers };
        let units = vec![f64::from(1u32 << LOGIT_BITS); n];
        let bias = vec![0.0; n];
        if self.c.tie_word_embeddings {
            let rows = (&words.steps[..], words.widest);
            return self.finish_stage(index, rows, source, &vec![1.0; k], &bias, &units);
        }
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
        let rows = |rows| llama.head_rows(rows).map(Cow::Owned);
        self.stage(index, (&rows, n, &bias), source, &input_max, moments, &units)
    }
}
