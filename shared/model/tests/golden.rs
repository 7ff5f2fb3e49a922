//! The committed MiniLM gives the committed integers here; `browser.rs` says the same of a browser.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_model::{Artifact, EncoderRun, Model, ModelLimits, PlainEngine, self_test_vectors};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/all-minilm-l6-v2.nesa");

fn model() -> Model {
    let file = std::fs::read(FILE).unwrap();
    Model::open(&Artifact::open(file, &ModelLimits::default()).unwrap()).unwrap()
}

#[test]
fn the_committed_model_gives_the_golden_integers() {
    nesa_model::self_test(&model()).unwrap();
}

/// One batch, in one run with padding, gives each text what it gets alone.
#[test]
fn batching_changes_nothing() {
    let model = model();
    let vectors = self_test_vectors();
    let batch: Vec<_> = vectors.iter().map(|v| model.tokenizer().unwrap().encode(v.text)).collect();
    let run = EncoderRun::start_padded(&model, &batch, 128).unwrap();
    let got = run.run(&PlainEngine(&model)).unwrap();
    assert_eq!(got.len(), vectors.len());
    for (got, expected) in got.iter().zip(&vectors) {
        assert_eq!(got.values, expected.values, "{:?}", expected.text);
    }
}

/// The interpreter that wrote the vectors still agrees, on the shortest text.
#[test]
fn the_interpreter_agrees() {
    let model = model();
    let vector = self_test_vectors().swap_remove(0);
    let tokens = model.tokenizer().unwrap().encode(vector.text);
    let embedding = nesa_model::interpreter::embed(&model, &tokens).unwrap();
    assert_eq!(embedding.values, vector.values);
}

/// Unit length, to within the fixed point's last bits.
#[test]
fn embeddings_have_unit_length() {
    for vector in self_test_vectors() {
        let square: i128 = vector.values.iter().map(|&v| i128::from(v) * i128::from(v)).sum();
        let error = square - (1 << 48);
        assert!(error.abs() < 1 << 34, "{:?}: {error}", vector.text);
    }
}

#[test]
fn long_texts_are_cut_and_say_so() {
    let model = model();
    let tokens = model.tokenizer().unwrap().encode(&"all work and no play ".repeat(60));
    assert!(tokens.truncated);
    assert_eq!(tokens.len(), 256);
}
