//! Tensors as they are exchanged between clients and nodes.

use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, RangeCfg, Read, ReadExt as _, Write, varint::UInt};
use nesa_primitives::{Text, codec_tag};
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;

/// Most dimensions.
pub const MAX_RANK: usize = 8;
/// Most tensors of a list: inputs, or outputs.
pub const MAX_TENSORS: usize = 64;

/// Types of exchanged values; others are converted to the nearest of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `f32`; also stands for `f16` and `f64`.
    F32,
    /// `i64`; also stands for all other integers.
    I64,
    /// Booleans.
    Bool,
}

codec_tag!(Kind { F32 = 0, I64 = 1, Bool = 2 });

/// Values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Floats.
    F32(Vec<f32>),
    /// Integers.
    I64(Vec<i64>),
    /// Booleans.
    Bool(Vec<bool>),
}

impl Data {
    /// Their type.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::F32(_) => Kind::F32,
            Self::I64(_) => Kind::I64,
            Self::Bool(_) => Kind::Bool,
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A named tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The name of the model's input or output.
    pub name: Text<256>,
    /// Sizes, outermost first.
    pub shape: Vec<u32>,
    /// As many values as the shape says.
    pub data: Data,
}

/// Values that are no tensor.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum TensorError {
    /// Values that do not fill their shape.
    #[error("tensor {name:?} of shape {shape:?} holds {got} values")]
    Count {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<u32>,
        /// Its values.
        got: usize,
    },
    /// Too many dimensions.
    #[error("tensor {name:?} has {got} dimensions, at most {MAX_RANK} allowed")]
    Rank {
        /// Its name.
        name: String,
        /// How many.
        got: usize,
    },
    /// A name that is too long.
    #[error("a name of {got} bytes, at most 256 allowed")]
    Name {
        /// How many.
        got: usize,
    },
}

/// What a decoder of tensors accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorLimits {
    /// Elements.
    pub elements: usize,
}

impl Tensor {
    /// A tensor whose values fill its shape.
    ///
    /// # Errors
    /// [`TensorError`] when they do not, for too many dimensions or too long a name.
    pub fn new(name: &str, shape: &[u32], data: Data) -> Result<Self, TensorError> {
        let text = Text::new(name).map_err(|_| TensorError::Name { got: name.len() })?;
        if shape.len() > MAX_RANK {
            return Err(TensorError::Rank { name: name.to_owned(), got: shape.len() });
        }
        let got = data.len();
        if volume(shape) != Some(got) {
            return Err(TensorError::Count { name: name.to_owned(), shape: shape.to_vec(), got });
        }
        Ok(Self { name: text, shape: shape.to_vec(), data })
    }

    /// Its values, if they are floats.
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(values) => Some(values),
            _ => None,
        }
    }
}

/// Elements of a shape; `None` on overflow.
pub fn volume(shape: &[u32]) -> Option<usize> {
    shape.iter().try_fold(1usize, |all, &v| all.checked_mul(usize::try_from(v).ok()?))
}

impl Write for Tensor {
    fn write(&self, buf: &mut impl BufMut) {
        self.name.write(buf);
        self.data.kind().write(buf);
        buf.put_u8(self.shape.len() as u8);
        self.shape.iter().for_each(|&v| UInt(v).write(buf));
        match &self.data {
            Data::F32(values) => values.iter().for_each(|v| buf.put_u32_le(v.to_bits())),
            Data::I64(values) => values.iter().for_each(|&v| buf.put_i64_le(v)),
            Data::Bool(values) => values.iter().for_each(|&v| buf.put_u8(v.into())),
        }
    }
}

impl EncodeSize for Tensor {
    fn encode_size(&self) -> usize {
        let shape: usize = self.shape.iter().map(|&v| UInt(v).encode_size()).sum();
        let width = match self.data.kind() {
            Kind::F32 => 4,
            Kind::I64 => 8,
            Kind::Bool => 1,
        };
        self.name.encode_size() + 2 + shape + width * self.data.len()
    }
}

impl Read for Tensor {
    type Cfg = TensorLimits;
    fn read_cfg(buf: &mut impl Buf, limits: &TensorLimits) -> Result<Self, Error> {
        let name = Text::read(buf)?;
        let kind = Kind::read(buf)?;
        let rank = usize::from(u8::read(buf)?);
        if rank > MAX_RANK {
            return Err(Error::InvalidLength(rank));
        }
        let mut shape = Vec::with_capacity(rank);
        for _ in 0..rank {
            shape.push(UInt::read(buf)?.into());
        }
        let count = volume(&shape).filter(|&count| count <= limits.elements);
        let count = count.ok_or(Error::Invalid("Tensor", "more elements than the limit"))?;
        let width = match kind {
            Kind::F32 => 4,
            Kind::I64 => 8,
            Kind::Bool => 1,
        };
        // Before anything is set aside: the values must be there.
        if buf.remaining() / width < count {
            return Err(Error::EndOfBuffer);
        }
        let data = match kind {
            Kind::F32 => Data::F32((0..count).map(|_| f32::from_bits(buf.get_u32_le())).collect()),
            Kind::I64 => Data::I64((0..count).map(|_| buf.get_i64_le()).collect()),
            Kind::Bool => {
                Data::Bool((0..count).map(|_| bool::read(buf)).collect::<Result<_, _>>()?)
            }
        };
        Ok(Self { name, shape, data })
    }
}

/// Codec limits of a list of tensors.
pub fn many(limits: TensorLimits) -> (RangeCfg<usize>, TensorLimits) {
    (RangeCfg::new(0..=MAX_TENSORS), limits)
}
