//! Choosing the next token in integers: greatest logit, or a seeded draw.
//!
//! Logits have [`LOGIT_BITS`] fractional bits. Candidates are ordered by logit, greatest first, ties
//! by the lower index, so that the same logits, parameters and random number give the same token
//! everywhere.

/// Fractional bits of a logit, of a temperature and of a `top_p`.
pub const LOGIT_BITS: u32 = 16;
/// Entries of the table of powers of e: `e^−i` for 32 `i`, then `e^(−i/2^8)` and `e^(−i/2^16)` for 256
/// each, with 31 fractional bits.
pub const SAMPLE_TABLE_ENTRIES: usize = 32 + 256 + 256;

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// 16 fractional bits; 0 takes the greatest logit.
    pub temperature: u32,
    /// Only this many of the greatest; 0 for all.
    pub top_k: u32,
    /// Only as many of the greatest as together reach this share, 16 fractional bits; `1 << 16` or
    /// more for all.
    pub top_p: u32,
}

impl Sampling {
    /// The greatest logit.
    pub const GREEDY: Self = Self { temperature: 0, top_k: 0, top_p: 1 << LOGIT_BITS };
}

/// Index of the greatest logit, the lowest of equals; `None` of nothing.
pub fn argmax(logits: &[i32]) -> Option<usize> {
    let best = *logits.iter().max()?;
    logits.iter().position(|&l| l == best)
}

/// `e^(−x / 2^16)` with 31 fractional bits, 0 from 32 on.
fn power(x: u64, table: &[u32; SAMPLE_TABLE_ENTRIES]) -> u64 {
    if x >= 32 << 16 {
        return 0;
    }
    let whole = u64::from(table[(x >> 16) as usize]);
    let middle = u64::from(table[32 + ((x >> 8) & 255) as usize]);
    let small = u64::from(table[288 + (x & 255) as usize]);
    (((whole * middle) >> 31) * small) >> 31
}

/// Chooses a token; `None` of nothing. `random` is a uniform 64-bit number, unused when the
/// temperature is 0. Table entries are at most `2^31`, `table[0]`, `[32]` and `[288]` equal to it.
///
/// The weight of a candidate is `e^(−x)` for `x = ⌊(max − logit) · 2^16 / temperature⌋`. Kept are the
/// first `top_k`, of those the fewest whose weights reach `top_p` of the kept total, and the choice is the
/// first whose running sum exceeds `⌊random · sum / 2^64⌋`.
pub fn sample(
    logits: &[i32],
    sampling: &Sampling,
    table: &[u32; SAMPLE_TABLE_ENTRIES],
    random: u64,
) -> Option<usize> {
    let best = argmax(logits)?;
    if sampling.temperature == 0 || sampling.top_k == 1 {
        return Some(best);
    }
    let max = i64::from(logits[best]);
    let weight = |l: i32| {
        let below = (max - i64::from(l)) as u64;
        power((below << 16) / u64::from(sampling.temperature), table)
    };
    // What weighs nothing can never be drawn, so it need not be sorted.
    let mut order: Vec<(i32, u32, u64)> = logits
        .iter()
        .enumerate()
        .map(|(i, &l)| (l, i as u32, weight(l)))
        .filter(|c| c.2 > 0)
        .collect();
    let by_rank = |a: &(i32, u32, u64), b: &(i32, u32, u64)| b.0.cmp(&a.0).then(a.1.cmp(&b.1));
    let keep = match sampling.top_k as usize {
        0 => order.len(),
        k => k.min(order.len()),
    };
    if keep < order.len() {
        order.select_nth_unstable_by(keep, by_rank);
        order.truncate(keep);
    }
    order.sort_unstable_by(by_rank);
    let mut sum: u64 = order.iter().map(|c| c.2).sum();
    if sampling.top_p < 1 << LOGIT_BITS {
        let wanted = u128::from(sum) * u128::from(sampling.top_p);
        let mut reached = 0u64;
        let mut kept = 0;
        for c in &order {
            reached += c.2;
            kept += 1;
            if u128::from(reached) << LOGIT_BITS >= wanted {
                break;
            }
        }
        order.truncate(kept);
        sum = reached;
    }
    let target = ((u128::from(random) * u128::from(sum)) >> 64) as u64;
    let mut running = 0u64;
    for c in &order {
        running += c.2;
        if running > target {
            return Some(c.1 as usize);
        }
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[allow(clippy::float_arithmetic)] // a test's yardstick
    fn table() -> [u32; SAMPLE_TABLE_ENTRIES] {
        let mut table = [0; SAMPLE_TABLE_ENTRIES];
        let one = f64::from(1u32 << 31);
        for (i, t) in table.iter_mut().enumerate() {
            let x = match i {
                0..32 => i as f64,
                32..288 => (i - 32) as f64 / 256.0,
                _ => (i - 288) as f64 / 65536.0,
            };
            *t = (one * (-x).exp()).round() as u32;
        }
        table
    }

    const ONE: i32 = 1 << LOGIT_BITS;

    #[test]
    fn ties_go_to_the_lower_index() {
        assert_eq!(argmax(&[3, 9, 9, -1]), Some(1));
        assert_eq!(argmax(&[]), None);
        let all = Sampling { temperature: ONE as u32, top_k: 2, top_p: 1 << 16 };
        // Of three equals, two are kept: the first two.
        let seen: std::collections::BTreeSet<_> =
            (0..64u64).map(|r| sample(&[5, 5, 5], &all, &table(), r << 58)).collect();
        assert_eq!(seen, [Some(0), Some(1)].into());
    }

    #[test]
    #[allow(clippy::float_arithmetic)] // a test's yardstick
    fn draws_follow_the_softmax() {
        let logits = [0, ONE, 2 * ONE, ONE / 2];
        let sampling = Sampling { temperature: ONE as u32, top_k: 0, top_p: 1 << 16 };
        let mut counts = [0f64; 4];
        let draws = 4096u64;
        for r in 0..draws {
            let chosen = sample(&logits, &sampling, &table(), (r << 52) + 77).expect("a token");
            counts[chosen] += 1.0 / draws as f64;
        }
        let weights: Vec<f64> =
            logits.iter().map(|&l| (f64::from(l) / f64::from(ONE)).exp()).collect();
        let total: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(&weights) {
            assert!((count - weight / total).abs() < 1e-3, "{counts:?}");
        }
    }

    #[test]
    fn a_small_top_p_keeps_the_best() {
        let sampling = Sampling { temperature: ONE as u32, top_k: 0, top_p: 1 };
        for r in [0, 1 << 63, u64::MAX] {
            assert_eq!(sample(&[1, 8, 2], &sampling, &table(), r), Some(1));
        }
    }

    proptest! {
        #[test]
        fn any_logits_give_a_candidate(
            logits in prop::collection::vec(any::<i32>(), 1..40),
            temperature: u32, top_k in 0u32..50, top_p in 0u32..70_000, random: u64,
        ) {
            let sampling = Sampling { temperature, top_k, top_p };
            let chosen = sample(&logits, &sampling, &table(), random).expect("a token");
            let rank = logits.iter().enumerate()
                .filter(|&(i, &l)| (l, std::cmp::Reverse(i)) > (logits[chosen], std::cmp::Reverse(chosen)))
                .count();
            prop_assert!(top_k == 0 || rank < top_k as usize);
        }
    }
}
