//! One query straight from the cache, with the vector operations of [`Vector`].

use super::plain::{self, Mean};
use super::{AttentionScratch, Cache, PIECE};
use crate::ops::SCORE_SHIFT;
use crate::vector::{MOST_LANES, Vector};

/// Keys that share a load of the query.
const KEYS: usize = 4;
/// Values looked up at a time: indices and entries live in two small buffers, so that what can be
/// vectorised is.
const LOOKUPS: usize = 64;

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn attend<L: Vector>(
    query: &[i16],
    cache: Cache<'_>,
    score: u32,
    exp: &[u16],
    scratch: &mut AttentionScratch,
    out: &mut [i32],
) {
    let width = query.len();
    let tokens = cache.keys.len().min(cache.values.len()) / width.max(1);
    let AttentionScratch { scores, bytes, sums, .. } = scratch;
    scores.resize(tokens, 0);
    // A pair of exponentials is read as one; the value that an odd last one meets counts as zero.
    let even = tokens.next_multiple_of(2);
    bytes.clear();
    bytes.resize(2 * even, 0);
    let (low, high) = bytes.split_at_mut(even);
    sums.clear();
    sums.resize(width, 0);
    // SAFETY: the caller's promise.
    let total = unsafe {
        dots::<L>(query, cache.keys, scores);
        let total = exponentials::<L>(scores, score, exp, &mut low[..tokens], &mut high[..tokens]);
        weighted::<L>(low, high, &cache.values[..tokens * width], sums);
        total
    };
    let mean = Mean::of(total);
    for (out, &sum) in out.iter_mut().zip(&*sums) {
        *out = mean.value(sum);
    }
}

fn dot(query: &[i16], key: &[i16]) -> i32 {
    let products = query.iter().zip(key).map(|(&q, &k)| i32::from(q) * i32::from(k));
    products.fold(0, i32::wrapping_add)
}

/// `scores[u] = Σ_i query[i] · keys[u, i]`, wrapping.
///
/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
unsafe fn dots<L: Vector>(query: &[i16], keys: &[i16], scores: &mut [i32]) {
    let width = query.len();
    let whole = width / (2 * L::LANES) * (2 * L::LANES);
    let (four, rest) = scores.as_chunks_mut::<KEYS>();
    for (scores, keys) in four.iter_mut().zip(keys.chunks_exact(KEYS * width)) {
        // SAFETY: registers before `whole` lie inside the query and inside each key; features are the
        // caller's promise.
        unsafe {
            let mut sums = [L::splat(0); KEYS];
            let mut at = 0usize;
            while at != whole {
                let q = L::load(query.as_ptr().add(at).cast());
                for (u, sum) in sums.iter_mut().enumerate() {
                    let key = L::load(keys.as_ptr().add(u * width + at).cast());
                    *sum = L::multiply_add(*sum, key, q);
                }
                at = at.wrapping_add(2 * L::LANES);
            }
            *scores = L::totals(sums);
        }
        if whole < width {
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(width)) {
                *score = score.wrapping_add(dot(&query[whole..], &key[whole..]));
            }
        }
    }
    let done = four.len() * KEYS * width;
    for (score, key) in rest.iter_mut().zip(keys[done..].chunks_exact(width)) {
        *score = dot(query, key);
    }
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(super) unsafe fn exponentials<L: Vector>(
    scores: &[i32],
    score: u32,
    exp: &[u16],
    low: &mut [i16],
    high: &mut [i16],
) -> u64 {
    let Some(last) = exp.len().checked_sub(1) else {
        low.fill(0);
        high.fill(0);
        return 0;
    };
    let max = scores.iter().fold(i32::MIN, |m, &s| m.max(s));
    let mut total = 0u64;
    let mut bins = [0u32; LOOKUPS];
    let parts = low.chunks_mut(LOOKUPS).zip(high.chunks_mut(LOOKUPS));
    for (s, (low, high)) in scores.chunks(LOOKUPS).zip(parts) {
        let end = s.len() / L::LANES * L::LANES;
        // SAFETY: every register lies inside `s` and inside `bins`; features are the caller's promise.
        unsafe {
            let (top, multiplier) = (L::splat(max), L::splat(score as i32));
            // The index is below 2^23, since `max − s` and the multiplier are below 2^32 and 2^31.
            let limit = L::splat(last.min(i32::MAX as usize) as i32);
            for i in (0..end).step_by(L::LANES) {
                let below = L::sub(top, L::load(s.as_ptr().add(i)));
                let bin = L::wide_shr(L::wide_mul_u32(below, multiplier), SCORE_SHIFT);
                let bin = L::min(L::wide_low(bin), limit);
                L::store(bins.as_mut_ptr().add(i).cast(), bin);
            }
        }
        for ((&bin, low), high) in bins[..end].iter().zip(&mut *low).zip(&mut *high) {
            let e = exp[(bin as usize).min(last)];
            total = total.wrapping_add(u64::from(e));
            (*low, *high) = ((e & 0xff) as i16, (e >> 8) as i16);
        }
        let rest = s[end..].iter().zip(&mut low[end..]).zip(&mut high[end..]);
        for ((&s, low), high) in rest {
            let e = plain::exponential(max, s, score, exp);
            total = total.wrapping_add(u64::from(e));
            (*low, *high) = ((e & 0xff) as i16, (e >> 8) as i16);
        }
    }
    total
}

/// `sums[i] += Σ_u (low[u] + 2^8·high[u]) · values[u, i]`.
///
/// # Safety
/// The CPU has `L`'s features; `low` and `high` hold an even number of bytes, and zero for a token
/// beyond those of `values`.
#[inline(always)]
unsafe fn weighted<L: Vector>(low: &[i16], high: &[i16], values: &[i16], sums: &mut [i64]) {
    let width = sums.len();
    let channels = 2 * L::LANES;
    for (piece, values) in values.chunks(PIECE * width).enumerate() {
        let range = piece * PIECE..low.len().min((piece + 1) * PIECE);
        let (low, high) = (&low[range.clone()], &high[range]);
        let mut channel = 0;
        // SAFETY: `low` and `high` are as long, their length is that of the tokens made even; blocks
        // end inside the width; features are the caller's promise.
        unsafe {
            while channel + 2 * channels <= width {
                block::<L, 2>(low, high, values, width, channel, sums);
                channel += 2 * channels;
            }
            if channel + channels <= width {
                block::<L, 1>(low, high, values, width, channel, sums);
                channel += channels;
            }
        }
        if channel == width {
            continue;
        }
        for ((&low, &high), value) in low.iter().zip(high).zip(values.chunks_exact(width)) {
            let e = i32::from(low) + (i32::from(high) << 8);
            for (sum, &v) in sums[channel..].iter_mut().zip(&value[channel..]) {
                *sum = sum.wrapping_add(i64::from(e * i32::from(v)));
            }
        }
    }
}

/// One piece's part of `B` blocks of `2·LANES` channels.
///
/// # Safety
/// As [`weighted`], for at most [`PIECE`] tokens; the blocks' channels lie inside the width.
#[inline(always)]
unsafe fn block<L: Vector, const B: usize>(
    low: &[i16],
    high: &[i16],
    values: &[i16],
    width: usize,
    channel: usize,
    sums: &mut [i64],
) {
    let channels = 2 * L::LANES;
    let zeros = [0i16; 2 * MOST_LANES];
    // SAFETY: the caller's promise; `zeros` holds the most channels that a register has.
    unsafe {
        let mut lows = [[L::splat(0); 2]; B];
        let mut highs = [[L::splat(0); 2]; B];
        for (u, values) in values.chunks(2 * width).enumerate() {
            let (l, h) = (low.as_ptr().add(2 * u), high.as_ptr().add(2 * u));
            let (l, h) = (L::splat_pair(l), L::splat_pair(h));
            for b in 0..B {
                let even = values.as_ptr().add(channel + b * channels);
                let odd = if values.len() > width { even.add(width) } else { zeros.as_ptr() };
                for (r, pairs) in L::interleave_two(even, odd).into_iter().enumerate() {
                    lows[b][r] = L::multiply_add(lows[b][r], pairs, l);
                    highs[b][r] = L::multiply_add(highs[b][r], pairs, h);
                }
            }
        }
        for b in 0..B {
            let mut parts = [[0i32; 2 * MOST_LANES]; 2];
            for (part, registers) in parts.iter_mut().zip([lows[b], highs[b]]) {
                for (r, v) in L::in_order(registers).into_iter().enumerate() {
                    L::store(part.as_mut_ptr().add(r * L::LANES), v);
                }
            }
            let sums = &mut sums[channel + b * channels..][..channels];
            for ((sum, &l), &h) in sums.iter_mut().zip(&parts[0]).zip(&parts[1]) {
                *sum = sum.wrapping_add(i64::from(l)).wrapping_add(i64::from(h) << 8);
            }
        }
    }
}
