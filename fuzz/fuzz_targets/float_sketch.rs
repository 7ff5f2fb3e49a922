#![no_main]
//! Bytes of a `nesa_fingerprint::Sketch`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| nesa_fuzz::canonical::<nesa_fingerprint::Sketch>(
    data,
    &nesa_fingerprint::Limits::default()
));
