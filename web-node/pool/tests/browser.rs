//! The module of a pool's thread against the plain definition, in a browser, on memory that is shared.
#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use js_sys::{SharedArrayBuffer, Uint32Array};
use nesa_kernels::reference::matmul_mask_u32;
use nesa_pool::Slices;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

fn shared(words: &[u32]) -> Uint32Array {
    let array = Uint32Array::new(&SharedArrayBuffer::new(4 * words.len() as u32));
    array.copy_from(words);
    array
}

#[wasm_bindgen_test]
fn products_are_those_of_the_definition() {
    let mut state = 7u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 32) as u32
    };
    for round in 0..60 {
        let (n, k, rows) = (1 + next() % 70, 1 + next() % 90, next() % 7);
        let w: Vec<i8> = (0..n * k).map(|_| next() as i8).collect();
        let share: Vec<u32> = (0..rows * k).map(|_| next() | (round % 2) << 31).collect();
        let mut right = vec![0; (rows * n) as usize];
        matmul_mask_u32(&w, &share, n as usize, k as usize, rows as usize, &mut right);
        let mut slices = Slices::new();
        slices.load(round, w, k).unwrap();
        let product = shared(&vec![1; right.len()]);
        slices.product(round, rows, &shared(&share), &product).unwrap();
        assert_eq!(product.to_vec(), right, "{n} × {k}, {rows} rows");
    }
}

#[wasm_bindgen_test]
fn what_does_not_fit_is_an_error() {
    let mut slices = Slices::new();
    assert!(slices.load(0, vec![1; 6], 4).is_err());
    assert!(slices.load(0, vec![1; 6], 0).is_err());
    assert!(slices.load(0, vec![], 3).is_err());
    slices.load(0, vec![1; 6], 3).unwrap();
    let (three, two) = (shared(&[1; 3]), shared(&[0; 2]));
    assert!(slices.product(0, 1, &three, &two).is_ok());
    assert_eq!(two.to_vec(), [3, 3]);
    assert!(slices.product(1, 1, &three, &two).is_err());
    assert!(slices.product(0, 2, &three, &two).is_err());
    assert!(slices.product(0, 1, &two, &two).is_err());
    assert!(slices.product(0, u32::MAX, &three, &two).is_err());
}
