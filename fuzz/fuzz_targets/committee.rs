#![no_main]
//! Bytes of a `nesa_chain::Committee`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| nesa_fuzz::canonical::<nesa_chain::Committee>(data, &()));
