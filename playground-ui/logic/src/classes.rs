//! How sure a classifier is of each class.

use nesa_messages::LOGIT_FRACTION_BITS;

/// The classes by their logits, the most likely first and the lower of equals: each with its share of the
/// softmax. The order is exact; the shares are floats for people.
pub fn ranked(logits: &[i32]) -> Vec<(usize, f64)> {
    let unit = 1.0 / f64::from(1u32 << LOGIT_FRACTION_BITS);
    let greatest = logits.iter().copied().max().unwrap_or_default();
    // i64: the distance of two i32 need not fit one.
    let weight = |logit: i32| ((i64::from(logit) - i64::from(greatest)) as f64 * unit).exp();
    let sum: f64 = logits.iter().map(|logit| weight(*logit)).sum();
    let mut classes: Vec<usize> = (0..logits.len()).collect();
    classes.sort_by_key(|class| std::cmp::Reverse(logits[*class]));
    classes.into_iter().map(|class| (class, weight(logits[class]) / sum)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_shares() {
        let one = 1 << LOGIT_FRACTION_BITS;
        let shares = ranked(&[0, one, one]);
        assert_eq!(shares.iter().map(|(class, _)| *class).collect::<Vec<_>>(), [1, 2, 0]);
        let e = std::f64::consts::E;
        assert!((shares[2].1 - 1.0 / (1.0 + 2.0 * e)).abs() < 1e-12);
        assert!(ranked(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn shares_are_a_distribution_in_the_order_of_the_logits(
            logits in proptest::collection::vec(any::<i32>(), 1..40),
        ) {
            let shares = ranked(&logits);
            let sum: f64 = shares.iter().map(|(_, share)| share).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}");
            for pair in shares.windows(2) {
                let ((a, p), (b, q)) = (pair[0], pair[1]);
                prop_assert!(p >= q);
                prop_assert!(logits[a] > logits[b] || (logits[a] == logits[b] && a < b));
            }
        }
    }
}
