#![no_main]
//! Arbitrary parameters of a classifier under an honest manifest: refused, or it runs and equals the
//! interpreter.

use nesa_model::classifier::toy::{self, ToyClassifier};
use nesa_model::classifier::{ClassifierModel, ClassifierRun, interpreter};
use nesa_model::{Artifact, PlainClassifier};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(honest) = toy::artifact(&ToyClassifier::default()) else { return };
    let mut payload = honest.payload().to_vec();
    for (to, from) in payload.iter_mut().zip(data) {
        *to ^= from;
    }
    let manifest = honest.header().manifest().clone();
    let Ok(artifact) = Artifact::build(manifest, payload.into()) else { return };
    let Ok(model) = ClassifierModel::open(&artifact) else { return };
    let last = data.iter().rev().chain(std::iter::repeat(&7));
    let image: Vec<u8> = last.take(model.image_len()).map(|v| v % 201).collect();
    let Ok(run) = ClassifierRun::start(&model, &[&image]) else { return };
    let Ok(logits) = run.run(&PlainClassifier(&model)) else { return };
    assert_eq!(logits.into_iter().next(), interpreter::logits(&model, &image));
});
