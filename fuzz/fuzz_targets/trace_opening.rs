#![no_main]
//! Bytes of a `nesa_trace::Opening`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| nesa_fuzz::canonical::<nesa_trace::Opening>(data, &()));
