#![no_main]
//! Bytes of a `nesa_chain::ShardVoucher`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| nesa_fuzz::canonical::<nesa_chain::ShardVoucher>(
    data,
    &()
));
