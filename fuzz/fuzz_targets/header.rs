#![no_main]
//! Bytes of a `nesa_chain::header::Header`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| nesa_fuzz::canonical::<nesa_chain::header::Header>(
    data,
    &()
));
