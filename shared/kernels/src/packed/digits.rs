//! Packed rows by products of bytes: weights with the digits of activations to the base 256.
//!
//! With signed digits, `x = d₀ + 256·d₁ + 2^16·d₂`; 12-bit activations have two, and only 16-bit ones
//! near 2^15 a third. An instruction set takes one of two ways:
//!
//! - the eight products of a nibble and a digit that share a lane fit 16 bits, so that one multiplication of
//!   words brings in the group's multiplier and adds to the row's sum; or
//! - a table of sixteen bytes gives a group's weights, which its nibbles look up.
//!
//! Where the products want unsigned operands, nibbles are 8 too large, and a group's sum begins with what takes
//! that away again ([`Digits::start`], which all rows share); weights are 128 too large, which is one number for
//! all rows ([`Digits::SURPLUS`]).

use super::columns;
use crate::nibbles::{GROUP, packed_bytes};
use crate::vector::Vector;

/// Rows whose lanes are summed together.
const ROWS: usize = 4;
/// Bytes of a group's nibbles.
const BYTES: usize = GROUP / 2;
/// How far ahead weights are asked for, bytes: about the latency of memory at its full rate.
const AHEAD: usize = 4096;

/// Products of packed weights and bytes in registers of a [`Vector`]. A register holds the nibbles of
/// `LANES / 4` groups, one in each 128 bits.
///
/// # Safety
/// Every method requires a CPU with the implementation's features.
pub(crate) trait Digits: Vector {
    /// Rows that meet activations together, 1, 2 or 4: as many as registers have room for.
    const TOGETHER: usize;
    /// How much larger weights are taken than they are.
    const SURPLUS: i32;
    /// What brings in the multipliers after the products.
    type Scale: Copy;

    /// What a group's sum starts with for these digits.
    unsafe fn start(digits: [Self::Lanes; 2]) -> Self::Lanes;
    /// The operands of low and of high nibbles for [`Digits::accumulate`]; `multipliers` are those of the row's
    /// groups, of which register number `step` holds `LANES / 4`. Reads no further than they lie, rounded up
    /// to whole registers.
    unsafe fn weights(
        nibbles: Self::Lanes,
        multipliers: *const u8,
        step: usize,
    ) -> ([Self::Lanes; 2], Self::Scale);
    /// `sum` and the products of weights and digits.
    unsafe fn accumulate(
        sum: Self::Lanes,
        start: Self::Lanes,
        weights: ([Self::Lanes; 2], Self::Scale),
        digits: [Self::Lanes; 2],
    ) -> Self::Lanes;
    /// Lanes times 256.
    unsafe fn next_digit(v: Self::Lanes) -> Self::Lanes;
}

/// What the low four bits of `i` mean.
#[cfg(target_arch = "x86_64")]
const fn signed(i: usize) -> i32 {
    let bits = (i % 16) as i32;
    if bits < 8 { bits } else { bits - 16 }
}

/// For each byte of two multipliers, the weights of both groups' nibbles, 128 larger.
#[cfg(target_arch = "x86_64")]
pub(crate) static WEIGHTS: [[u8; 32]; 256] = {
    let mut table = [[0; 32]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut i = 0;
        while i < 32 {
            let multiplier = if i < 16 { byte % 16 } else { byte / 16 };
            table[byte][i] = (signed(i) * multiplier as i32 + 128) as u8;
            i += 1;
        }
        byte += 1;
    }
    table
};

/// For each byte of two multipliers, the first in the words of 128 bits and the second in the next.
#[cfg(target_arch = "x86_64")]
pub(crate) static MULTIPLIERS: [[u16; 16]; 256] = {
    let mut table = [[0; 16]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut i = 0;
        while i < 16 {
            table[byte][i] = if i < 8 { byte % 16 } else { byte / 16 } as u16;
            i += 1;
        }
        byte += 1;
    }
    table
};

/// One token's activations as [`some_rows`] reads them: for each register of weights and each digit what sums
/// start with, the digits that meet low nibbles and those that meet high ones.
#[inline(always)]
fn prepare<L: Digits, const D: usize>(x: &[i16], steps: usize, to: &mut Vec<i32>) {
    to.clear();
    to.resize(steps * D * 3 * L::LANES, 0);
    for (step, to) in to.chunks_exact_mut(D * 3 * L::LANES).enumerate() {
        for g in 0..L::LANES / 4 {
            let from = (step * (L::LANES / 4) + g) * GROUP;
            let mut rest = [0i16; GROUP];
            if let Some(x) = x.get(from..).filter(|x| !x.is_empty()) {
                let len = x.len().min(GROUP);
                rest[..len].copy_from_slice(&x[..len]);
            }
            for to in to.chunks_exact_mut(3 * L::LANES) {
                let mut digits = [0u8; GROUP];
                for (digit, rest) in digits.iter_mut().zip(&mut rest) {
                    *digit = *rest as u8;
                    // Rounded to nearest, since the digit is signed.
                    *rest = (*rest >> 8).wrapping_add((*rest >> 7) & 1);
                }
                let (low, high) = to[L::LANES..].split_at_mut(L::LANES);
                let words = digits.as_chunks::<4>().0;
                for (half, words) in [low, high].into_iter().zip(words.chunks_exact(BYTES / 4)) {
                    for (to, &word) in half[g * BYTES / 4..].iter_mut().zip(words) {
                        *to = i32::from_ne_bytes(word);
                    }
                }
            }
        }
    }
}

/// Writes what sums start with into prepared activations.
///
/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
unsafe fn start<L: Digits>(prepared: &mut [i32]) {
    for to in prepared.chunks_exact_mut(3 * L::LANES) {
        let to = to.as_mut_ptr();
        // SAFETY: the three registers lie in the chunk; features are the caller's promise.
        unsafe {
            let digits = [L::load(to.add(L::LANES)), L::load(to.add(2 * L::LANES))];
            L::store(to, L::start(digits));
        }
    }
}

/// Packed rows with a few tokens.
///
/// # Panics
/// When `w` does not have the length that `x` and `y` say.
///
/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(crate) unsafe fn few<L: Digits>(w: &[u8], x: &[i16], tokens: usize, y: &mut [i32]) {
    let k = columns(w, x, tokens, y);
    let (least, most) = x.iter().fold((0, 0), |(a, b): (i16, i16), &x| (a.min(x), b.max(x)));
    // SAFETY: the caller's promise.
    unsafe {
        // The largest of two digits is 127·256 + 127.
        match (least, most) {
            (-128.., ..=127) => all_rows::<L, 1>(w, x, k, y),
            (_, ..=32639) => all_rows::<L, 2>(w, x, k, y),
            _ => all_rows::<L, 3>(w, x, k, y),
        }
    }
}

/// [`few`] for activations of `D` digits.
///
/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
unsafe fn all_rows<L: Digits, const D: usize>(w: &[u8], x: &[i16], k: usize, y: &mut [i32]) {
    let (row, groups) = (packed_bytes(k), k.div_ceil(GROUP));
    let n = w.len() / row;
    let steps = groups.div_ceil(L::LANES / 4);
    // How far from its start a row is read; what lies past its end meets zeros.
    let reach = (steps * 4 * L::LANES).max(groups * BYTES + (steps * L::LANES / 4).div_ceil(2));
    let mut prepared = Vec::new();
    for x in x.chunks_exact(k) {
        let mut to = Vec::new();
        prepare::<L, D>(x, steps, &mut to);
        // SAFETY: features are the caller's promise.
        unsafe { start::<L>(&mut to) };
        let sum = x.iter().fold(0i32, |sum, &x| sum.wrapping_add(x.into()));
        prepared.push((to, sum.wrapping_mul(L::SURPLUS)));
    }
    let mut copy = Vec::new();
    for first in (0..n).step_by(ROWS) {
        let rows = ROWS.min(n - first);
        let (mut from, mut stride) = (&w[first * row..], row);
        if (rows - 1) * row + reach > from.len() {
            // The last rows, with room behind each.
            stride = row.max(reach);
            copy.clear();
            copy.resize(ROWS * stride, 0);
            for (to, from) in copy.chunks_exact_mut(stride).zip(from.chunks_exact(row)).take(rows) {
                to[..row].copy_from_slice(from);
            }
            from = &copy;
        }
        for (t, (x, surplus)) in prepared.iter().enumerate() {
            let y = &mut y[t * n + first..][..rows];
            // SAFETY: `from` can be read for `reach` bytes from the start of each of `rows` rows, and `x` holds
            // `steps` registers of `D` digits; features are the caller's promise.
            unsafe {
                let at = |r: usize| from.as_ptr().add(r * stride);
                let of = Prepared { x: x.as_ptr(), steps, groups };
                if rows == ROWS {
                    let sums = match L::TOGETHER {
                        4 => some_rows::<L, D, 4>([at(0), at(1), at(2), at(3)], of),
                        2 => {
                            let [a, b] = some_rows::<L, D, 2>([at(0), at(1)], of);
                            let [c, d] = some_rows::<L, D, 2>([at(2), at(3)], of);
                            [a, b, c, d]
                        }
                        _ => {
                            let one = |r| some_rows::<L, D, 1>([at(r)], of)[0];
                            [one(0), one(1), one(2), one(3)]
                        }
                    };
                    y.copy_from_slice(&L::totals(sums));
                } else {
                    for (r, y) in y.iter_mut().enumerate() {
                        *y = L::total(some_rows::<L, D, 1>([at(r)], of)[0]);
                    }
                }
            }
            for y in y {
                *y = y.wrapping_sub(*surplus);
            }
        }
    }
}

/// What rows meet.
#[derive(Clone, Copy)]
struct Prepared {
    x: *const i32,
    /// Registers of a row's nibbles.
    steps: usize,
    groups: usize,
}

/// The products of `R` rows, still in lanes.
///
/// # Safety
/// The CPU has `L`'s features; each row can be read for `4·LANES` bytes of each step and for the multipliers of
/// as many groups behind its nibbles; `x` is prepared for `steps` and `D` digits.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // indices keep the registers visible
unsafe fn some_rows<L: Digits, const D: usize, const R: usize>(
    rows: [*const u8; R],
    Prepared { mut x, steps, groups }: Prepared,
) -> [L::Lanes; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[L::splat(0); D]; R];
        let mut step = 0usize;
        while step != steps {
            let at = step.wrapping_mul(4 * L::LANES);
            let first = L::load(rows[0].add(at).cast());
            let mut weights = [L::weights(first, rows[0].add(groups * BYTES), step); R];
            L::prefetch(rows[0].wrapping_add(at).wrapping_add(AHEAD).cast());
            for r in 1..R {
                L::prefetch(rows[r].wrapping_add(at).wrapping_add(AHEAD).cast());
                let nibbles = L::load(rows[r].add(at).cast());
                weights[r] = L::weights(nibbles, rows[r].add(groups * BYTES), step);
            }
            for d in 0..D {
                let start = L::load(x);
                let digits = [L::load(x.add(L::LANES)), L::load(x.add(2 * L::LANES))];
                x = x.add(3 * L::LANES);
                for r in 0..R {
                    sums[r][d] = L::accumulate(sums[r][d], start, weights[r], digits);
                }
            }
            step = step.wrapping_add(1);
        }
        let mut out = [L::splat(0); R];
        for r in 0..R {
            out[r] = sums[r][D - 1];
            for d in (0..D - 1).rev() {
                out[r] = L::add(L::next_digit(out[r]), sums[r][d]);
            }
        }
        out
    }
}
