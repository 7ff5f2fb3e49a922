//! The exact element-wise operations of decoders: RMSNorm with quantisation, SwiGLU, attention over
//! a cache.
//!
//! As in [`crate::ops`], each function is the definition and the implementation;
//! `docs/exact-arithmetic.md` derives the bounds. `R(v, s) = (v + 2^(s−1)) >> s`.

use crate::ops::{InverseRoot, Requantize, RowScale, SCORE_SHIFT, inverse_root, quantize_row};

/// Residual-stream values are clamped to `±(2^30 − 1)`.
pub const RESIDUAL_LIMIT: i32 = (1 << 30) - 1;
/// Gains of a norm are within `±2^30`, the largest usually near it.
pub const GAIN_LIMIT: i32 = 1 << 30;
/// Right shift of `a · gain`.
pub const GAIN_SHIFT: u32 = 26;
/// Bits a residual row keeps when it is normalised.
pub const NORM_BITS: u32 = 24;
/// Fractional bits of a gate and of its SiLU.
pub const SILU_FRACTION_BITS: u32 = 12;
/// Gates fall into table bins of `2^SILU_BIN_BITS` units.
pub const SILU_BIN_BITS: u32 = 2;
/// Gates are clamped to `±(2^22 − 1)`, that is ±1024.
pub const GATE_LIMIT: i32 = (1 << 22) - 1;
/// The other factor of SwiGLU is clamped to `±(2^26 − 1)`.
pub const UP_LIMIT: i32 = (1 << 26) - 1;
/// Values are clamped to `±(2^15 − 1)`.
pub const VALUE_LIMIT: i32 = 32767;
/// Fractional bits a context has below the value's unit.
pub const CONTEXT_BITS: u32 = 7;
/// Logits are clamped to `±(2^27 − 1)`, that is ±2048.
pub const LOGIT_LIMIT: i32 = (1 << 27) - 1;
/// Tokens whose `e · v` fit a 32-bit sum: `2 · 32767² < 2^31`.
const BLOCK: usize = 2;

/// Clamp of queries and keys: the largest `L` with `width · (L + 2)² < 2^31`, at most 16383. Rotation
/// keeps a pair's length, so a score stays below 2^31 and a turned channel within 16 bits.
pub fn query_key_limit(width: usize) -> i32 {
    let longest = ((i32::MAX as u64) / width.max(1) as u64).isqrt();
    longest.saturating_sub(2).min(16383) as i32
}

fn round_shift(value: i64, shift: u32) -> i64 {
    (value + (1i64 << (shift - 1))) >> shift
}

/// Root-mean-square norm of a row, its gain, and quantisation to `|x| ≤ q_max`, in one; returns the scale that
/// [`requantize_row`] takes. `t` is scratch of the row's width.
///
/// With `m = max|h|` and `s` the bits of `m` beyond [`NORM_BITS`] (0 if fewer): `a = R(h, s)` (`h` if `s = 0`),
/// `v = Σa² + (epsilon >> 2s)`, `t = R(a · gain, 26)`, and `x` is `t` quantised by
/// [`quantize_row`]. The scale is the product of that row's magnitude and `1/√v` ([`inverse_root`]):
/// with `P = mantissa · inverse`, it is `(P >> 31, exponent + 31 − half)` if `P ≥ 2^61`, else
/// `(P >> 30, exponent + 32 − half)`.
///
/// `|h| ≤ 2^30`, at most 2^14 of them, `|gain| ≤ 2^30`, `epsilon < 2^62`.
pub fn rms_quantize_row(
    h: &[i32],
    epsilon: u64,
    gain: &[i32],
    q_max: u32,
    t: &mut [i32],
    x: &mut [i32],
) -> RowScale {
    let max = h.iter().fold(0, |m: u32, v| m.max(v.unsigned_abs()));
    let s = (32 - max.leading_zeros()).saturating_sub(NORM_BITS);
    let half = if s == 0 { 0 } else { 1i32 << (s - 1) };
    let mut v = 0u64;
    for ((t, &h), &g) in t.iter_mut().zip(h).zip(gain) {
        let a = i64::from((h + half) >> s);
        v += (a * a) as u64;
        *t = round_shift(a * i64::from(g), GAIN_SHIFT) as i32;
    }
    let row = quantize_row(t, q_max, x);
    let InverseRoot { inverse, half_shift } = inverse_root(v + (epsilon >> (2 * s)));
    let product = u64::from(row.mantissa) * u64::from(inverse);
    if product >> 61 != 0 {
        RowScale { mantissa: (product >> 31) as u32, exponent: row.exponent + 31 - half_shift }
    } else {
        RowScale { mantissa: (product >> 30) as u32, exponent: row.exponent + 32 - half_shift }
    }
}

/// [`crate::ops::requantize_row`] for scales of any exponent: where the shift exceeds 62, only the
/// bias remains, as rounding would have it.
pub fn requantize_row(y: &[i32], scale: RowScale, to: Requantize<'_>, out: &mut [i32]) {
    if to.shift + scale.exponent - 31 <= 62 {
        return crate::ops::requantize_row(y, scale, to, out);
    }
    for (out, &b) in out.iter_mut().zip(to.bias) {
        *out = b.clamp(-to.limit, to.limit);
    }
}

/// `h[i] ← clamp(h[i] + delta[i], ±RESIDUAL_LIMIT)`.
pub fn add_residual(h: &mut [i32], delta: &[i32]) {
    for (h, &d) in h.iter_mut().zip(delta) {
        *h = h.saturating_add(d).clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT);
    }
}

/// [`crate::ops::smooth_row`] with the decoder's limit.
pub fn smooth_row(h: &mut [i32], factor: &[u16]) {
    let limit = i64::from(RESIDUAL_LIMIT);
    for (h, &f) in h.iter_mut().zip(factor) {
        let v = round_shift(i64::from(*h) * i64::from(f), 14);
        *h = v.clamp(-limit, limit) as i32;
    }
}

/// One embedding row: `h[i] = clamp(R(q[i] · scale, shift), ±RESIDUAL_LIMIT)`.
pub fn embed_row(q: &[i8], scale: u32, shift: u32, h: &mut [i32]) {
    let limit = i64::from(RESIDUAL_LIMIT);
    for (h, &q) in h.iter_mut().zip(q) {
        let v = round_shift(i64::from(q) * i64::from(scale), shift);
        *h = v.clamp(-limit, limit) as i32;
    }
}

/// SwiGLU (Shazeer, 2020): `out[i] = clamp(R(silu(gate[i]) · up[i], 12), ±RESIDUAL_LIMIT)` with
/// `silu(u) = max(u, 0) − table[|u| >> 2]`, entries past the table being 0.
///
/// `silu(u) = max(u, 0) − |u|·σ(−|u|)`: the second term is even and at most 0.28.
pub fn swiglu_row(gate: &[i32], up: &[i32], table: &[u16], out: &mut [i32]) {
    let limit = i64::from(RESIDUAL_LIMIT);
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        let bin = (gate.unsigned_abs() >> SILU_BIN_BITS) as usize;
        let silu = gate.max(0) - i32::from(table.get(bin).copied().unwrap_or(0));
        let v = round_shift(i64::from(silu) * i64::from(up), SILU_FRACTION_BITS);
        *out = v.clamp(-limit, limit) as i32;
    }
}

/// Attention of one query over a cache: `keys` and `values` are `[tokens, width]`, and the context
/// of `width` goes to `out`.
///
/// `s[u] = Σ q[i]·k[u,i]`, `e[u] = exp[min(((max s − s[u]) · score) >> 40, last)]`, `D = Σ e[u]`, `A[i] = Σ
/// e[u]·v[u,i]`. With `z` the left shift that brings `D` to `2^31..2^32` and `r = ⌊(2^62 − 1) / (D << z)⌋`,
/// `out[i] = R(R(A[i] << z, 16) · r, 39)`: the weighted mean with [`CONTEXT_BITS`] more bits.
///
/// Scores fit 32 bits, the table starts above 2^14 and ends in 0, `score < 2^31`, at most 2^17 tokens.
pub fn attend(
    query: &[i16],
    keys: &[i16],
    values: &[i16],
    score: u32,
    exp: &[u16],
    scratch: &mut AttentionScratch,
    out: &mut [i32],
) {
    let width = query.len();
    let tokens = keys.len() / width.max(1);
    let AttentionScratch { scores, sums, block } = scratch;
    scores.resize(tokens, 0);
    for (s, key) in scores.iter_mut().zip(keys.chunks_exact(width.max(1))) {
        let products = query.iter().zip(key).map(|(&q, &k)| i32::from(q) * i32::from(k));
        *s = products.fold(0, i32::wrapping_add);
    }
    let max = scores.iter().fold(i32::MIN, |m, &s| m.max(s));
    let last = exp.len().saturating_sub(1) as u64;
    let mut total = 0u64;
    for s in scores.iter_mut() {
        let below = u64::from(max.wrapping_sub(*s) as u32);
        let index = ((below * u64::from(score)) >> SCORE_SHIFT).min(last);
        let e = exp.get(index as usize).copied().unwrap_or(0);
        total += u64::from(e);
        *s = i32::from(e);
    }
    sums.clear();
    sums.resize(width, 0);
    block.clear();
    block.resize(width, 0);
    for (e, v) in scores.chunks(BLOCK).zip(values.chunks(BLOCK * width)) {
        if e.iter().all(|&e| e == 0) {
            continue;
        }
        block.fill(0);
        for (&e, v) in e.iter().zip(v.chunks_exact(width)) {
            for (b, &v) in block.iter_mut().zip(v) {
                *b += e * i32::from(v);
            }
        }
        for (sum, &b) in sums.iter_mut().zip(block.iter()) {
            *sum += i64::from(b);
        }
    }
    let total = total.max(1);
    let z = total.leading_zeros().saturating_sub(32);
    let r = (((1u64 << 62) - 1) / (total << z)) as i64;
    for (out, &sum) in out.iter_mut().zip(sums.iter()) {
        *out = round_shift(round_shift(sum << z, 16) * r, 39) as i32;
    }
}

/// Buffers [`attend`] reuses.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    scores: Vec<i32>,
    sums: Vec<i64>,
    block: Vec<i32>,
}
