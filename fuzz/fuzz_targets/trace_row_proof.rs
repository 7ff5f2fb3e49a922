#![no_main]
//! Bytes of a `nesa_trace::RowProof`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| nesa_fuzz::canonical::<nesa_trace::RowProof>(data, &()));
