//! Rotary position embedding in integers (RoPE; Su et al., 2021).
//!
//! A pair of channels turns by `position · frequency` of a full turn. Frequencies are fractions of
//! a turn with 64 fractional bits, so that the product wraps to the exact phase at any position, and
//! every scaling variant that only changes frequencies (linear, Llama 3, YaRN) is a matter of the
//! compiler's. The cosine comes from a table over one turn, between whose entries is a straight line.

use crate::dispatch::vectorised;
use crate::vector::Vector;
use std::ops::Range;

/// Entries of the cosine table: one turn in 4,096 steps, both ends included.
pub const COSINE_ENTRIES: usize = 4097;
/// Fractional bits of a cosine.
pub const COSINE_BITS: u32 = 30;

const STEP_BITS: u32 = 52;
const BETWEEN_BITS: u32 = 20;

/// Cosine and sine of an angle, [`COSINE_BITS`] fractional bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Cosine.
    pub cos: i32,
    /// Sine.
    pub sin: i32,
}

/// Cosine of `phase / 2^64` turns:
/// `T[i] + R((T[i+1] − T[i]) · f, 20)` with `i = phase >> 52` and `f` the next 20 bits.
fn cosine(phase: u64, table: &[i32; COSINE_ENTRIES]) -> i32 {
    let step = (phase >> STEP_BITS) as usize;
    let between = (phase >> (STEP_BITS - BETWEEN_BITS)) & ((1 << BETWEEN_BITS) - 1);
    let (from, to) = (i64::from(table[step]), i64::from(table[step + 1]));
    let rise = ((to - from) * between as i64 + (1 << (BETWEEN_BITS - 1))) >> BETWEEN_BITS;
    (from + rise) as i32
}

/// The turn of one channel pair at a position. `|table| ≤ 2^30`.
pub fn turn(position: u32, frequency: u64, table: &[i32; COSINE_ENTRIES]) -> Turn {
    let phase = u64::from(position).wrapping_mul(frequency);
    let quarter = 1u64 << 62;
    Turn { cos: cosine(phase, table), sin: cosine(phase.wrapping_sub(quarter), table) }
}

/// Turns of one position, `[head_width / 2]` each: what [`rotate`] reads side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    cos: Vec<i32>,
    sin: Vec<i32>,
}

impl Turns {
    /// No turns.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one channel pair's turn.
    pub fn push(&mut self, Turn { cos, sin }: Turn) {
        self.cos.push(cos);
        self.sin.push(sin);
    }

    /// Some of the turns, or the empty view where they are not there.
    pub fn view(&self, range: Range<usize>) -> TurnsView<'_> {
        let cos = self.cos.get(range.clone()).unwrap_or_default();
        TurnsView { cos, sin: self.sin.get(range).unwrap_or_default() }
    }
}

/// Some of [`Turns`].
#[derive(Clone, Copy, Debug)]
pub struct TurnsView<'a> {
    cos: &'a [i32],
    sin: &'a [i32],
}

vectorised! {
    /// Turns one head of width twice the turns, channel `i` paired with channel `i + width/2`:
    /// `(a, b) ← (R(a·cos − b·sin, 30), R(b·cos + a·sin, 30))`. Every `|v| < 2^30`.
    ///
    /// # Panics
    /// When the head is narrower than the turns.
    pub fn rotate(head: &mut [i32], turns: TurnsView<'_>) {
        fast: fast,
        plain: plain,
    }
}

/// The definition of [`rotate`].
#[inline(always)]
pub fn plain(head: &mut [i32], turns: TurnsView<'_>) {
    let (low, high) = head.split_at_mut(turns.cos.len());
    turn_pairs(low, high, turns.cos, turns.sin);
}

#[inline(always)]
fn turn_pairs(low: &mut [i32], high: &mut [i32], cos: &[i32], sin: &[i32]) {
    for (((a, b), &cos), &sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        let (x, y) = (i64::from(*a), i64::from(*b));
        let (cos, sin) = (i64::from(cos), i64::from(sin));
        let half = 1 << (COSINE_BITS - 1);
        *a = ((x * cos - y * sin + half) >> COSINE_BITS) as i32;
        *b = ((y * cos + x * sin + half) >> COSINE_BITS) as i32;
    }
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
unsafe fn fast<L: Vector>(head: &mut [i32], turns: TurnsView<'_>) {
    let (low, high) = head.split_at_mut(turns.cos.len());
    let n = low.len().min(high.len()).min(turns.sin.len());
    let end = n / L::LANES * L::LANES;
    // SAFETY: registers before `end` lie inside all four slices; features are the caller's promise.
    unsafe {
        let half = L::wide_splat(1 << (COSINE_BITS - 1));
        // The low half of a shifted sum is the same whichever shift: |sum| < 2^62.
        let down = |sum| L::wide_low(L::wide_shr(L::wide_add(sum, half), COSINE_BITS));
        for i in (0..end).step_by(L::LANES) {
            let (at_a, at_b) = (low.as_mut_ptr().add(i), high.as_mut_ptr().add(i));
            let (a, b) = (L::load(at_a), L::load(at_b));
            let cos = L::load(turns.cos.as_ptr().add(i));
            let sin = L::load(turns.sin.as_ptr().add(i));
            L::store(at_a, down(L::wide_sub(L::wide_mul(a, cos), L::wide_mul(b, sin))));
            L::store(at_b, down(L::wide_add(L::wide_mul(b, cos), L::wide_mul(a, sin))));
        }
    }
    turn_pairs(&mut low[end..], &mut high[end..], &turns.cos[end..], &turns.sin[end..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Box<[i32; COSINE_ENTRIES]> {
        let mut table = Box::new([0; COSINE_ENTRIES]);
        for (i, t) in table.iter_mut().enumerate() {
            #[allow(clippy::float_arithmetic)] // a test's yardstick
            let c = (i as f64 * std::f64::consts::TAU / 4096.0).cos() * f64::from(1 << 30);
            *t = c.round() as i32;
        }
        table
    }

    #[test]
    #[allow(clippy::float_arithmetic)] // a test's yardstick
    fn turns_are_cosine_and_sine() {
        let table = table();
        for position in [0u32, 1, 2, 1000, 131_071] {
            for frequency in [0u64, 1 << 60, 2_935_890_503_282_001_226, u64::MAX / 3] {
                let got = turn(position, frequency, &table);
                let phase = u64::from(position).wrapping_mul(frequency);
                let angle = phase as f64 / 2f64.powi(64) * std::f64::consts::TAU;
                for (got, expected) in [(got.cos, angle.cos()), (got.sin, angle.sin())] {
                    let got = f64::from(got) / f64::from(1 << 30);
                    assert!((got - expected).abs() < 4e-7, "{position} {frequency}: {got}");
                }
            }
        }
    }

    #[test]
    fn a_quarter_turn_swaps_channels() {
        let quarter = turn(1, 1 << 62, &table());
        assert_eq!(quarter, Turn { cos: 0, sin: 1 << 30 });
        let mut head = [7, -3, 100, 11];
        let mut turns = Turns::new();
        turns.push(quarter);
        turns.push(quarter);
        rotate(&mut head, turns.view(0..2));
        assert_eq!(head, [-100, -11, 7, -3]);
    }
}
