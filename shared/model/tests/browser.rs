//! The golden vectors and decoders in a browser: the same bytes as natively, on the `simd128` kernels.
#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_model::decoder::toy::{self, TOY_VOCAB, ToyDecoder};
use nesa_model::decoder::{
    DecoderModel, DecoderRun, Fed, Feed, Input, KvCache, Logits, Output, interpreter,
};
use nesa_model::{Artifact, Model, ModelLimits, PlainDecoder};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

static FILE: &[u8] = include_bytes!("../../../models/all-minilm-l6-v2.nesa");

#[wasm_bindgen_test]
fn the_committed_model_gives_the_golden_integers() {
    assert_eq!(nesa_kernels::path_name(), "simd128");
    let artifact = Artifact::open(FILE, &ModelLimits::default()).unwrap();
    nesa_model::self_test(&Model::open(&artifact).unwrap()).unwrap();
}

/// Prompts at once (tiled products) and token by token (single rows), heads that fill registers and
/// heads that do not: the plain interpreter's logits.
#[wasm_bindgen_test]
fn decoders_equal_the_interpreter() {
    let text: Vec<u32> = (0..40).map(|i| i * 7 % TOY_VOCAB).collect();
    for (heads, kv_heads, head_width) in [(4, 2, 8), (6, 1, 20), (2, 2, 32), (3, 3, 2)] {
        let shape = ToyDecoder { heads, kv_heads, head_width, ..ToyDecoder::default() };
        let model = DecoderModel::open(&toy::artifact(&shape).unwrap()).unwrap();
        let expected = interpreter::logits(&model, &text).unwrap();
        let run = |cache, tokens: &[u32]| {
            let feed = Feed { cache, input: Input::Tokens(tokens.to_vec()), logits: Logits::All };
            let run = DecoderRun::start(&model, vec![feed]).unwrap();
            let Fed { cache, output } = run.run(&PlainDecoder(&model)).unwrap().remove(0);
            let Output::Logits(logits) = output else { panic!("no logits") };
            (cache, logits)
        };
        assert_eq!(run(KvCache::new(), &text).1, expected.concat());
        let mut cache = KvCache::new();
        for (token, expected) in text.iter().zip(expected) {
            let step = run(cache, &[*token]);
            assert_eq!(step.1, expected);
            cache = step.0;
        }
    }
}
