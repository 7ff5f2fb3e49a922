//! Small models with made-up weights, for tests of the lanes and the format.

use bytes::Bytes;
use nesa_primitives::Text;

use crate::artifact::{Artifact, ArtifactError};
use crate::bounds::row_bound;
use crate::layout::{Layout, ModelLimits, TensorKind, encoder_stage_shape};
use crate::manifest::{
    Activation, EncoderConfig, EncoderManifest, Head, Manifest, NormConfig, Reading,
    STAGES_PER_LAYER, StageConfig, TokenizerConfig, WeightForm,
};

/// Shape of a made-up model.
#[derive(Clone, Copy, Debug)]
pub struct ToyConfig {
    /// Width of the residual stream, a multiple of `heads`.
    pub d_model: u32,
    /// Width of the feed-forward layer.
    pub d_ff: u32,
    /// Attention heads.
    pub heads: u16,
    /// Layers.
    pub layers: u16,
    /// Longest sequence.
    pub max_tokens: u16,
    /// Bits of every stage's input.
    pub input_bits: u8,
    /// Seed of the weights.
    pub seed: u64,
}

impl Default for ToyConfig {
    fn default() -> Self {
        Self { d_model: 32, d_ff: 64, heads: 2, layers: 2, max_tokens: 32, input_bits: 12, seed: 1 }
    }
}

/// Builds a model of two dozen tokens (specials, letters, a few words) with random weights.
///
/// # Errors
/// [`ArtifactError`] when the shape is not a possible one.
pub fn artifact(config: &ToyConfig) -> Result<Artifact, ArtifactError> {
    artifact_with_head(config, Head::default())
}

/// [`artifact`] with a head of its own, whose sizes of labels and tables are filled in.
///
/// # Errors
/// As [`artifact`].
pub fn artifact_with_head(config: &ToyConfig, head: Head) -> Result<Artifact, ArtifactError> {
    artifact_with(config, head, Reading::default())
}

/// [`artifact_with_head`] whose weights are kept in a form.
///
/// # Errors
/// As [`artifact`].
pub fn artifact_of(
    config: &ToyConfig,
    head: Head,
    weights: WeightForm,
) -> Result<Artifact, ArtifactError> {
    build(config, head, Reading::default(), weights)
}

/// [`artifact_with_head`] with a reading of its own.
///
/// # Errors
/// As [`artifact`].
pub fn artifact_with(
    config: &ToyConfig,
    head: Head,
    reading: Reading,
) -> Result<Artifact, ArtifactError> {
    build(config, head, reading, WeightForm::Bytes)
}

fn build(
    config: &ToyConfig,
    mut head: Head,
    reading: Reading,
    weights: WeightForm,
) -> Result<Artifact, ArtifactError> {
    let mut vocab = String::from("[PAD]\n[UNK]\n[CLS]\n[SEP]\n");
    let mut count = 4u32;
    for c in 'a'..='z' {
        vocab.push_str(&format!("{c}\n##{c}\n"));
        count += 2;
    }
    if reading.brought {
        // Each word a token, as a tokenizer.json.
        let words = vocab.lines().enumerate().map(|(i, word)| format!("\"{word}\":{i}"));
        let words = words.collect::<Vec<_>>().join(",");
        vocab = format!(
            "{{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],\
             \"normalizer\":null,\"pre_tokenizer\":{{\"type\":\"WhitespaceSplit\"}},\
             \"post_processor\":null,\"decoder\":null,\"model\":{{\"type\":\"WordLevel\",\
             \"vocab\":{{{words}}},\"unk_token\":\"[UNK]\"}}}}"
        );
    }
    let mut labels = String::new();
    if let Some(c) = &mut head.classes {
        labels = (0..c.classes).map(|i| format!("class {i}\n")).collect();
        c.label_bytes = labels.len() as u32;
        c.tanh_entries = if c.hidden == Some(Activation::Tanh) { 4096 } else { 0 };
    }
    let mut random = SplitMix(config.seed);
    let layers = usize::from(config.layers);
    let stage = StageConfig {
        input_bits: config.input_bits,
        row_bound_bits: 31,
        shift: 46,
        smoothed: false,
    };
    let mut manifest = EncoderManifest {
        name: Text::new("toy").unwrap_or_default(),
        encoder: EncoderConfig {
            vocab: count,
            d_model: config.d_model,
            d_ff: config.d_ff,
            heads: config.heads,
            layers: config.layers,
            max_tokens: config.max_tokens,
            embed_shift: 20,
            gelu_entries: 1024,
            exp_entries: 256,
        },
        tokenizer: TokenizerConfig {
            vocab_bytes: vocab.len() as u32,
            unknown: 1,
            start: 2,
            end: 3,
            max_word_chars: 100,
        },
        head,
        weights,
        reading,
        stages: vec![stage; layers * STAGES_PER_LAYER + head.stages()],
        norms: vec![NormConfig { shift: 36, epsilon: 1 }; layers * 2 + 1],
    };
    let limits = ModelLimits::default();
    let layout = Layout::of(&Manifest::Encoder(manifest.clone()), &limits)
        .map_err(crate::artifact::HeaderError::from)?;
    let mut payload = vec![0u8; layout.total_bytes];
    for tensor in &layout.tensors {
        let bytes = &mut payload[tensor.range()];
        let mut words = |f: &mut dyn FnMut(usize, u64) -> u32, width: usize| {
            for (i, word) in bytes.chunks_exact_mut(width).enumerate() {
                word.copy_from_slice(&f(i, random.next()).to_le_bytes()[..width]);
            }
        };
        match tensor.kind {
            TensorKind::Word | TensorKind::Weight(_) => {
                words(&mut |_, r| (r % 255) as u32 ^ 0x80, 1)
            }
            TensorKind::WordScale | TensorKind::Score(_) => {
                words(&mut |_, r| (1 << 29) + (r % (1 << 28)) as u32, 4)
            }
            TensorKind::Position | TensorKind::Segment => {
                words(&mut |_, r| (r as i32 >> 12) as u32, 4)
            }
            TensorKind::Relative => words(&mut |_, r| (r as i32 >> 14) as u32, 4),
            TensorKind::NormGain(_) => words(&mut |_, r| (1 << 26) + (r % (1 << 25)) as u32, 4),
            TensorKind::NormBias(_) | TensorKind::Bias(_) => {
                words(&mut |_, r| (r as i32 >> 20) as u32, 4)
            }
            TensorKind::Multiplier(_) => words(&mut |_, r| (1 << 30) + (r % (1 << 29)) as u32, 4),
            TensorKind::Smooth(_) => words(&mut |_, _| 1 << 14, 2),
            TensorKind::GeluTable => words(&mut |i, _| 696u32.saturating_sub(i as u32), 2),
            TensorKind::ExpTable => words(&mut |i, _| (255 - i as u32) * 128, 2),
            TensorKind::TanhTable => words(&mut |i, _| (i as u32 * 8).min(32768), 2),
            TensorKind::Vocab => bytes.copy_from_slice(vocab.as_bytes()),
            TensorKind::Labels => bytes.copy_from_slice(labels.as_bytes()),
            // No tensors of an encoder.
            TensorKind::SiluTable
            | TensorKind::Frequency
            | TensorKind::Cosine
            | TensorKind::SampleTable
            | TensorKind::Tokenizer
            | TensorKind::Template => {}
        }
    }
    let manifest_sizes = manifest.clone();
    for (i, stage) in manifest.stages.iter_mut().enumerate() {
        if let Some(tensor) = layout.tensor(TensorKind::Weight(i)) {
            let rows = layout.weight_rows(i, &payload[tensor.range()]);
            let (k, _) = encoder_stage_shape(i, &manifest_sizes);
            let max = (1 << (config.input_bits - 1)) - 1;
            let bound = rows.chunks_exact(k).map(|r| row_bound(r, max)).max();
            stage.row_bound_bits = (64 - bound.unwrap_or(1).leading_zeros()) as u8;
        }
    }
    Artifact::build(Manifest::Encoder(manifest), Bytes::from(payload))
}

/// Sebastiano Vigna's splitmix64: enough for made-up weights, and the same everywhere.
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
