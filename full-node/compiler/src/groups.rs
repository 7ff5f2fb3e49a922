//! Scales of four-bit weights: a step for each row and an integer multiple of it for each group.

use nesa_kernels::nibbles::{GROUP, MAX_MULTIPLIER};

/// Smallest and largest value of a weight.
const LEAST: f64 = -8.0;
const GREATEST: f64 = 7.0;

/// Clippings tried for each group, in hundredths of what holds its largest magnitude.
const CLIPS: std::ops::RangeInclusive<u32> = 60..=104;

/// Multiples tried as that of a row's largest group.
const TOPS: std::ops::RangeInclusive<u8> = 9..=MAX_MULTIPLIER;

const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// A weight in steps, rounded and clamped to four bits. Without a step it is 0.
#[inline(always)]
pub(crate) fn nearest(weight: f64, step: f64) -> f64 {
    if step == 0.0 {
        return 0.0;
    }
    (weight / step).round().clamp(LEAST, GREATEST)
}

/// The scales of one row.
pub(crate) struct RowScales {
    /// Real value of one step of the weight that is computed with.
    pub(crate) step: f64,
    /// What a step of each group's values is in these.
    pub(crate) multipliers: Vec<u8>,
}

impl RowScales {
    /// Those that lose least of a row if channels were independent: `Σ E[x²]·(w − q·m·step)²`.
    pub(crate) fn of(row: &[f64], squares: &[f64]) -> Self {
        let groups = || row.chunks(GROUP).zip(squares.chunks(GROUP));
        let wanted: Vec<f64> = groups().map(|(w, x)| group_step(w, x)).collect();
        let largest = wanted.iter().fold(0.0f64, |m, &s| m.max(s));
        if largest == 0.0 {
            return Self { step: 1.0, multipliers: vec![0; wanted.len()] };
        }
        let mut best: Option<(f64, Self)> = None;
        for top in TOPS {
            let step = largest / f64::from(top);
            let (mut loss, mut multipliers) = (0.0, Vec::with_capacity(wanted.len()));
            for ((w, x), wanted) in groups().zip(&wanted) {
                let near = (wanted / step).round() as i32;
                let near = (near - 1..=near + 1).filter_map(|m| u8::try_from(m).ok());
                let tried = near.filter(|&m| m <= MAX_MULTIPLIER).map(|m| {
                    let error = group_error(w, x, step * f64::from(m));
                    (error, m)
                });
                let (error, m) =
                    tried.fold((f64::INFINITY, 0), |a, b| if b.0 < a.0 { b } else { a });
                loss += error;
                multipliers.push(m);
            }
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, Self { step, multipliers }));
            }
        }
        // There are tops to try.
        best.map_or(Self { step: 1.0, multipliers: vec![0; wanted.len()] }, |(_, scales)| scales)
    }

    /// Real value of one step of a channel's value.
    pub(crate) fn of_channel(&self, i: usize) -> f64 {
        self.step * f64::from(self.multipliers[i / GROUP])
    }
}

/// The step of one group by itself.
fn group_step(weights: &[f64], squares: &[f64]) -> f64 {
    // Values reach one further below zero than above.
    let holds = weights.iter().fold(0.0f64, |m, &w| m.max(w / GREATEST).max(w / LEAST));
    let mut best = (f64::INFINITY, 0.0);
    for clip in CLIPS.step_by(4) {
        let step = holds * f64::from(clip) / 100.0;
        let error = group_error(weights, squares, step);
        if error < best.0 {
            best = (error, step);
        }
    }
    best.1
}

fn group_error(weights: &[f64], squares: &[f64], step: f64) -> f64 {
    let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
    let mut error = 0.0;
    for (w, square) in weights.iter().zip(squares) {
        // Adding and taking away 1.5·2^52 rounds to the nearest integer, ties to even.
        let q = (w * inverse).clamp(LEAST, GREATEST) + ROUNDER - ROUNDER;
        let e = w - q * step;
        error += e * e * square;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_scaled_group_by_group() {
        let row: Vec<f64> =
            (0..70).map(|i| f64::from(i % 15 - 7) * if i < 32 { 0.3 } else { 0.1 }).collect();
        let scales = RowScales::of(&row, &[1.0; 70]);
        assert_eq!(scales.multipliers.len(), 3);
        let ratio = f64::from(scales.multipliers[0]) / f64::from(scales.multipliers[1]);
        assert!((ratio - 3.0).abs() < 1e-9, "{:?}", scales.multipliers);
        for (i, &w) in row.iter().enumerate() {
            let step = scales.of_channel(i);
            assert!((w - nearest(w, step) * step).abs() < 1e-9, "channel {i}");
        }
        let zero = RowScales::of(&[0.0; 33], &[1.0; 33]);
        assert!(zero.multipliers.iter().all(|&m| m == 0) && zero.step == 1.0);
    }
}
