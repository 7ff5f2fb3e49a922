//! The product of a weight and one token's row, or very few: decoding, where each weight is used once.
//!
//! Nothing is transposed: a register holds columns of one row, rows are read one after the other as they
//! lie in memory, whose rate is the limit for large models, and only at the end of four are lanes summed. A
//! second token meets the same four rows before the next are read.

use crate::dispatch::vectorised;
use crate::vector::Vector;

/// Weight rows whose lanes are summed together.
const ROWS: usize = 4;
/// Registers of a row at a time.
const UNROLL: usize = 4;
/// Bytes of a line of the cache.
const LINE: usize = 64;
/// How far ahead weights are asked for, bytes: about the latency of memory at its full rate.
const AHEAD: usize = 4096;

/// `y[t, j] = Σ_i w[j, i] · x[t, i]`, wrapping, for `w` of `[n, k]` and a few `tokens`; none of the three is
/// empty.
///
/// # Panics
/// When `w` does not have the length that `x` and `y` say.
pub(crate) fn matvec(w: &[i8], x: &[i16], tokens: usize, y: &mut [i32]) {
    #[cfg(target_arch = "aarch64")]
    {
        #[target_feature(enable = "dotprod")]
        fn dotprod(w: &[i8], x: &[i16], tokens: usize, y: &mut [i32]) {
            // SAFETY: this function itself requires `dotprod`.
            unsafe { crate::bytes::fast_rows::<crate::neon::Neon>(w, x, tokens, y) }
        }
        if crate::Path::current() == crate::Path::NeonDot {
            // SAFETY: the CPU has what its current path says.
            return unsafe { dotprod(w, x, tokens, y) };
        }
    }
    by_words(w, x, tokens, y);
}

vectorised! {
    /// [`matvec`] by products of 16-bit words.
    ///
    /// # Panics
    /// As there.
    fn by_words(w: &[i8], x: &[i16], tokens: usize, y: &mut [i32]) {
        fast: fast,
        plain: plain,
    }
}

/// `k` of such a product.
///
/// # Panics
/// When `w` does not have the length that `x` and `y` say.
pub(crate) fn columns(w: &[i8], x: &[i16], tokens: usize, y: &[i32]) -> usize {
    let (n, k) = (y.len() / tokens, x.len() / tokens);
    assert_eq!((n * tokens, k * tokens), (y.len(), x.len()), "x is [tokens, k], y is [tokens, n]");
    assert_eq!(w.len(), n * k, "w is [n, k]");
    k
}

#[cfg_attr(all(target_arch = "wasm32", target_feature = "simd128"), allow(dead_code))]
fn plain(w: &[i8], x: &[i16], tokens: usize, y: &mut [i32]) {
    let k = columns(w, x, tokens, y);
    let n = w.len() / k;
    for (x, y) in x.chunks_exact(k).zip(y.chunks_exact_mut(n)) {
        for (y, w) in y.iter_mut().zip(w.chunks_exact(k)) {
            *y = tail(w, x);
        }
    }
}

fn tail(w: &[i8], x: &[i16]) -> i32 {
    let products = w.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x));
    products.fold(0, i32::wrapping_add)
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
unsafe fn fast<L: Vector>(w: &[i8], x: &[i16], tokens: usize, y: &mut [i32]) {
    let k = columns(w, x, tokens, y);
    let n = w.len() / k;
    let whole = k / (2 * L::LANES) * (2 * L::LANES);
    for (block, w) in w.chunks(ROWS * k).enumerate() {
        let rows = w.len() / k;
        for (x, y) in x.chunks_exact(k).zip(y.chunks_exact_mut(n)) {
            let y = &mut y[block * ROWS..][..rows];
            // SAFETY: registers before `whole` lie inside `x` and inside each row, whose number is
            // `rows ≤ ROWS`; features are the caller's promise.
            unsafe {
                match rows {
                    ROWS => some_rows::<L, ROWS>(w, x, whole, y),
                    3 => some_rows::<L, 3>(w, x, whole, y),
                    2 => some_rows::<L, 2>(w, x, whole, y),
                    _ => some_rows::<L, 1>(w, x, whole, y),
                }
            }
        }
    }
}

/// # Safety
/// `w` holds `R` rows of `x.len()` values and `y` has `R`, `whole ≤ x.len()` is a multiple of `2·LANES`; the CPU has
/// `L`'s features.
#[inline(always)]
unsafe fn some_rows<L: Vector, const R: usize>(w: &[i8], x: &[i16], whole: usize, y: &mut [i32]) {
    let (k, register) = (x.len(), 2 * L::LANES);
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [L::splat(0); R];
        // One row after the other: memory is read in one stream, which processors fetch ahead.
        let mut row = w.as_ptr();
        for sum in &mut sums {
            let mut parts = [L::splat(0); UNROLL];
            let mut at = 0usize;
            while whole.wrapping_sub(at) >= UNROLL * register {
                for line in (0..UNROLL * register).step_by(LINE) {
                    L::prefetch(row.wrapping_add(at.wrapping_add(AHEAD).wrapping_add(line)));
                }
                for (u, part) in parts.iter_mut().enumerate() {
                    let weights = L::load_i8(row.add(at).add(u * register));
                    let values = L::load(x.as_ptr().add(at).add(u * register).cast());
                    *part = L::multiply_add(*part, weights, values);
                }
                at = at.wrapping_add(UNROLL * register);
            }
            while at != whole {
                L::prefetch(row.wrapping_add(at.wrapping_add(AHEAD)));
                let values = L::load(x.as_ptr().add(at).cast());
                parts[0] = L::multiply_add(parts[0], L::load_i8(row.add(at)), values);
                at = at.wrapping_add(register);
            }
            for part in parts {
                *sum = L::add(*sum, part);
            }
            row = row.add(k);
        }
        if R == ROWS {
            let mut all = [L::splat(0); ROWS];
            all.copy_from_slice(&sums);
            y.copy_from_slice(&L::totals(all));
        } else {
            for (y, sum) in y.iter_mut().zip(sums) {
                *y = L::total(sum);
            }
        }
        if whole < k {
            for (y, w) in y.iter_mut().zip(w.chunks_exact(k)) {
                *y = y.wrapping_add(tail(&w[whole..], &x[whole..]));
            }
        }
    }
}
