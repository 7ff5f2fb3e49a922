//! WebAssembly `simd128` versions; the whole crate is built with the feature in the browser.

use std::arch::wasm32::{
    i32x4_add, i32x4_dot_i16x8, i32x4_extract_lane, i32x4_shuffle, i32x4_splat, v128, v128_load,
};

use crate::tile::{Lanes, Weight, matmul};

struct Simd128;

impl Lanes for Simd128 {
    type Operand = v128;
    type Sum = v128;
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn load(at: *const i16) -> v128 {
        // SAFETY: 16 bytes are readable, promised by the caller.
        unsafe { v128_load(at.cast()) }
    }
    #[inline(always)]
    unsafe fn zero() -> v128 {
        i32x4_splat(0)
    }
    #[inline(always)]
    unsafe fn multiply_add(sum: v128, a: v128, b: v128) -> v128 {
        i32x4_add(sum, i32x4_dot_i16x8(a, b))
    }
    #[inline(always)]
    unsafe fn reduce(sum: v128) -> i32 {
        let low = i32x4_extract_lane::<0>(sum).wrapping_add(i32x4_extract_lane::<1>(sum));
        let high = i32x4_extract_lane::<2>(sum).wrapping_add(i32x4_extract_lane::<3>(sum));
        low.wrapping_add(high)
    }
    #[inline(always)]
    unsafe fn reduce4([a, b, c, d]: [v128; 4]) -> [i32; 4] {
        // Transpose by pairs and add: lanes end up as the four sums.
        let ab = i32x4_add(i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
        let cd = i32x4_add(i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d));
        let sums =
            i32x4_add(i32x4_shuffle::<0, 1, 4, 5>(ab, cd), i32x4_shuffle::<2, 3, 6, 7>(ab, cd));
        [
            i32x4_extract_lane::<0>(sums),
            i32x4_extract_lane::<1>(sums),
            i32x4_extract_lane::<2>(sums),
            i32x4_extract_lane::<3>(sums),
        ]
    }
}

/// `y = x · wᵀ`, wrapping.
pub(crate) fn matmul_into<W: Weight>(
    w: &[W],
    x: &[i16],
    n: usize,
    k: usize,
    tokens: usize,
    y: &mut [i32],
) {
    // SAFETY: this module exists only where `simd128` is enabled at compile time.
    unsafe { matmul::<Simd128, W>(w, x, n, k, tokens, y) };
}
