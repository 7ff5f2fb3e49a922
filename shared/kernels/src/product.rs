//! The one loop nest all fast products share.
//!
//! A panel of weight rows is widened to 16 bits and transposed so that a register holds one pair of
//! adjacent columns of each row; then tiles of tokens by rows sweep over it. A tile keeps all its
//! sums in registers, reads each weight register once for all its tokens and each pair of
//! activations once for all its rows, and needs no horizontal sum. Panels cover [`Vector::COLUMNS`] of `k`
//! so that one stays in the first-level cache, and [`BLOCK`] tokens, whose columns stay in the second.

use crate::dispatch::vectorised;
use crate::vector::{MOST_LANES, Vector};

/// Tokens that meet a panel: 192 rows of 512 16-bit values are 192 KiB.
const BLOCK: usize = 192;
/// Room for the largest block that [`Vector`] transposes.
const LARGEST_BLOCK: usize = MOST_LANES * 2 * MOST_LANES;

/// Rows of a matrix inside a slice, `stride` values apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) stride: usize,
}

impl<T> Rows<'_, T> {
    /// Whether `rows` rows of `width` values lie inside the slice.
    pub(crate) fn hold(&self, rows: usize, width: usize) -> bool {
        rows == 0 || (self.stride >= width && (rows - 1) * self.stride + width <= self.data.len())
    }
}

/// The weights of a product: `n` rows of `k` values, however stored.
pub(crate) trait Weights: Copy {
    /// Whether the slice holds an `[n, k]` weight.
    fn hold(&self, n: usize, k: usize) -> bool;
    /// Weight `[row, column]`.
    fn at(&self, row: usize, column: usize) -> i32;
    /// Writes rows `row..row + L::LANES` and `pairs` pairs of columns from `column` as one register per
    /// pair, `to_stride` apart; what lies outside `[n, k]` counts as zero.
    ///
    /// # Safety
    /// The CPU has `L`'s features, [`Weights::hold`] is true of `n` and `k`, and `to` has room.
    unsafe fn pack<L: Vector>(self, place: Place, to: *mut i16, to_stride: usize);
}

/// What part of an `[n, k]` weight to pack.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) pairs: usize,
}

/// [`Vector::transpose_i8`].
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn transpose_i8<L: Vector>(from: *const i8, stride: usize, to: *mut i16, to_stride: usize) {
    // SAFETY: the caller's promise.
    unsafe { L::transpose_i8(from, stride, to, to_stride) }
}

/// [`transpose_i8`] of 16-bit values, whose pairs are words as they lie.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn transpose_i16<L: Vector>(
    from: *const i16,
    stride: usize,
    to: *mut i16,
    to_stride: usize,
) {
    // SAFETY: the caller's promise; registers are a whole number of words apart.
    unsafe { L::transpose_words(from.cast(), 2 * stride, to.cast(), to_stride / 2) }
}

/// Implements [`Weights`] for row-major weights of one element type.
macro_rules! row_major {
    ($ty:ty, $transpose:ident) => {
        impl Weights for Rows<'_, $ty> {
            fn hold(&self, n: usize, k: usize) -> bool {
                Rows::hold(self, n, k)
            }
            fn at(&self, row: usize, column: usize) -> i32 {
                self.data[row * self.stride + column].into()
            }
            #[inline(always)]
            unsafe fn pack<L: Vector>(self, place: Place, to: *mut i16, to_stride: usize) {
                let Place { n, k, row, column, pairs } = place;
                let width = 2 * L::LANES;
                let rows = L::LANES.min(n - row);
                for first in (0..pairs).step_by(L::LANES) {
                    let column = column + 2 * first;
                    // SAFETY: whole blocks lie inside the matrix, others are copied to a block of
                    // their own first; `to` has room, which the caller promises.
                    unsafe {
                        let from = self.data.as_ptr().add(row * self.stride + column);
                        let to = to.add(first * to_stride);
                        if rows == L::LANES && column + width <= k {
                            $transpose::<L>(from, self.stride, to, to_stride);
                            continue;
                        }
                        let mut block = [0; LARGEST_BLOCK];
                        for (r, block) in block.chunks_exact_mut(width).take(rows).enumerate() {
                            let len = width.min(k - column);
                            let source = from.add(r * self.stride);
                            source.copy_to_nonoverlapping(block.as_mut_ptr(), len);
                        }
                        let mut registers = [0i16; LARGEST_BLOCK];
                        $transpose::<L>(block.as_ptr(), width, registers.as_mut_ptr(), width);
                        for p in 0..L::LANES.min(pairs - first) {
                            let register = registers.as_ptr().add(p * width);
                            register.copy_to_nonoverlapping(to.add(p * to_stride), width);
                        }
                    }
                }
            }
        }
    };
}
row_major!(i8, transpose_i8);
row_major!(i16, transpose_i16);

/// Weights stored the other way round: row `i` of the slice is column `i` of the weight.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a>(pub(crate) Rows<'a, i16>);

impl Weights for Columns<'_> {
    fn hold(&self, n: usize, k: usize) -> bool {
        self.0.hold(k, n)
    }
    fn at(&self, row: usize, column: usize) -> i32 {
        self.0.data[column * self.0.stride + row].into()
    }
    #[inline(always)]
    unsafe fn pack<L: Vector>(self, place: Place, to: *mut i16, to_stride: usize) {
        let Place { n, k, row, column, pairs } = place;
        let rows = L::LANES.min(n - row);
        for p in 0..pairs {
            let column = column + 2 * p;
            // SAFETY: both rows of the slice are inside it, or copied to a row of their own; `to` has
            // room, which the caller promises.
            unsafe {
                let from = self.0.data.as_ptr().add(column * self.0.stride + row);
                let mut own = [[0i16; MOST_LANES]; 2];
                let (mut even, mut odd) = (own[0].as_ptr(), own[1].as_ptr());
                if rows == L::LANES && column + 1 < k {
                    (even, odd) = (from, from.add(self.0.stride));
                } else {
                    from.copy_to_nonoverlapping(own[0].as_mut_ptr(), rows);
                    if column + 1 < k {
                        let next = from.add(self.0.stride);
                        next.copy_to_nonoverlapping(own[1].as_mut_ptr(), rows);
                    }
                }
                L::store(to.add(p * to_stride).cast(), L::interleave_i16(even, odd));
            }
        }
    }
}

/// Shape of a product: `y` is `[tokens, n]`, its rows `y_stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) tokens: usize,
    pub(crate) y_stride: usize,
}

vectorised! {
    /// `y[t, j] = Σ_i w[j, i] · x[t, i]` for every token and row, wrapping; values of `y` between its
    /// rows stay as they are.
    ///
    /// # Panics
    /// When a slice does not hold its shape.
    pub(crate) fn product[W: Weights](w: W, x: Rows<'_, i16>, shape: Shape, y: &mut [i32]) {
        fast: fast,
        plain: plain,
    }
}

/// [`product`] of weights of bytes, by dot products of bytes where they are the faster way.
///
/// # Panics
/// As [`product`].
pub(crate) fn product_i8(w: Rows<'_, i8>, x: Rows<'_, i16>, shape: Shape, y: &mut [i32]) {
    #[cfg(target_arch = "aarch64")]
    {
        #[target_feature(enable = "dotprod")]
        fn dotprod(w: Rows<'_, i8>, x: Rows<'_, i16>, shape: Shape, y: &mut [i32]) {
            // SAFETY: this function itself requires `dotprod`.
            unsafe { crate::bytes::fast::<crate::neon::Neon>(w, x, shape, y) }
        }
        if crate::Path::current() == crate::Path::NeonDot {
            // SAFETY: the CPU has what its current path says.
            return unsafe { dotprod(w, x, shape, y) };
        }
    }
    product(w, x, shape, y);
}

pub(crate) fn check(w: impl Weights, x: Rows<'_, i16>, shape: Shape, y: &[i32]) {
    let Shape { n, k, tokens, y_stride } = shape;
    assert!(w.hold(n, k), "w is [n, k]");
    assert!(x.hold(tokens, k), "x is [tokens, k]");
    assert!(Rows { data: y, stride: y_stride }.hold(tokens, n), "y is [tokens, n]");
}

/// Plain loops, for machines without a vector version.
#[cfg_attr(all(target_arch = "wasm32", target_feature = "simd128"), allow(dead_code))]
fn plain<W: Weights>(w: W, x: Rows<'_, i16>, shape: Shape, y: &mut [i32]) {
    check(w, x, shape, y);
    for t in 0..shape.tokens {
        for j in 0..shape.n {
            let mut sum = 0i32;
            for i in 0..shape.k {
                sum = sum.wrapping_add(w.at(j, i) * i32::from(x.data[t * x.stride + i]));
            }
            y[t * shape.y_stride + j] = sum;
        }
    }
}

/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
unsafe fn fast<L: Vector, W: Weights>(w: W, x: Rows<'_, i16>, shape: Shape, y: &mut [i32]) {
    check(w, x, shape, y);
    let Shape { n, k, tokens, y_stride } = shape;
    if tokens == 0 || n == 0 {
        return;
    }
    // An odd last column is read as a pair: its second value meets a zero weight, but must exist.
    let copy;
    let x = if !k.is_multiple_of(2) && (tokens - 1) * x.stride + k == x.data.len() {
        copy = x.data.iter().copied().chain([0]).collect::<Vec<i16>>();
        Rows { data: &copy, stride: x.stride }
    } else {
        x
    };
    let register = 2 * L::LANES;
    let mut panel = vec![0i16; L::COLUMNS.min(k.next_multiple_of(2)) / 2 * L::ROWS * register];
    for first in (0..tokens).step_by(BLOCK) {
        let end = (first + BLOCK).min(tokens);
        // No columns at all still have to write zeros.
        for column in (0..k.max(1)).step_by(L::COLUMNS) {
            let pairs = (k - column).min(L::COLUMNS).div_ceil(2);
            let mut row = 0;
            while row < n {
                let registers = (n - row).div_ceil(L::LANES).min(L::ROWS);
                // SAFETY: `panel` holds `registers ≤ ROWS` registers for each of `pairs` pairs; every
                // tile lies inside the shapes checked above; features are the caller's promise.
                unsafe {
                    let stride = registers * register;
                    for r in 0..registers {
                        let place = Place { n, k, row: row + r * L::LANES, column, pairs };
                        w.pack::<L>(place, panel.as_mut_ptr().add(r * register), stride);
                    }
                    let mut t = first;
                    while t < end {
                        let count = share(end - t, L::TOKENS);
                        let tile = Tile {
                            panel: panel.as_ptr(),
                            pairs,
                            x: x.data.as_ptr().add(t * x.stride + column),
                            x_stride: x.stride,
                            y: y.as_mut_ptr().add(t * y_stride + row),
                            y_stride,
                            rows: (n - row).min(registers * L::LANES),
                            add: column > 0,
                        };
                        match registers {
                            1 => tile.tokens::<L, 1>(count),
                            2 => tile.tokens::<L, 2>(count),
                            3 if L::ROWS >= 3 => tile.tokens::<L, 3>(count),
                            _ if L::ROWS >= 4 => tile.tokens::<L, 4>(count),
                            _ => {}
                        }
                        t += count;
                    }
                }
                row += registers * L::LANES;
            }
        }
    }
}

/// Tokens of the next tile: as many as fit, but the last two tiles share evenly.
#[inline(always)]
pub(crate) fn share(rest: usize, most: usize) -> usize {
    if rest >= 2 * most || rest <= most { rest.min(most) } else { rest.div_ceil(2) }
}

struct Tile {
    panel: *const i16,
    pairs: usize,
    x: *const i16,
    x_stride: usize,
    y: *mut i32,
    y_stride: usize,
    /// Rows of the weight that exist; the panel's others are zeros.
    rows: usize,
    /// Whether to add to what `y` holds.
    add: bool,
}

impl Tile {
    /// # Safety
    /// As [`Tile::run`], for `count ≤ TOKENS` tokens.
    #[inline(always)]
    unsafe fn tokens<L: Vector, const R: usize>(&self, count: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match count {
                1 => self.run::<L, 1, R>(),
                2 => self.run::<L, 2, R>(),
                3 => self.run::<L, 3, R>(),
                4 => self.run::<L, 4, R>(),
                5 if L::TOKENS >= 5 => self.run::<L, 5, R>(),
                6 if L::TOKENS >= 6 => self.run::<L, 6, R>(),
                7 if L::TOKENS >= 7 => self.run::<L, 7, R>(),
                8 if L::TOKENS >= 8 => self.run::<L, 8, R>(),
                9 if L::TOKENS >= 9 => self.run::<L, 9, R>(),
                10 if L::TOKENS >= 10 => self.run::<L, 10, R>(),
                11 if L::TOKENS >= 11 => self.run::<L, 11, R>(),
                12 if L::TOKENS >= 12 => self.run::<L, 12, R>(),
                _ => {}
            }
        }
    }

    /// `T` tokens by `R` registers of weight rows.
    ///
    /// # Safety
    /// `panel` holds `R` registers for each pair, `x` can be read for `T` tokens and all pairs, `y`
    /// written for `T` tokens and `rows ≤ R · LANES` values; the CPU has `L`'s features.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // indices keep the register tile visible
    unsafe fn run<L: Vector, const T: usize, const R: usize>(&self) {
        let register = 2 * L::LANES;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[L::splat(0); R]; T];
            let mut columns = [self.x; T];
            for t in 0..T {
                columns[t] = self.x.add(t * self.x_stride);
            }
            let mut panel = self.panel;
            // Wrapping, since a check for overflow in here costs a tenth of the time.
            let mut at = 0usize;
            while at != 2 * self.pairs {
                let mut weights = [L::splat(0); R];
                for r in 0..R {
                    weights[r] = L::load(panel.add(r * register).cast());
                }
                panel = panel.add(R * register);
                for t in 0..T {
                    let pair = L::splat_pair(columns[t].add(at));
                    for r in 0..R {
                        sums[t][r] = L::multiply_add(sums[t][r], weights[r], pair);
                    }
                }
                at = at.wrapping_add(2);
            }
            if self.rows == R * L::LANES {
                for t in 0..T {
                    for r in 0..R {
                        let to = self.y.add(t * self.y_stride + r * L::LANES);
                        let before = if self.add { L::load(to) } else { L::splat(0) };
                        L::store(to, L::add(before, sums[t][r]));
                    }
                }
                return;
            }
            for t in 0..T {
                let mut row = [[0i32; MOST_LANES]; R];
                for r in 0..R {
                    L::store(row[r].as_mut_ptr(), sums[t][r]);
                }
                for j in 0..self.rows {
                    let to = self.y.add(t * self.y_stride + j);
                    let before = if self.add { to.read() } else { 0 };
                    to.write(before.wrapping_add(row[j / L::LANES][j % L::LANES]));
                }
            }
        }
    }
}
