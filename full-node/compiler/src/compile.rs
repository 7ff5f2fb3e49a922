//! Assembles the exact form of a model.

use nesa_kernels::ops::{
    BIAS_FRACTION_BITS, CONTEXT_SHIFT, GELU_FRACTION_BITS, PROBABILITY_ONE, SCORE_SHIFT,
    query_key_limit,
};
use nesa_model::artifact::{ArtifactError, HeaderError};
use nesa_model::bounds::row_bound;
use nesa_model::layout::TensorKind;
use nesa_model::manifest::{
    Activation, ClassesConfig, EncoderConfig, EncoderManifest, Head, Manifest, NormConfig,
    STAGES_PER_LAYER, StageConfig, WeightForm,
};
use nesa_model::{Artifact, EMBEDDING_FRACTION_BITS, ModelError, ModelLimits, VocabError};
use nesa_primitives::{Hash, Text, TextError};
use nesa_tokenizer::TokenizerError;
use std::path::{Path, PathBuf};
use thiserror::Error;

use crate::calibrate::{CALIBRATION, Statistics, vocabulary};
use crate::parts::{Parts, Place, bound_bits};
use crate::quantize::{LEAST_WEIGHT, Quantizer, fixed_point, smoothing_factors, widen};
use crate::reader::Reader;
use crate::source::{Bert, Classes, Dense, Layer, Norm, SourceError};
use crate::tables::{self, EXP_STEPS};
use crate::yardstick;

/// Linear stages of a text classifier's head.
const HEAD_STAGES: usize = 2;
/// What the hyperbolic tangent puts out for one.
const TANH_ONE: f64 = 32768.0;
/// Fractional bits of the residual stream after a normalisation.
const HIDDEN_BITS: u32 = 16;
/// Fractional bits of the embedding sum, whose values are much smaller.
const EMBED_BITS: u32 = 20;
/// Room left above the largest query, key or value seen in calibration.
const HEADROOM: f64 = 1.5;

/// Choices a compilation makes; the default is what measured best.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bits of the input of each of a layer's four stages: QKV, attention output, feed-forward in
    /// and out.
    pub input_bits: [u8; STAGES_PER_LAYER],
    /// Per stage, how much of the inputs' unevenness moves into the weights (SmoothQuant's alpha);
    /// `None` leaves a stage as it is.
    pub smoothing: [Option<f64>; STAGES_PER_LAYER],
    /// How the weights of the layers are kept; a head's are bytes.
    pub weights: WeightForm,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            input_bits: [12; STAGES_PER_LAYER],
            smoothing: [Some(0.4); STAGES_PER_LAYER],
            weights: WeightForm::Bytes,
        }
    }
}

/// Where a compilation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, such as `calibrate`.
    pub step: &'static str,
    /// Units done.
    pub done: usize,
    /// Units in this step.
    pub total: usize,
}

/// What a compilation made.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The model's digest.
    pub digest: Hash,
    /// Size of the file, bytes.
    pub bytes: usize,
    /// Linear stages.
    pub stages: usize,
    /// Chunks.
    pub chunks: usize,
}

/// Why a model could not be compiled.
#[derive(Debug, Error)]
pub enum CompileError {
    /// The source is unusable.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An ONNX model, or its samples, are unusable.
    #[error(transparent)]
    Onnx(#[from] crate::onnx::OnnxError),
    /// A number does not fit the arithmetic.
    #[error("{what} does not fit the exact arithmetic")]
    Range {
        /// Which numbers.
        what: String,
    },
    /// The sizes do not fit the format.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The parts do not fit together.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The result does not pass a client's checks.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer that the model brings cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The vocabulary cannot be used.
    #[error(transparent)]
    Vocab(#[from] VocabError),
    /// The name is too long.
    #[error(transparent)]
    Name(#[from] TextError),
    /// The file could not be written.
    #[error("{path}: {error}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// Compiles the model in `dir` and writes it to `out`, reporting progress as it goes. One layer of the
/// checkpoint, with what quantising it takes, is held at a time.
///
/// The same weights give the same bytes on every machine.
///
/// # Errors
/// [`CompileError`]; nothing is written unless the result passes every check a client makes.
pub fn compile(
    dir: &Path,
    out: &Path,
    options: &Options,
    mut progress: impl FnMut(Progress),
) -> Result<Summary, CompileError> {
    progress(Progress { step: "read", done: 0, total: 1 });
    let bert = Bert::load(dir)?;
    let place = Place::beside(out)?;
    let (parts, manifest) = build(&bert, options, place, &mut progress)?;
    let summary = parts.into_file(manifest)?;
    progress(Progress { step: "check", done: 1, total: 1 });
    Ok(summary)
}

/// Compiles in memory with chosen options.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(
    bert: &Bert,
    options: &Options,
    progress: &mut impl FnMut(Progress),
) -> Result<Artifact, CompileError> {
    let (parts, manifest) = build(bert, options, Place::Memory(Vec::new()), progress)?;
    let artifact = parts.into_artifact(manifest)?;
    progress(Progress { step: "check", done: 1, total: 1 });
    Ok(artifact)
}

fn build(
    bert: &Bert,
    options: &Options,
    place: Place,
    progress: &mut impl FnMut(Progress),
) -> Result<(Parts, Manifest), CompileError> {
    let (vocab, tokenizer_config) = vocabulary(bert);
    let count = bert.config.vocab_size;
    let reader = Reader::new(&tokenizer_config, &bert.reading, &vocab, count, bert.max_tokens)?;
    let gelu = tables::feed_forward(bert.config.activation);
    let (exp, tanh) = (tables::exp(), tables::tanh());
    let labels: Vec<u8> = bert.classes.iter().flat_map(|c| &c.labels).fold(vec![], |mut all, l| {
        all.extend(l.as_bytes());
        all.push(b'\n');
        all
    });
    let classes = bert.classes.as_ref().map(|c| ClassesConfig {
        classes: c.labels.len() as u16,
        hidden: Some(c.hidden.1),
        tanh_entries: if c.hidden.1 == Activation::Tanh { tanh.len() as u16 } else { 0 },
        label_bytes: labels.len() as u32,
    });
    let layers = bert.config.num_hidden_layers;
    let stage = |part: usize| StageConfig {
        input_bits: 2,
        row_bound_bits: 1,
        shift: 32,
        smoothed: options.smoothing[part % STAGES_PER_LAYER].is_some(),
    };
    let head_stages = if classes.is_some() { HEAD_STAGES } else { 0 };
    let mut manifest = EncoderManifest {
        name: Text::new(bert.name.clone())?,
        encoder: EncoderConfig {
            vocab: bert.config.vocab_size as u32,
            d_model: bert.config.hidden_size as u32,
            d_ff: bert.config.intermediate_size as u32,
            heads: narrow(bert.config.num_attention_heads, "heads")?,
            layers: narrow(layers, "layers")?,
            max_tokens: narrow(bert.max_tokens, "max_tokens")?,
            embed_shift: 1,
            gelu_entries: gelu.len() as u16,
            exp_entries: exp.len() as u16,
        },
        tokenizer: tokenizer_config,
        head: Head { pooling: bert.pooling(), classes },
        weights: options.weights,
        reading: bert.reading,
        stages: (0..layers * STAGES_PER_LAYER)
            .map(stage)
            .chain((0..head_stages).map(|_| StageConfig { smoothed: false, ..stage(0) }))
            .collect(),
        norms: vec![NormConfig { shift: 1, epsilon: 1 }; 2 * layers + 1],
    };
    let sizes = Manifest::Encoder(manifest.clone());
    let parts = Parts::new(&sizes, &ModelLimits::default(), place)?;
    let mut builder = Builder { bert, options, parts, stages: vec![], norms: vec![] };
    builder.parts.put(TensorKind::Vocab, &vocab)?;
    builder.parts.put_u16(TensorKind::GeluTable, &gelu)?;
    builder.parts.put_u16(TensorKind::ExpTable, &exp)?;
    if let Some(c) = classes {
        builder.parts.put(TensorKind::Labels, &labels)?;
        if c.tanh_entries > 0 {
            builder.parts.put_u16(TensorKind::TanhTable, &tanh)?;
        }
    }
    manifest.encoder.embed_shift = builder.embeddings()?;
    builder.norm(0, &bert.embed_norm, EMBED_BITS)?;

    let lines: Vec<&str> = CALIBRATION.lines().collect();
    let mut texts = lines.iter().map(|text| reader.encode(text)).collect::<Result<Vec<_>, _>>()?;
    // Where pairs are read, each two lines are one besides.
    for [text, pair] in lines.as_chunks::<2>().0 {
        texts.extend(reader.encode_pair(text, pair)?);
    }
    let mut hidden =
        texts.iter().map(|text| yardstick::start(bert, text)).collect::<Result<Vec<_>, _>>()?;
    for i in 0..layers {
        let layer = bert.layer(i)?;
        let mut statistics = Statistics::new(bert);
        for h in &mut hidden {
            yardstick::run_layer(bert, &layer, h, &mut statistics);
        }
        builder.layer(i, &layer, statistics)?;
        progress(Progress { step: "quantise", done: i + 1, total: layers });
    }
    if let Some(classes) = &bert.classes {
        let mut statistics = Statistics::new(bert);
        for h in &hidden {
            yardstick::finish(bert, h, &mut statistics);
        }
        builder.head(classes, statistics)?;
    }
    let Builder { parts, stages, norms, .. } = builder;
    manifest.stages = stages;
    manifest.norms = norms;
    Ok((parts, Manifest::Encoder(manifest)))
}

fn narrow(value: usize, what: &str) -> Result<u16, CompileError> {
    u16::try_from(value).map_err(|_| CompileError::Range { what: format!("{what} of {value}") })
}

struct Builder<'a> {
    bert: &'a Bert,
    options: &'a Options,
    parts: Parts,
    stages: Vec<StageConfig>,
    norms: Vec<NormConfig>,
}

impl Builder<'_> {
    fn embeddings(&mut self) -> Result<u8, CompileError> {
        let unit = f64::from(1u32 << EMBED_BITS);
        let size = (self.bert.config.vocab_size, self.bert.config.hidden_size);
        let words = self.parts.put_words(|rows| self.bert.words(rows), size, unit)?;
        let position: Vec<i64> =
            self.bert.position.iter().map(|&p| (f64::from(p) * unit).round() as i64).collect();
        self.parts.put_i32(TensorKind::Position, &position)?;
        if self.bert.reading.segments {
            let segment = self.bert.segment.iter().map(|&s| (f64::from(s) * unit).round() as i64);
            self.parts.put_i32(TensorKind::Segment, &segment.collect::<Vec<_>>())?;
        }
        if self.bert.reading.relative {
            // In steps of the exponential table, with some bits behind them.
            let unit = EXP_STEPS * f64::from(1u32 << BIAS_FRACTION_BITS);
            let bias = self.bert.relative.iter().map(|&b| (f64::from(b) * unit).round() as i64);
            self.parts.put_i32(TensorKind::Relative, &bias.collect::<Vec<_>>())?;
        }
        Ok(words.shift)
    }

    fn norm(&mut self, index: usize, norm: &Norm, input_bits: u32) -> Result<(), CompileError> {
        let n = norm.gain.len() as f64;
        // `t` has 30 fractional bits and lacks the factor √N; the result has HIDDEN_BITS.
        let unit = libm::ldexp(n.sqrt(), HIDDEN_BITS as i32 - 30);
        let gain: Vec<f64> = norm.gain.iter().map(|&g| f64::from(g) * unit).collect();
        let (gain, shift) = fixed_point(&gain, 1..=62)
            .ok_or_else(|| CompileError::Range { what: "norm gain".into() })?;
        let bias: Vec<i64> = norm
            .bias
            .iter()
            .map(|&b| (f64::from(b) * f64::from(1u32 << HIDDEN_BITS)).round() as i64)
            .collect();
        let epsilon = libm::ldexp(self.bert.config.layer_norm_eps * n, 2 * input_bits as i32);
        self.parts.put_i32(TensorKind::NormGain(index), &gain)?;
        self.parts.put_i32(TensorKind::NormBias(index), &bias)?;
        let epsilon = epsilon.round().clamp(1.0, f64::from(u32::MAX)) as u32;
        self.norms.push(NormConfig { shift: shift as u8, epsilon });
        Ok(())
    }

    fn layer(&mut self, i: usize, layer: &Layer, mut seen: Statistics) -> Result<(), CompileError> {
        let d = self.bert.config.hidden_size;
        let width = d / self.bert.config.num_attention_heads;
        let hidden = f64::from(1u32 << HIDDEN_BITS);
        let gelu = f64::from(1u32 << GELU_FRACTION_BITS);

        // Units of queries, keys and values: what a magnitude of one becomes as an integer.
        let mut units = vec![0.0; 3 * d];
        let mut scores = Vec::new();
        let limit = f64::from(query_key_limit(width));
        for (h, &(q, k)) in seen.query_key_max.iter().enumerate() {
            let unit = |max: f32| limit / (HEADROOM * f64::from(max).max(1e-3));
            let (q, k) = (unit(q), unit(k));
            units[h * width..(h + 1) * width].fill(q);
            units[d + h * width..d + (h + 1) * width].fill(k);
            scores.push(
                (libm::ldexp(EXP_STEPS, SCORE_SHIFT as i32) / (q * k * (width as f64).sqrt()))
                    .round() as i64,
            );
        }
        let value = 32767.0 / (HEADROOM * f64::from(seen.value_max).max(1e-3));
        units[2 * d..].fill(value);
        self.parts.put_i32(TensorKind::Score(i), &scores)?;

        // A context is a sum of weights and values, shifted down.
        let context = value * f64::from(PROBABILITY_ONE) / f64::from(1u32 << CONTEXT_SHIFT);
        let mut stage = |part: usize, dense: &Dense, unit_in: f64, units_out: &[f64]| {
            let smoothing = self.options.smoothing[part];
            let seen = (&seen.input_max[part][..], std::mem::take(&mut seen.moments[part]));
            self.stage(4 * i + part, dense, (unit_in, units_out), seen, smoothing)
        };
        stage(0, &layer.qkv, hidden, &units)?;
        stage(1, &layer.attn_out, context, &vec![hidden; d])?;
        stage(2, &layer.ffn_in, hidden, &vec![gelu; layer.ffn_in.n])?;
        stage(3, &layer.ffn_out, gelu, &vec![hidden; d])?;
        self.norm(1 + 2 * i, &layer.attn_norm, HIDDEN_BITS)?;
        self.norm(2 + 2 * i, &layer.ffn_norm, HIDDEN_BITS)
    }

    fn head(&mut self, head: &Classes, mut seen: Statistics) -> Result<(), CompileError> {
        let (dense, activation) = &head.hidden;
        let mut take =
            |part: usize| (seen.input_max[part].clone(), std::mem::take(&mut seen.moments[part]));
        let first = self.bert.config.num_hidden_layers * STAGES_PER_LAYER;
        let hidden = f64::from(1u32 << HIDDEN_BITS);
        let inner = f64::from(1u32 << GELU_FRACTION_BITS);
        let (max, moments) = take(0);
        let units = (hidden, &vec![inner; dense.n][..]);
        self.stage(first, dense, units, (&max, moments), None)?;
        let unit = match activation {
            Activation::Tanh => TANH_ONE,
            Activation::Relu => inner,
        };
        let logit = f64::from(1u32 << EMBEDDING_FRACTION_BITS);
        let (max, moments) = take(1);
        let units = (unit, &vec![logit; head.classes.n][..]);
        self.stage(first + 1, &head.classes, units, (&max, moments), None)
    }

    /// One stage whose input has `unit_in` per one, and output channel `j` `units_out[j]`.
    fn stage(
        &mut self,
        index: usize,
        dense: &Dense,
        (unit_in, units_out): (f64, &[f64]),
        (input_max, mut moments): (&[f32], Vec<f64>),
        smoothing: Option<f64>,
    ) -> Result<(), CompileError> {
        let k = dense.k;
        let factors = smoothing.map(|alpha| {
            let mut weight_max = vec![LEAST_WEIGHT; k];
            widen(&mut weight_max, &dense.weight);
            smoothing_factors(&weight_max, input_max, alpha)
        });
        let real = |f: u16| f64::from(f) / 16384.0;
        let mut weight: Vec<f64> = dense.weight.iter().map(|&w| w.into()).collect();
        if let Some(f) = &factors {
            if moments.len() == k * k {
                for (i, row) in moments.chunks_exact_mut(k).enumerate() {
                    for (g, &fj) in row.iter_mut().zip(f) {
                        *g *= real(f[i]) * real(fj);
                    }
                }
            } else {
                for (m, &f) in moments.iter_mut().zip(f) {
                    *m *= real(f) * real(f);
                }
            }
            for row in weight.chunks_exact_mut(k) {
                for (w, &f) in row.iter_mut().zip(f) {
                    *w /= real(f);
                }
            }
        }
        let is_layer = index < self.bert.config.num_hidden_layers * STAGES_PER_LAYER;
        let form = if is_layer { self.options.weights } else { WeightForm::Bytes };
        let quantized = Quantizer::new(moments, k, form).rows(&weight);
        let bound = |bits: u8| {
            let rows = quantized.q.chunks_exact(k);
            rows.map(|r| row_bound(r, (1 << (bits - 1)) - 1)).max().unwrap_or(0)
        };
        let wanted = self.options.input_bits[index % STAGES_PER_LAYER];
        let input_bits = (2..=wanted)
            .rev()
            .find(|&bits| bound(bits) >> 31 == 0)
            .ok_or_else(|| CompileError::Range { what: format!("rows of stage {index}") })?;
        let q_max = f64::from((1u32 << (input_bits - 1)) - 1);
        let shift = self.parts.put_requantisation(
            index,
            &quantized.steps,
            q_max * unit_in,
            units_out,
            &dense.bias,
        )?;
        self.parts.put(TensorKind::Weight(index), &quantized.bytes())?;
        if let Some(f) = &factors {
            self.parts.put_u16(TensorKind::Smooth(index), f)?;
        }
        self.stages.push(StageConfig {
            input_bits,
            row_bound_bits: bound_bits(bound(input_bits)),
            shift,
            smoothed: factors.is_some(),
        });
        Ok(())
    }
}
