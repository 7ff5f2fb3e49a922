//! The committed model against the committed embeddings of its f32 original.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_compiler::eval::{REFERENCE_TEXTS, evaluate_committed};
use nesa_model::{Artifact, Model, ModelLimits};

#[test]
fn the_committed_model_is_accurate() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/all-minilm-l6-v2.nesa");
    let file = std::fs::read(path).unwrap();
    let model = Model::open(&Artifact::open(file, &ModelLimits::default()).unwrap()).unwrap();
    let accuracy = evaluate_committed(&model, |_| {}).unwrap();
    assert_eq!(accuracy.texts, REFERENCE_TEXTS);
    assert!(accuracy.mean_cosine >= 0.995, "{accuracy:?}");
    assert!(accuracy.min_cosine >= 0.98, "{accuracy:?}");
    // Two hundred unrelated texts have many near ties; the whole corpus is held to 98 %.
    assert!(accuracy.top1_agreement >= 0.95, "{accuracy:?}");
}
