//! A decoder on a device writes the bytes of the interpreter.
//!
//! Any Vulkan device will do, a software one too. Where there is none, each test says so and does nothing.

#![cfg(all(feature = "decoder", not(target_family = "wasm")))]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

#[path = "support/shapes.rs"]
mod shapes;
mod support;

use std::sync::{Arc, OnceLock};

use futures::executor::block_on;
use nesa_gpu::Caps;
use nesa_gpu::decoder::{DecoderError, GpuDecoder, GpuSequence, Kernels};
use nesa_kernels::Weight;
use nesa_model::StageId;
use nesa_model::decoder::toy::{self, TOY_CONTEXT, TOY_VOCAB, ToyDecoder};
use nesa_model::decoder::{DecoderModel, Input, Logits, Output, RunError, Shard, interpreter};
use nesa_model::manifest::WeightForm;
use proptest::prelude::*;
use shapes::shapes;
use support::open;

fn kernels() -> Option<Arc<Kernels>> {
    static KERNELS: OnceLock<Option<Arc<Kernels>>> = OnceLock::new();
    let prove = || open(None).map(|gpu| block_on(Kernels::prove(Arc::new(gpu))).unwrap());
    KERNELS.get_or_init(prove).clone()
}

fn step(
    decoder: &GpuDecoder,
    sequence: &mut GpuSequence,
    input: Input,
    logits: Logits,
) -> Vec<i32> {
    match block_on(decoder.step(sequence, &input, logits)).unwrap() {
        Output::Hidden(rows) | Output::Logits(rows) => rows,
    }
}

proptest! {
    // Each case runs on a software device.
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A prompt in one, then token by token, and back: the interpreter's logits.
    #[test]
    fn steps_equal_the_interpreter(
        toy in shapes(2), text in prop::collection::vec(0..TOY_VOCAB, 2..14), cut in 1usize..14,
    ) {
        let Some(kernels) = kernels() else { return Ok(()) };
        let model = DecoderModel::open(&toy::artifact(&toy).unwrap()).unwrap();
        let expected = interpreter::logits(&model, &text).unwrap();
        let decoder = GpuDecoder::place(kernels, &model).unwrap();
        let mut sequence = decoder.sequence(TOY_CONTEXT as usize).unwrap();
        let all = step(&decoder, &mut sequence, Input::Tokens(text.clone()), Logits::All);
        prop_assert_eq!(all, expected.concat());

        let cut = cut.min(text.len() - 1);
        sequence.truncate(0);
        let read = step(&decoder, &mut sequence, Input::Tokens(text[..cut].to_vec()), Logits::Last);
        prop_assert_eq!(&read, &expected[cut - 1]);
        for (token, expected) in text[cut..].iter().zip(&expected[cut..]) {
            let got = step(&decoder, &mut sequence, Input::Tokens(vec![*token]), Logits::Last);
            prop_assert_eq!(&got, expected);
        }
        prop_assert_eq!(sequence.len(), text.len());
        sequence.truncate(cut);
        let again = step(&decoder, &mut sequence, Input::Tokens(vec![text[cut]]), Logits::Last);
        prop_assert_eq!(&again, &expected[cut]);
    }
}

/// Weights of four bits: unpacked when they are brought to the device, the same bytes in and out.
#[test]
fn packed_decoders_equal_the_interpreter() {
    let Some(kernels) = kernels() else { return };
    // Rows that fill groups of 32 and that do not.
    for (d_model, d_ff) in [(32, 48), (40, 100), (7, 33)] {
        for tied in [false, true] {
            let shape = ToyDecoder { d_model, d_ff, tied, loudness: 4, ..ToyDecoder::default() };
            let artifact = toy::artifact_of(&shape, WeightForm::Nibbles).unwrap();
            let model = DecoderModel::open(&artifact).unwrap();
            assert!(matches!(model.weights(StageId(0)), Weight::Nibbles(_)));
            let text = [3, 41, 5, 9, 26];
            let expected = interpreter::logits(&model, &text).unwrap();
            let decoder = GpuDecoder::place(kernels.clone(), &model).unwrap();
            let mut sequence = decoder.sequence(TOY_CONTEXT as usize).unwrap();
            let got = step(&decoder, &mut sequence, Input::Tokens(text.to_vec()), Logits::All);
            assert_eq!(got, expected.concat(), "{d_model} {d_ff} {tied}");
        }
    }
}

/// Two shards hand over the rows that the processor's hand over.
#[test]
fn shards_equal_the_whole() {
    let Some(kernels) = kernels() else { return };
    let artifact = toy::artifact(&ToyDecoder { loudness: 4, ..ToyDecoder::default() }).unwrap();
    let model = DecoderModel::open(&artifact).unwrap();
    let text = vec![3, 41, 5, 9, 26];
    let expected = interpreter::logits(&model, &text).unwrap();
    let mut input = Input::Tokens(text);
    for layers in [0..1, 1..3] {
        let shard =
            DecoderModel::open_shard(&Shard::of_artifact(&artifact, layers).unwrap()).unwrap();
        let decoder = GpuDecoder::place(kernels.clone(), &shard).unwrap();
        let mut sequence = decoder.sequence(8).unwrap();
        let rows = step(&decoder, &mut sequence, input, Logits::Last);
        input = Input::Hidden(rows);
    }
    let Input::Hidden(logits) = input else { panic!("tokens") };
    assert_eq!(&logits, expected.last().unwrap());
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(kernels) = kernels() else { return };
    let model = DecoderModel::open(&toy::artifact(&ToyDecoder::default()).unwrap()).unwrap();
    let decoder = GpuDecoder::place(kernels, &model).unwrap();
    let mut sequence = decoder.sequence(3).unwrap();
    let mut refused =
        |input| block_on(decoder.step(&mut sequence, &input, Logits::Last)).unwrap_err();
    let full = refused(Input::Tokens(vec![1; 4]));
    assert!(matches!(full, DecoderError::Full { capacity: 3, got: 4 }), "{full}");
    let none = refused(Input::Tokens(vec![]));
    assert!(matches!(none, DecoderError::Run(RunError::Empty { .. })), "{none}");
    let word = refused(Input::Tokens(vec![TOY_VOCAB]));
    assert!(matches!(word, DecoderError::Run(RunError::Token { .. })), "{word}");
    let rows = refused(Input::Hidden(vec![0; 32]));
    assert!(matches!(rows, DecoderError::Run(RunError::Input { .. })), "{rows}");
    assert!(sequence.is_empty());
    // A weight that takes several bindings.
    let Some(small) = open(Some(Caps { binding: 1 << 16, groups: 65_535 })) else { return };
    let wide = ToyDecoder { d_ff: 4096, ..ToyDecoder::default() };
    let model = DecoderModel::open(&toy::artifact(&wide).unwrap()).unwrap();
    let small = block_on(Kernels::prove(Arc::new(small))).unwrap();
    let large = GpuDecoder::place(small.clone(), &model).err().unwrap();
    assert!(matches!(large, DecoderError::Large { .. }), "{large}");
    let model = DecoderModel::open(&toy::artifact(&ToyDecoder::default()).unwrap()).unwrap();
    let decoder = GpuDecoder::place(small, &model).unwrap();
    let long = decoder.sequence(1 << 12).err().unwrap();
    assert!(matches!(long, DecoderError::Cache { got: 131_072, .. }), "{long}");
    assert!(decoder.sequence(1 << 11).is_ok());
}
