//! In a browser's worker: the module computes what a native machine did, within the calibrated bounds,
//! and tells a deviating model apart.
#![cfg(target_family = "wasm")]

use nesa_fingerprint::{Calibration, FLOOR};
use nesa_float::{
    Graph, Limits,
    perturb::{Deviation, deviate},
    web,
};
use wasm_bindgen_test::*;

wasm_bindgen_test_configure!(run_in_dedicated_worker);

const MODEL: &[u8] = include_bytes!("../../../models/float/encoder.onnx");
const INPUTS: &[u8] = include_bytes!("../../../models/float/encoder.inputs");
const NATIVE: &[u8] = include_bytes!("../../../models/float/encoder.answer");
const CALIBRATION: &str = include_str!("../../../models/float/encoder.calibration.json");

#[wasm_bindgen_test]
fn the_browser_agrees_with_a_native_machine_and_not_with_a_quantised_model() {
    let limits = Limits::browser();
    let calibration: Calibration = serde_json::from_str(CALIBRATION).expect("committed");
    calibration.check().expect("consistent");
    let native = web::decode_answer(NATIVE, &limits).expect("committed");
    let mut graph = Graph::open(MODEL, limits).expect("runs");
    assert_eq!(graph.plan_digest(), calibration.plan);
    let answer = web::run(&mut graph, INPUTS, &limits).expect("runs");
    let own = web::decode_answer(&answer, &limits).expect("own");
    let (left, right) = (native.values(), own.values());
    let distance = native.as_run(&left).distance(&own.as_run(&right));
    assert!(distance.within(&calibration.thresholds), "{distance:?}");

    let other = deviate(MODEL, Deviation::Int8, 1, &limits).expect("has weights");
    let mut other = Graph::open_as(&other, limits, graph.plan()).expect("runs");
    let answer = web::run(&mut other, INPUTS, &limits).expect("runs");
    let liar = web::decode_answer(&answer, &limits).expect("own");
    let values = liar.values();
    let distance = native.as_run(&left).distance(&liar.as_run(&values));
    assert!(!distance.within(&calibration.thresholds), "{distance:?}");
    assert!(!distance.within(&FLOOR));
}

#[wasm_bindgen_test]
fn bad_bytes_are_refused_in_words() {
    let limits = Limits::browser();
    assert!(Graph::open(&MODEL[..1000], limits).is_err());
    let mut graph = Graph::open(MODEL, limits).expect("runs");
    let error = web::run(&mut graph, &INPUTS[1..], &limits).expect_err("cut");
    assert!(error.to_string().starts_with("inputs: "), "{error}");
}
