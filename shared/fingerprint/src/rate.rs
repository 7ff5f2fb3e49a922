//! A measured error rate, and what it may be in truth.

use nesa_primitives::codec_struct;
use serde::{Deserialize, Serialize};

/// Errors counted in independent trials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Trials.
    pub trials: u32,
    /// How many of them went wrong.
    pub errors: u32,
}

codec_struct!(Rate { trials, errors });

impl Rate {
    /// Counts one more trial.
    pub fn count(&mut self, error: bool) {
        self.trials = self.trials.saturating_add(1);
        self.errors = self.errors.saturating_add(error.into());
    }

    /// The share observed, 0 without trials.
    pub fn observed(&self) -> f64 {
        f64::from(self.errors) / f64::from(self.trials.max(1))
    }

    /// The 95 % confidence interval of the true rate (Clopper and Pearson, *Biometrika* 26, 1934: exact,
    /// never too narrow); 0 to 1 without trials.
    pub fn interval(&self) -> (f64, f64) {
        const TAIL: f64 = 0.025;
        let (n, k) = (self.trials, self.errors.min(self.trials));
        // At the lower end k or more errors have probability TAIL, at the upper end k or fewer.
        let lower = match k {
            0 => 0.0,
            k => root(|p| 1.0 - at_most(n, k - 1, p) - TAIL),
        };
        let upper = if k == n { 1.0 } else { root(|p| TAIL - at_most(n, k, p)) };
        (lower, upper)
    }
}

/// Where an increasing function of 0 to 1 crosses zero.
fn root(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0f64, 1.0f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if f(middle) < 0.0 { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The probability of at most `k` errors in `n` trials of rate `p`.
fn at_most(n: u32, k: u32, p: f64) -> f64 {
    if p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return if k >= n { 1.0 } else { 0.0 };
    }
    let (ln_p, ln_q) = (libm::log(p), libm::log1p(-p));
    let factorial = |v: u32| libm::lgamma(f64::from(v) + 1.0);
    let term = |i: u32| {
        let ways = factorial(n) - factorial(i) - factorial(n - i);
        libm::exp(ways + f64::from(i) * ln_p + f64::from(n - i) * ln_q)
    };
    (0..=k.min(n)).map(term).sum::<f64>().min(1.0)
}
