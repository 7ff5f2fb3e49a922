//! What a compiled model says about itself: family, sizes, stages and their arithmetic.
//!
//! The family fixes which tensors exist and in what order, so a manifest carries sizes rather than
//! a tensor table that could lie.

mod classifier;
mod decoder;
mod encoder;

use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, Read, ReadExt, Write};
use nesa_primitives::Text;

pub use classifier::{ClassifierManifest, ImageConfig, Layer, MAX_CLASSIFIER_LAYERS, Window};
pub use decoder::{
    DecoderConfig, DecoderManifest, MAX_DECODER_LAYERS, MAX_END_TOKENS, RmsNormConfig,
    SpecialTokens, WeightForm,
};
use encoder::Form;
pub use encoder::{
    Activation, ClassesConfig, EncoderConfig, EncoderManifest, Head, MAX_LAYERS, NormConfig,
    Pooling, Reading, STAGES_PER_LAYER, TokenizerConfig,
};

/// Longest model name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// A model's description, the first part of its header. Its first two bytes, the format version,
/// name the family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// Version 1: a BERT encoder with mean pooling; version 4: with another head; version 6: with another
    /// reading; version 7: with weights of four bits.
    Encoder(EncoderManifest),
    /// Version 2: a Llama-type decoder; version 5: with weights of four bits.
    Decoder(DecoderManifest),
    /// Version 3: an image classifier.
    Classifier(ClassifierManifest),
}

/// Arithmetic of one linear stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageConfig {
    /// Bits of its signed input, 2 to 16.
    pub input_bits: u8,
    /// `|y| < 2^row_bound_bits`, at most 31.
    pub row_bound_bits: u8,
    /// Requantisation shift, 32 to 63.
    pub shift: u8,
    /// Whether the input is multiplied by a per-channel factor before it is quantised.
    pub smoothed: bool,
}

/// A struct whose codec is its fields in order, each of fixed size.
macro_rules! fixed_record {
    ($name:ident { $($field:ident: $ty:ty),* $(,)? }) => {
        impl Write for $name {
            fn write(&self, buf: &mut impl BufMut) {
                $( self.$field.write(buf); )*
            }
        }
        impl FixedSize for $name {
            const SIZE: usize = 0 $( + <$ty as FixedSize>::SIZE )*;
        }
        impl Read for $name {
            type Cfg = ();
            fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
                Ok(Self { $( $field: <$ty>::read(buf)? ),* })
            }
        }
    };
}
pub(crate) use fixed_record;

fixed_record!(StageConfig { input_bits: u8, row_bound_bits: u8, shift: u8, smoothed: bool });

impl Manifest {
    /// The model's human name; the digest, not the name, identifies a model.
    pub fn name(&self) -> &str {
        match self {
            Self::Encoder(m) => m.name.as_str(),
            Self::Decoder(m) => m.name.as_str(),
            Self::Classifier(m) => m.name.as_str(),
        }
    }

    /// What kind of model this is, in words.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Encoder(m) if m.head.classes.is_some() => "text classifier",
            Self::Encoder(_) => "encoder",
            Self::Decoder(_) => "decoder",
            Self::Classifier(_) => "classifier",
        }
    }

    /// Arithmetic of each linear stage, in order of execution.
    pub fn stages(&self) -> &[StageConfig] {
        match self {
            Self::Encoder(m) => &m.stages,
            Self::Decoder(m) => &m.stages,
            Self::Classifier(m) => &m.stages,
        }
    }

    /// Whether texts become vectors: an encoder without classes.
    pub fn embeds(&self) -> bool {
        self.encoder().is_some_and(|encoder| encoder.head.classes.is_none())
    }

    /// The encoder's description, if it is one; also of an encoder whose head has classes.
    pub fn encoder(&self) -> Option<&EncoderManifest> {
        match self {
            Self::Encoder(m) => Some(m),
            _ => None,
        }
    }

    /// The decoder's description, if it is one.
    pub fn decoder(&self) -> Option<&DecoderManifest> {
        match self {
            Self::Decoder(m) => Some(m),
            _ => None,
        }
    }

    /// The classifier's description, if it is one.
    pub fn classifier(&self) -> Option<&ClassifierManifest> {
        match self {
            Self::Classifier(m) => Some(m),
            _ => None,
        }
    }
}

const ENCODER_VERSION: u16 = 1;
const DECODER_VERSION: u16 = 2;
const CLASSIFIER_VERSION: u16 = 3;
const HEADED_ENCODER_VERSION: u16 = 4;
const NIBBLE_DECODER_VERSION: u16 = 5;
const READING_ENCODER_VERSION: u16 = 6;
const NIBBLE_ENCODER_VERSION: u16 = 7;

impl Manifest {
    /// The format version: what a manifest begins with.
    pub fn version(&self) -> u16 {
        match self {
            Self::Encoder(m) => match Form::of(m) {
                Form::Plain => ENCODER_VERSION,
                Form::Headed => HEADED_ENCODER_VERSION,
                Form::Reading => READING_ENCODER_VERSION,
                Form::Nibbles => NIBBLE_ENCODER_VERSION,
            },
            Self::Decoder(m) => match m.weights {
                WeightForm::Bytes => DECODER_VERSION,
                WeightForm::Nibbles => NIBBLE_DECODER_VERSION,
            },
            Self::Classifier(_) => CLASSIFIER_VERSION,
        }
    }
}

impl Write for Manifest {
    fn write(&self, buf: &mut impl BufMut) {
        self.version().write(buf);
        match self {
            Self::Encoder(m) => m.write(buf),
            Self::Decoder(m) => m.write(buf),
            Self::Classifier(m) => m.write(buf),
        }
    }
}

impl EncodeSize for Manifest {
    fn encode_size(&self) -> usize {
        u16::SIZE
            + match self {
                Self::Encoder(m) => m.encode_size(),
                Self::Decoder(m) => m.encode_size(),
                Self::Classifier(m) => m.encode_size(),
            }
    }
}

impl Read for Manifest {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        match u16::read(buf)? {
            ENCODER_VERSION => Ok(Self::Encoder(EncoderManifest::read_fields(buf, Form::Plain)?)),
            HEADED_ENCODER_VERSION => {
                Ok(Self::Encoder(EncoderManifest::read_fields(buf, Form::Headed)?))
            }
            READING_ENCODER_VERSION => {
                Ok(Self::Encoder(EncoderManifest::read_fields(buf, Form::Reading)?))
            }
            NIBBLE_ENCODER_VERSION => {
                Ok(Self::Encoder(EncoderManifest::read_fields(buf, Form::Nibbles)?))
            }
            DECODER_VERSION => {
                Ok(Self::Decoder(DecoderManifest::read_fields(buf, WeightForm::Bytes)?))
            }
            NIBBLE_DECODER_VERSION => {
                Ok(Self::Decoder(DecoderManifest::read_fields(buf, WeightForm::Nibbles)?))
            }
            CLASSIFIER_VERSION => Ok(Self::Classifier(ClassifierManifest::read(buf)?)),
            _ => Err(Error::Invalid("manifest", "unknown format version")),
        }
    }
}

/// A name, as the families write it.
pub(crate) type Name = Text<MAX_NAME_BYTES>;
