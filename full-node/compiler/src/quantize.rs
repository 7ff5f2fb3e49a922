//! From floats to the integers of the exact form.

use nesa_kernels::nibbles::{pack, packed_bytes, unpack};
use nesa_model::manifest::WeightForm;
use std::borrow::Cow;

use crate::groups::{RowScales, nearest};
use crate::linalg::{inverse_factor, round_compensated, round_in_groups};

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
    /// `[n, k]`, values in −127..=127: what is computed with.
    pub(crate) q: Vec<i8>,
    /// `[n]`, real value of one step.
    pub(crate) steps: Vec<f64>,
    /// The rows as the file has them, where that is not `q`.
    pub(crate) packed: Option<Vec<u8>>,
}

impl QuantizedWeight {
    /// The rows as the file has them.
    pub(crate) fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.packed {
            Some(packed) => Cow::Borrowed(packed),
            None => Cow::Owned(self.q.iter().map(|&q| q as u8).collect()),
        }
    }
}

/// Share of the mean input energy added to each channel's, so that directions the calibration
/// texts never took stay cheap to move along.
const DAMPING: f64 = 0.01;

/// Quantises the rows of one weight, for inputs that were seen in calibration.
pub(crate) struct Quantizer {
    k: usize,
    form: WeightForm,
    /// `[k]`, energies of the inputs.
    squares: Vec<f64>,
    /// How errors are compensated, where the inputs' second moments are known whole.
    compensation: Option<Compensation>,
}

/// Rounding with the errors moved into channels that are not rounded yet, those of most energy first.
struct Compensation {
    order: Vec<usize>,
    factor: Vec<f64>,
}

impl Quantizer {
    /// For inputs whose second moments (unnormalised) are `moments`: `[k, k]`, the upper triangle, and
    /// rounding errors are compensated; or the diagonal `[k]`, and each weight goes to the nearest.
    pub(crate) fn new(moments: Vec<f64>, k: usize, form: WeightForm) -> Self {
        if moments.len() != k * k || k == 1 {
            return Self { k, form, squares: moments, compensation: None };
        }
        let squares: Vec<f64> = (0..k).map(|i| moments[i * k + i]).collect();
        let mut order: Vec<usize> = (0..k).collect();
        order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]).then(a.cmp(&b)));
        let damping = DAMPING * squares.iter().sum::<f64>() / k as f64 + f64::MIN_POSITIVE;
        let mut factor = vec![0.0; k * k];
        for (i, &a) in order.iter().enumerate() {
            for (j, &b) in order.iter().enumerate().skip(i) {
                factor[i * k + j] = moments[a.min(b) * k + a.max(b)];
            }
            factor[i * k + i] += damping;
        }
        drop(moments);
        inverse_factor(&mut factor, k);
        Self { k, form, squares, compensation: Some(Compensation { order, factor }) }
    }

    /// Quantises rows `[rows, k]`. Each row's result is its own, however many there are.
    pub(crate) fn rows(&self, weight: &[f64]) -> QuantizedWeight {
        match self.form {
            WeightForm::Bytes => self.byte_rows(weight),
            WeightForm::Nibbles => self.packed_rows(weight),
        }
    }

    fn byte_rows(&self, weight: &[f64]) -> QuantizedWeight {
        let k = self.k;
        let steps: Vec<f64> =
            weight.chunks_exact(k).map(|row| weight_step(row, &self.squares)).collect();
        let Some(Compensation { order, factor }) = &self.compensation else {
            let rows = weight.chunks_exact(k).zip(&steps);
            let q = rows.flat_map(|(row, &step)| quantize_at(row, step)).collect();
            return QuantizedWeight { q, steps, packed: None };
        };
        let mut rows = permuted(weight, order);
        round_compensated(&mut rows, &steps, factor, k);
        QuantizedWeight { q: restored(&rows, order), steps, packed: None }
    }

    fn packed_rows(&self, weight: &[f64]) -> QuantizedWeight {
        let k = self.k;
        let scales: Vec<RowScales> =
            weight.chunks_exact(k).map(|row| RowScales::of(row, &self.squares)).collect();
        let steps: Vec<f64> = scales.iter().map(|s| s.step).collect();
        // The real value of one step of every weight.
        let fine = scales.iter().flat_map(|s| (0..k).map(|i| s.of_channel(i)));
        let fine: Vec<f64> = fine.collect();
        let values = match &self.compensation {
            Some(Compensation { order, factor }) => {
                let mut rows = permuted(weight, order);
                round_in_groups(&mut rows, &permuted(&fine, order), factor, k);
                restored(&rows, order)
            }
            None => weight.iter().zip(&fine).map(|(w, s)| nearest(*w, *s) as i8).collect(),
        };
        let mut q = vec![0; weight.len()];
        let mut packed = Vec::with_capacity(scales.len() * packed_bytes(k));
        for (values, scales) in values.chunks_exact(k).zip(&scales) {
            packed.extend(pack(values, &scales.multipliers));
        }
        unpack(&packed, k, &mut q);
        QuantizedWeight { q, steps, packed: Some(packed) }
    }
}

fn permuted(weight: &[f64], order: &[usize]) -> Vec<f64> {
    let k = order.len();
    weight.chunks_exact(k).flat_map(|row| order.iter().map(|&i| row[i])).collect()
}

fn restored(rows: &[f64], order: &[usize]) -> Vec<i8> {
    let k = order.len();
    let mut q = vec![0i8; rows.len()];
    for (to, from) in q.chunks_exact_mut(k).zip(rows.chunks_exact(k)) {
        for (&v, &i) in from.iter().zip(order) {
            to[i] = v as i8;
        }
    }
    q
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

/// Widens `max` (`[k]`) to the magnitudes of rows of a weight.
pub(crate) fn widen(max: &mut [f64], rows: &[f32]) {
    for row in rows.chunks_exact(max.len()) {
        for (m, &w) in max.iter_mut().zip(row) {
            *m = m.max(f64::from(w).abs());
        }
    }
}

/// What [`widen`] starts from.
pub(crate) const LEAST_WEIGHT: f64 = 1e-6;

/// SmoothQuant (Xiao et al., 2023): channel factors `max|w|^(1−α) / max|x|^α` with a geometric mean
/// of one, 14 fractional bits.
pub(crate) fn smoothing_factors(weight_max: &[f64], input_max: &[f32], alpha: f64) -> Vec<u16> {
    let logs: Vec<f64> = input_max
        .iter()
        .zip(weight_max)
        .map(|(&x, &w)| (1.0 - alpha) * libm::log(w) - alpha * libm::log(f64::from(x).max(1e-6)))
        .collect();
    let mean = logs.iter().sum::<f64>() / logs.len().max(1) as f64;
    logs.iter()
        .map(|l| (libm::exp(l - mean) * 16384.0).round().clamp(256.0, 65535.0) as u16)
        .collect()
}
