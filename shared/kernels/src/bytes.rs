//! Products by dot products of bytes, where a processor adds four of them to a 32-bit lane at once.
//!
//! An activation of 16 bits is two bytes that the instruction can read and a constant,
//! `x = 256·high + low + C`, so that `Σ w·x = 256·Σ w·high + Σ w·low + C·Σ w`, all wrapping. Weights stay
//! bytes: a panel holds four adjacent columns of a row in a lane, half of what [`crate::product`] writes.

use crate::matvec::columns;
use crate::product::{Rows, Shape, check, share};
use crate::vector::{MOST_LANES, Vector};

/// Most rows of a panel.
const MOST_ROWS: usize = 2 * MOST_LANES;
/// Tokens that meet a panel: both bytes of 192 rows of 512 columns are 192 KiB.
const BLOCK: usize = 192;
/// Weight rows of a single-row product whose lanes are summed together.
const ROWS: usize = 4;

/// Dot products of bytes in registers of a [`Vector`].
///
/// # Safety
/// [`Bytes::dot`] requires a CPU with the implementation's features.
pub(crate) trait Bytes: Vector {
    /// Most tokens in a product's tile: each needs twice the sums that one of [`crate::product`] does.
    const TOKENS: usize;
    /// `C` of `x = 256·high + low + C`.
    const CONSTANT: i32;

    /// The low and the high byte of an activation, as [`Bytes::dot`] reads them.
    fn split(x: i16) -> [u8; 2];
    /// Adds to each 32-bit lane the four products of `w`'s signed bytes there and `x`'s, which have the
    /// implementation's signs.
    unsafe fn dot(sum: Self::Lanes, w: Self::Lanes, x: Self::Lanes) -> Self::Lanes;
}

/// Activations as bytes: all the low ones of each row, then all the high ones; `stride` bytes from row to row
/// and half of it from low to high.
fn split<L: Bytes>(x: Rows<'_, i16>, k: usize, tokens: usize) -> (Vec<u8>, usize) {
    let half = k.next_multiple_of(4);
    // What lies past `k` meets a zero weight.
    let mut bytes = vec![0u8; 2 * half * tokens];
    if half > 0 {
        for (t, row) in bytes.chunks_exact_mut(2 * half).enumerate() {
            let (low, high) = row.split_at_mut(half);
            let x = &x.data[t * x.stride..][..k];
            for ((low, high), &x) in low.iter_mut().zip(high).zip(x) {
                [*low, *high] = L::split(x);
            }
        }
    }
    (bytes, 2 * half)
}

/// `y[t, j] = Σ_i w[j, i] · x[t, i]`, wrapping; as [`crate::product::product`] for weights of bytes.
///
/// # Panics
/// When a slice does not hold its shape.
///
/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(crate) unsafe fn fast<L: Bytes>(
    w: Rows<'_, i8>,
    x: Rows<'_, i16>,
    shape: Shape,
    y: &mut [i32],
) {
    check(w, x, shape, y);
    let Shape { n, k, tokens, y_stride } = shape;
    if tokens == 0 || n == 0 {
        return;
    }
    let (bytes, stride) = split::<L>(x, k, tokens);
    // At least one quad, of which no columns at all read nothing.
    let mut panel = vec![0i32; L::COLUMNS.min(k).div_ceil(4).max(1) * L::ROWS * L::LANES];
    for first in (0..tokens).step_by(BLOCK) {
        let end = (first + BLOCK).min(tokens);
        // No columns at all still have to write zeros.
        for column in (0..k.max(1)).step_by(L::COLUMNS) {
            let quads = (k - column).min(L::COLUMNS).div_ceil(4);
            let mut row = 0;
            while row < n {
                let registers = (n - row).div_ceil(L::LANES).min(L::ROWS);
                let rows = (n - row).min(registers * L::LANES);
                // SAFETY: `panel` holds `registers ≤ ROWS` registers for each of `quads` quads; every
                // tile lies inside the shapes checked above; features are the caller's promise.
                unsafe {
                    for r in 0..registers {
                        let at = Place { n, k, row: row + r * L::LANES, column, quads };
                        pack::<L>(w, at, &mut panel[r * L::LANES..], registers * L::LANES);
                    }
                    let constants = constants::<L>(&panel, quads, registers);
                    let mut t = first;
                    while t < end {
                        let count = share(end - t, <L as Bytes>::TOKENS);
                        let tile = Tile {
                            panel: panel.as_ptr(),
                            quads,
                            x: bytes.as_ptr().add(t * stride + column),
                            stride,
                            constants: &constants,
                            y: y.as_mut_ptr().add(t * y_stride + row),
                            y_stride,
                            rows,
                            add: column > 0,
                        };
                        match registers {
                            1 => tile.tokens::<L, 1>(count),
                            _ => tile.tokens::<L, 2>(count),
                        }
                        t += count;
                    }
                }
                row += registers * L::LANES;
            }
        }
    }
}

/// What part of an `[n, k]` weight to pack.
struct Place {
    n: usize,
    k: usize,
    row: usize,
    column: usize,
    quads: usize,
}

/// Writes `LANES` rows and `quads` quads of columns as one register per quad, `to_stride` lanes apart; what
/// lies outside the weight counts as zero.
///
/// # Safety
/// The CPU has `L`'s features; the weight holds `[n, k]`.
#[inline(always)]
unsafe fn pack<L: Bytes>(w: Rows<'_, i8>, place: Place, to: &mut [i32], to_stride: usize) {
    let Place { n, k, row, column, quads } = place;
    let rows = L::LANES.min(n - row);
    for first in (0..quads).step_by(L::LANES) {
        let from = row * w.stride + column + 4 * first;
        let width = (4 * L::LANES).min(k - column - 4 * first);
        let to = &mut to[first * to_stride..];
        if rows == L::LANES && width == 4 * L::LANES {
            assert!(to.len() >= (L::LANES - 1) * to_stride + L::LANES);
            assert!(w.data.len() >= from + (L::LANES - 1) * w.stride + width);
            let from = w.data[from..].as_ptr();
            // SAFETY: both lie inside their slices, checked above; features are the caller's promise.
            unsafe { L::transpose_words(from.cast(), w.stride, to.as_mut_ptr(), to_stride) };
            continue;
        }
        for quad in 0..L::LANES.min(quads - first) {
            for lane in 0..L::LANES {
                let mut word = [0u8; 4];
                if lane < rows {
                    let at = from + lane * w.stride + 4 * quad;
                    let len = 4.min(width - 4 * quad);
                    for (byte, &w) in word.iter_mut().zip(&w.data[at..at + len]) {
                        *byte = w as u8;
                    }
                }
                to[quad * to_stride + lane] = i32::from_le_bytes(word);
            }
        }
    }
}

/// `C·Σ w` of each row of a panel.
///
/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
unsafe fn constants<L: Bytes>(panel: &[i32], quads: usize, registers: usize) -> [i32; MOST_ROWS] {
    let mut out = [0i32; MOST_ROWS];
    let panel = &panel[..quads * registers * L::LANES];
    for r in 0..registers {
        let mut lanes = [0i32; MOST_LANES];
        // SAFETY: each register lies inside the panel; features are the caller's promise.
        unsafe {
            let mut sum = L::splat(0);
            for quad in 0..quads {
                let weights = L::load(panel.as_ptr().add((quad * registers + r) * L::LANES));
                sum = L::dot(sum, weights, L::splat(0x0101_0101));
            }
            L::store(lanes.as_mut_ptr(), sum);
        }
        for (out, sum) in out[r * L::LANES..].iter_mut().zip(&lanes[..L::LANES]) {
            *out = sum.wrapping_mul(L::CONSTANT);
        }
    }
    out
}

struct Tile<'a> {
    panel: *const i32,
    quads: usize,
    x: *const u8,
    stride: usize,
    constants: &'a [i32; MOST_ROWS],
    y: *mut i32,
    y_stride: usize,
    /// Rows of the weight that exist; the panel's others are zeros.
    rows: usize,
    /// Whether to add to what `y` holds.
    add: bool,
}

impl Tile<'_> {
    /// # Safety
    /// As [`Tile::run`], for `count ≤ TOKENS` tokens.
    #[inline(always)]
    unsafe fn tokens<L: Bytes, const R: usize>(&self, count: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match count {
                1 => self.run::<L, 1, R>(),
                2 => self.run::<L, 2, R>(),
                3 => self.run::<L, 3, R>(),
                4 => self.run::<L, 4, R>(),
                5 if <L as Bytes>::TOKENS >= 5 => self.run::<L, 5, R>(),
                6 if <L as Bytes>::TOKENS >= 6 => self.run::<L, 6, R>(),
                _ => {}
            }
        }
    }

    /// `T` tokens by `R` registers of weight rows.
    ///
    /// # Safety
    /// `panel` holds `R` registers for each quad, `x` can be read for `T` tokens, both bytes and all quads, `y`
    /// written for `T` tokens and `rows ≤ R · LANES` values; the CPU has `L`'s features.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // indices keep the register tile visible
    unsafe fn run<L: Bytes, const T: usize, const R: usize>(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut low = [[L::splat(0); R]; T];
            let mut high = [[L::splat(0); R]; T];
            let mut lows = [self.x; T];
            for t in 0..T {
                lows[t] = self.x.add(t * self.stride);
            }
            let to_high = self.stride / 2;
            let mut panel = self.panel;
            let mut at = 0usize;
            while at != 4 * self.quads {
                let mut weights = [L::splat(0); R];
                for r in 0..R {
                    weights[r] = L::load(panel.add(r * L::LANES));
                }
                panel = panel.add(R * L::LANES);
                for t in 0..T {
                    let from = lows[t].add(at);
                    let (l, h) =
                        (L::splat_pair(from.cast()), L::splat_pair(from.add(to_high).cast()));
                    for r in 0..R {
                        low[t][r] = L::dot(low[t][r], weights[r], l);
                        high[t][r] = L::dot(high[t][r], weights[r], h);
                    }
                }
                at = at.wrapping_add(4);
            }
            for t in 0..T {
                for r in 0..R {
                    let mut sum = low[t][r];
                    // Eight doublings: sums wrap as shifts do.
                    let mut h = high[t][r];
                    for _ in 0..8 {
                        h = L::add(h, h);
                    }
                    sum = L::add(sum, h);
                    let constants = self.constants.as_ptr().add(r * L::LANES);
                    sum = L::add(sum, L::load(constants));
                    let to = self.y.add(t * self.y_stride + r * L::LANES);
                    let rows = self.rows - (r * L::LANES).min(self.rows);
                    if rows >= L::LANES {
                        let before = if self.add { L::load(to) } else { L::splat(0) };
                        L::store(to, L::add(before, sum));
                        continue;
                    }
                    let mut lanes = [0i32; MOST_LANES];
                    L::store(lanes.as_mut_ptr(), sum);
                    for (j, &lane) in lanes[..rows].iter().enumerate() {
                        let before = if self.add { to.add(j).read() } else { 0 };
                        to.add(j).write(before.wrapping_add(lane));
                    }
                }
            }
        }
    }
}

/// `y[t, j] = Σ_i w[j, i] · x[t, i]`, wrapping; as [`crate::matvec::matvec`].
///
/// # Panics
/// As there.
///
/// # Safety
/// The CPU has `L`'s features.
#[inline(always)]
pub(crate) unsafe fn fast_rows<L: Bytes>(w: &[i8], x: &[i16], tokens: usize, y: &mut [i32]) {
    let k = columns(w, x, tokens, y);
    let n = w.len() / k;
    let (bytes, stride) = split::<L>(Rows { data: x, stride: k }, k, tokens);
    let whole = k / (4 * L::LANES) * (4 * L::LANES);
    for (block, w) in w.chunks(ROWS * k).enumerate() {
        let rows = w.len() / k;
        for (t, x) in x.chunks_exact(k).enumerate() {
            let (low, high) = bytes[t * stride..][..stride].split_at(stride / 2);
            // SAFETY: registers before `whole` lie inside both halves and inside each of `rows` rows;
            // features are the caller's promise.
            let sums = unsafe { some_rows::<L>(w, [low, high], k, whole, rows) };
            let y = &mut y[t * n + block * ROWS..][..rows];
            for ((y, sum), w) in y.iter_mut().zip(sums).zip(w.chunks_exact(k)) {
                let rest = w[whole..].iter().zip(&x[whole..]);
                let rest = rest.map(|(&w, &x)| i32::from(w) * i32::from(x));
                *y = rest.fold(sum, i32::wrapping_add);
            }
        }
    }
}

/// The products of up to [`ROWS`] rows with the first `whole` columns.
///
/// # Safety
/// The CPU has `L`'s features; `w` holds `rows ≤ ROWS` rows of `k` values, both halves of the activations
/// hold `whole ≤ k`, a multiple of `4·LANES`.
#[inline(always)]
unsafe fn some_rows<L: Bytes>(
    w: &[i8],
    [low, high]: [&[u8]; 2],
    k: usize,
    whole: usize,
    rows: usize,
) -> [i32; ROWS] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut lanes = [L::splat(0); ROWS];
        for (row, lanes) in lanes.iter_mut().take(rows).enumerate() {
            let row = w.as_ptr().add(row * k);
            let (mut l, mut h, mut one) = (L::splat(0), L::splat(0), L::splat(0));
            let mut at = 0usize;
            while at != whole {
                let weights = L::load(row.add(at).cast());
                l = L::dot(l, weights, L::load(low.as_ptr().add(at).cast()));
                h = L::dot(h, weights, L::load(high.as_ptr().add(at).cast()));
                one = L::dot(one, weights, L::splat(0x0101_0101));
                at = at.wrapping_add(4 * L::LANES);
            }
            // 256·high and C·Σ w by doublings; |C| is a power of two.
            for _ in 0..L::CONSTANT.unsigned_abs().trailing_zeros() {
                one = L::add(one, one);
            }
            for _ in 0..8 {
                h = L::add(h, h);
            }
            let sum = L::add(l, h);
            *lanes = if L::CONSTANT < 0 { L::sub(sum, one) } else { L::add(sum, one) };
        }
        L::totals(lanes)
    }
}
