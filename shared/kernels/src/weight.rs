//! The weight of a linear stage, however its rows are kept.

use std::borrow::Cow;
use std::ops::Range;

use crate::matmul::{exact, masked, matmul_full_i64};
use crate::nibbles::{packed_bytes, unpack};

/// Rows that [`Weight::pieces`] unpacks at a time.
const PIECE: usize = 64;

/// An `[n, k]` weight. All products are those of its bytes.
#[derive(Clone, Copy, Debug)]
pub enum Weight<'a> {
    /// A byte each, row-major.
    Bytes(&'a [i8]),
    /// Rows packed as [`crate::nibbles`] says.
    Nibbles(&'a [u8]),
}

impl<'a> Weight<'a> {
    /// Whether this is a weight of `n` rows and `k` columns.
    pub fn holds(self, n: usize, k: usize) -> bool {
        match self {
            Self::Bytes(w) => n.checked_mul(k) == Some(w.len()),
            Self::Nibbles(w) => n.checked_mul(packed_bytes(k)) == Some(w.len()),
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory.
    pub fn len(self) -> usize {
        match self {
            Self::Bytes(w) => w.len(),
            Self::Nibbles(w) => w.len(),
        }
    }

    /// Some of the rows of a weight with `k` columns.
    ///
    /// # Panics
    /// When it does not have those rows.
    pub fn rows(self, rows: Range<usize>, k: usize) -> Self {
        match self {
            Self::Bytes(w) => Self::Bytes(&w[rows.start * k..rows.end * k]),
            Self::Nibbles(w) => {
                let row = packed_bytes(k);
                Self::Nibbles(&w[rows.start * row..rows.end * row])
            }
        }
    }

    /// The weights of `k` columns as bytes, `[n, k]`: a copy where they are packed.
    pub fn bytes(self, k: usize) -> Cow<'a, [i8]> {
        match self {
            Self::Bytes(w) => Cow::Borrowed(w),
            Self::Nibbles(w) => {
                let mut rows = vec![0; w.len() / packed_bytes(k).max(1) * k];
                unpack(w, k, &mut rows);
                Cow::Owned(rows)
            }
        }
    }

    /// The weights of `k` columns as bytes, some rows after the other with the index of the first: without
    /// copies where they are bytes, otherwise with one of few rows at a time.
    pub fn pieces(self, k: usize) -> impl Iterator<Item = (usize, Cow<'a, [i8]>)> {
        let (whole, packed) = match self {
            Self::Bytes(w) => (Some(w), &[][..]),
            Self::Nibbles(w) => (None, w),
        };
        let pieces = packed.chunks(packed_bytes(k).max(1) * PIECE).enumerate();
        let pieces = pieces.map(move |(i, w)| (i * PIECE, Self::Nibbles(w).bytes(k)));
        whole.map(|w| (0, Cow::Borrowed(w))).into_iter().chain(pieces)
    }

    /// [`crate::matmul_i8`].
    ///
    /// # Panics
    /// When a slice does not have the length its shape says.
    pub fn matmul_i8(self, x: &[i32], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
        exact(self, x, n, k, tokens, y);
    }

    /// [`crate::matmul_mask_u32`].
    ///
    /// # Panics
    /// When a slice does not have the length its shape says.
    pub fn matmul_mask_u32(self, x: &[u32], n: usize, k: usize, tokens: usize, y: &mut [u32]) {
        masked(self, x, n, k, tokens, y);
    }

    /// [`crate::matmul_full_i64`], which only disputes ask for: packed rows are unpacked first.
    ///
    /// # Panics
    /// When a slice does not have the length its shape says.
    pub fn matmul_full_i64(self, x: &[u32], n: usize, k: usize, tokens: usize, y: &mut [i64]) {
        matmul_full_i64(&self.bytes(k), x, n, k, tokens, y);
    }
}

impl<'a, T: AsRef<[i8]> + ?Sized> From<&'a T> for Weight<'a> {
    fn from(bytes: &'a T) -> Self {
        Self::Bytes(bytes.as_ref())
    }
}
