//! [`Vector`] on 512-bit registers with VNNI, entered only after run-time detection of all its parts.
//!
//! Products are of 16-bit words (`vpdpwssd`). Activations split into two bytes (`vpdpbusd`, as
//! `bytes.rs` does on aarch64) need as many instructions, and are measured to be a fifth slower in tiles.

use std::arch::x86_64::*;

use crate::packed::{Digits, PackedRows, by_digits};
use crate::vector::{MOST_LANES, Vector};

pub(crate) struct Avx512;

/// Defines each method with one `unsafe` block: AVX-512 is present and memory is as the trait says.
macro_rules! methods {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*) => {
        $(
            $(#[$meta])*
            #[inline(always)]
            unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller promises AVX-512 (F, BW, DQ, VL, VNNI) and the memory that the
                // trait asks for.
                unsafe { $body }
            }
        )*
    };
}

/// Products of even and of odd lanes.
type Halves = (__m512i, __m512i);

/// In each 128-bit part: 16-bit pairs of eight registers (four pairs each) transposed.
///
/// # Safety
/// The CPU has AVX-512BW.
#[inline(always)]
unsafe fn transpose_words(r: [__m512i; 8]) -> [__m512i; 8] {
    // SAFETY: the caller's promise.
    unsafe {
        let a = [
            _mm512_unpacklo_epi16(r[0], r[1]),
            _mm512_unpackhi_epi16(r[0], r[1]),
            _mm512_unpacklo_epi16(r[2], r[3]),
            _mm512_unpackhi_epi16(r[2], r[3]),
            _mm512_unpacklo_epi16(r[4], r[5]),
            _mm512_unpackhi_epi16(r[4], r[5]),
            _mm512_unpacklo_epi16(r[6], r[7]),
            _mm512_unpackhi_epi16(r[6], r[7]),
        ];
        let mut out = [_mm512_setzero_si512(); 8];
        let mut half = 0;
        while half < 2 {
            let (b0, b1) = (a[half], a[2 + half]);
            let (c0, c1) = (a[4 + half], a[6 + half]);
            let (b, c) = (_mm512_unpacklo_epi32(b0, b1), _mm512_unpacklo_epi32(c0, c1));
            out[4 * half] = _mm512_unpacklo_epi64(b, c);
            out[4 * half + 1] = _mm512_unpackhi_epi64(b, c);
            let (b, c) = (_mm512_unpackhi_epi32(b0, b1), _mm512_unpackhi_epi32(c0, c1));
            out[4 * half + 2] = _mm512_unpacklo_epi64(b, c);
            out[4 * half + 3] = _mm512_unpackhi_epi64(b, c);
            half += 1;
        }
        out
    }
}

impl Vector for Avx512 {
    type Lanes = __m512i;
    type Wide = Halves;
    const LANES: usize = 16;
    /// Four, since a tile of two by twelve runs out of registers for its twelve rows' addresses.
    const ROWS: usize = 4;
    const TOKENS: usize = 6;
    const COLUMNS: usize = 128;

    methods! {
        fn splat(value: i32) -> __m512i { _mm512_set1_epi32(value) }
        fn load(at: *const i32) -> __m512i { _mm512_loadu_si512(at.cast()) }
        fn store(at: *mut i32, v: __m512i) { _mm512_storeu_si512(at.cast(), v) }
        fn load_u16(at: *const u16) -> __m512i {
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()))
        }
        fn store_low16(at: *mut i16, v: __m512i) {
            _mm256_storeu_si256(at.cast(), _mm512_cvtepi32_epi16(v))
        }
        fn add(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        fn sub(a: __m512i, b: __m512i) -> __m512i { _mm512_sub_epi32(a, b) }
        fn min(a: __m512i, b: __m512i) -> __m512i { _mm512_min_epi32(a, b) }
        fn max(a: __m512i, b: __m512i) -> __m512i { _mm512_max_epi32(a, b) }
        fn or(a: __m512i, b: __m512i) -> __m512i { _mm512_or_si512(a, b) }
        fn xor(a: __m512i, b: __m512i) -> __m512i { _mm512_xor_si512(a, b) }
        fn signs(v: __m512i) -> __m512i { _mm512_srai_epi32::<31>(v) }
        fn shr(v: __m512i, count: u32) -> __m512i {
            _mm512_sra_epi32(v, _mm_cvtsi32_si128(count as i32))
        }

        fn splat_pair(at: *const i16) -> __m512i {
            _mm512_set1_epi32(at.cast::<i32>().read_unaligned())
        }
        fn load_i8(at: *const i8) -> __m512i {
            _mm512_cvtepi8_epi16(_mm256_loadu_si256(at.cast()))
        }
        fn prefetch(at: *const i8) { _mm_prefetch::<_MM_HINT_T0>(at) }
        fn total(v: __m512i) -> i32 { _mm512_reduce_add_epi32(v) }
        fn totals(v: [__m512i; 4]) -> [i32; 4] {
            // Four registers' quarters side by side, then their 128-bit parts added.
            let a = _mm512_add_epi32(
                _mm512_unpacklo_epi32(v[0], v[1]),
                _mm512_unpackhi_epi32(v[0], v[1]),
            );
            let b = _mm512_add_epi32(
                _mm512_unpacklo_epi32(v[2], v[3]),
                _mm512_unpackhi_epi32(v[2], v[3]),
            );
            let v = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
            let v = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v));
            let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
            let mut out = [0i32; 4];
            _mm_storeu_si128(out.as_mut_ptr().cast(), v);
            out
        }
        fn multiply_add(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
            _mm512_dpwssd_epi32(sum, a, b)
        }
        fn transpose_i8(from: *const i8, stride: usize, to: *mut i16, to_stride: usize) {
            // A pair of bytes is moved as one 16-bit value, and widened last. Rows r and r + 8 share a
            // register.
            let mut r = [_mm512_setzero_si512(); 8];
            for (i, pair) in r.iter_mut().enumerate() {
                let low = _mm256_loadu_si256(from.add(i * stride).cast());
                let high = _mm256_loadu_si256(from.add((i + 8) * stride).cast());
                *pair = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
            }
            for (i, words) in transpose_words(r).into_iter().enumerate() {
                // Pair i of the first eight rows, pair i + 8 of them, then of the last eight.
                let words = _mm512_shuffle_i64x2::<0b11_01_10_00>(words, words);
                let low = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(words));
                let high = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64::<1>(words));
                _mm512_storeu_si512(to.add(i * to_stride).cast(), low);
                _mm512_storeu_si512(to.add((i + 8) * to_stride).cast(), high);
            }
        }
        #[allow(clippy::needless_range_loop)] // the index keeps the order of parts visible
        fn transpose_words(from: *const u8, stride: usize, to: *mut i32, to_stride: usize) {
            // 4 by 4 inside the 128-bit parts, for rows 4g..4g + 4; then 4 by 4 of the parts.
            let mut t = [[_mm512_setzero_si512(); 4]; 4];
            for (g, t) in t.iter_mut().enumerate() {
                let mut r = [_mm512_setzero_si512(); 4];
                for (i, row) in r.iter_mut().enumerate() {
                    *row = _mm512_loadu_si512(from.add((4 * g + i) * stride).cast());
                }
                let (a, b) = (_mm512_unpacklo_epi32(r[0], r[1]), _mm512_unpacklo_epi32(r[2], r[3]));
                let (c, d) = (_mm512_unpackhi_epi32(r[0], r[1]), _mm512_unpackhi_epi32(r[2], r[3]));
                *t = [
                    _mm512_unpacklo_epi64(a, b),
                    _mm512_unpackhi_epi64(a, b),
                    _mm512_unpacklo_epi64(c, d),
                    _mm512_unpackhi_epi64(c, d),
                ];
            }
            // Register t[g][j] holds, in its part p, pair 4p + j of rows 4g..4g + 4.
            for j in 0..4 {
                let [t0, t1, t2, t3] = [t[0][j], t[1][j], t[2][j], t[3][j]];
                let a = _mm512_shuffle_i32x4::<0b10_00_10_00>(t0, t1);
                let b = _mm512_shuffle_i32x4::<0b10_00_10_00>(t2, t3);
                let c = _mm512_shuffle_i32x4::<0b11_01_11_01>(t0, t1);
                let d = _mm512_shuffle_i32x4::<0b11_01_11_01>(t2, t3);
                let parts = [
                    _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b),
                    _mm512_shuffle_i32x4::<0b10_00_10_00>(c, d),
                    _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b),
                    _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d),
                ];
                for (p, pairs) in parts.into_iter().enumerate() {
                    _mm512_storeu_si512(to.add((4 * p + j) * to_stride).cast(), pairs);
                }
            }
        }
        fn interleave_i16(even: *const i16, odd: *const i16) -> __m512i {
            let even = _mm512_cvtepu16_epi32(_mm256_loadu_si256(even.cast()));
            let odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256(odd.cast()));
            _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd))
        }
        fn interleave_two(even: *const i16, odd: *const i16) -> [__m512i; 2] {
            let (even, odd) = (_mm512_loadu_si512(even.cast()), _mm512_loadu_si512(odd.cast()));
            [_mm512_unpacklo_epi16(even, odd), _mm512_unpackhi_epi16(even, odd)]
        }
        fn in_order(v: [__m512i; 2]) -> [__m512i; 2] {
            let first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
            let second = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
            [
                _mm512_permutex2var_epi64(v[0], first, v[1]),
                _mm512_permutex2var_epi64(v[0], second, v[1]),
            ]
        }

        fn wide_splat(value: i64) -> Halves {
            let v = _mm512_set1_epi64(value);
            (v, v)
        }
        fn wide_mul(a: __m512i, b: __m512i) -> Halves {
            let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(a), _mm512_srli_epi64::<32>(b));
            (_mm512_mul_epi32(a, b), odd)
        }
        fn wide_mul_u32(a: __m512i, b: __m512i) -> Halves {
            let odd = _mm512_mul_epu32(_mm512_srli_epi64::<32>(a), _mm512_srli_epi64::<32>(b));
            (_mm512_mul_epu32(a, b), odd)
        }
        fn wide_mul_low(a: __m512i, b: Halves) -> Halves {
            (_mm512_mul_epi32(a, b.0), _mm512_mul_epi32(_mm512_srli_epi64::<32>(a), b.1))
        }
        fn wide_add(a: Halves, b: Halves) -> Halves {
            (_mm512_add_epi64(a.0, b.0), _mm512_add_epi64(a.1, b.1))
        }
        fn wide_sub(a: Halves, b: Halves) -> Halves {
            (_mm512_sub_epi64(a.0, b.0), _mm512_sub_epi64(a.1, b.1))
        }
        fn wide_or(a: Halves, b: Halves) -> Halves {
            (_mm512_or_si512(a.0, b.0), _mm512_or_si512(a.1, b.1))
        }
        fn wide_shr(v: Halves, count: u32) -> Halves {
            let count = _mm_cvtsi32_si128(count as i32);
            (_mm512_srl_epi64(v.0, count), _mm512_srl_epi64(v.1, count))
        }
        fn wide_low(v: Halves) -> __m512i {
            // Odd lanes from the low halves of the second register.
            _mm512_mask_shuffle_epi32::<0b10_10_00_00>(v.0, 0xaaaa, v.1)
        }
        fn wide_lanes(v: Halves) -> [i64; MOST_LANES] {
            let mut out = [0i64; MOST_LANES];
            _mm512_storeu_si512(out.as_mut_ptr().cast(), v.0);
            _mm512_storeu_si512(out.as_mut_ptr().add(8).cast(), v.1);
            out
        }
    }
}

/// Looking weights up as [`crate::avx2`] does is no faster here: it takes the port of shuffles.
impl Digits for Avx512 {
    const TOGETHER: usize = 4;
    const SURPLUS: i32 = 0;
    type Scale = __m512i;

    methods! {
        fn start(digits: [__m512i; 2]) -> __m512i {
            let (zero, eight) = (_mm512_setzero_si512(), _mm512_set1_epi8(8));
            let surplus = _mm512_dpbusd_epi32(zero, eight, digits[0]);
            _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(surplus, eight, digits[1]))
        }
        fn weights(
            bytes: __m512i, multipliers: *const u8, step: usize
        ) -> ([__m512i; 2], __m512i) {
            // Eight more than the nibble, which makes it unsigned.
            let bytes = _mm512_xor_si512(bytes, _mm512_set1_epi8(0x88_u8 as i8));
            let low = _mm512_set1_epi8(15);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low);
            let low = _mm512_and_si512(bytes, low);
            let four = _mm512_set1_epi16(multipliers.add(2 * step).cast::<i16>().read_unaligned());
            // Bits 0, 4, 8 and 12 on in the first, the second, … 128 bits.
            let shifts = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
            let scale = _mm512_and_si512(_mm512_srlv_epi32(four, shifts), _mm512_set1_epi32(15));
            ([low, high], scale)
        }
        fn accumulate(
            sum: __m512i, start: __m512i, weights: ([__m512i; 2], __m512i), digits: [__m512i; 2]
        ) -> __m512i {
            let dots = _mm512_dpbusd_epi32(start, weights.0[0], digits[0]);
            let dots = _mm512_dpbusd_epi32(dots, weights.0[1], digits[1]);
            Self::multiply_add(sum, dots, weights.1)
        }
        fn next_digit(v: __m512i) -> __m512i { _mm512_slli_epi32::<8>(v) }
    }
}

impl PackedRows for Avx512 {
    methods! {
        fn few(w: &[u8], x: &[i16], tokens: usize, y: &mut [i32]) {
            by_digits::<Self>(w, x, tokens, y)
        }
    }
}
