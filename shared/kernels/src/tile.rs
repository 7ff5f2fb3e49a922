//! The one loop nest all fast products share: tiles of weight rows by tokens, reduced over `k`.
//!
//! Four weight rows are widened to sixteen bits once and then meet a block of tokens, three at a
//! time: a tile keeps 4 × 3 vector sums, so that each weight vector serves three tokens and each
//! activation vector four rows. The vector operations come from a [`Lanes`] implementation;
//! everything is `inline(always)` so that it compiles with the features of the function that calls
//! it.

/// Vector operations on sixteen-bit lanes.
pub(crate) trait Lanes {
    /// Sixteen-bit operands.
    type Operand: Copy;
    /// Thirty-two-bit sums.
    type Sum: Copy;
    /// Operand lanes.
    const WIDTH: usize;

    /// # Safety
    /// `WIDTH` values can be read at `at`, and the CPU has the implementation's features.
    unsafe fn load(at: *const i16) -> Self::Operand;
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
    unsafe fn reduce4(sums: [Self::Sum; 4]) -> [i32; 4];
}

/// A weight element, widened to sixteen bits before it is used.
pub(crate) trait Weight: Copy {
    /// The rows as sixteen-bit values, in `scratch` if they have to be copied.
    fn widen<'a>(rows: &'a [Self], scratch: &'a mut Vec<i16>) -> &'a [i16];
    fn wide(self) -> i32;
}

impl Weight for i8 {
    #[inline(always)]
    fn widen<'a>(rows: &'a [Self], scratch: &'a mut Vec<i16>) -> &'a [i16] {
        scratch.clear();
        scratch.extend(rows.iter().map(|&w| i16::from(w)));
        scratch
    }
    #[inline(always)]
    fn wide(self) -> i32 {
        self.into()
    }
}

impl Weight for i16 {
    #[inline(always)]
    fn widen<'a>(rows: &'a [Self], _: &'a mut Vec<i16>) -> &'a [i16] {
        rows
    }
    #[inline(always)]
    fn wide(self) -> i32 {
        self.into()
    }
}

/// Weight rows per tile.
const ROWS: usize = 4;
/// Tokens per tile: 4 × 3 sums and their operands just fit 16 registers.
const TOKENS: usize = 3;
/// Tokens that meet a widened tile of rows before the next one: 48 of 1536 values stay in a
/// second-level cache of 256 KiB, while the tile's own 12 KiB stay in the first.
const BLOCK: usize = 48;

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
    let mut scratch = Vec::new();
    for block in (0..tokens).step_by(BLOCK) {
        let end = (block + BLOCK).min(tokens);
        let mut j = 0;
        while j < n {
            let rows = if j + ROWS <= n { ROWS } else { 1 };
            let wide = W::widen(&w[j * k..(j + rows) * k], &mut scratch);
            let mut t = block;
            while t < end {
                let columns = if t + TOKENS <= end { TOKENS } else { 1 };
                // SAFETY: `wide` holds `rows` rows, `t..t+columns` and `j..j+rows` are within the
                // shapes asserted above; features are the caller's promise.
                unsafe {
                    let (w, x) = (wide.as_ptr(), x.as_ptr().add(t * k));
                    let y = y.as_mut_ptr().add(t * n + j);
                    match (rows == ROWS, columns == TOKENS) {
                        (true, true) => tile::<L, ROWS, TOKENS>(w, x, y, shape),
                        (true, false) => tile::<L, ROWS, 1>(w, x, y, shape),
                        (false, true) => tile::<L, 1, TOKENS>(w, x, y, shape),
                        (false, false) => tile::<L, 1, 1>(w, x, y, shape),
                    }
                }
                t += columns;
            }
            j += rows;
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
unsafe fn tile<L: Lanes, const R: usize, const T: usize>(
    w: *const i16,
    x: *const i16,
    y: *mut i32,
    Shape { n, k }: Shape,
) {
    let whole = k - k % L::WIDTH;
    // SAFETY: every offset is below `R · k`, `T · k` or `T · n`, within what the caller promised.
    unsafe {
        let mut sums = [[L::zero(); R]; T];
        let rows: [*const i16; R] = std::array::from_fn(|r| w.add(r * k));
        let columns: [*const i16; T] = std::array::from_fn(|c| x.add(c * k));
        let mut i = 0usize;
        while i != whole {
            let inputs: [L::Operand; T] = std::array::from_fn(|c| L::load(columns[c].add(i)));
            for r in 0..R {
                let weight = L::load(rows[r].add(i));
                for c in 0..T {
                    sums[c][r] = L::multiply_add(sums[c][r], weight, inputs[c]);
                }
            }
            i = i.wrapping_add(L::WIDTH);
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
                    let product = i32::from(*w.add(r * k + i)) * i32::from(*x.add(c * k + i));
                    totals[r] = totals[r].wrapping_add(product);
                }
            }
            y.add(c * n).cast::<[i32; R]>().write(totals);
        }
    }
}
