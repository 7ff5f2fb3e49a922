//! What a device reads of a product's other factor, and what it writes.

use crate::run::{Input, Output};
use crate::weights::VEC4;

/// One kind of product: its kernels and the layout of its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mask,
    Full,
    Exact,
}

impl Input<'_> {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Input::Mask(_) => Kind::Mask,
            Input::Full(_) => Kind::Full,
            Input::Exact(_) => Kind::Exact,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Input::Mask(x) | Input::Full(x) => x.len(),
            Input::Exact(x) => x.len(),
        }
    }

    /// Bytes of rows `from .. from + count` of `k` values, each padded to whole vec4s.
    pub(crate) fn bytes(&self, k: usize, from: usize, count: usize) -> Vec<u8> {
        let width = k.next_multiple_of(VEC4);
        let range = from * k..(from + count) * k;
        match self {
            Input::Mask(x) | Input::Full(x) => {
                let mut bytes = vec![0u8; count * width * 4];
                let rows = bytes.chunks_exact_mut(width * 4).zip(x[range].chunks_exact(k));
                for (bytes, row) in rows {
                    for (bytes, word) in bytes.chunks_exact_mut(4).zip(row) {
                        bytes.copy_from_slice(&word.to_le_bytes());
                    }
                }
                bytes
            }
            Input::Exact(x) => {
                let mut bytes = vec![0u8; count * width * 2];
                let rows = bytes.chunks_exact_mut(width * 2).zip(x[range].chunks_exact(k));
                for (bytes, row) in rows {
                    let (low, high) = bytes.split_at_mut(width);
                    for ((low, high), &x) in low.iter_mut().zip(high).zip(row) {
                        // x = 256·high + low + 128, both bytes signed.
                        (*low, *high) = (x as u8 ^ 0x80, (x >> 8) as u8);
                    }
                }
                bytes
            }
        }
    }
}

/// Most tokens for which a tile does not pay: it would hold 32.
const FEW: usize = 4;

impl Kind {
    /// The kernel for so many rows of weights and tokens, and its workgroups.
    pub(crate) fn kernel(self, rows: usize, tokens: usize) -> (&'static str, u64) {
        let (n, many) = (rows as u64, tokens as u64);
        match (self, tokens <= FEW) {
            (Kind::Full, _) => ("full", (n * many).div_ceil(64)),
            (Kind::Mask, true) => ("mask_row", n.div_ceil(4) * many),
            (Kind::Exact, true) => ("dot_row", n.div_ceil(4) * many),
            (Kind::Mask, false) => ("mask_tile", n.div_ceil(64) * many.div_ceil(32)),
            (Kind::Exact, false) => ("dot_tile", n.div_ceil(64) * many.div_ceil(32)),
        }
    }

    /// Bytes of one token's row that the device reads.
    pub(crate) fn row_bytes(self, k: usize) -> u64 {
        let width = k.next_multiple_of(VEC4) as u64;
        match self {
            Kind::Mask | Kind::Full => 4 * width,
            Kind::Exact => 2 * width,
        }
    }

    /// Words of one value that it writes.
    pub(crate) fn words(self) -> usize {
        if self == Kind::Full { 2 } else { 1 }
    }

    /// Room for `len` values.
    pub(crate) fn output(self, len: usize) -> Output {
        match self {
            Kind::Mask => Output::Mask(vec![0; len]),
            Kind::Full => Output::Full(vec![0; len]),
            Kind::Exact => Output::Exact(vec![0; len]),
        }
    }
}

impl Output {
    /// Writes values that the device gave, from index `at` on.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        match self {
            Output::Mask(y) => {
                for (y, b) in y[at..].iter_mut().zip(bytes.chunks_exact(4)) {
                    *y = word(b);
                }
            }
            Output::Exact(y) => {
                for (y, b) in y[at..].iter_mut().zip(bytes.chunks_exact(4)) {
                    *y = word(b).cast_signed();
                }
            }
            Output::Full(y) => {
                for (y, b) in y[at..].iter_mut().zip(bytes.chunks_exact(8)) {
                    let value = u64::from(word(b)) | u64::from(word(&b[4..])) << 32;
                    *y = value.cast_signed();
                }
            }
        }
    }
}
