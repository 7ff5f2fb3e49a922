//! The definition of attention over a cache, as plain loops.

use super::Cache;
use crate::ops::SCORE_SHIFT;

fn round_shift(value: i64, shift: u32) -> i64 {
    value.wrapping_add(1i64 << (shift - 1)) >> shift
}

/// Attention of one query over a cache; the context of `query.len()` values goes to `out`.
///
/// `s[u] = Σ q[i]·k[u,i]`, `e[u] = exp[min(((max s − s[u]) · score) >> 40, last)]`, `D = Σ e[u]`, `A[i] = Σ
/// e[u]·v[u,i]`. With `z` the left shift that brings `D` to `2^31..2^32` and `r = ⌊(2^62 − 1) / (D << z)⌋`,
/// `out[i] = R(R(A[i] << z, 16) · r, 39)`, `R(v, s) = (v + 2^(s−1)) >> s`: the weighted mean with
/// [`super::CONTEXT_BITS`] more bits. Without tokens it is 0.
///
/// Scores fit 32 bits, the table starts above 2^14 and ends in 0, `score < 2^31`, at most 2^17 tokens.
pub fn attend(query: &[i16], cache: Cache<'_>, score: u32, exp: &[u16], out: &mut [i32]) {
    let width = query.len().max(1);
    let scores: Vec<i32> = cache
        .keys
        .chunks_exact(width)
        .map(|key| {
            let products = query.iter().zip(key).map(|(&q, &k)| i32::from(q) * i32::from(k));
            products.fold(0, i32::wrapping_add)
        })
        .collect();
    let max = scores.iter().fold(i32::MIN, |m, &s| m.max(s));
    let mut total = 0u64;
    let mut sums = vec![0i64; width];
    for (&s, value) in scores.iter().zip(cache.values.chunks_exact(width)) {
        let e = exponential(max, s, score, exp);
        total += u64::from(e);
        for (sum, &v) in sums.iter_mut().zip(value) {
            *sum += i64::from(e) * i64::from(v);
        }
    }
    let mean = Mean::of(total);
    for (out, &sum) in out.iter_mut().zip(&sums) {
        *out = mean.value(sum);
    }
}

/// `e` of one score.
#[inline(always)]
pub(super) fn exponential(max: i32, s: i32, score: u32, exp: &[u16]) -> u16 {
    let below = u64::from(max.wrapping_sub(s) as u32);
    let last = exp.len().saturating_sub(1) as u64;
    let index = (below.wrapping_mul(u64::from(score)) >> SCORE_SHIFT).min(last);
    exp.get(index as usize).copied().unwrap_or(0)
}

/// The division by the sum of exponentials.
#[derive(Clone, Copy)]
pub(super) struct Mean {
    z: u32,
    r: i64,
}

impl Mean {
    /// By a total below 2^32.
    pub(super) fn of(total: u64) -> Self {
        let total = total.max(1);
        let z = total.leading_zeros().saturating_sub(32);
        Self { z, r: (((1u64 << 62) - 1) / (total << z)) as i64 }
    }

    /// Of a sum at most `2^15` times the total.
    #[inline(always)]
    pub(super) fn value(&self, sum: i64) -> i32 {
        round_shift(round_shift(sum << self.z, 16).wrapping_mul(self.r), 39) as i32
    }
}
