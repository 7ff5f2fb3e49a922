//! Exact decoding, and a macro for the codec of plain structs.

use commonware_codec::{Copying, Decode, Encode, Error};
use thiserror::Error as ThisError;

/// Why bytes were refused.
#[derive(Debug, ThisError)]
pub enum DecodeError {
    /// They are no encoding within the limits given, or bytes were left over.
    #[error("malformed: {0}")]
    Malformed(#[from] Error),
    /// They decode, but to a value that encodes to other bytes.
    #[error("not the canonical encoding: {got} bytes given, the canonical form has {expected}")]
    NotCanonical {
        /// Length of the bytes given.
        got: usize,
        /// Length of the canonical encoding.
        expected: usize,
    },
}

/// Decodes all of `bytes` within the limits `cfg`, and insists that they are the one canonical
/// encoding of what they decode to.
///
/// A value therefore has one hash, and a signature covers one byte string.
///
/// # Errors
/// [`DecodeError`] for malformed, truncated, trailing, over-long or non-canonical bytes.
pub fn decode_exact<T: Decode + Encode>(bytes: &[u8], cfg: &T::Cfg) -> Result<T, DecodeError> {
    let value = T::decode_cfg(Copying(bytes), cfg)?;
    let canonical = value.encode();
    if canonical != bytes {
        return Err(DecodeError::NotCanonical { got: bytes.len(), expected: canonical.len() });
    }
    Ok(value)
}

/// Implements `Write`, `EncodeSize` and `Read<Cfg = ()>` for a struct, field by field in the order
/// given. A field whose type needs limits names them: `field: limits`.
///
/// ```
/// use commonware_codec::RangeCfg;
/// struct Pair { left: u64, right: Vec<u8> }
/// nesa_primitives::codec_struct!(Pair { left, right: (RangeCfg::new(0..=16), ()) });
/// ```
#[macro_export]
macro_rules! codec_struct {
    ($name:ty { $($field:ident $(: $cfg:expr)?),* $(,)? }) => {
        impl $crate::__codec::Write for $name {
            fn write(&self, buf: &mut impl $crate::__bytes::BufMut) {
                $( $crate::__codec::Write::write(&self.$field, buf); )*
            }
        }
        impl $crate::__codec::EncodeSize for $name {
            fn encode_size(&self) -> usize {
                0 $( + $crate::__codec::EncodeSize::encode_size(&self.$field) )*
            }
        }
        impl $crate::__codec::Read for $name {
            type Cfg = ();
            fn read_cfg(
                buf: &mut impl $crate::__codec::Buf,
                _: &(),
            ) -> Result<Self, $crate::__codec::Error> {
                $( let $field = $crate::__codec::Read::read_cfg(buf, &$crate::codec_struct!(@cfg $($cfg)?))?; )*
                Ok(Self { $($field),* })
            }
        }
    };
    (@cfg) => { () };
    (@cfg $cfg:expr) => { $cfg };
}

/// Implements the codec of an enum without data as one byte; unknown bytes are refused.
///
/// ```
/// #[derive(Clone, Copy)]
/// enum Side { A, B }
/// nesa_primitives::codec_tag!(Side { A = 0, B = 1 });
/// ```
#[macro_export]
macro_rules! codec_tag {
    ($name:ident { $($variant:ident = $tag:literal),* $(,)? }) => {
        impl $crate::__codec::Write for $name {
            fn write(&self, buf: &mut impl $crate::__bytes::BufMut) {
                buf.put_u8(match self { $( Self::$variant => $tag ),* });
            }
        }
        impl $crate::__codec::FixedSize for $name {
            const SIZE: usize = 1;
        }
        impl $crate::__codec::Read for $name {
            type Cfg = ();
            fn read_cfg(
                buf: &mut impl $crate::__codec::Buf,
                _: &(),
            ) -> Result<Self, $crate::__codec::Error> {
                match <u8 as $crate::__codec::Read>::read_cfg(buf, &())? {
                    $( $tag => Ok(Self::$variant), )*
                    other => Err($crate::__codec::Error::InvalidEnum(other)),
                }
            }
        }
    };
}
