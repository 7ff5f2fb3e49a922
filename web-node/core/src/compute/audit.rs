//! A node's own check of what its accelerator computed, far cheaper than the product.
//!
//! For a secret uniform r ∈ Z_2^32^n and s = Wᵀr, a right product y = Wx has r·y = s·x (Freivalds' check,
//! here mod 2^32, since no more of y is known). It costs n + k multiplications per row where the product
//! costs n·k.
//!
//! A fault that changes one value by an odd multiple of 2^j passes with probability 2^(j−32). A lane mod
//! 2^b reads the low b bits, so what matters to it passes with probability 2^(b−33) at most: 1/256 at 25
//! bits, one half at 32. A device that errs more than once is therefore found out; against a client that
//! checks with a vector of its own nothing rests on this. It protects the node: an honest volunteer does
//! not sign what its hardware got wrong.

use nesa_kernels::dot_u32;
use rand_core::Rng;

/// The secret vectors of one weight.
pub(crate) struct Audit {
    /// `[n]`.
    r: Vec<u32>,
    /// `[k]`: the weight's transpose times `r`.
    s: Vec<u32>,
}

impl Audit {
    /// Draws the secret for `w`, which holds `[n, k]` values.
    pub(crate) fn new(w: &[i8], n: usize, k: usize, rng: &mut impl Rng) -> Self {
        let r: Vec<u32> = (0..n).map(|_| rng.next_u32()).collect();
        let mut s = vec![0u32; k];
        for (row, &r) in w.chunks_exact(k.max(1)).zip(&r) {
            for (s, &w) in s.iter_mut().zip(row) {
                *s = s.wrapping_add(i32::from(w).cast_unsigned().wrapping_mul(r));
            }
        }
        Self { r, s }
    }

    /// Whether `[rows, n]` words are the product of the weight with `[rows, k]` words, as far as this
    /// secret tells.
    pub(crate) fn passes(&self, share: &[u32], product: &[u32], rows: usize) -> bool {
        let (n, k) = (self.r.len(), self.s.len());
        let shaped = share.len() == rows * k && product.len() == rows * n;
        let mut all = share.chunks_exact(k).zip(product.chunks_exact(n));
        shaped && all.all(|(x, y)| dot_u32(&self.s, x) == dot_u32(&self.r, y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nesa_kernels::reference::matmul_mask_u32;
    use proptest::prelude::*;
    use rand_core::SeedableRng as _;

    type Seeded = rand::rngs::StdRng;

    proptest! {
        #[test]
        fn right_products_pass_and_wrong_ones_do_not(
            n in 1usize..40, k in 1usize..40, rows in 1usize..5, seed: u64, at: prop::sample::Index, bit in 0u32..16,
        ) {
            let mut rng = Seeded::seed_from_u64(seed);
            let w: Vec<i8> = (0..n * k).map(|_| rng.next_u32() as i8).collect();
            let x: Vec<u32> = (0..rows * k).map(|_| rng.next_u32()).collect();
            let mut y = vec![0; rows * n];
            matmul_mask_u32(&w, &x, n, k, rows, &mut y);
            let audit = Audit::new(&w, n, k, &mut rng);
            prop_assert!(audit.passes(&x, &y, rows));
            prop_assert!(!audit.passes(&x, &y[1..], rows));
            // Such a fault passes once in 2^16 or more seldom, so two secrets in a row never.
            let at = at.index(y.len());
            y[at] ^= 1 << bit;
            let other = Audit::new(&w, n, k, &mut rng);
            prop_assert!(!audit.passes(&x, &y, rows) || !other.passes(&x, &y, rows));
        }
    }

    /// The bound that the text above states, at its worst.
    #[test]
    fn the_highest_bit_passes_half_of_the_time() {
        let mut rng = Seeded::seed_from_u64(7);
        let mut passed = 0;
        for _ in 0..400 {
            let audit = Audit::new(&[3], 1, 1, &mut rng);
            let y = 5u32.wrapping_mul(3);
            passed += u32::from(audit.passes(&[5], &[y ^ (1 << 31)], 1));
        }
        assert!((140..260).contains(&passed), "{passed} of 400");
    }
}
