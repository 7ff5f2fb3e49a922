#![no_main]
//! Bytes of an ONNX file: refused or opened, within small limits, and of encoded inputs and answers.

use nesa_float::{Graph, Limits, web};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let limits = Limits { bytes: 1 << 20, nodes: 256, tensor: 1 << 16, values: 1 << 18, operations: 1 << 26 };
    let _ = Graph::open(data, limits);
    if let Ok(inputs) = web::decode_inputs(data, &limits) {
        assert_eq!(web::encode_inputs(&inputs), data, "a value with two encodings");
    }
    let _ = web::decode_answer(data, &limits);
});
