//! Short helpers for bounded lists and byte strings inside messages.

use bytes::{BufMut, Bytes};
use commonware_codec::{EncodeSize, Error, RangeCfg, Read, Write};

/// Reads a byte string of at most `limit` bytes.
pub(crate) fn bytes(buf: &mut impl commonware_codec::Buf, limit: usize) -> Result<Bytes, Error> {
    Bytes::read_cfg(buf, &RangeCfg::from(..=limit))
}

/// Reads an optional byte string of at most `limit` bytes.
pub(crate) fn optional(
    buf: &mut impl commonware_codec::Buf,
    limit: usize,
) -> Result<Option<Bytes>, Error> {
    Option::<Bytes>::read_cfg(buf, &RangeCfg::from(..=limit))
}

/// Reads a list of at most `limit` items.
pub(crate) fn read<T: Read>(
    buf: &mut impl commonware_codec::Buf,
    limit: usize,
    item: &T::Cfg,
) -> Result<Vec<T>, Error> {
    Vec::<T>::read_cfg(buf, &(RangeCfg::from(..=limit), item.clone()))
}

/// Reads UTF-8 text of at most `limit` bytes.
pub(crate) fn text(buf: &mut impl commonware_codec::Buf, limit: usize) -> Result<String, Error> {
    let raw = bytes(buf, limit)?;
    String::from_utf8(raw.to_vec()).map_err(|_| Error::Invalid("text", "not UTF-8"))
}

/// Writes UTF-8 text.
pub(crate) fn write_text(text: &str, buf: &mut impl BufMut) {
    text.len().write(buf);
    buf.put_slice(text.as_bytes());
}

/// The encoded size of UTF-8 text.
pub(crate) fn text_size(text: &str) -> usize {
    text.len().encode_size() + text.len()
}
