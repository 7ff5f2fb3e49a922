//! A decoder ready to run: checked parameters behind a cheap handle.

use bytes::Bytes;
use nesa_kernels::Weight;
use nesa_kernels::decoder::GAIN_LIMIT;
use nesa_kernels::rotary::COSINE_ENTRIES;
use nesa_kernels::sample::SAMPLE_TABLE_ENTRIES;
use nesa_primitives::Hash;
use std::ops::Range;
use std::sync::Arc;

use super::shard::{Shard, Tensors};
use crate::artifact::{Artifact, Header, LocalPart};
use crate::bounds::check_rows;
use crate::layout::{TensorKind, decoder_stage_shape};
use crate::manifest::{
    DecoderConfig, DecoderManifest, Manifest, STAGES_PER_LAYER, SpecialTokens, StageConfig,
};
use crate::model::StageParams;
use crate::parameters::{below_2_31, check_exp_table, i32s, u16s, u32s, u64s, within};
use crate::{LinearSpec, ModelError, StageId};

/// What the runs of one layer need beside its weights.
#[derive(Debug)]
pub(super) struct LayerParams {
    pub(super) attention_gain: Vec<i32>,
    pub(super) attention_epsilon: u64,
    pub(super) ffn_gain: Vec<i32>,
    pub(super) ffn_epsilon: u64,
    /// `[heads]`
    pub(super) scores: Vec<u32>,
}

/// What the last shard needs to give logits.
#[derive(Debug)]
pub(super) struct HeadParams {
    pub(super) gain: Vec<i32>,
    pub(super) epsilon: u64,
    sample: Box<[u32; SAMPLE_TABLE_ENTRIES]>,
}

/// What the first shard needs to take tokens.
#[derive(Debug)]
pub(super) struct Embeddings {
    word: Bytes,
    scale: Vec<u32>,
}

#[derive(Debug)]
struct Inner {
    header: Arc<Header>,
    config: DecoderConfig,
    special: SpecialTokens,
    layers: Range<usize>,
    specs: Vec<LinearSpec>,
    /// By stage, from the first of `layers`.
    stages: Vec<StageParams>,
    weights: Option<Vec<Bytes>>,
    params: Vec<LayerParams>,
    embeddings: Option<Embeddings>,
    head: Option<HeadParams>,
    frequency: Vec<u64>,
    cosine: Box<[i32; COSINE_ENTRIES]>,
    silu: Vec<u16>,
    exp: Vec<u16>,
    tokenizer: Option<Bytes>,
    template: Option<Bytes>,
}

/// An exact decoder, or a contiguous range of its layers. Cloning shares it.
#[derive(Clone, Debug)]
pub struct DecoderModel(Arc<Inner>);

impl DecoderModel {
    /// Checks a whole artifact and makes it ready.
    ///
    /// # Errors
    /// [`ModelError`] naming the first parameter outside the arithmetic's bounds.
    pub fn open(artifact: &Artifact) -> Result<Self, ModelError> {
        Self::build(artifact, None, true)
    }

    /// Checks and opens the local region alone: everything but the linear stages, which
    /// [`super::DecoderRun`] hands out anyway.
    ///
    /// # Errors
    /// As [`DecoderModel::open`].
    pub fn open_local(local: &LocalPart) -> Result<Self, ModelError> {
        Self::build(local, None, false)
    }

    /// Checks and opens a shard, complete with its weights.
    ///
    /// # Errors
    /// [`ModelError::Absent`] while pieces are missing, else as [`DecoderModel::open`].
    pub fn open_shard(shard: &Shard) -> Result<Self, ModelError> {
        Self::build(shard, Some(shard.layers()), true)
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

    /// Sizes.
    pub fn config(&self) -> &DecoderConfig {
        &self.0.config
    }

    /// Tokens that begin and end a text.
    pub fn special(&self) -> &SpecialTokens {
        &self.0.special
    }

    /// The layers that are here.
    pub fn layers(&self) -> Range<usize> {
        self.0.layers.clone()
    }

    /// Whether the token embedding is here: runs take tokens.
    pub fn takes_tokens(&self) -> bool {
        self.0.embeddings.is_some()
    }

    /// Whether the head is here: runs give logits.
    pub fn gives_logits(&self) -> bool {
        self.0.head.is_some()
    }

    /// All linear stages of the model in order of execution, whether here or not.
    pub fn stages(&self) -> &[LinearSpec] {
        &self.0.specs
    }

    /// The stages that need weights from beyond the local region: all but a tied head.
    pub fn served_stages(&self) -> &[LinearSpec] {
        let tied = usize::from(self.0.config.tied);
        &self.0.specs[..self.0.specs.len() - tied]
    }

    /// The head's weight, `[vocab, d_model]` row-major, where it is the token embedding and that is here.
    pub fn tied_head(&self) -> Option<Weight<'_>> {
        let words = self.0.embeddings.as_ref().filter(|_| self.0.config.tied)?;
        Some(Weight::Bytes(nesa_kernels::as_i8(&words.word)))
    }

    /// The weight of a stage, `[n, k]`, in the form that the file has; empty if it is not here.
    pub fn weights(&self, id: StageId) -> Weight<'_> {
        let stage = usize::from(id.0);
        let at = stage.checked_sub(self.first_stage());
        let weight = self.0.weights.as_ref().zip(at).and_then(|(w, at)| w.get(at));
        weight.map_or(Weight::Bytes(&[]), |w| self.0.header.layout().weight(stage, w))
    }

    /// Whether the weights are here.
    pub fn has_weights(&self) -> bool {
        self.0.weights.is_some()
    }

    /// The model's `tokenizer.json`, unless this is a shard.
    pub fn tokenizer(&self) -> Option<&Bytes> {
        self.0.tokenizer.as_ref()
    }

    /// The model's chat template, if it has one and this is no shard.
    pub fn template(&self) -> Option<&Bytes> {
        self.0.template.as_ref()
    }

    /// Powers of e for [`super::choose`], where the head is.
    pub fn sample_table(&self) -> Option<&[u32; SAMPLE_TABLE_ENTRIES]> {
        self.0.head.as_ref().map(|h| &*h.sample)
    }

    pub(super) fn first_stage(&self) -> usize {
        self.0.layers.start * STAGES_PER_LAYER
    }

    pub(super) fn stage(&self, index: usize) -> &StageParams {
        &self.0.stages[index - self.first_stage()]
    }

    pub(super) fn layer(&self, index: usize) -> &LayerParams {
        &self.0.params[index - self.0.layers.start]
    }

    pub(super) fn head(&self) -> Option<&HeadParams> {
        self.0.head.as_ref()
    }

    pub(super) fn frequency(&self) -> &[u64] {
        &self.0.frequency
    }

    pub(super) fn cosine(&self) -> &[i32; COSINE_ENTRIES] {
        &self.0.cosine
    }

    pub(super) fn silu(&self) -> &[u16] {
        &self.0.silu
    }

    pub(super) fn exp(&self) -> &[u16] {
        &self.0.exp
    }

    /// The embedding row of a token, `[d_model]`, and its multiplier.
    pub(super) fn word(&self, token: usize) -> Option<(&[i8], u32)> {
        let d = self.0.config.d_model as usize;
        let e = self.0.embeddings.as_ref()?;
        let row = e.word.get(token * d..(token + 1) * d)?;
        Some((nesa_kernels::as_i8(row), *e.scale.get(token)?))
    }

    fn build(
        source: &impl Tensors,
        layers: Option<Range<usize>>,
        with_weights: bool,
    ) -> Result<Self, ModelError> {
        let header = source.header().clone();
        let Manifest::Decoder(manifest) = header.manifest() else {
            let got = header.manifest().family();
            return Err(ModelError::Family { got, expected: "decoder" });
        };
        let c = manifest.config;
        let is_shard = layers.is_some();
        let layers = layers.unwrap_or(0..usize::from(c.layers));
        let is_last = layers.end == usize::from(c.layers);
        let get = |kind, what| {
            let tensor = header.layout().tensor(kind).ok_or(ModelError::Absent(what))?;
            source.get(tensor).ok_or(ModelError::Absent(what))
        };

        let specs = specs(manifest);
        let here =
            layers.start * STAGES_PER_LAYER..layers.end * STAGES_PER_LAYER + usize::from(is_last);
        let mut stages = Vec::new();
        let mut weights = Vec::new();
        for i in here {
            let multiplier = u32s(&get(TensorKind::Multiplier(i), "multiplier")?);
            below_2_31("multiplier", &multiplier)?;
            let bias = i32s(&get(TensorKind::Bias(i), "bias")?);
            let smooth = if manifest.stages[i].smoothed {
                u16s(&get(TensorKind::Smooth(i), "smoothing factor")?)
            } else {
                Vec::new()
            };
            let shift = manifest.stages[i].shift.into();
            stages.push(StageParams { multiplier, bias, smooth, shift });
            if with_weights {
                let tied = c.tied && i + 1 == c.stages();
                let kind = if tied { TensorKind::Word } else { TensorKind::Weight(i) };
                let weight = get(kind, "weight")?;
                for (first, rows) in header.layout().weight(i, &weight).pieces(specs[i].k) {
                    check_rows(&specs[i], first, &rows)?;
                }
                weights.push(weight);
            }
        }

        let gain = |norm| -> Result<Vec<i32>, ModelError> {
            let gain = i32s(&get(TensorKind::NormGain(norm), "norm gain")?);
            within("norm gain", &gain, GAIN_LIMIT, "−2^30 to 2^30")?;
            Ok(gain)
        };
        let mut params = Vec::new();
        for layer in layers.clone() {
            let scores = u32s(&get(TensorKind::Score(layer), "score multiplier")?);
            below_2_31("score multiplier", &scores)?;
            params.push(LayerParams {
                attention_gain: gain(2 * layer)?,
                attention_epsilon: manifest.norms[2 * layer].epsilon,
                ffn_gain: gain(2 * layer + 1)?,
                ffn_epsilon: manifest.norms[2 * layer + 1].epsilon,
                scores,
            });
        }
        let head = if is_last {
            let last = c.norms() - 1;
            let sample = u32s(&get(TensorKind::SampleTable, "sampling table")?);
            let gain = gain(last)?;
            let epsilon = manifest.norms[last].epsilon;
            Some(HeadParams { gain, epsilon, sample: sample_table(sample)? })
        } else {
            None
        };
        let embeddings = if layers.start == 0 {
            let scale = u32s(&get(TensorKind::WordScale, "word scale")?);
            below_2_31("word scale", &scale)?;
            Some(Embeddings { word: get(TensorKind::Word, "words")?, scale })
        } else {
            None
        };
        let cosine = i32s(&get(TensorKind::Cosine, "cosine table")?);
        within("cosine table", &cosine, 1 << 30, "−2^30 to 2^30")?;
        let cosine = cosine.into_boxed_slice().try_into();
        let cosine = cosine.map_err(|_| ModelError::Absent("cosine table"))?;
        let exp = u16s(&get(TensorKind::ExpTable, "exponential table")?);
        check_exp_table(&exp)?;
        let (tokenizer, template) = if is_shard {
            (None, None)
        } else {
            let template = get(TensorKind::Template, "chat template")?;
            let template = Some(template).filter(|t| !t.is_empty());
            (Some(get(TensorKind::Tokenizer, "tokenizer")?), template)
        };
        Ok(Self(Arc::new(Inner {
            config: c,
            special: manifest.special.clone(),
            layers,
            specs,
            stages,
            weights: with_weights.then_some(weights),
            params,
            embeddings,
            head,
            frequency: u64s(&get(TensorKind::Frequency, "rotary frequency")?),
            cosine,
            silu: u16s(&get(TensorKind::SiluTable, "SiLU table")?),
            exp,
            tokenizer,
            template,
            header: header.clone(),
        })))
    }
}

fn specs(manifest: &DecoderManifest) -> Vec<LinearSpec> {
    let c = &manifest.config;
    let spec = |(i, s): (usize, &StageConfig)| {
        let (k, n) = decoder_stage_shape(i, c);
        let part = ["qkv", "attn_out", "gate_up", "down"][i % STAGES_PER_LAYER];
        let name = match i / STAGES_PER_LAYER {
            layer if layer < usize::from(c.layers) => format!("layer{layer}.{part}"),
            _ => "head".to_owned(),
        };
        let (input_bits, row_bound_bits) = (s.input_bits, s.row_bound_bits);
        LinearSpec { id: StageId(i as u16), name, k, n, input_bits, row_bound_bits }
    };
    manifest.stages.iter().enumerate().map(spec).collect()
}

/// [`DecoderModel::served_stages`] of a decoder that is not opened yet.
pub fn served_stages(manifest: &DecoderManifest) -> Vec<LinearSpec> {
    let mut specs = specs(manifest);
    specs.truncate(specs.len() - usize::from(manifest.config.tied));
    specs
}

/// Each part starts with one and never rises: that bounds the sum of the weights of 2^20 candidates.
fn sample_table(table: Vec<u32>) -> Result<Box<[u32; SAMPLE_TABLE_ENTRIES]>, ModelError> {
    let what = "sampling table";
    for part in [0..32, 32..288, 288..SAMPLE_TABLE_ENTRIES] {
        let mut limit = 1u32 << 31;
        for index in part.clone() {
            let got = table.get(index).copied().unwrap_or(0);
            if got > limit || index == part.start && got != limit {
                let got = got.into();
                let allowed = "2^31 at the start of each part, never rising";
                return Err(ModelError::Parameter { what, index, got, allowed });
            }
            limit = got;
        }
    }
    table.into_boxed_slice().try_into().map_err(|_| ModelError::Absent(what))
}
