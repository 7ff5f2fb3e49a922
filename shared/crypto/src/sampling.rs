//! Weighted sampling without replacement from a public seed: who is drawn, anyone can recompute.

use nesa_primitives::{Hash, domain};

/// Uniform integers from a seed, by rejection, so that no value is favoured.
struct Uniform(blake3::OutputReader);

impl Uniform {
    fn new(seed: &Hash) -> Self {
        let mut hasher = domain("sampling", &Hash::ZERO);
        hasher.update(&seed.0);
        Self(hasher.finalize_xof())
    }

    /// Uniform in `0..bound`; `bound > 0`.
    fn below(&mut self, bound: u128) -> u128 {
        // The largest multiple of `bound` that fits; values from there up would favour some.
        let limit = u128::MAX - u128::MAX % bound;
        loop {
            let mut bytes = [0u8; 16];
            self.0.fill(&mut bytes);
            let value = u128::from_le_bytes(bytes);
            if value < limit {
                return value % bound;
            }
        }
    }
}

/// Draws up to `k` distinct indices, each time with probability proportional to its weight among
/// those not yet drawn, and returns them in the order drawn.
///
/// An index of weight 0 is never drawn. Sums are 128-bit, so no set of `u64` weights overflows.
/// Time is `O(n k)`; `n` is a few hundred here.
pub fn weighted_without_replacement(seed: &Hash, weights: &[u64], k: usize) -> Vec<usize> {
    let mut uniform = Uniform::new(seed);
    let mut left: Vec<(usize, u64)> =
        weights.iter().copied().enumerate().filter(|(_, weight)| *weight > 0).collect();
    let mut total: u128 = left.iter().map(|(_, weight)| u128::from(*weight)).sum();
    let mut drawn = Vec::with_capacity(k.min(left.len()));
    while drawn.len() < k && !left.is_empty() {
        let mut point = uniform.below(total);
        let mut place = left.len() - 1;
        for (i, (_, weight)) in left.iter().enumerate() {
            let weight = u128::from(*weight);
            if point < weight {
                place = i;
                break;
            }
            point -= weight;
        }
        // `remove`, not `swap_remove`: the order of what is left is part of the definition.
        let (index, weight) = left.remove(place);
        total -= u128::from(weight);
        drawn.push(index);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seed(n: u64) -> Hash {
        Hash::of_bytes("test", &Hash::ZERO, &n.to_be_bytes())
    }

    /// The definition is part of the protocol: a change here redraws every committee.
    #[test]
    fn known_answer() {
        let drawn = weighted_without_replacement(&seed(1), &[5, 1, 0, 9, 100, 3], 6);
        assert_eq!(drawn, KNOWN);
    }
    const KNOWN: [usize; 5] = [5, 4, 3, 0, 1];

    #[test]
    fn frequencies_follow_weights() {
        let weights = [1u64, 2, 3, 4];
        let rounds = 20_000u64;
        let mut first = [0f64; 4];
        let mut second_after_3 = [0f64; 4];
        for n in 0..rounds {
            let drawn = weighted_without_replacement(&seed(n), &weights, 2);
            first[drawn[0]] += 1.0;
            if drawn[0] == 3 {
                second_after_3[drawn[1]] += 1.0;
            }
        }
        let chi = |seen: &[f64], share: &[f64]| -> f64 {
            let n: f64 = seen.iter().sum();
            seen.iter().zip(share).map(|(o, s)| (o - n * s).powi(2) / (n * s)).sum()
        };
        // 99.99 % quantiles of chi-square: 21.1 with 3 degrees of freedom, 18.4 with 2.
        assert!(chi(&first, &[0.1, 0.2, 0.3, 0.4]) < 21.1);
        assert!(chi(&second_after_3[..3], &[1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0]) < 18.4);
    }

    #[test]
    fn huge_weights_do_not_overflow() {
        assert_eq!(weighted_without_replacement(&seed(0), &[u64::MAX; 100], 100).len(), 100);
    }

    proptest! {
        #[test]
        fn draws_are_distinct_positive_and_a_prefix_of_longer_draws(
            n in any::<u64>(), weights in prop::collection::vec(any::<u64>(), 0..50), k in 0usize..60,
        ) {
            let drawn = weighted_without_replacement(&seed(n), &weights, k);
            let positive = weights.iter().filter(|w| **w > 0).count();
            prop_assert_eq!(drawn.len(), k.min(positive));
            let mut sorted = drawn.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), drawn.len());
            prop_assert!(drawn.iter().all(|i| weights[*i] > 0));
            let all = weighted_without_replacement(&seed(n), &weights, usize::MAX);
            prop_assert_eq!(&all[..drawn.len()], &drawn[..]);
        }
    }
}
