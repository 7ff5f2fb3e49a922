//! The golden vectors in a browser: the same bytes as natively, on the `simd128` kernels.
#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_model::{Artifact, Model, ModelLimits};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

static FILE: &[u8] = include_bytes!("../../../models/all-minilm-l6-v2.nesa");

#[wasm_bindgen_test]
fn the_committed_model_gives_the_golden_integers() {
    assert_eq!(nesa_kernels::path_name(), "simd128");
    let artifact = Artifact::open(FILE, &ModelLimits::default()).unwrap();
    nesa_model::self_test(&Model::open(&artifact).unwrap()).unwrap();
}
