//! Products that read four-bit weights as they are packed ([`crate::nibbles`]), so that a token written
//! moves half the bytes that weights of eight bits do.
//!
//! For a token or two ([`few`]) registers of nibbles meet activations as rows lie in memory. For more, a panel
//! is unpacked into the cache ([`panel::Packed`]) and met by tiles as any other.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod digits;
pub(crate) mod panel;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod words;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use digits::{Digits, few as by_digits};
#[cfg(target_arch = "x86_64")]
pub(crate) use digits::{MULTIPLIERS, WEIGHTS};
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use words::few as by_words;

use crate::dispatch::vectorised;
use crate::nibbles::{self, packed_bytes};
use crate::vector::Vector;

/// How an instruction set multiplies packed rows.
pub(crate) trait PackedRows: Vector {
    /// [`few`].
    ///
    /// # Panics
    /// As there.
    ///
    /// # Safety
    /// The CPU has the implementation's features.
    unsafe fn few(w: &[u8], x: &[i16], tokens: usize, y: &mut [i32]);
}

vectorised! {
    /// `y[t, j] = Σ_i w[j, i] · x[t, i]`, wrapping, for packed rows `w` of `k` weights and a few `tokens`;
    /// none of the three is empty.
    ///
    /// # Panics
    /// When `w` does not have the length that `x` and `y` say.
    pub(crate) fn few(w: &[u8], x: &[i16], tokens: usize, y: &mut [i32]) {
        fast: fast,
        plain: plain,
    }
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
unsafe fn fast<L: PackedRows>(w: &[u8], x: &[i16], tokens: usize, y: &mut [i32]) {
    // SAFETY: the caller's promise.
    unsafe { L::few(w, x, tokens, y) }
}

/// `k` of such a product.
///
/// # Panics
/// When `w` does not have the length that `x` and `y` say.
fn columns(w: &[u8], x: &[i16], tokens: usize, y: &[i32]) -> usize {
    let (n, k) = (y.len() / tokens, x.len() / tokens);
    assert_eq!((n * tokens, k * tokens), (y.len(), x.len()), "x is [tokens, k], y is [tokens, n]");
    assert_eq!(w.len(), n * packed_bytes(k), "w is [n, packed_bytes(k)]");
    k
}

#[cfg_attr(all(target_arch = "wasm32", target_feature = "simd128"), allow(dead_code))]
fn plain(w: &[u8], x: &[i16], tokens: usize, y: &mut [i32]) {
    let k = columns(w, x, tokens, y);
    let n = y.len() / tokens;
    let mut row = vec![0i8; k];
    for (j, w) in w.chunks_exact(packed_bytes(k)).enumerate() {
        nibbles::plain(w, k, &mut row);
        for (t, x) in x.chunks_exact(k).enumerate() {
            let products = row.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x));
            y[t * n + j] = products.fold(0, i32::wrapping_add);
        }
    }
}
