//! `s = rᵀW mod 2^61 − 1`, streamed over weight rows.

/// The Mersenne prime 2^61 − 1 that the Freivalds checks work in.
pub const P61: u64 = (1 << 61) - 1;

const LIMB_BITS: u32 = 31;
const LIMB_MASK: u64 = (1 << LIMB_BITS) - 1;

/// Folds weight rows into `s = Σ_j r_j · w_j mod p` as they arrive, so that a client need not keep
/// a weight matrix: it verifies a chunk, folds its rows, and drops it.
///
/// Each `r_j` is split in two limbs of 31 bits; a limb times an `i8` is below 2^38, so the `i64`
/// sums are exact for up to [`RowFold::MAX_ROWS`] rows.
pub struct RowFold {
    low: Vec<i64>,
    high: Vec<i64>,
    rows: usize,
}

impl RowFold {
    /// Rows after which the 64-bit sums could overflow: 2^63 / 2^38.
    pub const MAX_ROWS: usize = 1 << 24;

    /// An empty fold for rows of `k` weights.
    pub fn new(k: usize) -> Self {
        Self { low: vec![0; k], high: vec![0; k], rows: 0 }
    }

    /// Adds `r.len()` rows; `w` is `[r.len(), k]`, each `r < p`.
    ///
    /// # Panics
    /// When `w` has another length, an `r` is not below p, or more than [`RowFold::MAX_ROWS`] rows
    /// are added.
    pub fn add(&mut self, r: &[u64], w: &[i8]) {
        let k = self.low.len();
        assert_eq!(w.len(), r.len() * k, "w is [rows, k]");
        self.rows += r.len();
        assert!(self.rows <= Self::MAX_ROWS, "too many rows for the 64-bit sums");
        if k == 0 {
            return;
        }
        for (&r, row) in r.iter().zip(w.chunks_exact(k)) {
            assert!(r < P61, "r is a residue mod p");
            let (lo, hi) = ((r & LIMB_MASK) as i64, (r >> LIMB_BITS) as i64);
            for ((low, high), &w) in self.low.iter_mut().zip(&mut self.high).zip(row) {
                *low = low.wrapping_add(lo.wrapping_mul(i64::from(w)));
                *high = high.wrapping_add(hi.wrapping_mul(i64::from(w)));
            }
        }
    }

    /// Rows added so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The `k` residues `s`, each in `0..p`.
    pub fn finish(self) -> Vec<u64> {
        let p = i128::from(P61);
        self.low
            .iter()
            .zip(&self.high)
            .map(|(&low, &high)| {
                (i128::from(low) + (i128::from(high) << LIMB_BITS)).rem_euclid(p) as u64
            })
            .collect()
    }
}

/// `s = rᵀW mod p`; `r` is `[n]` with each `r < p`, `w` is `[n, k]`, the result is `[k]` in `0..p`.
///
/// # Panics
/// As [`RowFold::add`].
pub fn rt_w_mod_p(r: &[u64], w: &[i8], n: usize, k: usize) -> Vec<u64> {
    assert_eq!(r.len(), n, "r is [n]");
    let mut fold = RowFold::new(k);
    fold.add(r, w);
    fold.finish()
}
