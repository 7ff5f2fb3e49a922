//! How a product is cut among threads: by rows of the weight, so that each thread needs the whole share and
//! only its own part of the weight, and none needs memory in common with another.
//!
//! Every output value is computed whole by one thread from the same integers, so the product is the same
//! whatever the cut.

use std::ops::Range;

/// Cuts fall on multiples of this: a register tile of the kernels is full in all slices but the last.
pub(super) const ALIGN: usize = 16;

/// Cuts the `n` rows of a weight into `parts` consecutive ranges, as even as [`ALIGN`] lets them be. Where
/// there are fewer whole tiles than parts, some ranges are empty.
pub(super) fn cut(n: usize, parts: usize) -> Vec<Range<usize>> {
    let tiles = n.div_ceil(ALIGN);
    let edge = |part: usize| {
        let before = tiles / parts * part + (tiles % parts * part) / parts;
        (before * ALIGN).min(n)
    };
    (0..parts).map(|part| edge(part)..edge(part + 1)).collect()
}

/// Puts the product of one slice, `[rows, columns.len()]`, into its columns of the whole, `[rows, n]`.
/// False, and nothing is written, when a length does not fit.
pub(super) fn put(part: &[u32], columns: Range<usize>, n: usize, whole: &mut [u32]) -> bool {
    let width = columns.len();
    if width == 0 || n < columns.end || !whole.len().is_multiple_of(n) {
        return false;
    }
    if part.len() != whole.len() / n * width {
        return false;
    }
    for (from, to) in part.chunks_exact(width).zip(whole.chunks_exact_mut(n)) {
        to[columns.clone()].copy_from_slice(from);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use nesa_kernels::{matmul_mask_u32, reference};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_cover_the_rows_once_and_evenly(n in 0usize..5_000, parts in 1usize..10) {
            let ranges = cut(n, parts);
            prop_assert_eq!(ranges.len(), parts);
            prop_assert_eq!((ranges[0].start, ranges[parts - 1].end), (0, n));
            prop_assert!(ranges.windows(2).all(|two| two[0].end == two[1].start));
            prop_assert!(ranges.iter().all(|range| range.start % ALIGN == 0 || range.is_empty()));
            let least = ranges.iter().map(ExactSizeIterator::len).min().unwrap_or(0);
            let most = ranges.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
            prop_assert!(most - least <= 2 * ALIGN, "{:?}", ranges);
        }

        /// The same integers as the whole product by definition, whatever the cut.
        #[test]
        fn slices_make_up_the_product(
            n in 1usize..90, k in 1usize..70, rows in 0usize..6, parts in 1usize..6, seed: u64,
        ) {
            let mut state = seed;
            let mut next = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 32) as u32
            };
            let w: Vec<i8> = (0..n * k).map(|_| next() as i8).collect();
            let share: Vec<u32> = (0..rows * k).map(|_| next()).collect();
            let mut right = vec![0; rows * n];
            reference::matmul_mask_u32(&w, &share, n, k, rows, &mut right);
            let mut whole = vec![0xdead_beef; rows * n];
            for range in cut(n, parts).into_iter().filter(|range| !range.is_empty()) {
                let mut part = vec![0; rows * range.len()];
                let slice = &w[range.start * k..range.end * k];
                matmul_mask_u32(slice, &share, range.len(), k, rows, &mut part);
                prop_assert!(put(&part, range, n, &mut whole));
            }
            prop_assert_eq!(whole, right);
        }
    }

    #[test]
    fn what_does_not_fit_is_not_put() {
        let mut whole = vec![7; 6];
        for (part, columns, n) in
            [(&[1, 2, 3][..], 0..2, 3), (&[1, 2], 2..4, 3), (&[], 1..1, 3), (&[1, 2], 0..1, 4)]
        {
            assert!(!put(part, columns, n, &mut whole));
        }
        assert_eq!(whole, [7; 6]);
        assert!(put(&[1, 2, 3, 4], 1..3, 3, &mut whole));
        assert_eq!(whole, [7, 1, 2, 7, 3, 4]);
    }
}
