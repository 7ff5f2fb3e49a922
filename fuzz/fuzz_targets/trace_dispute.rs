#![no_main]
//! Bytes of a `nesa_trace::Dispute`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| nesa_fuzz::canonical::<nesa_trace::Dispute>(data, &()));
