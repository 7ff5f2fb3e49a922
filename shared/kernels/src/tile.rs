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

/// `store(t · n + j, Σ_i w[j, i] · x[t, i])` for every token and row, wrapping.
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
    store: &mut impl FnMut(usize, i32),
) {
    assert!(w.len() == n * k && x.len() == tokens * k);
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
                    match (j + ROWS <= end, wide) {
                        (true, true) => tile::<L, W, ROWS, TOKENS>(w, x, n, k, j, t, store),
                        (true, false) => tile::<L, W, ROWS, 1>(w, x, n, k, j, t, store),
                        (false, true) => tile::<L, W, 1, TOKENS>(w, x, n, k, j, t, store),
                        (false, false) => tile::<L, W, 1, 1>(w, x, n, k, j, t, store),
                    }
                }
                j += if j + ROWS <= end { ROWS } else { 1 };
            }
            t += if wide { TOKENS } else { 1 };
        }
    }
}

/// # Safety
/// `j + R ≤ n`, `t + T ≤ tokens`, the slices have their shapes, the CPU has `L`'s features.
#[inline(always)]
unsafe fn tile<L: Lanes, W: Weight, const R: usize, const T: usize>(
    w: &[W],
    x: &[i16],
    n: usize,
    k: usize,
    j: usize,
    t: usize,
    store: &mut impl FnMut(usize, i32),
) {
    let whole = k / L::WIDTH * L::WIDTH;
    // SAFETY: every offset is below `(j + R) · k` or `(t + T) · k`, within the slices.
    unsafe {
        let mut sums = [[L::zero(); R]; T];
        let w_at = w.as_ptr().add(j * k);
        let x_at = x.as_ptr().add(t * k);
        let mut i = 0;
        while i < whole {
            let mut weights = [W::load::<L>(w_at.add(i)); R];
            for (r, slot) in weights.iter_mut().enumerate().skip(1) {
                *slot = W::load::<L>(w_at.add(r * k + i));
            }
            for (c, sums) in sums.iter_mut().enumerate() {
                let a = L::load_i16(x_at.add(c * k + i));
                for (sum, &weight) in sums.iter_mut().zip(&weights) {
                    *sum = L::multiply_add(*sum, weight, a);
                }
            }
            i += L::WIDTH;
        }
        for (c, sums) in sums.iter().enumerate() {
            let mut totals = [0i32; R];
            if R == 4 {
                let four = L::reduce4([sums[0], sums[R / 4], sums[R / 2], sums[R * 3 / 4]]);
                totals.copy_from_slice(&four);
            } else {
                for (total, &sum) in totals.iter_mut().zip(sums) {
                    *total = L::reduce(sum);
                }
            }
            for (r, mut total) in totals.into_iter().enumerate() {
                for i in whole..k {
                    let product = (*w_at.add(r * k + i)).wide() * i32::from(*x_at.add(c * k + i));
                    total = total.wrapping_add(product);
                }
                store((t + c) * n + j + r, total);
            }
        }
    }
}
