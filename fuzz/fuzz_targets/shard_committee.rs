#![no_main]
//! Bytes of a `nesa_chain::ShardCommittee`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| nesa_fuzz::canonical::<nesa_chain::ShardCommittee>(
    data,
    &()
));
