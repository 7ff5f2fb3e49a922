//! The tensors of a compiled model while they are made.

use nesa_model::layout::{Layout, TensorKind};
use std::collections::BTreeMap;

use crate::compile::CompileError;
use crate::quantize::{fixed_point, quantize_embedding_row};

/// Tensors by what they are for, in no order; [`Parts::into_payload`] puts them in the file's.
#[derive(Default)]
pub(crate) struct Parts(BTreeMap<String, Vec<u8>>);

fn key(kind: TensorKind) -> String {
    format!("{kind:?}")
}

fn range(what: String) -> CompileError {
    CompileError::Range { what }
}

impl Parts {
    /// Keeps a tensor's bytes.
    pub(crate) fn put(&mut self, kind: TensorKind, bytes: impl IntoIterator<Item = u8>) {
        self.0.insert(key(kind), bytes.into_iter().collect());
    }

    /// Keeps 16-bit entries.
    pub(crate) fn put_u16(&mut self, kind: TensorKind, values: &[u16]) {
        self.put(kind, values.iter().flat_map(|v| v.to_le_bytes()));
    }

    /// Keeps values as 32-bit integers.
    pub(crate) fn put_i32(&mut self, kind: TensorKind, values: &[i64]) -> Result<(), CompileError> {
        if values.iter().any(|&v| i32::try_from(v).is_err()) {
            return Err(range(format!("{kind:?}")));
        }
        self.put(kind, values.iter().flat_map(|&v| (v as i32).to_le_bytes()));
        Ok(())
    }

    /// Keeps a token embedding, `[vocab, width]`, and its multipliers for a sum of `unit` per one; returns their
    /// shift.
    pub(crate) fn put_words(
        &mut self,
        embedding: &[f32],
        width: usize,
        unit: f64,
    ) -> Result<u8, CompileError> {
        let rows: Vec<_> = embedding.chunks_exact(width).map(quantize_embedding_row).collect();
        let scales: Vec<f64> = rows.iter().map(|r| r.scale * unit).collect();
        let (scales, shift) =
            fixed_point(&scales, 1..=40).ok_or_else(|| range("word scale".into()))?;
        self.put(TensorKind::Word, rows.iter().flat_map(|r| r.q.iter().map(|&q| q as u8)));
        self.put_i32(TensorKind::WordScale, &scales)?;
        Ok(shift as u8)
    }

    /// Keeps a stage's multipliers and bias; returns the multipliers' shift. A product of one is worth
    /// `steps[j] / per_one`, and output channel `j` has `units_out[j]` per one.
    pub(crate) fn put_requantisation(
        &mut self,
        stage: usize,
        steps: &[f64],
        per_one: f64,
        units_out: &[f64],
        bias: &[f32],
    ) -> Result<u8, CompileError> {
        let multipliers: Vec<f64> =
            steps.iter().zip(units_out).map(|(step, unit)| step * unit / per_one).collect();
        let (multipliers, shift) = fixed_point(&multipliers, 32..=63)
            .ok_or_else(|| range(format!("multipliers of stage {stage}")))?;
        let bias: Vec<i64> = bias
            .iter()
            .zip(units_out)
            .map(|(&b, unit)| (f64::from(b) * unit).round() as i64)
            .collect();
        self.put_i32(TensorKind::Multiplier(stage), &multipliers)?;
        self.put_i32(TensorKind::Bias(stage), &bias)?;
        Ok(shift as u8)
    }

    /// The payload: every tensor of the layout, in its order. Parts are freed as they are written, so
    /// that they and the whole are not both in memory.
    pub(crate) fn into_payload(mut self, layout: &Layout) -> Result<Vec<u8>, CompileError> {
        let mut payload = Vec::with_capacity(layout.total_bytes);
        for tensor in &layout.tensors {
            match self.0.remove(&key(tensor.kind)) {
                Some(bytes) if bytes.len() == tensor.range().len() => {
                    payload.extend_from_slice(&bytes);
                }
                _ => return Err(range(format!("{:?}", tensor.kind))),
            }
        }
        Ok(payload)
    }
}

/// The smallest `b` with `bound < 2^b`, at least 1.
pub(crate) fn bound_bits(bound: u64) -> u8 {
    (64 - bound.leading_zeros()).max(1) as u8
}
