#![no_main]
//! Bytes of a `nesa_trace::Slice`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| nesa_fuzz::canonical::<nesa_trace::Slice>(data, &()));
