//! Packed rows as the weights of a tiled product: a panel's columns are unpacked into the cache, where they
//! become registers as rows of bytes do.

#[cfg(target_arch = "x86_64")]
use crate::nibbles::split;
use crate::nibbles::{GROUP, packed_bytes, unpack_groups};
use crate::product::{Place, Rows, Weights};
use crate::vector::Vector;

/// Most weights of a panel's register row: `LANES` rows of `COLUMNS`.
const MOST_WEIGHTS: usize = 4096;

/// Rows of `k` four-bit weights, packed and without gaps.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) k: usize,
}

impl Packed<'_> {
    fn row(&self, row: usize) -> &[u8] {
        let bytes = packed_bytes(self.k);
        &self.data[row * bytes..][..bytes]
    }
}

impl Weights for Packed<'_> {
    fn hold(&self, n: usize, k: usize) -> bool {
        self.k == k && n.checked_mul(packed_bytes(k)).is_some_and(|len| len <= self.data.len())
    }

    fn at(&self, row: usize, column: usize) -> i32 {
        let mut group = [0i8; GROUP];
        unpack_groups(self.row(row), self.k, column / GROUP, &mut group);
        group[column % GROUP].into()
    }

    #[inline(always)]
    unsafe fn pack<L: Vector>(self, place: Place, to: *mut i16, to_stride: usize) {
        const { assert!(L::COLUMNS.is_multiple_of(GROUP) && L::LANES * L::COLUMNS <= MOST_WEIGHTS) };
        let Place { n, k, row, column, pairs } = place;
        let rows = L::LANES.min(n - row);
        let width = (2 * pairs).min(k - column);
        let stride = width.next_multiple_of(GROUP);
        let mut bytes = [0i8; MOST_WEIGHTS];
        if stride > 0 {
            // Panels begin at whole groups.
            for (r, bytes) in bytes.chunks_exact_mut(stride).take(rows).enumerate() {
                let (row, first) = (self.row(row + r), column / GROUP);
                #[cfg(target_arch = "x86_64")]
                {
                    let (groups, multipliers) = split(row, k);
                    let out = bytes.as_chunks_mut().0;
                    // SAFETY: every `Vector` here has AVX2, which the caller promises.
                    unsafe {
                        crate::avx2::unpack_groups(&groups[first..], multipliers, first, out);
                    }
                }
                #[cfg(not(target_arch = "x86_64"))]
                unpack_groups(row, k, first, bytes);
            }
        }
        let rows_of_bytes = Rows { data: &bytes[..], stride };
        let place = Place { n: rows, k: width, row: 0, column: 0, pairs };
        // SAFETY: `bytes` holds `rows ≤ LANES` rows of `width ≤ stride ≤ COLUMNS`; the rest is the caller's
        // promise.
        unsafe { rows_of_bytes.pack::<L>(place, to, to_stride) }
    }
}
