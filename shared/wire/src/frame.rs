//! The frame around every message on a stream: a little-endian `u32` length, then the payload.
//!
//! The length is judged before a byte of the payload is buffered, so a hostile peer cannot make a
//! reader reserve more than the limit it was given.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of the length prefix.
pub const HEADER: usize = 4;

/// A frame was longer than the reader allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes is over the limit of {limit}")]
pub struct TooLong {
    /// Bytes the sender announced.
    pub length: usize,
    /// Bytes the reader allows.
    pub limit: usize,
}

/// The length prefix for a payload of `length` bytes, if a reader with `limit` would accept it.
pub fn header(length: usize, limit: usize) -> Result<[u8; HEADER], TooLong> {
    match u32::try_from(length) {
        Ok(prefix) if length <= limit => Ok(prefix.to_le_bytes()),
        _ => Err(TooLong { length, limit }),
    }
}

/// The payload length that a length prefix announces, if it is within `limit`.
pub fn length(header: [u8; HEADER], limit: usize) -> Result<usize, TooLong> {
    let length = u32::from_le_bytes(header) as usize;
    if length > limit { Err(TooLong { length, limit }) } else { Ok(length) }
}

/// Writes one frame to `out`.
pub fn write(payload: &[u8], limit: usize, out: &mut BytesMut) -> Result<(), TooLong> {
    let header = header(payload.len(), limit)?;
    out.reserve(HEADER + payload.len());
    out.put_slice(&header);
    out.put_slice(payload);
    Ok(())
}

/// Takes the first whole frame out of `input`; `None` while it has not all arrived.
///
/// ```
/// # use bytes::BytesMut;
/// let mut buffer = BytesMut::new();
/// nesa_wire::frame::write(b"hello", 64, &mut buffer)?;
/// assert_eq!(nesa_wire::frame::take(&mut buffer, 64)?.as_deref(), Some(&b"hello"[..]));
/// assert_eq!(nesa_wire::frame::take(&mut buffer, 64)?, None);
/// # Ok::<(), nesa_wire::frame::TooLong>(())
/// ```
pub fn take(input: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, TooLong> {
    let Some(prefix) = input.first_chunk::<HEADER>() else { return Ok(None) };
    let length = length(*prefix, limit)?;
    if input.len() < HEADER + length {
        return Ok(None);
    }
    input.advance(HEADER);
    Ok(Some(input.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_frame_is_refused_by_its_prefix_alone() {
        let mut input = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert_eq!(take(&mut input, 1000), Err(TooLong { length: u32::MAX as usize, limit: 1000 }));
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
            split in 1usize..50,
        ) {
            let mut sent = BytesMut::new();
            for payload in &payloads {
                write(payload, 200, &mut sent).unwrap();
            }
            let (mut input, mut got) = (BytesMut::new(), Vec::new());
            for piece in sent.chunks(split) {
                input.extend_from_slice(piece);
                while let Some(frame) = take(&mut input, 200).unwrap() {
                    got.push(frame.to_vec());
                }
            }
            prop_assert_eq!(got, payloads);
            prop_assert!(input.is_empty());
        }
    }
}
