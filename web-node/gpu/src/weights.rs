//! Weights on a device: uploaded once, in as many buffers as its bindings ask for.

use crate::device::{Gpu, GpuError};

/// Bytes of a vec4, to which rows are padded.
pub(crate) const VEC4: usize = 16;

/// An `[n, k]` weight on a device.
pub struct Weights {
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// vec4s in a row.
    pub(crate) width: usize,
    pub(crate) parts: Vec<Part>,
}

/// Some rows of a weight.
pub(crate) struct Part {
    pub(crate) rows: usize,
    pub(crate) weights: wgpu::Buffer,
    /// The sum of each row.
    pub(crate) sums: wgpu::Buffer,
}

impl Gpu {
    /// Brings an `[n, k]` weight to the device.
    ///
    /// # Errors
    /// When `w` has another length, a size is 0, or a row exceeds the device's bindings.
    pub fn upload(&self, w: &[i8], n: usize, k: usize) -> Result<Weights, GpuError> {
        if n.checked_mul(k) != Some(w.len()) || w.is_empty() {
            return Err(GpuError::Shape { what: "a weight", got: w.len(), rows: n, columns: k });
        }
        let row_bytes = k.next_multiple_of(VEC4);
        let rows = self.caps.rows(row_bytes as u64)?;
        let part = |w: &[i8]| {
            let mut bytes = Vec::with_capacity(w.len() / k * row_bytes);
            let mut sums = Vec::with_capacity(w.len() / k * 4);
            for row in w.chunks_exact(k) {
                bytes.extend(row.iter().map(|w| w.cast_unsigned()));
                bytes.resize(bytes.len().next_multiple_of(VEC4), 0);
                let sum = row.iter().fold(0i32, |sum, &w| sum.wrapping_add(w.into()));
                sums.extend(sum.to_le_bytes());
            }
            let rows = w.len() / k;
            Part { rows, weights: self.storage(&bytes), sums: self.storage(&sums) }
        };
        let parts = w.chunks(rows.saturating_mul(k)).map(part).collect();
        self.check()?;
        Ok(Weights { n, k, width: row_bytes / VEC4, parts })
    }
}

impl Weights {
    /// Outputs per row.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs per row.
    pub fn k(&self) -> usize {
        self.k
    }
}
