//! The definition of each element-wise operation, as a plain loop.

use super::{
    BIAS_FRACTION_BITS, CONTEXT_SHIFT, GELU_BIN_BITS, NORM_LIMIT, PROBABILITY_ONE, RESIDUAL_LIMIT,
    Requantize, RowScale, SCORE_SHIFT,
};

/// Fractional bits of a smoothing factor.
pub(super) const SMOOTH_BITS: u32 = 14;

#[inline(always)]
fn round_shift(value: i64, shift: u32) -> i64 {
    (value.wrapping_add(1i64 << (shift - 1))) >> shift
}

/// Multiplies each value by its channel's factor with 14 fractional bits:
/// `h[i] ← (h[i] · factor[i] + 2^13) >> 14`, clamped to [`RESIDUAL_LIMIT`].
pub fn smooth_row(h: &mut [i32], factor: &[u16]) {
    smooth_within(h, factor, RESIDUAL_LIMIT);
}

#[inline(always)]
pub(crate) fn smooth_within(h: &mut [i32], factor: &[u16], limit: i32) {
    let limit = i64::from(limit);
    for (h, &f) in h.iter_mut().zip(factor) {
        let v = round_shift(i64::from(*h).wrapping_mul(i64::from(f)), SMOOTH_BITS);
        *h = v.clamp(-limit, limit) as i32;
    }
}

/// Quantises one row to `|x| ≤ q_max` with the row's own largest magnitude `m` as the scale
/// (`x ≈ h · q_max / m`), and returns `m` normalised.
///
/// `m = max(1, max|h|)`; `mantissa = m · 2^exponent` in `2^30..2^31`;
/// `r = ⌊q_max · 2^46 / mantissa⌋`; `x = (h · r + 2^(45−exponent)) >> (46 − exponent)`.
/// `q_max` is below 2^15 and every `|h| < 2^31`.
pub fn quantize_row(h: &[i32], q_max: u32, x: &mut [i32]) -> RowScale {
    let mut m = 1u32;
    for &v in h {
        m = m.max(v.unsigned_abs());
    }
    let quantizer = Quantizer::new(m, q_max);
    for (x, &h) in x.iter_mut().zip(h) {
        *x = quantizer.value(h);
    }
    quantizer.scale
}

/// What [`quantize_row`] applies to each value of a row.
#[derive(Clone, Copy)]
pub(super) struct Quantizer {
    pub(super) scale: RowScale,
    /// Below 2^31.
    pub(super) factor: i64,
    /// Right shift after it, `16..=46`.
    pub(super) shift: u32,
}

impl Quantizer {
    /// For a row whose largest magnitude is `m ≥ 1`.
    pub(super) fn new(m: u32, q_max: u32) -> Self {
        let m = m.min(i32::MAX as u32);
        let exponent = m.leading_zeros() - 1;
        let mantissa = m << exponent;
        let factor = ((u64::from(q_max) << 46) / u64::from(mantissa)) as i64;
        Self { scale: RowScale { mantissa, exponent }, factor, shift: 46 - exponent }
    }

    #[inline(always)]
    pub(super) fn value(&self, h: i32) -> i32 {
        round_shift(i64::from(h).wrapping_mul(self.factor), self.shift) as i32
    }
}

/// Brings one row of accumulators back to fixed point:
/// `c = (mantissa · multiplier[j]) >> 31`,
/// `out[j] = clamp(((y[j] · c + 2^(s−1)) >> s) + bias[j], ±limit)` with
/// `s = shift + exponent − 31`.
///
/// Multipliers are below 2^31, `32 ≤ shift ≤ 63`, so `1 ≤ s ≤ 62` and no product overflows.
pub fn requantize_row(y: &[i32], scale: RowScale, to: Requantize<'_>, out: &mut [i32]) {
    let s = to.shift + scale.exponent - 31;
    for (((out, &y), &m), &b) in out.iter_mut().zip(y).zip(to.multiplier).zip(to.bias) {
        let c = (u64::from(scale.mantissa).wrapping_mul(u64::from(m)) >> 31) as i64;
        *out = add_clamp(round_shift(i64::from(y).wrapping_mul(c), s), b, to.limit);
    }
}

#[inline(always)]
pub(super) fn add_clamp(v: i64, bias: i32, limit: i32) -> i32 {
    let limit = i64::from(limit);
    v.wrapping_add(i64::from(bias)).clamp(-limit, limit) as i32
}

/// `h[i] ← clamp(h[i] + delta[i], ±RESIDUAL_LIMIT)`.
#[inline(always)]
pub fn add_residual(h: &mut [i32], delta: &[i32]) {
    for (h, &d) in h.iter_mut().zip(delta) {
        *h = h.wrapping_add(d).clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT);
    }
}

/// The reciprocal square root of a sum of squares: `1/√v ≈ inverse · 2^(half_shift − 62)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InverseRoot {
    /// `⌊(2^62 − 1) / ⌊√(v · 2^(2·half_shift))⌋⌋`, below 2^31.
    pub inverse: u32,
    /// Half of the even left shift that normalised `v`, `0..=31`.
    pub half_shift: u32,
}

/// Integer reciprocal square root of `v ≥ 1` (0 counts as 1).
///
/// `v` is shifted left by the largest even number that keeps it in 64 bits, its integer square
/// root `R` lies in `2^31..2^32`, and `inverse = ⌊(2^62 − 1)/R⌋`.
pub fn inverse_root(v: u64) -> InverseRoot {
    let v = v.max(1);
    let half_shift = v.leading_zeros() / 2;
    let root = (v << (2 * half_shift)).isqrt();
    InverseRoot { inverse: (((1u64 << 62) - 1) / root) as u32, half_shift }
}

/// Layer normalisation of one row, in place, to 16 fractional bits.
///
/// `mean = ⌊(Σh + ⌊N/2⌋)/N⌋` (floor), `d = h − mean`, `v = Σd² + epsilon`, with
/// `1/√v` from [`inverse_root`]: `t = (d·inverse + 2^(31−half)) >> (32 − half)` is `d/√v` with 30
/// fractional bits, and `h ← clamp(((t·gain + 2^(shift−1)) >> shift) + bias, ±NORM_LIMIT)`. The
/// factor `√N` is inside `gain`, so the input's own unit does not matter.
/// Every `|h| ≤ RESIDUAL_LIMIT`, `N ≤ MAX_NORM_WIDTH`, `1 ≤ shift ≤ 62`, `|gain| < 2^31`.
pub fn layer_norm_row(h: &mut [i32], epsilon: u64, gain: &[i32], shift: u32, bias: &[i32]) {
    let mut sum = 0i64;
    for &v in h.iter() {
        sum = sum.wrapping_add(i64::from(v));
    }
    let Some(mean) = floor_mean(sum, h.len()) else { return };
    let mut v = 0u64;
    for x in h.iter_mut() {
        *x = x.wrapping_sub(mean);
        v = v.wrapping_add(i64::from(*x).wrapping_mul(i64::from(*x)) as u64);
    }
    let root = inverse_root(v.saturating_add(epsilon));
    for ((x, &g), &b) in h.iter_mut().zip(gain).zip(bias) {
        *x = normalised(*x, root, g, shift, b);
    }
}

/// The floor of the mean of `n` values with this sum, rounded; `None` of no values.
#[inline(always)]
pub(super) fn floor_mean(sum: i64, n: usize) -> Option<i32> {
    let n = n as i64;
    (n > 0).then(|| sum.wrapping_add(n / 2).div_euclid(n) as i32)
}

/// One value of a normalised row from its distance to the mean.
#[inline(always)]
pub(super) fn normalised(d: i32, root: InverseRoot, gain: i32, shift: u32, bias: i32) -> i32 {
    let down = 32 - root.half_shift;
    let t = round_shift(i64::from(d).wrapping_mul(i64::from(root.inverse)), down) as i32;
    add_clamp(round_shift(i64::from(t).wrapping_mul(i64::from(gain)), shift), bias, NORM_LIMIT)
}

/// GELU in place: `u ← max(u, 0) − table[|u| >> GELU_BIN_BITS]`, entries past the table's end
/// being 0.
///
/// Uses `gelu(u) = max(u, 0) − |u|·Φ(−|u|)`: the second term is even, at most 0.17, and the
/// table holds it at the middle of each bin, in GELU units.
pub fn gelu_row(u: &mut [i32], table: &[u16]) {
    for u in u {
        let bin = (u.unsigned_abs() >> GELU_BIN_BITS) as usize;
        let below = table.get(bin).copied().unwrap_or(0);
        *u = (*u).max(0).wrapping_sub(i32::from(below));
    }
}

/// Softmax of one row of scores to weights with [`PROBABILITY_ONE`] as one.
///
/// `e[j] = table[min(((max − s[j]) · multiplier) >> SCORE_SHIFT, last)]` (the table's last
/// entry is 0), `r = ⌊PROBABILITY_ONE · 2^31 / Σe⌋`, `p[j] = (e[j] · r + 2^30) >> 31`. The table
/// starts above 2^14, so `Σe > 2^14` and `r < 2^32`. `multiplier < 2^31`, and the table has at
/// most 2^15 entries.
pub fn softmax_row(scores: &[i32], multiplier: u32, table: &[u16], p: &mut [i16]) {
    let Some(&max) = scores.iter().max() else { return };
    let Some(last) = table.len().checked_sub(1) else { return };
    let mut sum = 0u64;
    for (p, &s) in p.iter_mut().zip(scores) {
        let below = u64::from(max.wrapping_sub(s) as u32);
        let index = (below.wrapping_mul(u64::from(multiplier)) >> SCORE_SHIFT) as usize;
        let e = table[index.min(last)];
        sum = sum.wrapping_add(u64::from(e));
        *p = e as i16;
    }
    let r = (u64::from(PROBABILITY_ONE) << 31) / sum.max(1);
    for p in p.iter_mut() {
        *p = probability(*p as u16, r);
    }
}

/// As [`softmax_row`], with something added to each score that depends on how far apart two tokens are.
///
/// `z[j] = ((s[j] · multiplier) >> (SCORE_SHIFT − BIAS_FRACTION_BITS)) + bias[j]` stands in for
/// `s[j] · multiplier`: `e[j] = table[min((max − z[j]) >> BIAS_FRACTION_BITS, last)]`. No `z` leaves 36 bits.
/// Rows past the shortest of `scores`, `bias` and `p` do not count.
pub fn softmax_biased_row(
    scores: &[i32],
    multiplier: u32,
    bias: &[i32],
    table: &[u16],
    p: &mut [i16],
) {
    const SHIFT: u32 = SCORE_SHIFT - BIAS_FRACTION_BITS;
    let Some(last) = table.len().checked_sub(1) else { return };
    let z = |(&s, &b): (&i32, &i32)| {
        (i64::from(s).wrapping_mul(i64::from(multiplier)) >> SHIFT).wrapping_add(i64::from(b))
    };
    let max = scores.iter().zip(bias).map(z).fold(i64::MIN, i64::max);
    let mut sum = 0u64;
    for (p, both) in p.iter_mut().zip(scores.iter().zip(bias)) {
        let below = (max.wrapping_sub(z(both)) >> BIAS_FRACTION_BITS) as usize;
        let e = table[below.min(last)];
        sum = sum.wrapping_add(u64::from(e));
        *p = e as i16;
    }
    let r = (u64::from(PROBABILITY_ONE) << 31) / sum.max(1);
    for (p, _) in p.iter_mut().zip(scores.iter().zip(bias)) {
        *p = probability(*p as u16, r);
    }
}

#[inline(always)]
pub(super) fn probability(e: u16, r: u64) -> i16 {
    (u64::from(e).wrapping_mul(r).wrapping_add(1 << 30) >> 31) as i16
}

/// Brings accumulated contexts to their unit: `c ← (c + 2^(s−1)) >> s` with `s = CONTEXT_SHIFT`.
#[inline(always)]
pub fn round_context(context: &mut [i32]) {
    for c in context {
        *c = c.wrapping_add(1 << (CONTEXT_SHIFT - 1)) >> CONTEXT_SHIFT;
    }
}

/// The low 16 bits of each value, which must fit them.
#[inline(always)]
pub fn narrow_row(row: &[i32], out: &mut [i16]) {
    for (out, &v) in out.iter_mut().zip(row) {
        *out = v as i16;
    }
}

/// One embedding row: `h[i] = clamp(((q[i]·scale + 2^(shift−1)) >> shift) + position[i])`.
#[inline(always)]
pub fn embed_row(q: &[i8], scale: u32, shift: u32, position: &[i32], h: &mut [i32]) {
    for ((h, &q), &p) in h.iter_mut().zip(q).zip(position) {
        let v = round_shift(i64::from(q).wrapping_mul(i64::from(scale)), shift);
        let v = v.wrapping_add(i64::from(p));
        *h = v.clamp(-i64::from(RESIDUAL_LIMIT), i64::from(RESIDUAL_LIMIT)) as i32;
    }
}

/// The mean of `rows` (`[tokens, width]`, each `|h| ≤ NORM_LIMIT`), scaled to unit length with 24
/// fractional bits.
///
/// `m = ⌊(16·Σh + ⌊T/2⌋)/T⌋` (floor), `v = Σm²`, `out = (m·inverse + 2^(37−half)) >> (38 − half)`
/// with `1/√v` from [`inverse_root`]. No rows give no coordinates.
pub fn mean_unit_vector(rows: &[i32], width: usize) -> Vec<i32> {
    if width == 0 || rows.len() < width {
        return Vec::new();
    }
    let tokens = (rows.len() / width) as i64;
    let mut mean = vec![0i64; width];
    for row in rows.chunks_exact(width) {
        for (m, &h) in mean.iter_mut().zip(row) {
            *m += i64::from(h);
        }
    }
    let mut v = 0u64;
    for m in &mut mean {
        *m = (*m * 16 + tokens / 2).div_euclid(tokens);
        v += (*m * *m) as u64;
    }
    let InverseRoot { inverse, half_shift } = inverse_root(v);
    let shift = 38 - half_shift;
    mean.iter().map(|&m| round_shift(m * i64::from(inverse), shift) as i32).collect()
}
