//! A model ready to run: checked parameters behind a cheap handle.

use bytes::Bytes;
use nesa_kernels::Weight;
use nesa_primitives::Hash;
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

use crate::artifact::{Artifact, Header, LocalPart};
use crate::bounds::{BoundError, check_rows};
use crate::layout::{TensorKind, encoder_stage_shape as stage_shape};
use crate::manifest::{
    EncoderConfig, EncoderManifest, Head, Manifest, NormConfig, Reading, STAGES_PER_LAYER,
};
use crate::parameters::{below_2_31, check_exp_table, i32s, u16s, u32s};
use crate::tokenizer::{Tokenizer, VocabError};
use crate::{Frame, LinearSpec, StageId};

/// Why bytes that form a valid artifact are still no usable model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ModelError {
    /// A weight row breaks the accumulator bound.
    #[error(transparent)]
    Bound(#[from] BoundError),
    /// A parameter is outside what the arithmetic allows.
    #[error("{what}: entry {index} is {got}, allowed {allowed}")]
    Parameter {
        /// Which tensor.
        what: &'static str,
        /// Which entry.
        index: usize,
        /// Its value.
        got: i64,
        /// The allowed range, in words.
        allowed: &'static str,
    },
    /// The vocabulary cannot be used.
    #[error(transparent)]
    Vocab(#[from] VocabError),
    /// A tensor the manifest implies is not there.
    #[error("the payload lacks {0}")]
    Absent(&'static str),
    /// A model of another family.
    #[error("the model's family is {got}, expected {expected}")]
    Family {
        /// Its family.
        got: &'static str,
        /// The family wanted.
        expected: &'static str,
    },
}

/// Parameters of one linear stage beside its weight.
#[derive(Debug)]
pub(crate) struct StageParams {
    pub(crate) multiplier: Vec<u32>,
    pub(crate) bias: Vec<i32>,
    pub(crate) smooth: Vec<u16>,
    pub(crate) shift: u32,
}

/// Parameters of one layer normalisation.
#[derive(Debug)]
pub(crate) struct NormParams {
    pub(crate) gain: Vec<i32>,
    pub(crate) bias: Vec<i32>,
    pub(crate) shift: u32,
    pub(crate) epsilon: u64,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) header: Arc<Header>,
    manifest: EncoderManifest,
    pub(crate) specs: Vec<LinearSpec>,
    pub(crate) stages: Vec<StageParams>,
    pub(crate) norms: Vec<NormParams>,
    /// `[layers][heads]`
    pub(crate) scores: Vec<Vec<u32>>,
    pub(crate) gelu: Vec<u16>,
    pub(crate) exp: Vec<u16>,
    /// Of a head that needs it, otherwise empty.
    pub(crate) tanh: Vec<u16>,
    labels: Vec<String>,
    pub(crate) word_scale: Vec<u32>,
    pub(crate) position: Vec<i32>,
    /// Of a model whose pairs have segments, otherwise empty.
    pub(crate) segment: Vec<i32>,
    /// `[heads, 2 · max_tokens − 1]` of a model with relative positions, otherwise empty.
    pub(crate) relative: Vec<i32>,
    word: Range<usize>,
    weights: Option<Vec<Range<usize>>>,
    payload: Bytes,
    frame: Frame,
    tokenizer: Texts,
}

/// What makes pieces of texts.
#[derive(Debug)]
enum Texts {
    WordPiece(Tokenizer),
    /// `tokenizer.json`.
    Brought(Bytes),
}

/// An exact model. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Model(pub(crate) Arc<Inner>);

impl Model {
    /// Checks a whole artifact and makes it ready, weights included.
    ///
    /// # Errors
    /// [`ModelError`] naming the first parameter outside the arithmetic's bounds.
    pub fn open(artifact: &Artifact) -> Result<Self, ModelError> {
        Self::build(artifact.header().clone(), artifact.payload().clone(), true)
    }

    /// Checks and opens the local region alone: everything but the linear stages, which
    /// [`crate::EncoderRun`] hands out anyway.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_local(local: &LocalPart) -> Result<Self, ModelError> {
        Self::build(local.header.clone(), local.payload.clone(), false)
    }

    /// The model's digest.
    pub fn digest(&self) -> Hash {
        self.0.header.digest()
    }

    /// The header this model was opened from.
    pub fn header(&self) -> &Arc<Header> {
        &self.0.header
    }

    /// Its name, as its maker wrote it.
    pub fn name(&self) -> &str {
        self.0.header.manifest().name()
    }

    /// Sizes of the encoder.
    pub fn config(&self) -> &EncoderConfig {
        &self.0.manifest.encoder
    }

    /// What becomes of the last layer's rows.
    pub fn head(&self) -> &Head {
        &self.0.manifest.head
    }

    /// What it reads, and how.
    pub fn reading(&self) -> &Reading {
        &self.0.manifest.reading
    }

    /// Names of the classes if this is a text classifier, whose results are logits; otherwise there are
    /// none, and results are unit vectors.
    pub fn labels(&self) -> &[String] {
        &self.0.labels
    }

    /// Width of the residual stream, and of an embedding.
    pub fn d_model(&self) -> usize {
        self.config().d_model as usize
    }

    /// Longest sequence, special tokens included.
    pub fn max_tokens(&self) -> usize {
        usize::from(self.config().max_tokens)
    }

    /// The linear stages in order of execution.
    pub fn stages(&self) -> &[LinearSpec] {
        &self.0.specs
    }

    /// One stage.
    ///
    /// # Panics
    /// When the model has no such stage.
    pub fn stage(&self, id: StageId) -> &LinearSpec {
        &self.0.specs[usize::from(id.0)]
    }

    /// The weight of a stage, `[n, k]`, in the form that the file has; empty if the model was opened
    /// without weights.
    ///
    /// # Panics
    /// When the model has no such stage.
    pub fn weights(&self, id: StageId) -> Weight<'_> {
        let stage = usize::from(id.0);
        let range = match &self.0.weights {
            Some(ranges) => ranges[stage].clone(),
            None => 0..0,
        };
        self.0.header.layout().weight(stage, &self.0.payload[range])
    }

    /// Whether the weights are here.
    pub fn has_weights(&self) -> bool {
        self.0.weights.is_some()
    }

    /// The tokenizer, if it is WordPiece.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        match &self.0.tokenizer {
            Texts::WordPiece(tokenizer) => Some(tokenizer),
            Texts::Brought(_) => None,
        }
    }

    /// The `tokenizer.json` that the model brings instead. What it makes of a text, without special tokens,
    /// goes into [`Model::frame`].
    pub fn brought_tokenizer(&self) -> Option<&Bytes> {
        match &self.0.tokenizer {
            Texts::WordPiece(_) => None,
            Texts::Brought(json) => Some(json),
        }
    }

    /// How pieces of texts become sequences.
    pub fn frame(&self) -> &Frame {
        &self.0.frame
    }

    /// What is added to the scores of `head` for a query at `t`, by the key's position; empty without
    /// relative positions.
    pub(crate) fn relative_row(&self, head: usize, t: usize) -> &[i32] {
        if self.0.relative.is_empty() {
            return &[];
        }
        let middle = self.max_tokens() - 1;
        let start = head * (2 * middle + 1) + middle - t;
        &self.0.relative[start..start + middle + 1]
    }

    /// The word embedding row of a token, `[d_model]` of `i8`.
    pub(crate) fn word_row(&self, token: usize) -> &[i8] {
        let d = self.d_model();
        let start = self.0.word.start + token * d;
        nesa_kernels::as_i8(&self.0.payload[start..start + d])
    }

    fn build(header: Arc<Header>, payload: Bytes, weights: bool) -> Result<Self, ModelError> {
        let Manifest::Encoder(manifest) = header.manifest() else {
            let got = header.manifest().family();
            return Err(ModelError::Family { got, expected: "encoder" });
        };
        let layout = header.layout();
        let bytes = |kind, what| -> Result<&[u8], ModelError> {
            let tensor = layout.tensor(kind).ok_or(ModelError::Absent(what))?;
            payload.get(tensor.range()).ok_or(ModelError::Absent(what))
        };
        let e = &manifest.encoder;
        let layers = usize::from(e.layers);

        let mut specs = Vec::with_capacity(manifest.stages.len());
        let mut stages = Vec::with_capacity(manifest.stages.len());
        for (i, s) in manifest.stages.iter().enumerate() {
            let (k, n) = stage_shape(i, manifest);
            let part = ["qkv", "attn_out", "ffn_in", "ffn_out"][i % STAGES_PER_LAYER];
            let name = match i / STAGES_PER_LAYER {
                layer if layer < layers => format!("layer{layer}.{part}"),
                _ if i + 1 == manifest.stages.len() => "head.classes".to_owned(),
                _ => "head.hidden".to_owned(),
            };
            specs.push(LinearSpec {
                id: StageId(i as u16),
                name,
                k,
                n,
                input_bits: s.input_bits,
                row_bound_bits: s.row_bound_bits,
            });
            let multiplier = u32s(bytes(TensorKind::Multiplier(i), "multiplier")?);
            below_2_31("multiplier", &multiplier)?;
            let bias = i32s(bytes(TensorKind::Bias(i), "bias")?);
            let smooth = if s.smoothed {
                u16s(bytes(TensorKind::Smooth(i), "smoothing factor")?)
            } else {
                Vec::new()
            };
            stages.push(StageParams { multiplier, bias, smooth, shift: s.shift.into() });
        }
        let mut norms = Vec::with_capacity(manifest.norms.len());
        for (i, &NormConfig { shift, epsilon }) in manifest.norms.iter().enumerate() {
            let gain = i32s(bytes(TensorKind::NormGain(i), "norm gain")?);
            if let Some(index) = gain.iter().position(|&g| g == i32::MIN) {
                return Err(ModelError::Parameter {
                    what: "norm gain",
                    index,
                    got: i32::MIN.into(),
                    allowed: "above −2^31",
                });
            }
            let bias = i32s(bytes(TensorKind::NormBias(i), "norm bias")?);
            norms.push(NormParams { gain, bias, shift: shift.into(), epsilon: epsilon.into() });
        }
        let mut scores = Vec::with_capacity(usize::from(e.layers));
        for layer in 0..usize::from(e.layers) {
            let score = u32s(bytes(TensorKind::Score(layer), "score multiplier")?);
            below_2_31("score multiplier", &score)?;
            scores.push(score);
        }
        let gelu = u16s(bytes(TensorKind::GeluTable, "GELU table")?);
        let exp = u16s(bytes(TensorKind::ExpTable, "exponential table")?);
        check_exp_table(&exp)?;
        let (mut tanh, mut labels) = (Vec::new(), Vec::new());
        if let Some(c) = &manifest.head.classes {
            if c.tanh_entries > 0 {
                tanh = u16s(bytes(TensorKind::TanhTable, "tanh table")?);
            }
            if let Some(index) = tanh.iter().position(|&v| v > TANH_ONE) {
                let (what, got) = ("tanh table", tanh[index].into());
                return Err(ModelError::Parameter { what, index, got, allowed: "at most 2^15" });
            }
            labels = split_labels(bytes(TensorKind::Labels, "labels")?, c.classes.into())?;
        }
        let word_scale = u32s(bytes(TensorKind::WordScale, "word scale")?);
        below_2_31("word scale", &word_scale)?;
        let position = i32s(bytes(TensorKind::Position, "position embedding")?);
        let segment = match manifest.reading.segments {
            true => i32s(bytes(TensorKind::Segment, "segment embedding")?),
            false => Vec::new(),
        };
        let relative = match manifest.reading.relative {
            true => i32s(bytes(TensorKind::Relative, "relative positions")?),
            false => Vec::new(),
        };
        let word = layout.tensor(TensorKind::Word).ok_or(ModelError::Absent("words"))?.range();
        if word.end > payload.len() {
            return Err(ModelError::Absent("words"));
        }
        let (count, max_tokens) = (e.vocab as usize, usize::from(e.max_tokens));
        let (config, reading) = (&manifest.tokenizer, &manifest.reading);
        let frame = Frame::new(config, reading, count, max_tokens)?;
        let vocab = layout.tensor(TensorKind::Vocab).ok_or(ModelError::Absent("vocabulary"))?;
        let bytes_of_vocab = bytes(TensorKind::Vocab, "vocabulary")?;
        let tokenizer = match reading.brought {
            true => Texts::Brought(payload.slice(vocab.range())),
            false => {
                let words = Tokenizer::new(config, reading, bytes_of_vocab, count, max_tokens)?;
                Texts::WordPiece(words)
            }
        };

        let weights = if weights {
            let mut ranges = Vec::with_capacity(specs.len());
            for (i, spec) in specs.iter().enumerate() {
                let rows = bytes(TensorKind::Weight(i), "weight")?;
                for (first, rows) in layout.weight(i, rows).pieces(spec.k) {
                    check_rows(spec, first, &rows)?;
                }
                let tensor = layout.tensor(TensorKind::Weight(i));
                ranges.push(tensor.ok_or(ModelError::Absent("weight"))?.range());
            }
            Some(ranges)
        } else {
            None
        };
        Ok(Self(Arc::new(Inner {
            specs,
            stages,
            norms,
            scores,
            gelu,
            exp,
            tanh,
            labels,
            word_scale,
            position,
            segment,
            relative,
            word,
            weights,
            frame,
            tokenizer,
            manifest: manifest.clone(),
            header: header.clone(),
            payload: payload.clone(),
        })))
    }
}

/// One of the hyperbolic tangent's table.
const TANH_ONE: u16 = 1 << 15;

/// The names of `count` classes, each ended by a newline.
fn split_labels(bytes: &[u8], count: usize) -> Result<Vec<String>, ModelError> {
    let text = std::str::from_utf8(bytes).ok().and_then(|t| t.strip_suffix('\n'));
    let labels: Vec<String> =
        text.into_iter().flat_map(|t| t.split('\n')).map(Into::into).collect();
    if labels.len() != count {
        return Err(ModelError::Parameter {
            what: "labels",
            index: 0,
            got: labels.len() as i64,
            allowed: "a line of UTF-8 for each class",
        });
    }
    Ok(labels)
}
