//! How likely a committee fails, for an assumed adversary.
//!
//! Two models of the draw of one shard's replicas: *by stake*, where each replica falls to the
//! adversary with the probability of its share of the stake, independently (the limit of many
//! small operators); and *by head count*, without replacement, where every operator has the same
//! stake (the hypergeometric distribution). The chain draws by stake without replacement, one seat per
//! operator: an adversary whose stake sits in few operators does worse than either says, one who splits it
//! over many small ones does as the first says. Shards are taken as independent.
//!
//! Floats: these numbers are shown to people and decide nothing.

use crate::committee::Terms;

/// Probabilities for one query, each in `0..=1`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Odds {
    /// All replicas of one shard belong to the adversary: a wrong answer that nobody disputes.
    pub all_of_a_shard: f64,
    /// A strict majority of one shard's replicas does: it can withhold the others' pay, and is the
    /// whole committee where the minority is silenced.
    pub majority_of_a_shard: f64,
    /// The first, for at least one shard of the query.
    pub all_of_some_shard: f64,
    /// The second, for at least one shard.
    pub majority_of_some_shard: f64,
    /// At least one replica of any shard is the adversary's: it reads the sealed input or what a
    /// layer made of it.
    pub reads: f64,
}

impl Odds {
    /// The adversary holds `share` (0 to 1) of the stake, in many small operators.
    pub fn by_stake(share: f64, terms: &Terms) -> Self {
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 1.0 };
        let k = usize::from(terms.replicas);
        let exactly =
            |i: usize| choose(k, i) * share.powi(i as i32) * (1.0 - share).powi((k - i) as i32);
        Self::of(terms, exactly)
    }

    /// `bad` of `operators` equal operators are the adversary's.
    pub fn by_operators(operators: usize, bad: usize, terms: &Terms) -> Self {
        let k = usize::from(terms.replicas).min(operators);
        let bad = bad.min(operators);
        let good = operators - bad;
        let exactly = |i: usize| {
            if i > bad || i > k || k - i > good {
                return 0.0;
            }
            // Draws one after the other; a product of ratios does not overflow.
            let drawn = (0..k).map(|n| match n < i {
                true => (bad - n) as f64 / (operators - n) as f64,
                false => (good - (n - i)) as f64 / (operators - n) as f64,
            });
            choose(k, i) * drawn.product::<f64>()
        };
        Self::of(terms, exactly)
    }

    fn of(terms: &Terms, exactly: impl Fn(usize) -> f64) -> Self {
        let k = usize::from(terms.replicas);
        let shards = terms.shards() as i32;
        let some = |p: f64| 1.0 - (1.0 - p).powi(shards);
        let all = exactly(k).clamp(0.0, 1.0);
        let majority = (terms.majority()..=k).map(&exactly).sum::<f64>().clamp(0.0, 1.0);
        Self {
            all_of_a_shard: all,
            majority_of_a_shard: majority,
            all_of_some_shard: some(all),
            majority_of_some_shard: some(majority),
            reads: some((1.0 - exactly(0)).clamp(0.0, 1.0)),
        }
    }
}

/// Binomial coefficient of small numbers.
fn choose(n: usize, k: usize) -> f64 {
    (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(shards: usize, replicas: u8) -> Terms {
        Terms { cuts: (1..shards as u16).collect(), replicas, disclose: false }
    }

    #[test]
    fn known_odds() {
        let odds = Odds::by_stake(0.2, &terms(1, 3));
        assert!((odds.all_of_a_shard - 0.008).abs() < 1e-12);
        assert!((odds.majority_of_a_shard - 0.104).abs() < 1e-12);
        assert!((odds.reads - 0.488).abs() < 1e-12);
        let odds = Odds::by_stake(0.2, &terms(4, 3));
        assert!((odds.all_of_some_shard - (1.0 - 0.992f64.powi(4))).abs() < 1e-12);
        // 2 of 5 operators bad, 3 drawn: C(2,2)·C(3,1)/C(5,3) = 3/10 for two, none for three.
        let odds = Odds::by_operators(5, 2, &terms(1, 3));
        assert!(odds.all_of_a_shard.abs() < 1e-12);
        assert!((odds.majority_of_a_shard - 0.3).abs() < 1e-12);
        assert!((odds.reads - 0.9).abs() < 1e-12);
    }

    #[test]
    fn extremes_are_certain() {
        for replicas in 1..=7 {
            let t = terms(3, replicas);
            assert_eq!(Odds::by_stake(0.0, &t), Odds::default());
            let sure = Odds::by_stake(1.0, &t);
            assert!((sure.all_of_some_shard - 1.0).abs() < 1e-12);
            assert!((Odds::by_stake(f64::NAN, &t).reads - 1.0).abs() < 1e-12);
            assert_eq!(Odds::by_operators(9, 0, &t), Odds::default());
            assert!((Odds::by_operators(9, 9, &t).all_of_a_shard - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn many_equal_operators_approach_the_stake_model() {
        let t = terms(2, 5);
        let (few, stake) = (Odds::by_operators(10_000, 3_000, &t), Odds::by_stake(0.3, &t));
        assert!((few.majority_of_some_shard - stake.majority_of_some_shard).abs() < 1e-3);
        // A small committee drawn without replacement is rarely all bad.
        assert!(Odds::by_operators(10, 3, &t).all_of_a_shard < stake.all_of_a_shard);
    }
}
