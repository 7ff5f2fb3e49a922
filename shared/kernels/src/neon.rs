//! [`Vector`] on aarch64's 128-bit registers, which every such processor has, and with the dot products
//! of bytes, which are detected.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::bytes::Bytes;
use crate::packed::{Digits, PackedRows, by_digits};
use crate::vector::{MOST_LANES, Vector};

/// 128-bit registers.
pub(crate) struct Neon;

/// Defines each method with one `unsafe` block: memory is as the trait says.
macro_rules! methods {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*) => {
        $(
            $(#[$meta])*
            #[inline(always)]
            #[allow(unused_unsafe)] // most of these intrinsics are safe where NEON is certain
            unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: every aarch64 has NEON; the caller promises the memory that the trait asks for.
                unsafe { $body }
            }
        )*
    };
}

/// Products of the lower and of the upper lanes.
type Halves = (int64x2_t, int64x2_t);

/// Four rows of four words each to four registers of four rows each.
///
/// # Safety
/// None: every aarch64 has NEON.
#[inline(always)]
#[allow(unused_unsafe)]
unsafe fn transpose(r: [int32x4_t; 4]) -> [int32x4_t; 4] {
    // SAFETY: every aarch64 has NEON.
    unsafe {
        let even = (vtrn1q_s32(r[0], r[1]), vtrn1q_s32(r[2], r[3]));
        let odd = (vtrn2q_s32(r[0], r[1]), vtrn2q_s32(r[2], r[3]));
        let wide = |v| vreinterpretq_s64_s32(v);
        [
            vreinterpretq_s32_s64(vtrn1q_s64(wide(even.0), wide(even.1))),
            vreinterpretq_s32_s64(vtrn1q_s64(wide(odd.0), wide(odd.1))),
            vreinterpretq_s32_s64(vtrn2q_s64(wide(even.0), wide(even.1))),
            vreinterpretq_s32_s64(vtrn2q_s64(wide(odd.0), wide(odd.1))),
        ]
    }
}

impl Vector for Neon {
    type Lanes = int32x4_t;
    type Wide = Halves;
    const LANES: usize = 4;
    const ROWS: usize = 2;
    const TOKENS: usize = 8;
    const COLUMNS: usize = 512;

    methods! {
        fn splat(value: i32) -> int32x4_t { vdupq_n_s32(value) }
        fn load(at: *const i32) -> int32x4_t { at.cast::<int32x4_t>().read_unaligned() }
        fn store(at: *mut i32, v: int32x4_t) { at.cast::<int32x4_t>().write_unaligned(v) }
        fn load_u16(at: *const u16) -> int32x4_t {
            vreinterpretq_s32_u32(vmovl_u16(at.cast::<uint16x4_t>().read_unaligned()))
        }
        fn store_low16(at: *mut i16, v: int32x4_t) {
            at.cast::<int16x4_t>().write_unaligned(vmovn_s32(v))
        }
        fn add(a: int32x4_t, b: int32x4_t) -> int32x4_t { vaddq_s32(a, b) }
        fn sub(a: int32x4_t, b: int32x4_t) -> int32x4_t { vsubq_s32(a, b) }
        fn min(a: int32x4_t, b: int32x4_t) -> int32x4_t { vminq_s32(a, b) }
        fn max(a: int32x4_t, b: int32x4_t) -> int32x4_t { vmaxq_s32(a, b) }
        fn or(a: int32x4_t, b: int32x4_t) -> int32x4_t { vorrq_s32(a, b) }
        fn xor(a: int32x4_t, b: int32x4_t) -> int32x4_t { veorq_s32(a, b) }
        fn signs(v: int32x4_t) -> int32x4_t { vshrq_n_s32::<31>(v) }
        fn shr(v: int32x4_t, count: u32) -> int32x4_t {
            vshlq_s32(v, vdupq_n_s32((count as i32).wrapping_neg()))
        }

        fn splat_pair(at: *const i16) -> int32x4_t {
            vdupq_n_s32(at.cast::<i32>().read_unaligned())
        }
        fn load_i8(at: *const i8) -> int32x4_t {
            vreinterpretq_s32_s16(vmovl_s8(at.cast::<int8x8_t>().read_unaligned()))
        }
        fn prefetch(_at: *const i8) {}
        fn total(v: int32x4_t) -> i32 { vaddvq_s32(v) }
        fn totals(v: [int32x4_t; 4]) -> [i32; 4] {
            let v = vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]));
            let mut out = [0i32; 4];
            vst1q_s32(out.as_mut_ptr(), v);
            out
        }
        fn multiply_add(sum: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
            let (a, b) = (vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
            let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
            vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(a, b)))
        }
        fn transpose_i8(from: *const i8, stride: usize, to: *mut i16, to_stride: usize) {
            let mut rows = [vdupq_n_s32(0); 4];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = Self::load_i8(from.add(i * stride));
            }
            for (i, pairs) in transpose(rows).into_iter().enumerate() {
                Self::store(to.add(i * to_stride).cast(), pairs);
            }
        }
        fn transpose_words(from: *const u8, stride: usize, to: *mut i32, to_stride: usize) {
            let mut rows = [vdupq_n_s32(0); 4];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = Self::load(from.add(i * stride).cast());
            }
            for (i, words) in transpose(rows).into_iter().enumerate() {
                Self::store(to.add(i * to_stride), words);
            }
        }
        fn interleave_i16(even: *const i16, odd: *const i16) -> int32x4_t {
            let even = even.cast::<int16x4_t>().read_unaligned();
            let odd = odd.cast::<int16x4_t>().read_unaligned();
            vreinterpretq_s32_s16(vcombine_s16(vzip1_s16(even, odd), vzip2_s16(even, odd)))
        }
        fn interleave_two(even: *const i16, odd: *const i16) -> [int32x4_t; 2] {
            let even = even.cast::<int16x8_t>().read_unaligned();
            let odd = odd.cast::<int16x8_t>().read_unaligned();
            [
                vreinterpretq_s32_s16(vzip1q_s16(even, odd)),
                vreinterpretq_s32_s16(vzip2q_s16(even, odd)),
            ]
        }
        fn in_order(v: [int32x4_t; 2]) -> [int32x4_t; 2] { v }

        fn wide_splat(value: i64) -> Halves {
            let v = vdupq_n_s64(value);
            (v, v)
        }
        fn wide_mul(a: int32x4_t, b: int32x4_t) -> Halves {
            (vmull_s32(vget_low_s32(a), vget_low_s32(b)), vmull_high_s32(a, b))
        }
        fn wide_mul_u32(a: int32x4_t, b: int32x4_t) -> Halves {
            let (a, b) = (vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b));
            let low = vmull_u32(vget_low_u32(a), vget_low_u32(b));
            (vreinterpretq_s64_u64(low), vreinterpretq_s64_u64(vmull_high_u32(a, b)))
        }
        fn wide_mul_low(a: int32x4_t, b: Halves) -> Halves { Self::wide_mul(a, Self::wide_low(b)) }
        fn wide_add(a: Halves, b: Halves) -> Halves { (vaddq_s64(a.0, b.0), vaddq_s64(a.1, b.1)) }
        fn wide_sub(a: Halves, b: Halves) -> Halves { (vsubq_s64(a.0, b.0), vsubq_s64(a.1, b.1)) }
        fn wide_or(a: Halves, b: Halves) -> Halves { (vorrq_s64(a.0, b.0), vorrq_s64(a.1, b.1)) }
        fn wide_shr(v: Halves, count: u32) -> Halves {
            let left = vdupq_n_s64(i64::from(count).wrapping_neg());
            let shift = |v| vreinterpretq_s64_u64(vshlq_u64(vreinterpretq_u64_s64(v), left));
            (shift(v.0), shift(v.1))
        }
        fn wide_low(v: Halves) -> int32x4_t {
            vuzp1q_s32(vreinterpretq_s32_s64(v.0), vreinterpretq_s32_s64(v.1))
        }
        fn wide_lanes(v: Halves) -> [i64; MOST_LANES] {
            let mut out = [0i64; MOST_LANES];
            vst1q_s64(out.as_mut_ptr(), v.0);
            vst1q_s64(out.as_mut_ptr().add(2), v.1);
            out
        }
    }
}

impl Bytes for Neon {
    const TOKENS: usize = 4;
    const CONSTANT: i32 = 128;

    fn split(x: i16) -> [u8; 2] {
        [x as u8 ^ 0x80, (x >> 8) as u8]
    }

    #[inline(always)]
    unsafe fn dot(mut sum: int32x4_t, w: int32x4_t, x: int32x4_t) -> int32x4_t {
        // SAFETY: registers only; the caller promises `dotprod`. The intrinsic is not stable yet.
        unsafe {
            asm!(
                "sdot {sum:v}.4s, {w:v}.16b, {x:v}.16b",
                sum = inout(vreg) sum,
                w = in(vreg) w,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }
}

impl Digits for Neon {
    const TOGETHER: usize = 4;
    const SURPLUS: i32 = 0;
    type Scale = int32x4_t;

    methods! {
        fn start(_digits: [int32x4_t; 2]) -> int32x4_t { vdupq_n_s32(0) }
        fn weights(
            bytes: int32x4_t, multipliers: *const u8, step: usize
        ) -> ([int32x4_t; 2], int32x4_t) {
            let bytes = vreinterpretq_s8_s32(bytes);
            let low = vshrq_n_s8::<4>(vshlq_n_s8::<4>(bytes));
            let high = vshrq_n_s8::<4>(bytes);
            let two = multipliers.add(step / 2).read();
            let scale = vdupq_n_s16(i16::from((two >> (4 * (step % 2))) & 15));
            let weights = [vreinterpretq_s32_s8(low), vreinterpretq_s32_s8(high)];
            (weights, vreinterpretq_s32_s16(scale))
        }
        fn accumulate(
            sum: int32x4_t,
            _start: int32x4_t,
            weights: ([int32x4_t; 2], int32x4_t),
            digits: [int32x4_t; 2]
        ) -> int32x4_t {
            // Signed as they are, so a group's sum starts with nothing.
            let ([low, high], scale) = weights;
            let w = [vreinterpretq_s8_s32(low), vreinterpretq_s8_s32(high)];
            let d = [vreinterpretq_s8_s32(digits[0]), vreinterpretq_s8_s32(digits[1])];
            let dots = vmull_s8(vget_low_s8(w[0]), vget_low_s8(d[0]));
            let dots = vmlal_high_s8(dots, w[0], d[0]);
            let dots = vmlal_s8(dots, vget_low_s8(w[1]), vget_low_s8(d[1]));
            let dots = vreinterpretq_s32_s16(vmlal_high_s8(dots, w[1], d[1]));
            Self::multiply_add(sum, dots, scale)
        }
        fn next_digit(v: int32x4_t) -> int32x4_t { vshlq_n_s32::<8>(v) }
    }
}

impl PackedRows for Neon {
    methods! {
        fn few(w: &[u8], x: &[i16], tokens: usize, y: &mut [i32]) {
            by_digits::<Self>(w, x, tokens, y)
        }
    }
}
