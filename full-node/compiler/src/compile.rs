//! Assembles the exact form of a model.

use bytes::Bytes;
use nesa_kernels::ops::{
    CONTEXT_SHIFT, GELU_FRACTION_BITS, PROBABILITY_ONE, QUERY_KEY_LIMIT, SCORE_SHIFT,
};
use nesa_model::artifact::{ArtifactError, HeaderError};
use nesa_model::bounds::row_bound;
use nesa_model::layout::{Layout, TensorKind};
use nesa_model::manifest::{
    EncoderConfig, EncoderManifest, Manifest, NormConfig, STAGES_PER_LAYER, StageConfig,
};
use nesa_model::{Artifact, Model, ModelError, ModelLimits, Tokenizer, VocabError};
use nesa_primitives::{Hash, Text, TextError};
use std::path::{Path, PathBuf};
use thiserror::Error;

use crate::calibrate::{Statistics, calibrate, vocabulary};
use crate::parts::{Parts, bound_bits};
use crate::quantize::{fixed_point, quantize_weight, smoothing_factors};
use crate::source::{Bert, Dense, Norm, SourceError};
use crate::tables::{self, EXP_STEPS};

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
}

impl Default for Options {
    fn default() -> Self {
        Self { input_bits: [12; STAGES_PER_LAYER], smoothing: [Some(0.4); STAGES_PER_LAYER] }
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

/// Compiles the model in `dir` and writes it to `out`, reporting progress as it goes.
///
/// The same weights give the same bytes on every machine.
///
/// # Errors
/// [`CompileError`]; nothing is written unless the result passes every check a client makes.
pub fn compile(
    dir: &Path,
    out: &Path,
    mut progress: impl FnMut(Progress),
) -> Result<Summary, CompileError> {
    progress(Progress { step: "read", done: 0, total: 1 });
    let bert = Bert::load(dir)?;
    let artifact = compile_with(&bert, &Options::default(), &mut progress)?;
    let file = artifact.to_file();
    std::fs::write(out, &file).map_err(|error| CompileError::Write { path: out.into(), error })?;
    Ok(Summary {
        digest: artifact.digest(),
        bytes: file.len(),
        stages: artifact.header().manifest().stages().len(),
        chunks: artifact.header().layout().chunks.len(),
    })
}

/// Compiles with chosen options.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(
    bert: &Bert,
    options: &Options,
    progress: &mut impl FnMut(Progress),
) -> Result<Artifact, CompileError> {
    let (vocab, tokenizer_config) = vocabulary(bert);
    let tokenizer =
        Tokenizer::new(&tokenizer_config, &vocab, bert.config.vocab_size, bert.max_tokens)?;
    let statistics = calibrate(bert, &tokenizer, |done, total| {
        progress(Progress { step: "calibrate", done, total });
    });
    let mut builder = Builder {
        bert,
        options,
        statistics,
        parts: Parts::default(),
        stages: vec![],
        norms: vec![],
    };
    builder.parts.put(TensorKind::Vocab, vocab);
    let gelu = tables::gelu();
    let exp = tables::exp();
    let mut encoder = EncoderConfig {
        vocab: bert.config.vocab_size as u32,
        d_model: bert.config.hidden_size as u32,
        d_ff: bert.config.intermediate_size as u32,
        heads: bert.config.num_attention_heads as u16,
        layers: bert.layers.len() as u16,
        max_tokens: bert.max_tokens as u16,
        embed_shift: 0,
        gelu_entries: gelu.len() as u16,
        exp_entries: exp.len() as u16,
    };
    builder.parts.put_u16(TensorKind::GeluTable, &gelu);
    builder.parts.put_u16(TensorKind::ExpTable, &exp);
    encoder.embed_shift = builder.embeddings()?;
    builder.norm(0, &bert.embed_norm, EMBED_BITS)?;
    for i in 0..bert.layers.len() {
        builder.layer(i)?;
        progress(Progress { step: "quantise", done: i + 1, total: bert.layers.len() });
    }

    let manifest = Manifest::Encoder(EncoderManifest {
        name: Text::new(bert.name.clone())?,
        encoder,
        tokenizer: tokenizer_config,
        stages: builder.stages,
        norms: builder.norms,
    });
    let layout = Layout::of(&manifest, &ModelLimits::default()).map_err(HeaderError::from)?;
    let payload = builder.parts.into_payload(&layout)?;
    let artifact = Artifact::build(manifest, Bytes::from(payload))?;
    Model::open(&artifact)?;
    progress(Progress { step: "check", done: 1, total: 1 });
    Ok(artifact)
}

struct Builder<'a> {
    bert: &'a Bert,
    options: &'a Options,
    statistics: Statistics,
    parts: Parts,
    stages: Vec<StageConfig>,
    norms: Vec<NormConfig>,
}

impl Builder<'_> {
    fn embeddings(&mut self) -> Result<u8, CompileError> {
        let unit = f64::from(1u32 << EMBED_BITS);
        let shift = self.parts.put_words(&self.bert.word, self.bert.config.hidden_size, unit)?;
        let position: Vec<i64> =
            self.bert.position.iter().map(|&p| (f64::from(p) * unit).round() as i64).collect();
        self.parts.put_i32(TensorKind::Position, &position)?;
        Ok(shift)
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

    fn layer(&mut self, i: usize) -> Result<(), CompileError> {
        let layer = &self.bert.layers[i];
        let d = self.bert.config.hidden_size;
        let width = d / self.bert.config.num_attention_heads;
        let hidden = f64::from(1u32 << HIDDEN_BITS);
        let gelu = f64::from(1u32 << GELU_FRACTION_BITS);

        // Units of queries, keys and values: what a magnitude of one becomes as an integer.
        let mut units = vec![0.0; 3 * d];
        let mut scores = Vec::new();
        for (h, &(q, k)) in self.statistics.query_key_max[i].iter().enumerate() {
            let unit =
                |max: f32| f64::from(QUERY_KEY_LIMIT) / (HEADROOM * f64::from(max).max(1e-3));
            let (q, k) = (unit(q), unit(k));
            units[h * width..(h + 1) * width].fill(q);
            units[d + h * width..d + (h + 1) * width].fill(k);
            scores.push(
                (libm::ldexp(EXP_STEPS, SCORE_SHIFT as i32) / (q * k * (width as f64).sqrt()))
                    .round() as i64,
            );
        }
        let value = 32767.0 / (HEADROOM * f64::from(self.statistics.value_max[i]).max(1e-3));
        units[2 * d..].fill(value);
        self.parts.put_i32(TensorKind::Score(i), &scores)?;

        // A context is a sum of weights and values, shifted down.
        let context = value * f64::from(PROBABILITY_ONE) / f64::from(1u32 << CONTEXT_SHIFT);
        self.stage(4 * i, &layer.qkv, hidden, &units)?;
        self.stage(4 * i + 1, &layer.attn_out, context, &vec![hidden; d])?;
        self.norm(1 + 2 * i, &layer.attn_norm, HIDDEN_BITS)?;
        self.stage(4 * i + 2, &layer.ffn_in, hidden, &vec![gelu; layer.ffn_in.n])?;
        self.stage(4 * i + 3, &layer.ffn_out, gelu, &vec![hidden; d])?;
        self.norm(2 + 2 * i, &layer.ffn_norm, HIDDEN_BITS)
    }

    /// One stage whose input has `unit_in` per one, and output channel `j` `units_out[j]`.
    fn stage(
        &mut self,
        index: usize,
        dense: &Dense,
        unit_in: f64,
        units_out: &[f64],
    ) -> Result<(), CompileError> {
        let input_bits = self.options.input_bits[index % STAGES_PER_LAYER];
        let q_max = f64::from((1u32 << (input_bits - 1)) - 1);
        let factors = self.options.smoothing[index % STAGES_PER_LAYER]
            .map(|alpha| smoothing_factors(dense, &self.statistics.input_max[index], alpha));
        let real = |f: u16| f64::from(f) / 16384.0;
        let k = dense.k;
        let mut gram = std::mem::take(&mut self.statistics.input_gram[index]);
        let mut weight: Vec<f64> = dense.weight.iter().map(|&w| w.into()).collect();
        if let Some(f) = &factors {
            for (i, row) in gram.chunks_exact_mut(k).enumerate() {
                for (g, &fj) in row.iter_mut().zip(f) {
                    *g *= real(f[i]) * real(fj);
                }
            }
            for row in weight.chunks_exact_mut(k) {
                for (w, &f) in row.iter_mut().zip(f) {
                    *w /= real(f);
                }
            }
        }
        let quantized = quantize_weight(&weight, &gram, k);
        let bound = quantized.q.chunks_exact(k).map(|r| row_bound(r, q_max as i32)).max();
        let bound = bound.unwrap_or(0);
        let shift = self.parts.put_requantisation(
            index,
            &quantized.steps,
            q_max * unit_in,
            units_out,
            &dense.bias,
        )?;
        self.parts.put(TensorKind::Weight(index), quantized.q.iter().map(|&q| q as u8));
        if let Some(f) = &factors {
            self.parts.put_u16(TensorKind::Smooth(index), f);
        }
        self.stages.push(StageConfig {
            input_bits,
            row_bound_bits: bound_bits(bound),
            shift,
            smoothed: factors.is_some(),
        });
        Ok(())
    }
}
