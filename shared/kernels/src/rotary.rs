//! Rotary position embedding in integers (RoPE; Su et al., 2021).
//!
//! A pair of channels turns by `position · frequency` of a full turn. Frequencies are fractions of
//! a turn with 64 fractional bits, so that the product wraps to the exact phase at any position, and
//! every scaling variant that only changes frequencies (linear, Llama 3, YaRN) is a matter of the
//! compiler's. The cosine comes from a table over one turn, between whose entries is a straight line.

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

/// Turns one head of width `2·turns.len()`, channel `i` paired with channel `i + width/2`:
/// `(a, b) ← (R(a·cos − b·sin, 30), R(b·cos + a·sin, 30))`. Every `|v| < 2^30`.
pub fn rotate(head: &mut [i32], turns: &[Turn]) {
    let (low, high) = head.split_at_mut(turns.len());
    for ((a, b), turn) in low.iter_mut().zip(high).zip(turns) {
        let (x, y) = (i64::from(*a), i64::from(*b));
        let (cos, sin) = (i64::from(turn.cos), i64::from(turn.sin));
        let half = 1 << (COSINE_BITS - 1);
        *a = ((x * cos - y * sin + half) >> COSINE_BITS) as i32;
        *b = ((y * cos + x * sin + half) >> COSINE_BITS) as i32;
    }
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
        rotate(&mut head, &[quarter, quarter]);
        assert_eq!(head, [-100, -11, 7, -3]);
    }
}
