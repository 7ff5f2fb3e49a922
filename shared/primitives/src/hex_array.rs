//! Serde for `[u8; N]` as lower-case hex: `#[serde(with = "nesa_primitives::hex_array")]`.

use serde::{Deserialize, Deserializer, Serializer, de::Error};
use std::borrow::Cow;

/// Writes the bytes as a hex string.
pub fn serialize<S: Serializer, const N: usize>(
    bytes: &[u8; N],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

/// Reads exactly `2 N` hex digits.
pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    parse(&text).map_err(D::Error::custom)
}

/// Parses exactly `2 N` hex digits.
///
/// # Errors
/// [`hex::FromHexError`] for another length or a character that is no hex digit.
pub fn parse<const N: usize>(text: &str) -> Result<[u8; N], hex::FromHexError> {
    let mut bytes = [0u8; N];
    hex::decode_to_slice(text, &mut bytes)?;
    Ok(bytes)
}
