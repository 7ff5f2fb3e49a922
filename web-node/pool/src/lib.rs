//! One thread of a volunteer's pool: slices of weights, and masked products with them.
//!
//! ```text
//!   nesa-worker ── [id, call, …] ──> pool-worker.js ── this module (the kernels, nothing else)
//!        ▲              │ share, product: memory that both see │
//!        └── [id, ok] ──┴──────────────────────────────────────┘   late, wrong or silent: ended
//! ```
//!
//! A module of its own with a memory of its own: stable Rust builds no module whose memory threads share.
//! It knows no network, key or model, only numbers; whoever asked checks what it gives.
#![cfg(target_family = "wasm")]
#![deny(missing_docs)]

use std::collections::BTreeMap;

use js_sys::Uint32Array;
use wasm_bindgen::prelude::*;

/// A slice of a weight: `[n, k]` rows.
#[derive(Debug)]
struct Slice {
    w: Vec<i8>,
    n: usize,
    k: usize,
}

/// Slices of weights, by number.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Slices {
    held: BTreeMap<u32, Slice>,
    /// Room for a share and its product, zeros between two products.
    share: Vec<u32>,
    product: Vec<u32>,
}

#[wasm_bindgen]
impl Slices {
    /// None yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes rows of `k` values, row-major, under a number.
    ///
    /// # Errors
    /// When they are no whole rows.
    pub fn load(&mut self, weight: u32, w: Vec<i8>, k: u32) -> Result<(), JsError> {
        let k = k as usize;
        if k == 0 || w.is_empty() || !w.len().is_multiple_of(k) {
            return Err(JsError::new(&format!("{} weights are no rows of {k}", w.len())));
        }
        let n = w.len() / k;
        self.held.insert(weight, Slice { w, n, k });
        Ok(())
    }

    /// Computes `share · wᵀ` mod 2^32 with a slice: `share` holds `[rows, k]` words, `product` receives
    /// `[rows, n]`. Both may lie in memory that is shared with others.
    ///
    /// # Errors
    /// When the slice is not there, or an array has another length.
    pub fn product(
        &mut self,
        weight: u32,
        rows: u32,
        share: &Uint32Array,
        product: &Uint32Array,
    ) -> Result<(), JsError> {
        let slice = self.held.get(&weight);
        let Slice { w, n, k } =
            slice.ok_or_else(|| JsError::new(&format!("weight {weight} is not here")))?;
        let (n, k, rows) = (*n, *k, rows as usize);
        let expected = (rows.checked_mul(k), rows.checked_mul(n));
        let got = (share.length() as usize, product.length() as usize);
        if expected != (Some(got.0), Some(got.1)) {
            let what = format!("{got:?} words of share and product, expected {expected:?}");
            return Err(JsError::new(&what));
        }
        // Copied once: the kernels read a share many times, and others could write into shared memory.
        self.share.resize(got.0, 0);
        self.product.resize(got.1, 0);
        share.copy_to(&mut self.share);
        nesa_kernels::matmul_mask_u32(w, &self.share, n, k, rows, &mut self.product);
        product.copy_from(&self.product);
        // The room outlives this call, so this is done, and at the speed of memory.
        self.share.fill(0);
        self.product.fill(0);
        Ok(())
    }
}
