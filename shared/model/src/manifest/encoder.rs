//! A post-norm BERT encoder with a WordPiece tokenizer, and what becomes of its last rows.

use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, Read, ReadExt, Write};

use super::{Name, StageConfig, WeightForm, fixed_record};

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
    /// What becomes of the last layer's rows.
    pub head: Head,
    /// How the weights of the layers are kept; those of a head are bytes.
    pub weights: WeightForm,
    /// What else the model reads, and how.
    pub reading: Reading,
    /// Arithmetic of each linear stage, [`STAGES_PER_LAYER`] per layer, then the head's.
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

/// What becomes of the rows of the last layer. The default, the mean as a unit vector, is a manifest of
/// version 1; any other one of version 4, or of version 6 if the [`Reading`] is another too. Version 7, of
/// weights of four bits, has any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// How the rows become one.
    pub pooling: Pooling,
    /// How that becomes the logits of classes; without it, it is made a unit vector.
    pub classes: Option<ClassesConfig>,
}

/// What a model reads besides uncased single texts with absolute positions. The default is nothing else,
/// as in manifests of versions 1 and 4; any other is of version 6, or of version 7 with weights of four bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Whether case and accents stay as they are.
    pub cased: bool,
    /// `end` tokens between the texts of a pair, at most 2; without any, the model reads no pairs.
    pub separators: u8,
    /// Whether the tokens of a pair's second text have a segment embedding of their own.
    pub segments: bool,
    /// Whether scores of attention have a bias by how far apart two tokens are.
    pub relative: bool,
    /// Whether a `tokenizer.json` of the model's own, in place of a WordPiece vocabulary, makes the pieces of
    /// texts.
    pub brought: bool,
}

/// How the rows of a text become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// The first, that of `[CLS]`.
    First,
    /// The greatest of each channel.
    Greatest,
}

/// A text classifier's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassesConfig {
    /// How many classes.
    pub classes: u16,
    /// What follows a dense stage of `[d_model, d_model]` before the classifier's own; without it, there
    /// is no such stage.
    pub hidden: Option<Activation>,
    /// Entries of the hyperbolic tangent's table; 0 if it is not used.
    pub tanh_entries: u16,
    /// Bytes of the labels: in order of the classes, each ended by a newline.
    pub label_bytes: u32,
}

/// An activation of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The hyperbolic tangent (BERT).
    Tanh,
    /// `max(h, 0)` (DistilBERT).
    Relu,
}

/// WordPiece parameters (BERT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenizerConfig {
    /// Bytes of the vocabulary, tokens in index order, each ended by a newline; or of `tokenizer.json`.
    pub vocab_bytes: u32,
    /// Index of `[UNK]`.
    pub unknown: u32,
    /// Index of `[CLS]`, or what begins a text instead.
    pub start: u32,
    /// Index of `[SEP]`, or what ends one.
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

impl Head {
    /// Linear stages of the head.
    pub fn stages(&self) -> usize {
        self.classes.map_or(0, |c| 1 + usize::from(c.hidden.is_some()))
    }

    /// Whether a manifest of version 1 says the same.
    pub(super) fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// What version 4 says of a head.
struct RawHead {
    pooling: u8,
    classes: u16,
    hidden: u8,
    tanh_entries: u16,
    label_bytes: u32,
}

fixed_record!(RawHead {
    pooling: u8,
    classes: u16,
    hidden: u8,
    tanh_entries: u16,
    label_bytes: u32,
});

impl From<&Head> for RawHead {
    fn from(head: &Head) -> Self {
        let pooling = match head.pooling {
            Pooling::Mean => 0,
            Pooling::First => 1,
            Pooling::Greatest => 2,
        };
        let (classes, hidden) = match head.classes {
            None => (0, 0),
            Some(c) => match c.hidden {
                None => (c.classes, 0),
                Some(Activation::Tanh) => (c.classes, 1),
                Some(Activation::Relu) => (c.classes, 2),
            },
        };
        let tanh_entries = head.classes.map_or(0, |c| c.tanh_entries);
        let label_bytes = head.classes.map_or(0, |c| c.label_bytes);
        Self { pooling, classes, hidden, tanh_entries, label_bytes }
    }
}

impl TryFrom<RawHead> for Head {
    type Error = Error;
    fn try_from(raw: RawHead) -> Result<Self, Error> {
        let pooling = match raw.pooling {
            0 => Pooling::Mean,
            1 => Pooling::First,
            2 => Pooling::Greatest,
            _ => return Err(Error::Invalid("manifest", "unknown pooling")),
        };
        let hidden = match raw.hidden {
            0 => None,
            1 => Some(Activation::Tanh),
            2 => Some(Activation::Relu),
            _ => return Err(Error::Invalid("manifest", "unknown activation of the head")),
        };
        let RawHead { classes, tanh_entries, label_bytes, .. } = raw;
        let of_classes = ClassesConfig { classes, hidden, tanh_entries, label_bytes };
        let head = Self { pooling, classes: (classes > 0).then_some(of_classes) };
        let stray = classes == 0 && (hidden.is_some() || tanh_entries > 0 || label_bytes > 0);
        if stray || (hidden == Some(Activation::Tanh)) != (tanh_entries > 0) {
            return Err(Error::Invalid("manifest", "parts of a head that it does not use"));
        }
        Ok(head)
    }
}

/// Most separators of a pair.
const MAX_SEPARATORS: u8 = 2;

impl Reading {
    /// Whether a manifest of version 1 or 4 says the same.
    pub(super) fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Whether pairs of texts are read.
    pub fn pairs(&self) -> bool {
        self.separators > 0
    }
}

fixed_record!(Reading {
    cased: bool,
    separators: u8,
    segments: bool,
    relative: bool,
    brought: bool
});

impl Reading {
    fn checked(self) -> Result<Self, Error> {
        if self.separators > MAX_SEPARATORS || (self.segments && !self.pairs()) {
            return Err(Error::Invalid("manifest", "segments or separators of no pair"));
        }
        if self.cased && self.brought {
            return Err(Error::Invalid("manifest", "the case of a tokenizer of its own"));
        }
        Ok(self)
    }
}

impl Write for EncoderManifest {
    fn write(&self, buf: &mut impl BufMut) {
        self.name.write(buf);
        self.encoder.write(buf);
        self.tokenizer.write(buf);
        let form = Form::of(self);
        if form != Form::Plain {
            RawHead::from(&self.head).write(buf);
        }
        if matches!(form, Form::Reading | Form::Nibbles) {
            self.reading.write(buf);
        }
        self.stages.write(buf);
        self.norms.write(buf);
    }
}

impl EncodeSize for EncoderManifest {
    fn encode_size(&self) -> usize {
        let more = match Form::of(self) {
            Form::Plain => 0,
            Form::Headed => RawHead::SIZE,
            Form::Reading | Form::Nibbles => RawHead::SIZE + Reading::SIZE,
        };
        self.name.encode_size()
            + self.encoder.encode_size()
            + self.tokenizer.encode_size()
            + more
            + self.stages.encode_size()
            + self.norms.encode_size()
    }
}

/// Which fields an encoder's manifest has; each form has those of the one before and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Version 1.
    Plain,
    /// Version 4: a head.
    Headed,
    /// Version 6: a reading.
    Reading,
    /// Version 7: a reading, whatever it is, and weights of four bits.
    Nibbles,
}

impl Form {
    /// The one that says just what there is to say.
    pub(super) fn of(manifest: &EncoderManifest) -> Self {
        if manifest.weights == WeightForm::Nibbles {
            return Self::Nibbles;
        }
        match (manifest.reading.is_plain(), manifest.head.is_plain()) {
            (true, true) => Self::Plain,
            (true, false) => Self::Headed,
            (false, _) => Self::Reading,
        }
    }
}

impl EncoderManifest {
    /// Reads the fields of a form.
    pub(super) fn read_fields(buf: &mut impl Buf, form: Form) -> Result<Self, Error> {
        let name = Name::read(buf)?;
        let encoder = EncoderConfig::read(buf)?;
        let tokenizer = TokenizerConfig::read(buf)?;
        let head = match form {
            Form::Plain => Head::default(),
            Form::Headed | Form::Reading | Form::Nibbles => RawHead::read(buf)?.try_into()?,
        };
        if form == Form::Headed && head.is_plain() {
            return Err(Error::Invalid("manifest", "a plain encoder is of version 1"));
        }
        let reading = match form {
            Form::Plain | Form::Headed => Reading::default(),
            Form::Reading | Form::Nibbles => Reading::read(buf)?.checked()?,
        };
        if form == Form::Reading && reading.is_plain() {
            return Err(Error::Invalid("manifest", "a reading that versions 1 and 4 have"));
        }
        let weights = match form {
            Form::Nibbles => WeightForm::Nibbles,
            Form::Plain | Form::Headed | Form::Reading => WeightForm::Bytes,
        };
        if encoder.layers == 0 || encoder.layers > MAX_LAYERS {
            return Err(Error::Invalid("manifest", "number of layers out of range"));
        }
        let layers = usize::from(encoder.layers);
        let stages = layers * STAGES_PER_LAYER + head.stages();
        let norms = layers * 2 + 1;
        let stages = Vec::read_cfg(buf, &((stages..=stages).into(), ()))?;
        let norms = Vec::read_cfg(buf, &((norms..=norms).into(), ()))?;
        Ok(Self { name, encoder, tokenizer, head, weights, reading, stages, norms })
    }
}
