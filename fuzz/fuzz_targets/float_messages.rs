#![no_main]
//! Bytes of what client and node of the float lane say under the seal.

use nesa_sealed::float::{Ask, FloatOpening, Told};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    nesa_fuzz::canonical::<Ask>(data, &());
    nesa_fuzz::canonical::<Told>(data, &());
    nesa_fuzz::canonical::<FloatOpening>(data, &());
});
