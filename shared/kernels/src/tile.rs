//! The one loop nest all fast products share: tiles of weight rows by tokens, reduced over `k`.
//!
//! A tile keeps `ROWS × TOKENS` vector accumulators, so each widened weight vector serves several
//! tokens and each activation vector several rows. The vector operations come from a [`Lanes`]
//! implementation; everything is `inline(always)` so that it compiles with the features of the
//! function that calls it.

/// Vector operations on 16 (or 8) sixteen-bit lanes.
pub(crate) trait Lanes {
    /// Sixteen-bit operands.
    type Operand: Copy;
    /// Thirty-two-bit sums.
    type Sum: Copy;
    /// Operand lanes.
    const WIDTH: usize;

    /// Sixteen-bit zero-padded or whole load of weights.
    ///
    /// # Safety
    /// `WIDTH` weights can be read at `at`, and the CPU has the implementation's features.
    unsafe fn load_i8(at: *const i8) -> Self::Operand;
    /// # Safety
    /// As [`Lanes::load_i8`].
    unsafe fn load_i16(at: *const i16) -> Self::Operand;
    /// # Safety
    /// The CPU has the implementation's features.
    unsafe fn zero() -> Self::Sum;
    /// `sum + a·b`, adjacent products added in pairs, wrapping.
    ///
    /// # Safety
    /// The CPU has the implementation's features.
    unsafe fn multiply_add(sum: Self::Sum, a: Self::Operand, b: Self::Operand) -> Self::Sum;
    /// Sum of the lanes, wrapping.
    ///
    /// # Safety
    /// The CPU has the implementation's features.
    unsafe fn reduce(sum: Self::Sum) -> i32;
    /// Sums of four accumulators' lanes, wrapping.
    ///
    /// # Safety
    /// The CPU has the implementation's features.
    #[inline(always)]
    unsafe fn reduce4(sums: [Self::Sum; 4]) -> [i32; 4] {
        // SAFETY: the caller's promise is the callee's.
        sums.map(|s| unsafe { Self::reduce(s) })
    }
}

/// A weight element: how it is loaded and how it multiplies in the scalar tail.
pub(crate) trait Weight: Copy {
    /// # Safety
    /// As [`Lanes::load_i8`].
    unsafe fn load<L: Lanes>(at: *const Self) -> L::Operand;
    fn wide(self) -> i32;
}

impl Weight for i8 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(at: *const Self) -> L::Operand {
        // SAFETY: the caller's promise is the callee's.
        unsafe { L::load_i8(at) }
    }
    #[inline(always)]
    fn wide(self) -> i32 {
        self.into()
    }
}

impl Weight for i16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(at: *const Self) -> L::Operand {
        // SAFETY: the caller's promise is the callee's.
        unsafe { L::load_i16(at) }
    }
    #[inline(always)]
    fn wide(self) -> i32 {
        self.into()
    }
}

/// Weight rows per tile.
const ROWS: usize = 4;
/// Tokens per tile: 4 × 3 sums, four weight vectors and an activation fit 16 registers nearly.
const TOKENS: usize = 3;
/// Weight rows visited for all tokens before the next ones: 64 rows of 1536 bytes stay in cache.
const BLOCK: usize = 64;

/// `y[t · n + j] = Σ_i w[j, i] · x[t, i]` for every token and row, wrapping.
///
/// # Safety
/// The CPU has the features `L` needs.
#[inline(always)]
pub(crate) unsafe fn matmul<L: Lanes, W: Weight>(
    w: &[W],
    x: &[i16],
    n: usize,
    k: usize,
    tokens: usize,
    y: &mut [i32],
) {
    assert!(w.len() == n * k && x.len() == tokens * k && y.len() == tokens * n);
    let shape = Shape { n, k };
    for block in (0..n).step_by(BLOCK) {
        let end = (block + BLOCK).min(n);
        let mut t = 0;
        while t < tokens {
            let wide = t + TOKENS <= tokens;
            let mut j = block;
            while j < end {
                // SAFETY: `j..j+ROWS` and `t..t+TOKENS` (or single ones) are within the shapes
                // asserted above; features are the caller's promise.
                unsafe {
                    let (w, x) = (w.as_ptr().add(j * k), x.as_ptr().add(t * k));
                    let y = y.as_mut_ptr().add(t * n + j);
                    match (j + ROWS <= end, wide) {
                        (true, true) => tile::<L, W, ROWS, TOKENS>(w, x, y, shape),
                        (true, false) => tile::<L, W, ROWS, 1>(w, x, y, shape),
                        (false, true) => tile::<L, W, 1, TOKENS>(w, x, y, shape),
                        (false, false) => tile::<L, W, 1, 1>(w, x, y, shape),
                    }
                }
                j += if j + ROWS <= end { ROWS } else { 1 };
            }
            t += if wide { TOKENS } else { 1 };
        }
    }
}

#[derive(Clone, Copy)]
struct Shape {
    n: usize,
    k: usize,
}

/// `R` weight rows from `w` by `T` tokens from `x`, into `y`.
///
/// # Safety
/// `w` points at `R` whole rows, `x` at `T` whole rows, `y` at `T` rows with `R` columns left; the
/// CPU has `L`'s features.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // indices keep the register tile visible
unsafe fn tile<L: Lanes, W: Weight, const R: usize, const T: usize>(
    w: *const W,
    x: *const i16,
    y: *mut i32,
    Shape { n, k }: Shape,
) {
    let steps = k / L::WIDTH;
    let whole = steps * L::WIDTH;
    // SAFETY: every offset is below `R · k`, `T · k` or `T · n`, within what the caller promised.
    unsafe {
        let mut sums = [[L::zero(); R]; T];
        let mut rows: [*const W; R] = std::array::from_fn(|r| w.add(r * k));
        let mut columns: [*const i16; T] = std::array::from_fn(|c| x.add(c * k));
        for _ in 0..steps {
            for r in 0..R {
                let weight = W::load::<L>(rows[r]);
                rows[r] = rows[r].wrapping_add(L::WIDTH);
                for c in 0..T {
                    sums[c][r] = L::multiply_add(sums[c][r], weight, L::load_i16(columns[c]));
                }
            }
            for column in &mut columns {
                *column = column.wrapping_add(L::WIDTH);
            }
        }
        for c in 0..T {
            let mut totals = [0i32; R];
            if R == 4 {
                let four = [sums[c][0], sums[c][R / 4], sums[c][R / 2], sums[c][R * 3 / 4]];
                totals.copy_from_slice(&L::reduce4(four));
            } else {
                for r in 0..R {
                    totals[r] = L::reduce(sums[c][r]);
                }
            }
            for i in whole..k {
                for r in 0..R {
                    let product = (*w.add(r * k + i)).wide() * i32::from(*x.add(c * k + i));
                    totals[r] = totals[r].wrapping_add(product);
                }
            }
            y.add(c * n).cast::<[i32; R]>().write(totals);
        }
    }
}
