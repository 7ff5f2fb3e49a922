//! The exact element-wise operations: quantise, requantise, normalise, GELU, softmax.
//!
//! Each function is the definition *and* the implementation: a plain loop over integers whose
//! rounding is written out. The same loops are compiled once more for AVX2 (see `wide!`), which
//! cannot change an integer result. `docs/exact-arithmetic.md` derives the constants and bounds.
//!
//! Rounding is always "add half, shift right arithmetically", that is, to the nearest integer with
//! ties towards +∞. Divisions are floor divisions of non-negative numbers unless stated.

/// Residual-stream values are clamped to `±(2^25 − 1)`, so that sums of squares stay in 63 bits.
pub const RESIDUAL_LIMIT: i32 = (1 << 25) - 1;
/// Layer-normalised values are clamped to `±(2^22 − 1)`.
pub const NORM_LIMIT: i32 = (1 << 22) - 1;
/// Widest vector the normalisations accept: `2048 · 2^52 = 2^63`.
pub const MAX_NORM_WIDTH: usize = 2048;
/// Fractional bits of the GELU domain and of its result.
pub const GELU_FRACTION_BITS: u32 = 12;
/// GELU inputs fall into table bins of `2^GELU_BIN_BITS` units.
pub const GELU_BIN_BITS: u32 = 2;
/// GELU inputs are clamped to `±(2^18 − 1)`, that is ±64.
pub const GELU_LIMIT: i32 = (1 << 18) - 1;
/// Queries and keys are clamped to ±8191: `32 · 8191² < 2^31` keeps a score in 32 bits.
pub const QUERY_KEY_LIMIT: i32 = 8191;
/// Values are clamped to 16 bits.
pub const VALUE_LIMIT: i32 = 32767;
/// Right shift of `(max − score) · multiplier` that gives the exponential table's index.
pub const SCORE_SHIFT: u32 = 40;
/// Probability one, in softmax weights.
pub const PROBABILITY_ONE: u32 = 32767;
/// Right shift of `Σ p·v`, which leaves 7 fractional bits below the value's unit.
pub const CONTEXT_SHIFT: u32 = 8;

/// Per-token scale of a quantised row: its largest magnitude as `mantissa · 2^−exponent`, with the
/// mantissa in `2^30 .. 2^31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowScale {
    /// Normalised magnitude.
    pub mantissa: u32,
    /// Left shift that normalised it, `0..=30`.
    pub exponent: u32,
}

/// Compiles the inner loop twice, plainly and with AVX2 enabled, and picks at run time.
macro_rules! wide {
    ($(#[$meta:meta])* pub fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        pub fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn plain($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { plain($($arg),*) }
                if crate::dispatch::has_avx2() {
                    // SAFETY: the CPU has AVX2, checked on the line above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}

#[inline(always)]
fn round_shift(value: i64, shift: u32) -> i64 {
    (value.wrapping_add(1i64 << (shift - 1))) >> shift
}

wide! {
    /// Multiplies each value by its channel's factor with 14 fractional bits:
    /// `h[i] ← (h[i] · factor[i] + 2^13) >> 14`, clamped to [`RESIDUAL_LIMIT`].
    pub fn smooth_row(h: &mut [i32], factor: &[u16]) {
        for (h, &f) in h.iter_mut().zip(factor) {
            let v = round_shift(i64::from(*h).wrapping_mul(i64::from(f)), 14);
            *h = v.clamp(-i64::from(RESIDUAL_LIMIT), i64::from(RESIDUAL_LIMIT)) as i32;
        }
    }
}

wide! {
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
        let m = m.min(i32::MAX as u32);
        let exponent = m.leading_zeros() - 1;
        let mantissa = m << exponent;
        let r = ((u64::from(q_max) << 46) / u64::from(mantissa)) as i64;
        let shift = 46 - exponent;
        for (x, &h) in x.iter_mut().zip(h) {
            *x = round_shift(i64::from(h).wrapping_mul(r), shift) as i32;
        }
        RowScale { mantissa, exponent }
    }
}

wide! {
    /// Brings one row of accumulators back to fixed point:
    /// `c = (mantissa · multiplier[j]) >> 31`,
    /// `out[j] = clamp(((y[j] · c + 2^(s−1)) >> s) + bias[j], ±limit)` with
    /// `s = shift + exponent − 31`.
    ///
    /// Multipliers are below 2^31, `32 ≤ shift ≤ 63`, so `1 ≤ s ≤ 62` and no product overflows.
    pub fn requantize_row(
        y: &[i32],
        scale: RowScale,
        multiplier: &[u32],
        shift: u32,
        bias: &[i32],
        limit: i32,
        out: &mut [i32],
    ) {
        let s = shift + scale.exponent - 31;
        let mantissa = u64::from(scale.mantissa);
        let limit = i64::from(limit);
        for (((out, &y), &m), &b) in out.iter_mut().zip(y).zip(multiplier).zip(bias) {
            let c = (mantissa.wrapping_mul(u64::from(m)) >> 31) as i64;
            let v = round_shift(i64::from(y).wrapping_mul(c), s).wrapping_add(i64::from(b));
            *out = v.clamp(-limit, limit) as i32;
        }
    }
}

wide! {
    /// `h[i] ← clamp(h[i] + delta[i], ±RESIDUAL_LIMIT)`.
    pub fn add_residual(h: &mut [i32], delta: &[i32]) {
        for (h, &d) in h.iter_mut().zip(delta) {
            *h = h.wrapping_add(d).clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT);
        }
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

wide! {
    /// Layer normalisation of one row, in place, to 16 fractional bits.
    ///
    /// `mean = ⌊(Σh + ⌊N/2⌋)/N⌋` (floor), `d = h − mean`, `v = Σd² + epsilon`, with
    /// `1/√v` from [`inverse_root`]: `t = (d·inverse + 2^(31−half)) >> (32 − half)` is `d/√v` with 30
    /// fractional bits, and `h ← clamp(((t·gain + 2^(shift−1)) >> shift) + bias, ±NORM_LIMIT)`. The
    /// factor `√N` is inside `gain`, so the input's own unit does not matter.
    /// Every `|h| ≤ RESIDUAL_LIMIT`, `N ≤ MAX_NORM_WIDTH`, `1 ≤ shift ≤ 62`, `|gain| < 2^31`.
    pub fn layer_norm_row(h: &mut [i32], epsilon: u64, gain: &[i32], shift: u32, bias: &[i32]) {
        let n = h.len() as i64;
        if n == 0 {
            return;
        }
        let mut sum = 0i64;
        for &v in h.iter() {
            sum = sum.wrapping_add(i64::from(v));
        }
        let mean = sum.wrapping_add(n / 2).div_euclid(n) as i32;
        let mut v = 0u64;
        for x in h.iter_mut() {
            *x = x.wrapping_sub(mean);
            v = v.wrapping_add(i64::from(*x).wrapping_mul(i64::from(*x)) as u64);
        }
        let InverseRoot { inverse, half_shift } = inverse_root(v.saturating_add(epsilon));
        let inverse = i64::from(inverse);
        let down = 32 - half_shift;
        let limit = i64::from(NORM_LIMIT);
        for ((x, &g), &b) in h.iter_mut().zip(gain).zip(bias) {
            let t = round_shift(i64::from(*x).wrapping_mul(inverse), down) as i32;
            let y = round_shift(i64::from(t).wrapping_mul(i64::from(g)), shift);
            *x = y.wrapping_add(i64::from(b)).clamp(-limit, limit) as i32;
        }
    }
}

wide! {
    /// GELU in place: `u ← max(u, 0) − table[|u| >> GELU_BIN_BITS]`, entries past the table's end
    /// being 0.
    ///
    /// Uses `gelu(u) = max(u, 0) − |u|·Φ(−|u|)`: the second term is even, at most 0.17, and the
    /// table holds it at the middle of each bin, in GELU units.
    pub fn gelu_row(u: &mut [i32], table: &[u16]) {
        if table.is_empty() {
            return;
        }
        let last = table.len() - 1;
        for u in u {
            let bin = (u.unsigned_abs() >> GELU_BIN_BITS) as usize;
            // A mask, not a branch: whether a value falls past the table is a coin toss.
            let inside = -i32::from(bin <= last);
            let g = i32::from(table[bin.min(last)]) & inside;
            *u = (*u).max(0).wrapping_sub(g);
        }
    }
}

wide! {
    /// Softmax of one row of scores to weights with [`PROBABILITY_ONE`] as one.
    ///
    /// `e[j] = table[min(((max − s[j]) · multiplier) >> SCORE_SHIFT, last)]` (the table's last
    /// entry is 0), `r = ⌊PROBABILITY_ONE · 2^31 / Σe⌋`, `p[j] = (e[j] · r + 2^30) >> 31`. The table
    /// starts above 2^14, so `Σe > 2^14` and `r < 2^32`. `multiplier < 2^31`, and the table has at
    /// most 2^15 entries.
    pub fn softmax_row(scores: &[i32], multiplier: u32, table: &[u16], p: &mut [i16]) {
        if scores.is_empty() {
            return;
        }
        // A fold vectorises where `Iterator::max` does not.
        let max = scores.iter().fold(i32::MIN, |max, &s| max.max(s));
        let Some(last) = table.len().checked_sub(1) else { return };
        let last = last.min(i16::MAX as usize) as u32;
        let multiplier = u64::from(multiplier);
        // Indices first, so that this loop vectorises; then the look-ups, which cannot.
        for (p, &s) in p.iter_mut().zip(scores) {
            let below = u64::from(max.wrapping_sub(s) as u32);
            *p = ((below.wrapping_mul(multiplier) >> SCORE_SHIFT) as u32).min(last) as i16;
        }
        let mut sum = 0u64;
        for p in p.iter_mut() {
            let e = table.get(*p as usize).copied().unwrap_or(0);
            sum = sum.wrapping_add(u64::from(e));
            *p = e as i16;
        }
        let r = (u64::from(PROBABILITY_ONE) << 31) / sum.max(1);
        for p in p.iter_mut() {
            let e = u64::from(*p as u16);
            *p = (e.wrapping_mul(r).wrapping_add(1 << 30) >> 31) as i16;
        }
    }
}

wide! {
    /// One embedding row: `h[i] = clamp(((q[i]·scale + 2^(shift−1)) >> shift) + position[i])`.
    pub fn embed_row(q: &[i8], scale: u32, shift: u32, position: &[i32], h: &mut [i32]) {
        for ((h, &q), &p) in h.iter_mut().zip(q).zip(position) {
            let v = round_shift(i64::from(q).wrapping_mul(i64::from(scale)), shift);
            let v = v.wrapping_add(i64::from(p));
            *h = v.clamp(-i64::from(RESIDUAL_LIMIT), i64::from(RESIDUAL_LIMIT)) as i32;
        }
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
