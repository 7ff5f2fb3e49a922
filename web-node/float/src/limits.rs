//! What a graph may cost.

use nesa_fingerprint::TensorLimits;

/// Bounds of what is loaded and run; graphs come from strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes: usize,
    /// Nodes, subgraphs included.
    pub nodes: usize,
    /// Elements of one tensor, weights, inputs and intermediate values alike.
    pub tensor: usize,
    /// Elements of all intermediate values of a run together.
    pub values: usize,
    /// Multiplications with additions, and divisions, of a run, as far as its shapes tell.
    pub operations: u64,
}

impl Default for Limits {
    /// A GiB of file, 64Ki nodes, 2^28 elements of a tensor, 2^29 of all values, 2^38 operations: half a
    /// minute of one processor at 10 billion a second.
    fn default() -> Self {
        Self {
            bytes: 1 << 30,
            nodes: 1 << 16,
            tensor: 1 << 28,
            values: 1 << 29,
            operations: 1 << 38,
        }
    }
}

impl Limits {
    /// What decoders of its inputs and answers accept.
    pub const fn tensors(&self) -> TensorLimits {
        TensorLimits { elements: self.tensor }
    }

    /// In a browser: 256 MiB of file, 2^26 elements of a tensor, 2^27 of all values, 2^36 operations.
    pub const fn browser() -> Self {
        Self {
            bytes: 1 << 28,
            nodes: 1 << 14,
            tensor: 1 << 26,
            values: 1 << 27,
            operations: 1 << 36,
        }
    }
}
