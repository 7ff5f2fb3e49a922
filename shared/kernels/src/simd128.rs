//! [`Vector`] on WebAssembly's 128-bit registers; the whole crate is built with the feature in the
//! browser, so nothing is detected at run time.

use std::arch::wasm32::*;

use crate::packed::{PackedRows, by_words};
use crate::vector::{MOST_LANES, Vector};

pub(crate) struct Simd128;

/// Defines each method with one `unsafe` block: memory is as the trait says.
macro_rules! methods {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*) => {
        $(
            $(#[$meta])*
            #[inline(always)]
            #[allow(unused_unsafe)] // most of these intrinsics are safe
            unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller promises the memory that the trait asks for.
                unsafe { $body }
            }
        )*
    };
}

/// Products of the lower and of the upper lanes.
type Halves = (v128, v128);

/// Four rows of four pairs each to four registers of four rows each.
#[inline(always)]
fn transpose(r: [v128; 4]) -> [v128; 4] {
    let low = (i32x4_shuffle::<0, 4, 1, 5>(r[0], r[1]), i32x4_shuffle::<0, 4, 1, 5>(r[2], r[3]));
    let high = (i32x4_shuffle::<2, 6, 3, 7>(r[0], r[1]), i32x4_shuffle::<2, 6, 3, 7>(r[2], r[3]));
    [
        i64x2_shuffle::<0, 2>(low.0, low.1),
        i64x2_shuffle::<1, 3>(low.0, low.1),
        i64x2_shuffle::<0, 2>(high.0, high.1),
        i64x2_shuffle::<1, 3>(high.0, high.1),
    ]
}

impl Vector for Simd128 {
    type Lanes = v128;
    type Wide = Halves;
    const LANES: usize = 4;
    const ROWS: usize = 2;
    const TOKENS: usize = 4;
    const COLUMNS: usize = 512;

    methods! {
        fn splat(value: i32) -> v128 { i32x4_splat(value) }
        fn load(at: *const i32) -> v128 { v128_load(at.cast()) }
        fn store(at: *mut i32, v: v128) { v128_store(at.cast(), v) }
        fn load_u16(at: *const u16) -> v128 { u32x4_load_extend_u16x4(at) }
        fn store_low16(at: *mut i16, v: v128) {
            // Masked to 16 bits, so that narrowing does not saturate.
            let low = v128_and(v, i32x4_splat(0xffff));
            v128_store64_lane::<0>(u16x8_narrow_i32x4(low, low), at.cast())
        }
        fn add(a: v128, b: v128) -> v128 { i32x4_add(a, b) }
        fn sub(a: v128, b: v128) -> v128 { i32x4_sub(a, b) }
        fn min(a: v128, b: v128) -> v128 { i32x4_min(a, b) }
        fn max(a: v128, b: v128) -> v128 { i32x4_max(a, b) }
        fn or(a: v128, b: v128) -> v128 { v128_or(a, b) }
        fn xor(a: v128, b: v128) -> v128 { v128_xor(a, b) }
        fn signs(v: v128) -> v128 { i32x4_shr(v, 31) }
        fn shr(v: v128, count: u32) -> v128 { i32x4_shr(v, count) }

        fn splat_pair(at: *const i16) -> v128 { v128_load32_splat(at.cast()) }
        fn load_i8(at: *const i8) -> v128 { i16x8_load_extend_i8x8(at) }
        fn prefetch(_at: *const i8) {}
        fn total(v: v128) -> i32 {
            let v = i32x4_add(v, i32x4_shuffle::<2, 3, 0, 1>(v, v));
            let v = i32x4_add(v, i32x4_shuffle::<1, 0, 3, 2>(v, v));
            i32x4_extract_lane::<0>(v)
        }
        fn totals(v: [v128; 4]) -> [i32; 4] {
            let columns = transpose(v);
            let v = i32x4_add(
                i32x4_add(columns[0], columns[1]),
                i32x4_add(columns[2], columns[3]),
            );
            let mut out = [0i32; 4];
            v128_store(out.as_mut_ptr().cast(), v);
            out
        }
        fn multiply_add(sum: v128, a: v128, b: v128) -> v128 {
            i32x4_add(sum, i32x4_dot_i16x8(a, b))
        }
        fn transpose_i8(from: *const i8, stride: usize, to: *mut i16, to_stride: usize) {
            let mut rows = [i32x4_splat(0); 4];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = i16x8_load_extend_i8x8(from.add(i * stride));
            }
            for (i, pairs) in transpose(rows).into_iter().enumerate() {
                v128_store(to.add(i * to_stride).cast(), pairs);
            }
        }
        fn transpose_words(from: *const u8, stride: usize, to: *mut i32, to_stride: usize) {
            let mut rows = [i32x4_splat(0); 4];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = v128_load(from.add(i * stride).cast());
            }
            for (i, pairs) in transpose(rows).into_iter().enumerate() {
                v128_store(to.add(i * to_stride).cast(), pairs);
            }
        }
        fn interleave_i16(even: *const i16, odd: *const i16) -> v128 {
            let (even, odd) = (v128_load64_zero(even.cast()), v128_load64_zero(odd.cast()));
            i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(even, odd)
        }
        fn interleave_two(even: *const i16, odd: *const i16) -> [v128; 2] {
            let (even, odd) = (v128_load(even.cast()), v128_load(odd.cast()));
            [
                i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(even, odd),
                i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(even, odd),
            ]
        }
        fn in_order(v: [v128; 2]) -> [v128; 2] { v }

        fn wide_splat(value: i64) -> Halves {
            let v = i64x2_splat(value);
            (v, v)
        }
        fn wide_mul(a: v128, b: v128) -> Halves {
            (i64x2_extmul_low_i32x4(a, b), i64x2_extmul_high_i32x4(a, b))
        }
        fn wide_mul_u32(a: v128, b: v128) -> Halves {
            (u64x2_extmul_low_u32x4(a, b), u64x2_extmul_high_u32x4(a, b))
        }
        fn wide_mul_low(a: v128, b: Halves) -> Halves { Self::wide_mul(a, Self::wide_low(b)) }
        fn wide_add(a: Halves, b: Halves) -> Halves { (i64x2_add(a.0, b.0), i64x2_add(a.1, b.1)) }
        fn wide_sub(a: Halves, b: Halves) -> Halves { (i64x2_sub(a.0, b.0), i64x2_sub(a.1, b.1)) }
        fn wide_or(a: Halves, b: Halves) -> Halves { (v128_or(a.0, b.0), v128_or(a.1, b.1)) }
        fn wide_shr(v: Halves, count: u32) -> Halves {
            (u64x2_shr(v.0, count), u64x2_shr(v.1, count))
        }
        fn wide_low(v: Halves) -> v128 { i32x4_shuffle::<0, 2, 4, 6>(v.0, v.1) }
        fn wide_lanes(v: Halves) -> [i64; MOST_LANES] {
            let mut out = [0i64; MOST_LANES];
            v128_store(out.as_mut_ptr().cast(), v.0);
            v128_store(out.as_mut_ptr().add(2).cast(), v.1);
            out
        }
    }
}

impl PackedRows for Simd128 {
    methods! {
        fn few(w: &[u8], x: &[i16], tokens: usize, y: &mut [i32]) { by_words(w, x, tokens, y) }
    }
}
