//! [`Vector`] on 256-bit registers, entered only after run-time detection; with AVX-VNNI, products are
//! added to a sum in one instruction instead of two.

use std::arch::x86_64::*;

use crate::packed::{Digits, MULTIPLIERS, PackedRows, WEIGHTS, by_digits};
use crate::vector::{MOST_LANES, Vector};

/// 256-bit registers, with or without AVX-VNNI.
pub(crate) struct Lanes256<const VNNI: bool>;
pub(crate) type Avx2 = Lanes256<false>;
pub(crate) type AvxVnni = Lanes256<true>;

/// Defines each method with one `unsafe` block: AVX2 is present (and AVX-VNNI where named) and memory is as the trait
/// says.
macro_rules! methods {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*) => {
        $(
            $(#[$meta])*
            #[inline(always)]
            unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller promises AVX2 and the memory that the trait asks for.
                unsafe { $body }
            }
        )*
    };
}

/// Products of even and of odd lanes.
type Halves = (__m256i, __m256i);

/// 16-bit pairs of eight rows (one register of four pairs each) to eight registers of eight pairs.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn transpose_pairs(r: [__m128i; 8]) -> [__m128i; 8] {
    // SAFETY: SSE2 is part of every x86-64.
    unsafe {
        let mut out = [_mm_setzero_si128(); 8];
        let a = [
            _mm_unpacklo_epi16(r[0], r[1]),
            _mm_unpackhi_epi16(r[0], r[1]),
            _mm_unpacklo_epi16(r[2], r[3]),
            _mm_unpackhi_epi16(r[2], r[3]),
            _mm_unpacklo_epi16(r[4], r[5]),
            _mm_unpackhi_epi16(r[4], r[5]),
            _mm_unpacklo_epi16(r[6], r[7]),
            _mm_unpackhi_epi16(r[6], r[7]),
        ];
        let mut half = 0;
        while half < 2 {
            let b = [
                _mm_unpacklo_epi32(a[half], a[2 + half]),
                _mm_unpackhi_epi32(a[half], a[2 + half]),
            ];
            let c = [
                _mm_unpacklo_epi32(a[4 + half], a[6 + half]),
                _mm_unpackhi_epi32(a[4 + half], a[6 + half]),
            ];
            out[4 * half] = _mm_unpacklo_epi64(b[0], c[0]);
            out[4 * half + 1] = _mm_unpackhi_epi64(b[0], c[0]);
            out[4 * half + 2] = _mm_unpacklo_epi64(b[1], c[1]);
            out[4 * half + 3] = _mm_unpackhi_epi64(b[1], c[1]);
            half += 1;
        }
        out
    }
}

impl<const VNNI: bool> Vector for Lanes256<VNNI> {
    type Lanes = __m256i;
    type Wide = Halves;
    const LANES: usize = 8;
    const ROWS: usize = 2;
    const TOKENS: usize = 6;
    const COLUMNS: usize = 512;

    methods! {
        fn splat(value: i32) -> __m256i { _mm256_set1_epi32(value) }
        fn load(at: *const i32) -> __m256i { _mm256_loadu_si256(at.cast()) }
        fn store(at: *mut i32, v: __m256i) { _mm256_storeu_si256(at.cast(), v) }
        fn load_u16(at: *const u16) -> __m256i { _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast())) }
        fn store_low16(at: *mut i16, v: __m256i) {
            // Masked to 16 bits, so that packing does not saturate.
            let low = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
            let packed = _mm256_packus_epi32(low, low);
            let packed = _mm256_permute4x64_epi64(packed, 0b10_00);
            _mm_storeu_si128(at.cast(), _mm256_castsi256_si128(packed))
        }
        fn add(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi32(a, b) }
        fn sub(a: __m256i, b: __m256i) -> __m256i { _mm256_sub_epi32(a, b) }
        fn min(a: __m256i, b: __m256i) -> __m256i { _mm256_min_epi32(a, b) }
        fn max(a: __m256i, b: __m256i) -> __m256i { _mm256_max_epi32(a, b) }
        fn or(a: __m256i, b: __m256i) -> __m256i { _mm256_or_si256(a, b) }
        fn xor(a: __m256i, b: __m256i) -> __m256i { _mm256_xor_si256(a, b) }
        fn signs(v: __m256i) -> __m256i { _mm256_srai_epi32(v, 31) }
        fn shr(v: __m256i, count: u32) -> __m256i {
            _mm256_sra_epi32(v, _mm_cvtsi32_si128(count as i32))
        }

        fn splat_pair(at: *const i16) -> __m256i {
            _mm256_set1_epi32(at.cast::<i32>().read_unaligned())
        }
        fn load_i8(at: *const i8) -> __m256i {
            _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast()))
        }
        fn prefetch(at: *const i8) { _mm_prefetch::<_MM_HINT_T0>(at) }
        fn total(v: __m256i) -> i32 {
            let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
            let v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0b10_11_00_01));
            let v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0b01_00_11_10));
            _mm_cvtsi128_si32(v)
        }
        fn totals(v: [__m256i; 4]) -> [i32; 4] {
            let v = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
            let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
            let mut out = [0i32; 4];
            _mm_storeu_si128(out.as_mut_ptr().cast(), v);
            out
        }
        fn multiply_add(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
            if VNNI {
                _mm256_dpwssd_avx_epi32(sum, a, b)
            } else {
                _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
            }
        }
        fn transpose_i8(from: *const i8, stride: usize, to: *mut i16, to_stride: usize) {
            let mut rows = [_mm_setzero_si128(); 8];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = _mm_loadu_si128(from.add(i * stride).cast());
            }
            // A pair of bytes is moved as one 16-bit value, and widened last.
            for (i, pairs) in transpose_pairs(rows).into_iter().enumerate() {
                _mm256_storeu_si256(to.add(i * to_stride).cast(), _mm256_cvtepi8_epi16(pairs));
            }
        }
        fn transpose_words(from: *const u8, stride: usize, to: *mut i32, to_stride: usize) {
            let mut r = [_mm256_setzero_si256(); 8];
            for (i, row) in r.iter_mut().enumerate() {
                *row = _mm256_loadu_si256(from.add(i * stride).cast());
            }
            let a = [
                _mm256_unpacklo_epi32(r[0], r[1]),
                _mm256_unpackhi_epi32(r[0], r[1]),
                _mm256_unpacklo_epi32(r[2], r[3]),
                _mm256_unpackhi_epi32(r[2], r[3]),
                _mm256_unpacklo_epi32(r[4], r[5]),
                _mm256_unpackhi_epi32(r[4], r[5]),
                _mm256_unpacklo_epi32(r[6], r[7]),
                _mm256_unpackhi_epi32(r[6], r[7]),
            ];
            for half in 0..2 {
                let b = [
                    _mm256_unpacklo_epi64(a[half], a[2 + half]),
                    _mm256_unpackhi_epi64(a[half], a[2 + half]),
                ];
                let c = [
                    _mm256_unpacklo_epi64(a[4 + half], a[6 + half]),
                    _mm256_unpackhi_epi64(a[4 + half], a[6 + half]),
                ];
                for side in 0..2 {
                    let low = _mm256_permute2x128_si256(b[side], c[side], 0x20);
                    let high = _mm256_permute2x128_si256(b[side], c[side], 0x31);
                    let pair = 2 * half + side;
                    _mm256_storeu_si256(to.add(pair * to_stride).cast(), low);
                    _mm256_storeu_si256(to.add((4 + pair) * to_stride).cast(), high);
                }
            }
        }
        fn interleave_i16(even: *const i16, odd: *const i16) -> __m256i {
            let (even, odd) = (_mm_loadu_si128(even.cast()), _mm_loadu_si128(odd.cast()));
            _mm256_set_m128i(_mm_unpackhi_epi16(even, odd), _mm_unpacklo_epi16(even, odd))
        }
        fn interleave_two(even: *const i16, odd: *const i16) -> [__m256i; 2] {
            let (even, odd) = (_mm256_loadu_si256(even.cast()), _mm256_loadu_si256(odd.cast()));
            [_mm256_unpacklo_epi16(even, odd), _mm256_unpackhi_epi16(even, odd)]
        }
        fn in_order(v: [__m256i; 2]) -> [__m256i; 2] {
            [
                _mm256_permute2x128_si256(v[0], v[1], 0x20),
                _mm256_permute2x128_si256(v[0], v[1], 0x31),
            ]
        }

        fn wide_splat(value: i64) -> Halves {
            let v = _mm256_set1_epi64x(value);
            (v, v)
        }
        fn wide_mul(a: __m256i, b: __m256i) -> Halves {
            let odd = _mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
            (_mm256_mul_epi32(a, b), odd)
        }
        fn wide_mul_u32(a: __m256i, b: __m256i) -> Halves {
            let odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
            (_mm256_mul_epu32(a, b), odd)
        }
        fn wide_mul_low(a: __m256i, b: Halves) -> Halves {
            (_mm256_mul_epi32(a, b.0), _mm256_mul_epi32(_mm256_srli_epi64(a, 32), b.1))
        }
        fn wide_add(a: Halves, b: Halves) -> Halves {
            (_mm256_add_epi64(a.0, b.0), _mm256_add_epi64(a.1, b.1))
        }
        fn wide_sub(a: Halves, b: Halves) -> Halves {
            (_mm256_sub_epi64(a.0, b.0), _mm256_sub_epi64(a.1, b.1))
        }
        fn wide_or(a: Halves, b: Halves) -> Halves {
            (_mm256_or_si256(a.0, b.0), _mm256_or_si256(a.1, b.1))
        }
        fn wide_shr(v: Halves, count: u32) -> Halves {
            let count = _mm_cvtsi32_si128(count as i32);
            (_mm256_srl_epi64(v.0, count), _mm256_srl_epi64(v.1, count))
        }
        fn wide_low(v: Halves) -> __m256i {
            _mm256_blend_epi32(v.0, _mm256_slli_epi64(v.1, 32), 0b1010_1010)
        }
        fn wide_lanes(v: Halves) -> [i64; MOST_LANES] {
            let mut out = [0i64; MOST_LANES];
            _mm256_storeu_si256(out.as_mut_ptr().cast(), v.0);
            _mm256_storeu_si256(out.as_mut_ptr().add(4).cast(), v.1);
            out
        }
    }
}

/// Low and high nibbles of each byte.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn nibbles(bytes: __m256i) -> [__m256i; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let low = _mm256_set1_epi8(15);
        [_mm256_and_si256(bytes, low), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low)]
    }
}

/// Unpacks groups of 16 bytes whose multipliers are behind `first` others in `multipliers`.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(crate) unsafe fn unpack_groups(
    groups: &[[u8; 16]],
    multipliers: &[u8],
    first: usize,
    out: &mut [[i8; 32]],
) {
    for (g, (out, bytes)) in out.iter_mut().zip(groups).enumerate() {
        let g = first + g;
        // That of a byte's low half.
        let table = &WEIGHTS[usize::from((multipliers[g / 2] >> (4 * (g % 2))) & 15)];
        // SAFETY: sixteen bytes of each, and room for twice as many; features are the caller's promise.
        unsafe {
            let (mask, table) = (_mm_set1_epi8(15), _mm_loadu_si128(table.as_ptr().cast()));
            // What the table has too much of, its highest bit takes away.
            let table = _mm_xor_si128(table, _mm_set1_epi8(0x80_u8 as i8));
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            let low = _mm_shuffle_epi8(table, _mm_and_si128(bytes, mask));
            let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), mask);
            _mm_storeu_si128(out.as_mut_ptr().cast(), low);
            _mm_storeu_si128(out.as_mut_ptr().add(16).cast(), _mm_shuffle_epi8(table, high));
        }
    }
}

/// With VNNI weights are looked up; without, products of such large bytes would saturate, and nibbles are
/// multiplied.
impl<const VNNI: bool> Digits for Lanes256<VNNI> {
    const TOGETHER: usize = 2;
    const SURPLUS: i32 = if VNNI { 128 } else { 0 };
    type Scale = __m256i;

    methods! {
        fn start(digits: [__m256i; 2]) -> __m256i {
            let (zero, eight) = (_mm256_setzero_si256(), _mm256_set1_epi8(8));
            if VNNI {
                return zero;
            }
            let low = _mm256_maddubs_epi16(eight, digits[0]);
            let high = _mm256_maddubs_epi16(eight, digits[1]);
            _mm256_sub_epi16(zero, _mm256_add_epi16(low, high))
        }
        fn weights(
            bytes: __m256i, multipliers: *const u8, step: usize
        ) -> ([__m256i; 2], __m256i) {
            let two = usize::from(multipliers.add(step).read());
            if VNNI {
                let table = _mm256_loadu_si256(WEIGHTS[two].as_ptr().cast());
                let [low, high] = nibbles(bytes);
                let weights = [_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high)];
                return (weights, table);
            }
            // Eight more than the nibble, which makes it unsigned.
            let bytes = _mm256_xor_si256(bytes, _mm256_set1_epi8(0x88_u8 as i8));
            (nibbles(bytes), _mm256_loadu_si256(MULTIPLIERS[two].as_ptr().cast()))
        }
        fn accumulate(
            sum: __m256i, start: __m256i, weights: ([__m256i; 2], __m256i), digits: [__m256i; 2]
        ) -> __m256i {
            let ([low, high], scale) = weights;
            if VNNI {
                let sum = _mm256_dpbusd_avx_epi32(sum, low, digits[0]);
                return _mm256_dpbusd_avx_epi32(sum, high, digits[1]);
            }
            let low = _mm256_maddubs_epi16(low, digits[0]);
            let high = _mm256_maddubs_epi16(high, digits[1]);
            let dots = _mm256_add_epi16(start, _mm256_add_epi16(low, high));
            Self::multiply_add(sum, dots, scale)
        }
        fn next_digit(v: __m256i) -> __m256i { _mm256_slli_epi32::<8>(v) }
    }
}

impl<const VNNI: bool> PackedRows for Lanes256<VNNI> {
    methods! {
        fn few(w: &[u8], x: &[i16], tokens: usize, y: &mut [i32]) {
            by_digits::<Self>(w, x, tokens, y)
        }
    }
}
