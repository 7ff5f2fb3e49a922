//! From logits to a token, reproducibly.

use nesa_kernels::sample::{Sampling, sample};
use nesa_primitives::Hash;

use super::DecoderModel;

/// Length of a sampling seed.
pub const SAMPLING_SEED_BYTES: usize = 32;

/// Chooses the token at `position` (the number of tokens before it) from its logits.
///
/// The random number is the first eight bytes, little endian, of
/// `H("nesa/1 sample", seed ‖ u64 position)`: prompt, parameters, seed and model digest give the same text
/// on every machine, and choosing again after an edit draws the same number for the same position.
/// `None` for no logits, or on a shard without the head.
pub fn choose(
    model: &DecoderModel,
    logits: &[i32],
    sampling: &Sampling,
    seed: &[u8; SAMPLING_SEED_BYTES],
    position: usize,
) -> Option<u32> {
    let mut bytes = [0; SAMPLING_SEED_BYTES + 8];
    bytes[..SAMPLING_SEED_BYTES].copy_from_slice(seed);
    bytes[SAMPLING_SEED_BYTES..].copy_from_slice(&(position as u64).to_le_bytes());
    let hash = Hash::of_bytes("sample", &Hash::ZERO, &bytes);
    let mut random = [0; 8];
    random.copy_from_slice(&hash.0[..8]);
    sample(logits, sampling, model.sample_table()?, u64::from_le_bytes(random)).map(|t| t as u32)
}
