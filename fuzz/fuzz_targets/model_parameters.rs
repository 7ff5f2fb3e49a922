#![no_main]
//! Arbitrary parameters under an honest manifest: the model is refused or it runs.

use nesa_model::toy::{self, ToyConfig};
use nesa_model::{Artifact, EncoderRun, Model, PlainEngine, TokenIds};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let shape = ToyConfig { d_model: 8, d_ff: 8, heads: 2, layers: 1, ..ToyConfig::default() };
    let Ok(honest) = toy::artifact(&shape) else { return };
    let mut payload = honest.payload().to_vec();
    for (to, from) in payload.iter_mut().zip(data) {
        *to ^= from;
    }
    let manifest = honest.header().manifest().clone();
    let Ok(artifact) = Artifact::build(manifest, payload.into()) else { return };
    let Ok(model) = Model::open(&artifact) else { return };
    let batch = [TokenIds { ids: vec![2, 9, 30, 3], second: None, truncated: false }];
    if let Ok(run) = EncoderRun::start(&model, &batch) {
        let _ = run.run(&PlainEngine(&model));
    }
});
