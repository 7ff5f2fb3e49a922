//! How far two runs are apart, in whole numbers.

use crate::sketch::{MANTISSA_BITS, Sketch, Value};
use nesa_primitives::codec_struct;
use serde::{Deserialize, Serialize};

const MILLION: u64 = 1_000_000;
/// All of a mantissa, in thousandths of its last kept bit: what stands for "nothing to compare".
const WHOLE_MANTISSA: u32 = (1 << MANTISSA_BITS) * 1000;

/// TOPLOC's statistics of two sketches, the worst over all taps of a run, and the difference of the
/// outputs. As a threshold, the largest of each that still counts as the same run.
///
/// Whole numbers, so that every machine decides alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Places in the larger sketch that the other does not have, in millionths of them.
    pub missing_ppm: u32,
    /// Common places whose exponents or signs differ, in millionths of the common ones.
    pub exponent_ppm: u32,
    /// Mean difference of mantissas where exponents and signs are equal, in thousandths of the last
    /// kept bit.
    pub mean_milli: u32,
    /// Median of the same.
    pub median_milli: u32,
    /// Largest difference of two output values, in billionths of the largest magnitude of either
    /// output; 2 billion at most.
    pub output_ppb: u32,
}

codec_struct!(Statistics { missing_ppm, exponent_ppm, mean_milli, median_milli, output_ppb });

impl Statistics {
    /// Two runs that have nothing in common.
    pub const APART: Self = Self {
        missing_ppm: MILLION as u32,
        exponent_ppm: MILLION as u32,
        mean_milli: WHOLE_MANTISSA,
        median_milli: WHOLE_MANTISSA,
        output_ppb: 2_000_000_000,
    };

    /// Of two sketches of the same tap; the outputs are left out.
    pub fn of(a: &Sketch, b: &Sketch) -> Self {
        let larger = a.entries().len().max(b.entries().len());
        if a.elements() != b.elements() {
            return Self { output_ppb: 0, ..Self::APART };
        }
        if larger == 0 {
            return Self::default();
        }
        let common = common(a, b);
        let missing_ppm = share(larger - common.len(), larger);
        let mut differences = Vec::with_capacity(common.len());
        for (a, b) in &common {
            if a.negative() == b.negative() && a.exponent() == b.exponent() {
                differences.push(a.mantissa().abs_diff(b.mantissa()));
            }
        }
        if differences.is_empty() {
            return Self { missing_ppm, output_ppb: 0, ..Self::APART };
        }
        differences.sort_unstable();
        let count = differences.len();
        let sum: u64 = differences.iter().map(|&d| u64::from(d)).sum();
        // The upper median, so that half of the entries moved is seen.
        let median = differences[count / 2];
        Self {
            missing_ppm,
            exponent_ppm: share(common.len() - count, common.len()),
            mean_milli: (sum * 1000 / count as u64) as u32,
            median_milli: median * 1000,
            output_ppb: 0,
        }
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.zip(other, u32::max)
    }

    /// The smaller of each.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        self.zip(other, u32::min)
    }

    /// Each of them times `margin` percent.
    #[must_use]
    pub fn percent(self, margin: u32) -> Self {
        let grown =
            |v: u32, _| u32::try_from(u64::from(v) * u64::from(margin) / 100).unwrap_or(u32::MAX);
        self.zip(self, grown)
    }

    /// Whether none exceeds its threshold.
    pub fn within(&self, thresholds: &Self) -> bool {
        self.missing_ppm <= thresholds.missing_ppm
            && self.exponent_ppm <= thresholds.exponent_ppm
            && self.mean_milli <= thresholds.mean_milli
            && self.median_milli <= thresholds.median_milli
            && self.output_ppb <= thresholds.output_ppb
    }

    fn zip(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
        Self {
            missing_ppm: f(self.missing_ppm, other.missing_ppm),
            exponent_ppm: f(self.exponent_ppm, other.exponent_ppm),
            mean_milli: f(self.mean_milli, other.mean_milli),
            median_milli: f(self.median_milli, other.median_milli),
            output_ppb: f(self.output_ppb, other.output_ppb),
        }
    }
}

fn share(part: usize, whole: usize) -> u32 {
    (part as u64 * MILLION / (whole as u64).max(1)) as u32
}

/// The values at places that both have.
fn common(a: &Sketch, b: &Sketch) -> Vec<(Value, Value)> {
    let (mut left, mut right) = (a.entries().iter().peekable(), b.entries().iter().peekable());
    let mut both = Vec::new();
    while let (Some(&&(i, x)), Some(&&(j, y))) = (left.peek(), right.peek()) {
        if i == j {
            both.push((x, y));
        }
        if i <= j {
            left.next();
        }
        if j <= i {
            right.next();
        }
    }
    both
}

/// The largest difference of two outputs, all of whose elements count, in billionths of the largest
/// finite magnitude of either; 2 billion where lengths differ, or one holds a NaN or an infinity that
/// the other does not.
pub fn output_difference(a: &[f32], b: &[f32]) -> u32 {
    const WORST: u32 = Statistics::APART.output_ppb;
    if a.len() != b.len() {
        return WORST;
    }
    let same = |x: f32, y: f32| x == y || (x.is_nan() && y.is_nan());
    let mut largest = 0f64;
    let mut difference = 0f64;
    for (&x, &y) in a.iter().zip(b) {
        if same(x, y) {
            if x.is_finite() {
                largest = largest.max(f64::from(x.abs()));
            }
            continue;
        }
        if !x.is_finite() || !y.is_finite() {
            return WORST;
        }
        let (x, y) = (f64::from(x), f64::from(y));
        largest = largest.max(x.abs()).max(y.abs());
        difference = difference.max((x - y).abs());
    }
    // Differences, quotients and products of f64 are exact to the last bit on every machine (IEEE 754).
    if difference == 0.0 { 0 } else { ((difference / largest * 1e9) as u32).clamp(1, WORST) }
}
