#![no_main]
//! Proofs of presence and of absence, as a peer sends them: never a panic, never a yes.

use nesa_chain::header::to_digest;
use nesa_primitives::Hash;
use nesa_verify::state::verify;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (root, key) = (to_digest(&Hash([1; 32])), Hash([2; 32]));
    assert!(!verify(&root, &key, None, data).is_valid());
    for split in [0, 1, data.len() / 2] {
        let (value, proof) = data.split_at(split.min(data.len()));
        assert!(!verify(&root, &key, Some(value), proof).is_valid());
    }
});
