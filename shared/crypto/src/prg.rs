//! The pseudorandom generator behind masks: a 256-bit seed expanded by BLAKE3.
//!
//! BLAKE3 in keyed mode with extended output is a PRF with a 256-bit key; the seed is the key and
//! the message is the constant domain `"nesa/1 prg"`, so the output is a stream indexed by
//! position. A seed is drawn fresh for each message, sent to exactly one party and never stored:
//! the type can be neither printed, compared nor cloned, and is erased when dropped.

use blake3::OutputReader;
use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A 256-bit secret seed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Bytes of a seed on the wire.
    pub const SIZE: usize = 32;

    /// Draws a fresh seed.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0u8; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Takes a seed received from its owner.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be sent to the one party that may have them.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Starts the stream at its beginning.
    pub fn prg(&self) -> Prg {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"nesa/1 prg");
        let stream = hasher.finalize_xof();
        hasher.zeroize();
        Prg { stream }
    }
}

/// The stream of a seed.
pub struct Prg {
    stream: OutputReader,
}

/// Words generated per call into the hash; 4 KiB on the stack.
const BLOCK_WORDS: usize = 1024;

impl Prg {
    /// Fills `out` with the next bytes.
    pub fn fill_bytes(&mut self, out: &mut [u8]) {
        self.stream.fill(out);
    }

    /// Fills `out` with the next words, four little-endian bytes each.
    pub fn fill_u32(&mut self, out: &mut [u32]) {
        let mut buffer = [0u8; BLOCK_WORDS * 4];
        for chunk in out.chunks_mut(BLOCK_WORDS) {
            let bytes = &mut buffer[..chunk.len() * 4];
            self.stream.fill(bytes);
            for (word, four) in chunk.iter_mut().zip(bytes.chunks_exact(4)) {
                *word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
            }
        }
        buffer.zeroize();
    }

    /// Skips to word `index` of the stream.
    pub fn seek_u32(&mut self, index: u64) {
        self.stream.set_position(index.saturating_mul(4));
    }
}

impl Drop for Prg {
    fn drop(&mut self) {
        self.stream.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change here silently breaks every mask between versions.
    #[test]
    fn known_answer() {
        let mut seed = [0u8; 32];
        for (i, byte) in seed.iter_mut().enumerate() {
            *byte = i as u8;
        }
        let mut words = [0u32; 4];
        Seed::from_bytes(seed).prg().fill_u32(&mut words);
        assert_eq!(words, KNOWN);
        // The definition, spelled out with the plain hash.
        let mut hasher = blake3::Hasher::new_keyed(&seed);
        hasher.update(b"nesa/1 prg");
        let mut bytes = [0u8; 16];
        hasher.finalize_xof().fill(&mut bytes);
        let spelled: Vec<u32> =
            bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect();
        assert_eq!(words.to_vec(), spelled);
    }
    const KNOWN: [u32; 4] = [800_229_904, 397_194_807, 1_564_808_713, 869_708_468];

    #[test]
    fn words_do_not_depend_on_how_they_are_asked_for() {
        let seed = Seed::from_bytes([5; 32]);
        let mut whole = vec![0u32; 5000];
        seed.prg().fill_u32(&mut whole);
        let mut pieces = vec![0u32; 5000];
        let mut prg = seed.prg();
        for chunk in pieces.chunks_mut(37) {
            prg.fill_u32(chunk);
        }
        assert_eq!(whole, pieces);
        let mut tail = vec![0u32; 100];
        let mut prg = seed.prg();
        prg.seek_u32(4900);
        prg.fill_u32(&mut tail);
        assert_eq!(tail, whole[4900..]);
    }

    #[test]
    fn neighbouring_seeds_share_nothing() {
        let mut a = vec![0u32; 4096];
        let mut b = a.clone();
        let mut near = [5u8; 32];
        near[31] ^= 1;
        Seed::from_bytes([5; 32]).prg().fill_u32(&mut a);
        Seed::from_bytes(near).prg().fill_u32(&mut b);
        let differing: u32 = a.iter().zip(&b).map(|(x, y)| (x ^ y).count_ones()).sum();
        // 131,072 bits, half expected, standard deviation 181: nine of them.
        assert!((i64::from(differing) - 65_536).abs() < 1_629, "{differing}");
    }
}
