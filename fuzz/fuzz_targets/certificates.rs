#![no_main]
//! Bytes of a finalization certificate, as a peer sends it.

use commonware_codec::Encode as _;
use nesa_verify::certificate::{MAX_FINALIZATION_BYTES, decode_finalization};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(finalization) = decode_finalization(data) {
        assert!(data.len() <= MAX_FINALIZATION_BYTES);
        assert_eq!(finalization.encode(), data, "a certificate with two encodings");
    }
});
