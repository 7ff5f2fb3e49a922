//! Statistics of rows, as the recorder computes them beside a run. The judge has the definitions.

use nesa_kernels::decoder as ops;
use nesa_model::decoder::Attended;

use crate::program::{HEAD_STATS, NORM_STATS, OFFER_STATS};

/// The largest magnitude and where it first stands.
fn peak(row: impl Iterator<Item = i64>) -> (u32, u32) {
    let (mut max, mut at) = (0u64, 0u32);
    for (i, v) in (0u32..).zip(row) {
        if v.unsigned_abs() > max || i == 0 {
            (max, at) = (v.unsigned_abs(), i);
        }
    }
    (max as u32, at)
}

fn round_shift(v: i64, s: u32) -> i64 {
    if s == 0 { v } else { (v + (1 << (s - 1))) >> s }
}

pub(crate) fn norm(h: &[i32], gain: &[i32]) -> [i32; NORM_STATS] {
    let (max, at) = peak(h.iter().map(|&h| h.into()));
    let spare = (32 - max.leading_zeros()).saturating_sub(ops::NORM_BITS);
    let shortened = |&h: &i32| round_shift(h.into(), spare);
    let squares = h.iter().fold(0u64, |sum, h| {
        let a = shortened(h);
        sum.wrapping_add((a * a) as u64)
    });
    let gained =
        h.iter().zip(gain).map(|(h, &g)| round_shift(shortened(h) * i64::from(g), ops::GAIN_SHIFT));
    let (gained_max, gained_at) = peak(gained);
    let words = [max, at, squares as u32, (squares >> 32) as u32, gained_max, gained_at, 0, 0];
    words.map(|word| word as i32)
}

pub(crate) fn offer(row: &[i32]) -> [i32; OFFER_STATS] {
    let (max, at) = peak(row.iter().map(|&v| v.into()));
    [max as i32, at as i32, 0, 0]
}

/// The statistics and weighted sums of the heads of one [`Attended`], appended.
pub(crate) fn attention(attended: &Attended<'_>, stats: &mut Vec<i32>, sums: &mut Vec<i32>) {
    let heads = attended.scores.len().max(1);
    let width = attended.queries.len() / heads;
    if width == 0 {
        return;
    }
    let seen = attended.seen.start * width..attended.seen.end * width;
    let keys = attended.keys.get(seen.clone()).unwrap_or_default();
    let values = attended.values.get(seen).unwrap_or_default();
    let mut scores = Vec::with_capacity(keys.len() / width);
    let mut sum = vec![0i64; width];
    for (query, &multiplier) in attended.queries.chunks_exact(width).zip(attended.scores) {
        scores.clear();
        scores.extend(keys.chunks_exact(width).map(|key| {
            let products = query.iter().zip(key).map(|(&q, &k)| i32::from(q) * i32::from(k));
            products.fold(0, i32::wrapping_add)
        }));
        let mut peak = (i32::MIN, 0);
        for (u, &score) in scores.iter().enumerate() {
            if score > peak.0 || u == 0 {
                peak = (score, u);
            }
        }
        let mut total = 0u64;
        sum.fill(0);
        let last = attended.exp.len().saturating_sub(1) as u64;
        for (&score, value) in scores.iter().zip(values.chunks_exact(width)) {
            let below = u64::from(peak.0.wrapping_sub(score) as u32);
            let index = ((below * u64::from(multiplier)) >> 40).min(last) as usize;
            let e = attended.exp.get(index).copied().unwrap_or(0);
            total += u64::from(e);
            for (sum, &v) in sum.iter_mut().zip(value) {
                *sum += i64::from(e) * i64::from(v);
            }
        }
        let at = (attended.seen.start + peak.1) as i32;
        stats.extend([peak.0, at, total as u32 as i32, 0]);
        debug_assert_eq!(stats.len() % HEAD_STATS, 0);
        sums.extend(sum.iter().flat_map(|s| [*s as i32, (*s >> 32) as i32]));
    }
}
