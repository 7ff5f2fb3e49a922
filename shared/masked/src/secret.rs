//! Secret values: no `Debug`, no serialisation, erased when dropped.
//!
//! Whoever learns one coordinate of `r` or `s`, or one inner product beside a wrong answer, can
//! forge products that pass. So these types offer inner products and a constant-time comparison,
//! and nothing that prints.

use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::field::{self, P};

const LIMB_BITS: u32 = 31;
const LIMB_MASK: u64 = (1 << LIMB_BITS) - 1;

/// A secret vector over the field, `r` (`[n]`) or `s = rᵀW` (`[k]`).
///
/// Kept as two limbs of 31 and 30 bits, so that the products with `i32` values sum in 64 bits.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretVector {
    low: Vec<u32>,
    high: Vec<u32>,
}

/// The value of an inner product. It can only be compared, in constant time.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct InnerProduct(u64);

impl InnerProduct {
    /// Equality in constant time.
    pub fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl SecretVector {
    /// `len` uniform residues.
    pub fn uniform(len: usize, rng: &mut impl CryptoRng) -> Self {
        let mut residues: Vec<u64> = (0..len).map(|_| field::uniform(rng)).collect();
        let vector = Self::split(&residues);
        residues.zeroize();
        vector
    }

    /// Takes residues in `0..P`; erases the given buffer. `None` if one lies outside.
    pub(crate) fn from_residues(mut residues: Vec<u64>) -> Option<Self> {
        let valid = residues.iter().all(|&v| v < P);
        let vector = valid.then(|| Self::split(&residues));
        residues.zeroize();
        vector
    }

    fn split(residues: &[u64]) -> Self {
        Self {
            low: residues.iter().map(|v| (v & LIMB_MASK) as u32).collect(),
            high: residues.iter().map(|v| (v >> LIMB_BITS) as u32).collect(),
        }
    }

    /// Number of residues.
    pub fn len(&self) -> usize {
        self.low.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.low.is_empty()
    }

    /// The residue at `i`, for folding weight rows and for the sealed export only.
    pub(crate) fn residue(&self, i: usize) -> u64 {
        u64::from(self.low[i]) | (u64::from(self.high[i]) << LIMB_BITS)
    }

    /// `⟨self, values⟩ mod p`, where every `|value| ≤ 2^bits` and `bits ≤ 31`.
    pub fn dot_i32(&self, values: &[i32], bits: u32) -> InnerProduct {
        // A limb is below 2^31, so 2^(32−bits) products sum to less than 2^63.
        let block = 1usize << 32u32.saturating_sub(bits).min(12);
        let (mut low, mut high) = (0i128, 0i128);
        for ((l, h), v) in
            self.low.chunks(block).zip(self.high.chunks(block)).zip(values.chunks(block))
        {
            let (mut sum_low, mut sum_high) = (0i64, 0i64);
            for ((&l, &h), &v) in l.iter().zip(h).zip(v) {
                let v = i64::from(v);
                sum_low = sum_low.wrapping_add(i64::from(l).wrapping_mul(v));
                sum_high = sum_high.wrapping_add(i64::from(h).wrapping_mul(v));
            }
            low += i128::from(sum_low);
            high += i128::from(sum_high);
        }
        InnerProduct(field::reduce_signed(low + (high << LIMB_BITS)))
    }

    /// `⟨self, values⟩ mod p` for any 64-bit values (the blame check; slower).
    pub fn dot_i64(&self, values: impl Iterator<Item = i64>) -> InnerProduct {
        let mut sum = 0i128;
        for (i, v) in values.take(self.len()).enumerate() {
            // Below 2^61 + 2^124, and reduced every step.
            let product = i128::from(self.residue(i)) * i128::from(v);
            sum = i128::from(field::reduce_signed(sum + product));
        }
        InnerProduct(field::reduce_signed(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::marker::PhantomData;
    use proptest::prelude::*;

    /// `Probe::<T>::PRINTS` is the inherent constant only where `T: Debug`.
    struct Probe<T>(PhantomData<T>);
    trait Fallback {
        const PRINTS: bool = false;
    }
    impl<T> Fallback for Probe<T> {}
    impl<T: core::fmt::Debug> Probe<T> {
        const PRINTS: bool = true;
    }

    #[test]
    fn secrets_do_not_print() {
        const { assert!(Probe::<u64>::PRINTS) };
        const { assert!(!Probe::<SecretVector>::PRINTS) };
        const { assert!(!Probe::<InnerProduct>::PRINTS) };
        const { assert!(!Probe::<crate::preparation::Preparation>::PRINTS) };
        const { assert!(!Probe::<nesa_crypto::prg::Seed>::PRINTS) };
    }

    fn definition(residues: &[u64], values: &[i64]) -> u64 {
        residues.iter().zip(values).fold(0, |sum, (&r, &v)| {
            field::add(sum, field::reduce_signed(i128::from(r) * i128::from(v)))
        })
    }

    proptest! {
        #[test]
        fn both_dots_follow_the_definition(
            pairs in proptest::collection::vec((0..P, any::<i32>()), 0..200),
            bits in 16u32..=31,
        ) {
            let (residues, raw): (Vec<u64>, Vec<i32>) = pairs.into_iter().unzip();
            let values: Vec<i32> = raw.iter().map(|v| v >> (31 - bits)).collect();
            let wide: Vec<i64> = values.iter().map(|&v| i64::from(v)).collect();
            let secret = SecretVector::from_residues(residues.clone()).unwrap();
            let expected = definition(&residues, &wide);
            prop_assert_eq!(secret.dot_i32(&values, bits).0, expected);
            prop_assert_eq!(secret.dot_i64(wide.into_iter()).0, expected);
        }
    }

    #[test]
    fn extreme_values_do_not_overflow() {
        let residues = vec![P - 1; 5000];
        let secret = SecretVector::from_residues(residues.clone()).unwrap();
        for v in [i32::MIN, i32::MAX] {
            let wide = vec![i64::from(v); 5000];
            assert_eq!(secret.dot_i32(&vec![v; 5000], 31).0, definition(&residues, &wide));
        }
        for v in [i64::MIN, i64::MAX] {
            assert_eq!(
                secret.dot_i64(core::iter::repeat_n(v, 5000)).0,
                definition(&residues, &vec![v; 5000])
            );
        }
    }
}
