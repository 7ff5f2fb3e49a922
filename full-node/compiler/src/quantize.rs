//! From floats to the integers of the exact form.

use crate::linalg::{inverse_factor, round_compensated};
use crate::source::Dense;

/// Clipping factors tried for each weight row, in hundredths of the row's largest magnitude.
const CLIPS: std::ops::RangeInclusive<u32> = 70..=100;

const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// One quantised row: `w ≈ q · scale`.
pub(crate) struct QuantizedRow {
    /// Values in −127..=127.
    pub(crate) q: Vec<i8>,
    /// Real value of one step.
    pub(crate) scale: f64,
}

fn quantize_at(row: &[f64], scale: f64) -> Vec<i8> {
    row.iter().map(|w| (w / scale).round().clamp(-127.0, 127.0) as i8).collect()
}

/// The step of one weight row: the clipping that minimises the expected squared error of its
/// product if channels were independent, `Σ E[x²]·(w − q·step)²`.
pub(crate) fn weight_step(row: &[f64], input_square: &[f64]) -> f64 {
    let max = row.iter().fold(0.0f64, |m, w| m.max(w.abs()));
    if max == 0.0 {
        return 1.0;
    }
    let mut best: Option<(f64, f64)> = None;
    for clip in CLIPS.rev().step_by(2) {
        let scale = max * f64::from(clip) / 100.0 / 127.0;
        let mut error = 0.0;
        let inverse = 1.0 / scale;
        for (w, square) in row.iter().zip(input_square) {
            // Adding and taking away 1.5·2^52 rounds to the nearest integer, ties to even.
            let q = (w * inverse).clamp(-127.0, 127.0) + ROUNDER - ROUNDER;
            let e = w - q * scale;
            error += e * e * square;
        }
        if best.is_none_or(|(e, _)| error < e) {
            best = Some((error, scale));
        }
    }
    best.map_or(max / 127.0, |b| b.1)
}

/// A quantised weight: `w[j, i] ≈ q[j, i] · steps[j]`.
pub(crate) struct QuantizedWeight {
    /// `[n, k]`, values in −127..=127.
    pub(crate) q: Vec<i8>,
    /// `[n]`, real value of one step.
    pub(crate) steps: Vec<f64>,
}

/// Share of the mean input energy added to each channel's, so that directions the calibration
/// texts never took stay cheap to move along.
const DAMPING: f64 = 0.01;

/// Quantises a weight `[n, k]` for inputs whose second moments are `gram` (`[k, k]`, upper triangle,
/// unnormalised): steps by [`weight_step`], rounding with the errors compensated, the channels of
/// most energy first.
pub(crate) fn quantize_weight(weight: &[f64], gram: &[f64], k: usize) -> QuantizedWeight {
    let squares: Vec<f64> = (0..k).map(|i| gram[i * k + i]).collect();
    let steps: Vec<f64> = weight.chunks_exact(k).map(|row| weight_step(row, &squares)).collect();
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]).then(a.cmp(&b)));

    let damping = DAMPING * squares.iter().sum::<f64>() / k as f64 + f64::MIN_POSITIVE;
    let mut factor = vec![0.0; k * k];
    for (i, &a) in order.iter().enumerate() {
        for (j, &b) in order.iter().enumerate().skip(i) {
            factor[i * k + j] = gram[a.min(b) * k + a.max(b)];
        }
        factor[i * k + i] += damping;
    }
    inverse_factor(&mut factor, k);

    let mut rows = vec![0.0; weight.len()];
    for (to, from) in rows.chunks_exact_mut(k).zip(weight.chunks_exact(k)) {
        for (to, &i) in to.iter_mut().zip(&order) {
            *to = from[i];
        }
    }
    round_compensated(&mut rows, &steps, &factor, k);
    let mut q = vec![0i8; weight.len()];
    for (to, from) in q.chunks_exact_mut(k).zip(rows.chunks_exact(k)) {
        for (&v, &i) in from.iter().zip(&order) {
            to[i] = v as i8;
        }
    }
    QuantizedWeight { q, steps }
}

/// Quantises a weight `[n, k]` channel by channel: steps by [`weight_step`] for inputs of these second
/// moments (`[k]`), each weight to the nearest.
pub(crate) fn quantize_weight_plainly(
    weight: &[f64],
    squares: &[f64],
    k: usize,
) -> QuantizedWeight {
    let steps: Vec<f64> = weight.chunks_exact(k).map(|row| weight_step(row, squares)).collect();
    let rows = weight.chunks_exact(k).zip(&steps);
    QuantizedWeight { q: rows.flat_map(|(row, &step)| quantize_at(row, step)).collect(), steps }
}

/// Quantises an embedding row to its own largest magnitude.
pub(crate) fn quantize_embedding_row(row: &[f32]) -> QuantizedRow {
    let row: Vec<f64> = row.iter().map(|&w| w.into()).collect();
    let max = row.iter().fold(0.0f64, |m, w| m.max(w.abs()));
    let scale = if max == 0.0 { 1.0 } else { max / 127.0 };
    QuantizedRow { q: quantize_at(&row, scale), scale }
}

/// Positive reals as integers `round(v · 2^shift)` with one shift, the largest within
/// `shifts` that keeps every integer below 2^31. `None` when there is none.
pub(crate) fn fixed_point(
    values: &[f64],
    shifts: std::ops::RangeInclusive<u32>,
) -> Option<(Vec<i64>, u32)> {
    shifts.rev().find_map(|shift| {
        let factor = libm::ldexp(1.0, shift as i32);
        let scaled: Vec<i64> = values.iter().map(|v| (v * factor).round() as i64).collect();
        scaled.iter().all(|v| v.unsigned_abs() < 1 << 31).then_some((scaled, shift))
    })
}

/// SmoothQuant (Xiao et al., 2023): channel factors `max|w|^(1−α) / max|x|^α` with a geometric mean
/// of one, 14 fractional bits.
pub(crate) fn smoothing_factors(dense: &Dense, input_max: &[f32], alpha: f64) -> Vec<u16> {
    let mut weight_max = vec![1e-6f64; dense.k];
    for row in dense.weight.chunks_exact(dense.k) {
        for (m, &w) in weight_max.iter_mut().zip(row) {
            *m = m.max(f64::from(w).abs());
        }
    }
    let logs: Vec<f64> = input_max
        .iter()
        .zip(&weight_max)
        .map(|(&x, &w)| (1.0 - alpha) * libm::log(w) - alpha * libm::log(f64::from(x).max(1e-6)))
        .collect();
    let mean = logs.iter().sum::<f64>() / logs.len().max(1) as f64;
    logs.iter()
        .map(|l| (libm::exp(l - mean) * 16384.0).round().clamp(256.0, 65535.0) as u16)
        .collect()
}
