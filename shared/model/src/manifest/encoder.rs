//! A post-norm BERT encoder with mean pooling and a WordPiece tokenizer.

use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, Read, ReadExt, Write};

use super::{Name, StageConfig, fixed_record};

/// Most encoder layers a manifest may name.
pub const MAX_LAYERS: u16 = 128;
/// Linear stages per encoder layer: fused QKV, attention output, feed-forward in, feed-forward out.
pub const STAGES_PER_LAYER: usize = 4;

/// An encoder's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderManifest {
    /// Human name; the digest, not the name, identifies a model.
    pub name: Name,
    /// Sizes of the encoder.
    pub encoder: EncoderConfig,
    /// How text becomes tokens.
    pub tokenizer: TokenizerConfig,
    /// Arithmetic of each linear stage, [`STAGES_PER_LAYER`] per layer.
    pub stages: Vec<StageConfig>,
    /// Arithmetic of each layer normalisation: the embedding's, then two per layer.
    pub norms: Vec<NormConfig>,
}

/// Sizes of a BERT encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderConfig {
    /// Rows of the word embedding.
    pub vocab: u32,
    /// Width of the residual stream.
    pub d_model: u32,
    /// Width of the feed-forward layer.
    pub d_ff: u32,
    /// Attention heads; they divide `d_model`.
    pub heads: u16,
    /// Encoder layers.
    pub layers: u16,
    /// Longest sequence, special tokens included.
    pub max_tokens: u16,
    /// Right shift of the word embedding's multipliers.
    pub embed_shift: u8,
    /// Entries of the GELU table.
    pub gelu_entries: u16,
    /// Entries of the exponential table.
    pub exp_entries: u16,
}

/// WordPiece parameters (BERT, uncased).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenizerConfig {
    /// Bytes of the vocabulary: tokens in index order, each ended by a newline.
    pub vocab_bytes: u32,
    /// Index of `[UNK]`.
    pub unknown: u32,
    /// Index of `[CLS]`.
    pub start: u32,
    /// Index of `[SEP]`.
    pub end: u32,
    /// Words of more characters than this become `[UNK]`.
    pub max_word_chars: u16,
}

/// Arithmetic of one layer normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormConfig {
    /// Right shift of `t · gain`, 1 to 62.
    pub shift: u8,
    /// Added to the sum of squares, in the input's squared units.
    pub epsilon: u32,
}

fixed_record!(EncoderConfig {
    vocab: u32,
    d_model: u32,
    d_ff: u32,
    heads: u16,
    layers: u16,
    max_tokens: u16,
    embed_shift: u8,
    gelu_entries: u16,
    exp_entries: u16,
});
fixed_record!(TokenizerConfig {
    vocab_bytes: u32,
    unknown: u32,
    start: u32,
    end: u32,
    max_word_chars: u16,
});
fixed_record!(NormConfig { shift: u8, epsilon: u32 });

impl Write for EncoderManifest {
    fn write(&self, buf: &mut impl BufMut) {
        self.name.write(buf);
        self.encoder.write(buf);
        self.tokenizer.write(buf);
        self.stages.write(buf);
        self.norms.write(buf);
    }
}

impl EncodeSize for EncoderManifest {
    fn encode_size(&self) -> usize {
        self.name.encode_size()
            + self.encoder.encode_size()
            + self.tokenizer.encode_size()
            + self.stages.encode_size()
            + self.norms.encode_size()
    }
}

impl Read for EncoderManifest {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        let name = Name::read(buf)?;
        let encoder = EncoderConfig::read(buf)?;
        let tokenizer = TokenizerConfig::read(buf)?;
        if encoder.layers == 0 || encoder.layers > MAX_LAYERS {
            return Err(Error::Invalid("manifest", "number of layers out of range"));
        }
        let layers = usize::from(encoder.layers);
        let stages = layers * STAGES_PER_LAYER;
        let norms = layers * 2 + 1;
        let stages = Vec::read_cfg(buf, &((stages..=stages).into(), ()))?;
        let norms = Vec::read_cfg(buf, &((norms..=norms).into(), ()))?;
        Ok(Self { name, encoder, tokenizer, stages, norms })
    }
}
