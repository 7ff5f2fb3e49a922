//! Additive shares mod 2^k: A's is x − PRG(seed), B's is PRG(seed), and the sum of the two
//! products, sign-extended, is W·x.
//!
//! k is one more than the bits of the accumulator bound, so the sum mod 2^k determines W·x. B's
//! share is independent of x by construction; A's is uniform to anyone without the seed, if the
//! PRG is secure.

use nesa_crypto::prg::Seed;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::pack::mask;

/// A live share. Erased when dropped, and it does not print: whoever holds both shares of a
/// message holds x.
pub type Share = Zeroizing<Vec<u32>>;

/// B's share: `len` words of PRG(seed), each cut to `bits` bits.
pub fn expand(seed: &Seed, len: usize, bits: u32) -> Share {
    let mut words = Zeroizing::new(vec![0u32; len]);
    seed.prg().fill_u32(&mut words);
    let mask = mask(bits);
    words.iter_mut().for_each(|w| *w &= mask);
    words
}

/// A's share: `x − PRG(seed) mod 2^bits`.
pub fn conceal(x: &[i32], seed: &Seed, bits: u32) -> Share {
    let mut words = expand(seed, x.len(), bits);
    let mask = mask(bits);
    for (w, &x) in words.iter_mut().zip(x) {
        *w = (x as u32).wrapping_sub(*w) & mask;
    }
    words
}

/// `a + b mod 2^bits`, sign-extended.
pub fn reconstruct(a: &[u32], b: &[u32], bits: u32) -> Vec<i32> {
    let shift = 32 - bits.clamp(1, 32);
    a.iter().zip(b).map(|(&a, &b)| ((a.wrapping_add(b) << shift) as i32) >> shift).collect()
}

/// Whether `|y[t, j]| ≤ bounds[j]` everywhere, in time that does not depend on where it fails.
///
/// `y` is `[rows, n]`, `bounds` is `[n]`.
pub fn within(y: &[i32], bounds: &[u32]) -> Choice {
    let mut outside = 0u8;
    for row in y.chunks_exact(bounds.len().max(1)) {
        for (&y, &bound) in row.iter().zip(bounds) {
            outside = u8::conditional_select(
                &1,
                &outside,
                Choice::from(u8::from(y.unsigned_abs() <= bound)),
            );
        }
    }
    outside.ct_eq(&0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nesa_kernels::{matmul_i8, matmul_mask_u32};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_of_shares_add_up(
            seed: [u8; 32],
            w in proptest::collection::vec(any::<i8>(), 6 * 5),
            x in proptest::collection::vec(-2048i32..2048, 3 * 5),
            bits in 21u32..=32,
        ) {
            let (n, k, rows) = (6, 5, 3);
            let seed = Seed::from_bytes(seed);
            let a = conceal(&x, &seed, bits);
            let b = expand(&seed, x.len(), bits);
            let (mut ya, mut yb, mut y) = (vec![0; 18], vec![0; 18], vec![0; 18]);
            matmul_mask_u32(&w, &a, n, k, rows, &mut ya);
            matmul_mask_u32(&w, &b, n, k, rows, &mut yb);
            matmul_i8(&w, &x, n, k, rows, &mut y);
            // Only the low bits travel.
            ya.iter_mut().chain(&mut yb).for_each(|v| *v &= mask(bits));
            prop_assert_eq!(reconstruct(&ya, &yb, bits), y);
        }

        #[test]
        fn shares_recombine_to_the_input(seed: [u8; 32], x: Vec<i16>, bits in 17u32..=32) {
            let x: Vec<i32> = x.into_iter().map(i32::from).collect();
            let seed = Seed::from_bytes(seed);
            let (a, b) = (conceal(&x, &seed, bits), expand(&seed, x.len(), bits));
            prop_assert_eq!(reconstruct(&a, &b, bits), x);
        }
    }

    #[test]
    fn the_range_is_per_row_of_the_matrix() {
        assert!(bool::from(within(&[5, -7, -5, 7], &[5, 7])));
        assert!(!bool::from(within(&[5, -7, 6, 7], &[5, 7])));
        assert!(!bool::from(within(&[5, -8, 5, 7], &[5, 7])));
        assert!(!bool::from(within(&[i32::MIN, 0], &[i32::MAX as u32, 7])));
        assert!(bool::from(within(&[], &[5, 7])));
    }
}
