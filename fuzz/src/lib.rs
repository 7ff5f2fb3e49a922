//! What every decoder target checks: no panic, and one encoding per value.

use commonware_codec::{Decode, Encode};
use nesa_primitives::decode_exact;

/// Decodes all of `data`; whatever is accepted must encode to the same bytes.
///
/// # Panics
/// If a value has two encodings, which is what the fuzzer looks for.
pub fn canonical<T: Decode + Encode>(data: &[u8], cfg: &T::Cfg) {
    if let Ok(value) = decode_exact::<T>(data, cfg) {
        assert_eq!(value.encode(), data, "a value with two encodings");
    }
}
