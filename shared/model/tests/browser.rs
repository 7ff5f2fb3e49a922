//! The golden vectors and decoders in a browser: the same bytes as natively, on the `simd128` kernels.
#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_kernels::nibbles;
use nesa_model::decoder::toy::{self, TOY_VOCAB, ToyDecoder};
use nesa_model::decoder::{
    DecoderModel, DecoderRun, Fed, Feed, Input, KvCache, Logits, Output, interpreter,
};
use nesa_model::manifest::{Activation, ClassesConfig, Head, Pooling, WeightForm};
use nesa_model::toy::ToyConfig;
use nesa_model::{Artifact, EncoderRun, Model, ModelLimits, PlainDecoder, PlainEngine, TokenIds};
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

/// Weights of four bits, rows that fill groups of 32 and that do not: unpacked as the definition says, and
/// the interpreter's logits.
#[wasm_bindgen_test]
fn weights_of_four_bits_equal_the_definition() {
    assert_eq!(nesa_kernels::path_name(), "simd128");
    let mut state = 1u64;
    for k in [1, 31, 32, 33, 64, 95, 288] {
        let packed: Vec<u8> = (0..3 * nibbles::packed_bytes(k))
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as u8
            })
            .collect();
        let (mut got, mut expected) = (vec![0; 3 * k], vec![0; 3 * k]);
        nibbles::unpack(&packed, k, &mut got);
        nibbles::plain(&packed, k, &mut expected);
        assert_eq!(got, expected);
        // And products with the rows as they are packed, for a token or two and for more.
        for tokens in [1, 2, 5] {
            let x: Vec<i32> =
                (0..tokens * k).map(|i| (i * 7919 % 65_536) as i32 - 32_768).collect();
            let (mut y, mut right) = (vec![0; 3 * tokens], vec![0; 3 * tokens]);
            nesa_kernels::Weight::Nibbles(&packed).matmul_i8(&x, 3, k, tokens, &mut y);
            nesa_kernels::reference::matmul_i8(&expected, &x, 3, k, tokens, &mut right);
            assert_eq!(y, right);
        }
    }
    let text: Vec<u32> = (0..20).map(|i| i * 7 % TOY_VOCAB).collect();
    for (d_model, d_ff) in [(32, 48), (70, 100)] {
        let shape = ToyDecoder { d_model, d_ff, ..ToyDecoder::default() };
        let made = toy::artifact_of(&shape, WeightForm::Nibbles).unwrap();
        let model = DecoderModel::open(&made).unwrap();
        let input = Input::Tokens(text.clone());
        let feed = Feed { cache: KvCache::new(), input, logits: Logits::All };
        let run = DecoderRun::start(&model, vec![feed]).unwrap();
        let fed = run.run(&PlainDecoder(&model)).unwrap().remove(0);
        let expected = interpreter::logits(&model, &text).unwrap().concat();
        assert_eq!(fed.output, Output::Logits(expected));
    }
}

/// Text classifiers and wide attention heads: the plain interpreter's logits.
#[wasm_bindgen_test]
fn heads_equal_the_interpreter() {
    for (d_model, heads) in [(32, 2), (64, 1), (200, 1)] {
        let shape = ToyConfig { d_model, heads, ..ToyConfig::default() };
        let classes = ClassesConfig {
            classes: 3,
            hidden: Some(Activation::Tanh),
            tanh_entries: 0,
            label_bytes: 0,
        };
        let head = Head { pooling: Pooling::First, classes: Some(classes) };
        let made = nesa_model::toy::artifact_with_head(&shape, head).unwrap();
        let model = Model::open(&made).unwrap();
        let text =
            TokenIds { ids: (0..17).map(|i| i * 5 % 56).collect(), second: None, truncated: false };
        let run = EncoderRun::start(&model, std::slice::from_ref(&text)).unwrap();
        let got = run.run(&PlainEngine(&model)).unwrap().remove(0);
        assert_eq!(got, nesa_model::interpreter::embed(&model, &text).unwrap());
    }
}
