#![no_main]
//! Arbitrary parameters of a text classifier under an honest manifest: refused, or it runs a pair of texts and
//! equals the interpreter.

use nesa_model::manifest::{Activation, ClassesConfig, Head, Pooling, Reading};
use nesa_model::toy::{self, ToyConfig};
use nesa_model::{Artifact, EncoderRun, Model, PlainEngine, TokenIds, interpreter};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    let pooling = [Pooling::Mean, Pooling::First, Pooling::Greatest][usize::from(choice % 3)];
    let hidden =
        [None, Some(Activation::Tanh), Some(Activation::Relu)][usize::from(choice / 3 % 3)];
    let classes = ClassesConfig { classes: 2, hidden, tanh_entries: 0, label_bytes: 0 };
    let head = Head { pooling, classes: (choice < 128).then_some(classes) };
    let reading = Reading {
        separators: choice / 9 % 3,
        segments: choice / 9 % 3 == 1,
        relative: choice / 27 % 2 == 1,
        ..Reading::default()
    };
    let shape = ToyConfig {
        d_model: 8,
        d_ff: 8,
        heads: 2,
        layers: 1,
        max_tokens: 8,
        ..ToyConfig::default()
    };
    let Ok(honest) = toy::artifact_with(&shape, head, reading) else { return };
    let mut payload = honest.payload().to_vec();
    for (to, from) in payload.iter_mut().zip(data) {
        *to ^= from;
    }
    let manifest = honest.header().manifest().clone();
    let Ok(artifact) = Artifact::build(manifest, payload.into()) else { return };
    let Ok(model) = Model::open(&artifact) else { return };
    let text = TokenIds { ids: vec![2, 7, 3, 9, 3], second: Some(3), truncated: false };
    let Ok(run) = EncoderRun::start(&model, std::slice::from_ref(&text)) else { return };
    let Ok(got) = run.run(&PlainEngine(&model)) else { return };
    assert_eq!(got.into_iter().next(), interpreter::embed(&model, &text));
});
