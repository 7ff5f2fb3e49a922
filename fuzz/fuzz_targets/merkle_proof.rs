#![no_main]
//! Bytes of an inclusion proof, which is then checked: no proof made by chance may hold.

use nesa_crypto::merkle::{Proof, verify};
use nesa_primitives::{Hash, decode_exact};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    nesa_fuzz::canonical::<Proof>(data, &());
    if let Ok(proof) = decode_exact::<Proof>(data, &()) {
        assert!(verify(&Hash::ZERO, b"leaf", &proof).is_err());
    }
});
