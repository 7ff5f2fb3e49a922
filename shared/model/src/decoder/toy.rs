//! Small decoders with made-up weights, for tests.

use std::cell::RefCell;

use bytes::Bytes;
use nesa_primitives::Text;

use super::DecoderModel;
use crate::artifact::{Artifact, ArtifactError, HeaderError};
use crate::bounds::row_bound;
use crate::layout::{Layout, ModelLimits, TensorKind, decoder_stage_shape};
use crate::manifest::{
    DecoderConfig, DecoderManifest, Manifest, RmsNormConfig, SpecialTokens, StageConfig, WeightForm,
};
use crate::toy::SplitMix;
use crate::{Linear, PlainDecoder, StageId};

/// Shape of a made-up decoder.
#[derive(Clone, Copy, Debug)]
pub struct ToyDecoder {
    /// Width of the residual stream.
    pub d_model: u32,
    /// Width of the feed-forward layer.
    pub d_ff: u32,
    /// Query heads.
    pub heads: u16,
    /// Key and value heads.
    pub kv_heads: u16,
    /// Width of a head.
    pub head_width: u16,
    /// Layers.
    pub layers: u16,
    /// Positions a token looks back on; 0 for all.
    pub window: u32,
    /// Whether the head's weight is the embedding.
    pub tied: bool,
    /// Bits of every stage's input.
    pub input_bits: u8,
    /// Scales everything the stages put out: large values reach every clamp.
    pub loudness: u8,
    /// Seed of the weights.
    pub seed: u64,
    /// What is carried along as `tokenizer.json`.
    pub tokenizer: &'static [u8],
}

/// Tokens of a toy's vocabulary.
pub const TOY_VOCAB: u32 = 50;
/// Longest sequence of a toy.
pub const TOY_CONTEXT: u32 = 64;

impl Default for ToyDecoder {
    fn default() -> Self {
        Self {
            d_model: 32,
            d_ff: 48,
            heads: 4,
            kv_heads: 2,
            head_width: 8,
            layers: 3,
            window: 0,
            tied: false,
            input_bits: 12,
            loudness: 0,
            seed: 1,
            tokenizer: b"{}",
        }
    }
}

/// Builds a decoder of [`TOY_VOCAB`] tokens with random weights.
///
/// # Errors
/// [`ArtifactError`] when the shape is not a possible one.
pub fn artifact(toy: &ToyDecoder) -> Result<Artifact, ArtifactError> {
    artifact_of(toy, WeightForm::Bytes)
}

/// [`artifact`] with the layers' weights kept in one form or the other.
///
/// # Errors
/// As [`artifact`].
pub fn artifact_of(toy: &ToyDecoder, weights: WeightForm) -> Result<Artifact, ArtifactError> {
    let mut random = SplitMix(toy.seed);
    let config = DecoderConfig {
        vocab: TOY_VOCAB,
        d_model: toy.d_model,
        d_ff: toy.d_ff,
        heads: toy.heads,
        kv_heads: toy.kv_heads,
        head_width: toy.head_width,
        layers: toy.layers,
        max_tokens: TOY_CONTEXT,
        window: toy.window,
        embed_shift: 20,
        tied: toy.tied,
        silu_entries: 4000,
        exp_entries: 256,
        tokenizer_bytes: toy.tokenizer.len() as u32,
        template_bytes: 0,
    };
    let stage = |i: usize| StageConfig {
        input_bits: toy.input_bits,
        row_bound_bits: 31,
        shift: 50 - toy.loudness.min(18),
        smoothed: i + 1 != config.stages() && i % 2 == 1,
    };
    let mut manifest = DecoderManifest {
        name: Text::new("toy decoder").unwrap_or_default(),
        config,
        weights,
        special: SpecialTokens { start: Some(0), ends: vec![1] },
        stages: (0..config.stages()).map(stage).collect(),
        norms: vec![RmsNormConfig { epsilon: 1000 }; config.norms()],
    };
    let limits = ModelLimits::default();
    let layout = Layout::of(&Manifest::Decoder(manifest.clone()), &limits);
    let layout = layout.map_err(HeaderError::from)?;
    let mut payload = vec![0u8; layout.total_bytes];
    for tensor in &layout.tensors {
        let bytes = &mut payload[tensor.range()];
        let mut fill = |width: usize, f: &mut dyn FnMut(usize, u64) -> u64| {
            for (i, word) in bytes.chunks_exact_mut(width).enumerate() {
                word.copy_from_slice(&f(i, random.next()).to_le_bytes()[..width]);
            }
        };
        match tensor.kind {
            // Packed rows may hold any bytes.
            TensorKind::Word | TensorKind::Weight(_) => fill(1, &mut |_, r| (r % 255) ^ 0x80),
            TensorKind::WordScale | TensorKind::Score(_) => {
                fill(4, &mut |_, r| (1 << 29) + r % (1 << 28))
            }
            TensorKind::NormGain(_) => fill(4, &mut |_, r| (r as i32 >> 1) as u32 as u64),
            TensorKind::Bias(_) => fill(4, &mut |_, r| (r as i32 >> 20) as u32 as u64),
            TensorKind::Multiplier(_) => fill(4, &mut |_, r| (1 << 30) + r % (1 << 29)),
            TensorKind::Smooth(_) => fill(2, &mut |_, r| (1 << 13) + r % (1 << 14)),
            TensorKind::Frequency => fill(8, &mut |_, r| r),
            TensorKind::Cosine => fill(4, &mut |i, _| triangle(i) as u32 as u64),
            TensorKind::SiluTable => fill(2, &mut |i, _| 1100u64.saturating_sub(i as u64)),
            TensorKind::ExpTable => fill(2, &mut |i, _| (255 - i as u64) * 128),
            TensorKind::SampleTable => fill(4, &mut |i, _| match i {
                0..32 => (1 << 31) >> i,
                32..288 => (1 << 31) - ((i as u64 - 32) << 22),
                _ => (1 << 31) - ((i as u64 - 288) << 15),
            }),
            TensorKind::Tokenizer => bytes.copy_from_slice(toy.tokenizer),
            // No tensors of a decoder, or empty.
            TensorKind::Template
            | TensorKind::Vocab
            | TensorKind::Position
            | TensorKind::Segment
            | TensorKind::Relative
            | TensorKind::NormBias(_)
            | TensorKind::GeluTable
            | TensorKind::TanhTable
            | TensorKind::Labels => {}
        }
    }
    for (i, stage) in manifest.stages.iter_mut().enumerate() {
        let weight = layout.tensor(TensorKind::Weight(i));
        if let Some(tensor) = weight.or_else(|| layout.tensor(TensorKind::Word)) {
            let bytes = &payload[tensor.range()];
            let rows = match tensor.kind {
                TensorKind::Weight(stage) => layout.weight_rows(stage, bytes),
                _ => nesa_kernels::as_i8(bytes).into(),
            };
            let (k, _) = decoder_stage_shape(i, &config);
            let max = (1 << (toy.input_bits - 1)) - 1;
            let bound = rows.chunks_exact(k).map(|r| row_bound(r, max)).max();
            stage.row_bound_bits = (64 - bound.unwrap_or(1).leading_zeros()) as u8;
        }
    }
    Artifact::build(Manifest::Decoder(manifest), Bytes::from(payload))
}

/// The products of the processor, each kept as it is given: what a device should have given for the same run.
pub struct Noting<'a> {
    plain: PlainDecoder<'a>,
    products: RefCell<Vec<Vec<i32>>>,
}

impl<'a> Noting<'a> {
    /// Of a model, or of a shard of one.
    pub fn new(model: &'a DecoderModel) -> Self {
        Self { plain: PlainDecoder(model), products: RefCell::default() }
    }

    /// What was given, in the order of the run.
    pub fn into_products(self) -> Vec<Vec<i32>> {
        self.products.into_inner()
    }
}

impl Linear for Noting<'_> {
    fn apply(&self, stage: StageId, x: &[i32], tokens: usize) -> Vec<i32> {
        let y = self.plain.apply(stage, x, tokens);
        self.products.borrow_mut().push(y.clone());
        y
    }
}

/// A stand-in for the cosine without floats: straight lines between 1, −1 and 1.
fn triangle(i: usize) -> i32 {
    let fall = (i.min(4096 - i) as i64) << 20;
    ((1 << 30) - fall) as i32
}
