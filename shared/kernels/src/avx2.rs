//! AVX2 versions, entered only after run-time detection.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_shuffle_epi32, _mm_storeu_si128,
    _mm256_add_epi32, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_hadd_epi32,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_setzero_si256,
};

use crate::tile::{Lanes, Weight, matmul};

struct Avx2;

impl Lanes for Avx2 {
    type Operand = __m256i;
    type Sum = __m256i;
    const WIDTH: usize = 16;

    #[inline(always)]
    unsafe fn load(at: *const i16) -> __m256i {
        // SAFETY: 32 bytes are readable and AVX2 is present, both promised by the caller.
        unsafe { _mm256_loadu_si256(at.cast()) }
    }
    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: AVX2 is present, promised by the caller.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn multiply_add(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: AVX2 is present, promised by the caller.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)) }
    }
    #[inline(always)]
    unsafe fn reduce(sum: __m256i) -> i32 {
        // SAFETY: AVX2 is present, promised by the caller.
        unsafe {
            let s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
            let s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0b01_00_11_10));
            _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0b10_11_00_01)))
        }
    }
    #[inline(always)]
    unsafe fn reduce4(sums: [__m256i; 4]) -> [i32; 4] {
        let mut out = [0i32; 4];
        // SAFETY: AVX2 is present, promised by the caller; `out` holds 16 bytes.
        unsafe {
            let low = _mm256_hadd_epi32(sums[0], sums[1]);
            let high = _mm256_hadd_epi32(sums[2], sums[3]);
            let all = _mm256_hadd_epi32(low, high);
            let four: __m128i =
                _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
            _mm_storeu_si128(out.as_mut_ptr().cast(), four);
        }
        out
    }
}

/// `y = x · wᵀ`, wrapping.
#[target_feature(enable = "avx2")]
pub(crate) fn matmul_into<W: Weight>(
    w: &[W],
    x: &[i16],
    n: usize,
    k: usize,
    tokens: usize,
    y: &mut [i32],
) {
    // SAFETY: this function itself requires AVX2.
    unsafe { matmul::<Avx2, W>(w, x, n, k, tokens, y) };
}
