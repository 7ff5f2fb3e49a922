//! A pre-norm decoder of the Llama kind: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, Read, ReadExt, Write};

use super::{Name, STAGES_PER_LAYER, StageConfig, fixed_record};

/// Most decoder layers a manifest may name.
pub const MAX_DECODER_LAYERS: u16 = 256;

/// Most tokens that may end a text.
pub const MAX_END_TOKENS: usize = 8;

/// A decoder's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecoderManifest {
    /// Human name; the digest, not the name, identifies a model.
    pub name: Name,
    /// Sizes.
    pub config: DecoderConfig,
    /// How the layers' weights are kept; the embedding and the head keep a byte each.
    pub weights: WeightForm,
    /// Where a text begins and ends.
    pub special: SpecialTokens,
    /// Arithmetic of each linear stage: fused QKV, attention output, fused gate and up, down, for
    /// each layer; then the head.
    pub stages: Vec<StageConfig>,
    /// Arithmetic of each root-mean-square norm: before attention and before the feed-forward of
    /// each layer, then before the head.
    pub norms: Vec<RmsNormConfig>,
}

/// Sizes of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderConfig {
    /// Rows of the token embedding.
    pub vocab: u32,
    /// Width of the residual stream.
    pub d_model: u32,
    /// Width of the feed-forward layer.
    pub d_ff: u32,
    /// Query heads.
    pub heads: u16,
    /// Key and value heads; they divide `heads`.
    pub kv_heads: u16,
    /// Width of a head.
    pub head_width: u16,
    /// Layers.
    pub layers: u16,
    /// Longest sequence.
    pub max_tokens: u32,
    /// Positions a token looks back on, itself included; 0 for all.
    pub window: u32,
    /// Right shift of the token embedding's multipliers.
    pub embed_shift: u8,
    /// Whether the head's weight is the token embedding.
    pub tied: bool,
    /// Entries of the SiLU table.
    pub silu_entries: u16,
    /// Entries of the exponential table.
    pub exp_entries: u16,
    /// Bytes of the tokenizer's description.
    pub tokenizer_bytes: u32,
    /// Bytes of the chat template; 0 for none.
    pub template_bytes: u32,
}

/// How weights are kept, in a file, on the wire and in memory. What products take them for are bytes either
/// way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightForm {
    /// A byte each.
    #[default]
    Bytes,
    /// Four bits each and a multiplier for every 32, as [`nesa_kernels::nibbles`] says (manifests of
    /// versions 5 and 7).
    Nibbles,
}

/// Tokens that are no text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// What a text begins with, if anything.
    pub start: Option<u32>,
    /// What ends a text: writing stops at any of them. At most [`MAX_END_TOKENS`], the one a chat
    /// template means first.
    pub ends: Vec<u32>,
}

/// Arithmetic of one root-mean-square norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RmsNormConfig {
    /// Added to the sum of squares, in the residual stream's squared units.
    pub epsilon: u64,
}

fixed_record!(DecoderConfig {
    vocab: u32,
    d_model: u32,
    d_ff: u32,
    heads: u16,
    kv_heads: u16,
    head_width: u16,
    layers: u16,
    max_tokens: u32,
    window: u32,
    embed_shift: u8,
    tied: bool,
    silu_entries: u16,
    exp_entries: u16,
    tokenizer_bytes: u32,
    template_bytes: u32,
});
fixed_record!(RmsNormConfig { epsilon: u64 });

impl DecoderConfig {
    /// Linear stages: four per layer, then the head.
    pub fn stages(&self) -> usize {
        usize::from(self.layers) * STAGES_PER_LAYER + 1
    }

    /// Norms: two per layer, then the head's.
    pub fn norms(&self) -> usize {
        usize::from(self.layers) * 2 + 1
    }
}

impl Write for SpecialTokens {
    fn write(&self, buf: &mut impl BufMut) {
        self.start.write(buf);
        self.ends.write(buf);
    }
}

impl EncodeSize for SpecialTokens {
    fn encode_size(&self) -> usize {
        self.start.encode_size() + self.ends.encode_size()
    }
}

impl Read for SpecialTokens {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        let start = Option::read_cfg(buf, &())?;
        let ends = Vec::read_cfg(buf, &((0..=MAX_END_TOKENS).into(), ()))?;
        Ok(Self { start, ends })
    }
}

impl Write for DecoderManifest {
    fn write(&self, buf: &mut impl BufMut) {
        self.name.write(buf);
        self.config.write(buf);
        self.special.write(buf);
        self.stages.write(buf);
        self.norms.write(buf);
    }
}

impl EncodeSize for DecoderManifest {
    fn encode_size(&self) -> usize {
        self.name.encode_size()
            + self.config.encode_size()
            + self.special.encode_size()
            + self.stages.encode_size()
            + self.norms.encode_size()
    }
}

impl DecoderManifest {
    /// Reads what follows the version, which says how weights are kept.
    pub(super) fn read_fields(buf: &mut impl Buf, weights: WeightForm) -> Result<Self, Error> {
        let name = Name::read(buf)?;
        let config = DecoderConfig::read(buf)?;
        if config.layers == 0 || config.layers > MAX_DECODER_LAYERS {
            return Err(Error::Invalid("manifest", "number of layers out of range"));
        }
        let special = SpecialTokens::read(buf)?;
        let (stages, norms) = (config.stages(), config.norms());
        let stages = Vec::read_cfg(buf, &((stages..=stages).into(), ()))?;
        let norms = Vec::read_cfg(buf, &((norms..=norms).into(), ()))?;
        Ok(Self { name, config, weights, special, stages, norms })
    }
}
