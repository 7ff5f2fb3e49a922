#![no_main]
//! Bytes of a `nesa_fingerprint::Fingerprint`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| nesa_fuzz::canonical::<nesa_fingerprint::Fingerprint>(
    data,
    &nesa_fingerprint::Limits::default()
));
