#![no_main]
//! Arbitrary bytes for the weights of a decoder that keeps four bits: refused, or it runs and equals the
//! interpreter.

use nesa_model::decoder::toy::{self, ToyDecoder};
use nesa_model::decoder::{
    DecoderModel, DecoderRun, Feed, Input, KvCache, Logits, Output, interpreter,
};
use nesa_model::layout::TensorKind;
use nesa_model::manifest::WeightForm;
use nesa_model::{Artifact, PlainDecoder};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let shape = ToyDecoder {
        d_model: 33,
        d_ff: 8,
        heads: 2,
        kv_heads: 1,
        head_width: 4,
        layers: 1,
        ..ToyDecoder::default()
    };
    let Ok(honest) = toy::artifact_of(&shape, WeightForm::Nibbles) else { return };
    let mut payload = honest.payload().to_vec();
    let Some(weights) = honest.header().layout().tensor(TensorKind::Weight(0)) else { return };
    for (to, from) in payload[weights.offset..].iter_mut().zip(data) {
        *to = *from;
    }
    let manifest = honest.header().manifest().clone();
    let Ok(artifact) = Artifact::build(manifest, payload.into()) else { return };
    let Ok(model) = DecoderModel::open(&artifact) else { return };
    let text = [3, 1, 4, 1];
    let input = Input::Tokens(text.to_vec());
    let feed = Feed { cache: KvCache::new(), input, logits: Logits::All };
    let Ok(run) = DecoderRun::start(&model, vec![feed]) else { return };
    let Ok(fed) = run.run(&PlainDecoder(&model)) else { return };
    let expected = interpreter::logits(&model, &text).map(|rows| rows.concat());
    let got = fed.into_iter().next().map(|f| f.output);
    assert_eq!(got, expected.map(Output::Logits));
});
