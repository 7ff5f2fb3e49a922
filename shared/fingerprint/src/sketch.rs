//! The sketch of one tensor: its largest magnitudes, where they stand and how large they are.

use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, Read, ReadExt as _, Write, varint::UInt};
use std::fmt;
use thiserror::Error as ThisError;

/// Most entries of a sketch.
pub const MAX_ENTRIES: usize = 1024;
/// Bits of the mantissa that a sketch keeps: a step is 2^-15 of the value's power of two, a hundred
/// times the noise between machines that was measured and a hundredth of what 8-bit weights change.
pub const MANTISSA_BITS: u32 = 15;
/// Bits of the exponent: all that an `f32` has.
pub const EXPONENT_BITS: u32 = 8;

const _: () = assert!(MAX_ENTRIES <= u16::MAX as usize);
const CUT: u32 = 23 - MANTISSA_BITS;
const MANTISSA: u32 = (1 << MANTISSA_BITS) - 1;
const EXPONENT: u32 = (1 << EXPONENT_BITS) - 1;
const SIGN_BIT: u32 = 1 << (MANTISSA_BITS + EXPONENT_BITS);
/// Bytes of an encoded value: sign, exponent and mantissa are 24 bits.
const VALUE_BYTES: usize = 3;

/// An `f32` cut to sign, exponent and the upper 15 bits of its mantissa.
///
/// Zeros of either sign and subnormal numbers are no values (some machines flush them); every NaN is
/// the same value, since its payload and sign are not specified.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value(u32);

impl Value {
    /// The one NaN: the largest magnitude of all.
    pub const NAN: Self = Self(EXPONENT << MANTISSA_BITS | MANTISSA);

    /// Cuts a number; `None` for zeros and subnormal numbers.
    pub fn of(value: f32) -> Option<Self> {
        if value.is_nan() {
            return Some(Self::NAN);
        }
        let bits = value.to_bits();
        let magnitude = (bits & 0x7fff_ffff) >> CUT;
        let sign = if bits >> 31 == 1 { SIGN_BIT } else { 0 };
        (magnitude >> MANTISSA_BITS != 0).then_some(Self(sign | magnitude))
    }

    /// Whether it is negative.
    pub const fn negative(self) -> bool {
        self.0 & SIGN_BIT != 0
    }

    /// The biased exponent, 1 to 255.
    pub const fn exponent(self) -> u32 {
        self.0 >> MANTISSA_BITS & EXPONENT
    }

    /// The upper bits of the mantissa, below 2^15.
    pub const fn mantissa(self) -> u32 {
        self.0 & MANTISSA
    }

    fn from_bits(bits: u32) -> Result<Self, Error> {
        let value = Self(bits);
        let infinite = value.exponent() == EXPONENT;
        if value.exponent() == 0 {
            return Err(Error::Invalid("Value", "zero or subnormal"));
        }
        if infinite && value.mantissa() != 0 && value != Self::NAN {
            return Err(Error::Invalid("Value", "a second NaN"));
        }
        Ok(value)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negative() { '-' } else { '+' };
        write!(f, "{sign}{}:{}", self.exponent(), self.mantissa())
    }
}

/// What a decoder of sketches accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Elements of a tensor.
    pub elements: u32,
    /// Entries of a sketch, at most [`MAX_ENTRIES`].
    pub entries: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { elements: 1 << 28, entries: MAX_ENTRIES as u16 }
    }
}

/// Tensors that have no sketch.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum SketchError {
    /// More elements than an index can name.
    #[error("a tensor of {got} elements, at most {} have a sketch", u32::MAX)]
    Elements {
        /// Its elements.
        got: usize,
    },
    /// No entries, or too many.
    #[error("a sketch of {got} entries, 1 to {MAX_ENTRIES} allowed")]
    Entries {
        /// Entries asked for.
        got: usize,
    },
}

/// The `k` elements of a tensor with the largest magnitudes: their places, and their values cut to
/// 24 bits. Of equal magnitudes the first in row-major order is taken; zeros never are, so a tensor
/// with fewer than `k` other elements has a shorter sketch.
///
/// TOPLOC encodes the same set as a polynomial over a prime field that passes through (index, value).
/// Whoever checks such a proof must know the indices, hence run the model. Here a client compares the
/// sketches of several replicas and has run nothing, so the places are listed: gaps between ascending
/// indices as variable-length integers and three bytes a value, together four to five bytes an entry.
/// The polynomial takes two an entry for `bfloat16` values, and would take three to four for values of 24 bits.
/// The longer mantissa is what tells `bfloat16` weights from the full ones.
#[derive(Clone, PartialEq, Eq)]
pub struct Sketch {
    elements: u32,
    entries: Vec<(u32, Value)>,
}

impl Sketch {
    /// The sketch of a tensor in row-major order, with `k` entries at most.
    ///
    /// # Errors
    /// [`SketchError`] for more elements than indices, and for a `k` that is 0 or too large.
    pub fn of(values: &[f32], k: usize) -> Result<Self, SketchError> {
        let got = values.len();
        let elements = u32::try_from(got).map_err(|_| SketchError::Elements { got })?;
        if k == 0 || k > MAX_ENTRIES {
            return Err(SketchError::Entries { got: k });
        }
        // Whole magnitudes decide the order: cut ones would make many ties.
        let order = |value: f32| {
            let bits = value.to_bits() & 0x7fff_ffff;
            if value.is_nan() { u32::MAX } else { bits }
        };
        let mut all: Vec<(u32, u32, Value)> = (0u32..)
            .zip(values)
            .filter_map(|(index, &value)| Some((order(value), index, Value::of(value)?)))
            .collect();
        let first =
            |a: &(u32, u32, Value), b: &(u32, u32, Value)| b.0.cmp(&a.0).then(a.1.cmp(&b.1));
        if all.len() > k {
            all.select_nth_unstable_by(k - 1, first);
            all.truncate(k);
        }
        let mut entries: Vec<(u32, Value)> =
            all.into_iter().map(|(_, index, value)| (index, value)).collect();
        entries.sort_unstable_by_key(|&(index, _)| index);
        Ok(Self { elements, entries })
    }

    /// Elements of the tensor.
    pub const fn elements(&self) -> u32 {
        self.elements
    }

    /// Places in row-major order, ascending, and values.
    pub fn entries(&self) -> &[(u32, Value)] {
        &self.entries
    }
}

impl fmt::Debug for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sketch({} of {} elements)", self.entries.len(), self.elements)
    }
}

/// The gaps that lead to each place.
fn gaps(entries: &[(u32, Value)]) -> impl Iterator<Item = u32> + '_ {
    let before = std::iter::once(None).chain(entries.iter().map(|&(index, _)| Some(index)));
    before.zip(entries).map(|(before, &(index, _))| match before {
        None => index,
        // Places ascend.
        Some(before) => index.wrapping_sub(before).wrapping_sub(1),
    })
}

impl Write for Sketch {
    fn write(&self, buf: &mut impl BufMut) {
        UInt(self.elements).write(buf);
        buf.put_u16(self.entries.len() as u16);
        gaps(&self.entries).for_each(|gap| UInt(gap).write(buf));
        for (_, value) in &self.entries {
            buf.put_slice(&value.0.to_be_bytes()[4 - VALUE_BYTES..]);
        }
    }
}

impl EncodeSize for Sketch {
    fn encode_size(&self) -> usize {
        let gaps: usize = gaps(&self.entries).map(|gap| UInt(gap).encode_size()).sum();
        UInt(self.elements).encode_size() + 2 + gaps + VALUE_BYTES * self.entries.len()
    }
}

impl Read for Sketch {
    type Cfg = Limits;
    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        let elements: u32 = UInt::read(buf)?.into();
        if elements > limits.elements {
            return Err(Error::Invalid("Sketch", "more elements than the limit"));
        }
        let count = u16::read(buf)?;
        if count > limits.entries || usize::from(count) > MAX_ENTRIES {
            return Err(Error::InvalidLength(count.into()));
        }
        let mut indices = Vec::with_capacity(count.into());
        let mut next = Some(0u32);
        for _ in 0..count {
            let gap: u32 = UInt::read(buf)?.into();
            let index = next.and_then(|next| next.checked_add(gap)).filter(|&i| i < elements);
            let index = index.ok_or(Error::Invalid("Sketch", "a place outside the tensor"))?;
            indices.push(index);
            next = index.checked_add(1);
        }
        let value = |index: u32, buf: &mut _| -> Result<(u32, Value), Error> {
            let [a, b, c] = <[u8; VALUE_BYTES]>::read(buf)?;
            Ok((index, Value::from_bits(u32::from_be_bytes([0, a, b, c]))?))
        };
        let entries =
            indices.into_iter().map(|index| value(index, buf)).collect::<Result<_, _>>()?;
        Ok(Self { elements, entries })
    }
}
