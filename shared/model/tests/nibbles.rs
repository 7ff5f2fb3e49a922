//! Decoders and encoders whose weights are kept in four bits: the same arithmetic on smaller files.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_kernels::{Weight, nibbles};
use nesa_model::decoder::toy::{self, TOY_VOCAB, ToyDecoder};
use nesa_model::decoder::{
    DecoderModel, DecoderRun, Feed, Input, KvCache, Logits, Output, Shard, interpreter,
};
use nesa_model::layout::TensorKind;
use nesa_model::manifest::{ClassesConfig, Head, Manifest, WeightForm};
use nesa_model::toy::{self as encoder, ToyConfig};
use nesa_model::{Artifact, Header, Model, ModelError, ModelLimits, PlainDecoder, bounds};
use proptest::prelude::*;

fn packed(toy: &ToyDecoder) -> Artifact {
    toy::artifact_of(toy, WeightForm::Nibbles).unwrap()
}

fn feed(model: &DecoderModel, input: Input) -> Output {
    let feed = Feed { cache: KvCache::new(), input, logits: Logits::All };
    let run = DecoderRun::start(model, vec![feed]).unwrap();
    run.run(&PlainDecoder(model)).unwrap().remove(0).output
}

fn shapes() -> impl Strategy<Value = ToyDecoder> {
    // Rows that fill groups of 32 and that do not.
    let sizes = prop::sample::select(vec![(32u32, 48u32), (40, 64), (7, 33), (64, 100)]);
    (sizes, any::<u64>(), any::<bool>()).prop_map(|((d_model, d_ff), seed, tied)| ToyDecoder {
        d_model,
        d_ff,
        seed,
        tied,
        ..ToyDecoder::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn packed_decoders_equal_the_interpreter(
        toy in shapes(),
        text in prop::collection::vec(0..TOY_VOCAB, 1..10),
    ) {
        let artifact = packed(&toy);
        let model = DecoderModel::open(&artifact).unwrap();
        let expected = interpreter::logits(&model, &text).unwrap().concat();
        for path in nesa_kernels::Path::available() {
            let model = path.during(|| DecoderModel::open(&artifact).unwrap()).unwrap();
            let got = path.during(|| feed(&model, Input::Tokens(text.clone()))).unwrap();
            prop_assert_eq!(&got, &Output::Logits(expected.clone()), "on {}", path.name());
        }
        // Cut in two, the second half from its own pieces.
        let part = |layers| DecoderModel::open_shard(&Shard::of_artifact(&artifact, layers).unwrap());
        let (first, second) = (part(0..1).unwrap(), part(1..3).unwrap());
        let Output::Hidden(rows) = feed(&first, Input::Tokens(text)) else { panic!() };
        prop_assert_eq!(feed(&second, Input::Hidden(rows)), Output::Logits(expected));
    }

    /// What is computed with is what the definition makes of the file's bytes.
    #[test]
    fn weights_are_those_of_the_definition(toy in shapes()) {
        let artifact = packed(&toy);
        let model = DecoderModel::open(&artifact).unwrap();
        let layout = artifact.header().layout();
        for spec in model.served_stages() {
            let stage = usize::from(spec.id.0);
            let tensor = layout.tensor(TensorKind::Weight(stage)).unwrap();
            let bytes = &artifact.payload()[tensor.range()];
            let is_head = stage + 1 == model.stages().len();
            prop_assert_eq!(layout.weight_form(stage) == WeightForm::Bytes, is_head);
            if is_head {
                prop_assert_eq!(&*model.weights(spec.id).bytes(spec.k), nesa_kernels::as_i8(bytes));
                continue;
            }
            let mut expected = vec![0; spec.n * spec.k];
            nibbles::plain(bytes, spec.k, &mut expected);
            prop_assert!(matches!(model.weights(spec.id), Weight::Nibbles(_)));
            prop_assert_eq!(&*model.weights(spec.id).bytes(spec.k), &expected[..]);
        }
        // And so are the rows that a client streams, chunk by chunk.
        for chunk in &layout.chunks {
            let bytes = &artifact.payload()[chunk.range.clone()];
            for part in &chunk.weights {
                let rows = layout.weight_rows(part.stage, &bytes[part.bytes.clone()]);
                let spec = &model.stages()[part.stage];
                let whole = model.weights(spec.id).bytes(spec.k);
                prop_assert_eq!(&*rows, &whole[part.rows.start * spec.k..part.rows.end * spec.k]);
                bounds::check_rows(spec, part.rows.start, &rows).unwrap();
            }
        }
    }
}

#[test]
fn headers_name_the_form() {
    let toy = ToyDecoder::default();
    let (bytes, nibbles) = (toy::artifact(&toy).unwrap(), packed(&toy));
    assert_eq!(bytes.header().manifest().version(), 2);
    assert_eq!(nibbles.header().manifest().version(), 5);
    assert!(nibbles.file_len() < bytes.file_len());
    let header = Header::decode(nibbles.header().bytes(), &ModelLimits::default()).unwrap();
    assert_eq!(&header, &**nibbles.header());

    // Rows of one form are not those of the other.
    let mut manifest = nibbles.header().manifest().decoder().unwrap().clone();
    manifest.weights = WeightForm::Bytes;
    assert!(Artifact::build(Manifest::Decoder(manifest), nibbles.payload().clone()).is_err());
}

#[test]
fn a_row_over_its_bound_is_found_unpacked() {
    let honest = packed(&ToyDecoder::default());
    let mut manifest = honest.header().manifest().decoder().unwrap().clone();
    manifest.stages[2].row_bound_bits = 10;
    let lie = Artifact::build(Manifest::Decoder(manifest), honest.payload().clone()).unwrap();
    match DecoderModel::open(&lie) {
        Err(ModelError::Bound(bounds::BoundError::Row { stage: 2, bits: 10, .. })) => {}
        other => panic!("{other:?}"),
    }
}

/// A shard of a file that is here whole is that file's memory, not another copy of it.
#[test]
fn shards_of_a_file_share_its_memory() {
    // Weights of several chunks each.
    let toy = ToyDecoder { d_model: 512, d_ff: 640, ..ToyDecoder::default() };
    let artifact = toy::artifact(&toy).unwrap();
    let payload = artifact.payload().as_ptr_range();
    let shard = DecoderModel::open_shard(&Shard::of_artifact(&artifact, 1..3).unwrap()).unwrap();
    for spec in &shard.stages()[4..] {
        let Weight::Bytes(weights) = shard.weights(spec.id) else { panic!("bytes") };
        let weights = weights.as_ptr_range();
        assert!(weights.start.cast() >= payload.start && weights.end.cast() <= payload.end);
        assert!(!shard.weights(spec.id).is_empty());
    }
}

/// An encoder of four bits has a version of its own, with a head or without, and other forms of its bytes are
/// refused.
#[test]
fn packed_encoders_are_of_version_seven() {
    let classes = ClassesConfig { classes: 3, hidden: None, tanh_entries: 0, label_bytes: 0 };
    for head in [Head::default(), Head { classes: Some(classes), ..Head::default() }] {
        let artifact = |form| encoder::artifact_of(&ToyConfig::default(), head, form).unwrap();
        let (bytes, packed) = (artifact(WeightForm::Bytes), artifact(WeightForm::Nibbles));
        assert_eq!(packed.header().manifest().version(), 7);
        assert!(packed.payload().len() < bytes.payload().len());
        let header = Header::decode(packed.header().bytes(), &ModelLimits::default()).unwrap();
        assert_eq!(&header, &**packed.header());
        let model = Model::open(&packed).unwrap();
        let layers = 4 * usize::from(model.config().layers);
        for spec in model.stages() {
            let is_packed = matches!(model.weights(spec.id), Weight::Nibbles(_));
            assert_eq!(is_packed, usize::from(spec.id.0) < layers, "stage {}", spec.id.0);
            assert!(model.weights(spec.id).holds(spec.n, spec.k));
        }
        let mut manifest = packed.header().manifest().encoder().unwrap().clone();
        manifest.weights = WeightForm::Bytes;
        assert!(Artifact::build(Manifest::Encoder(manifest), packed.payload().clone()).is_err());

        // A row over its bound is found unpacked here too.
        let mut manifest = packed.header().manifest().encoder().unwrap().clone();
        manifest.stages[2].row_bound_bits = 10;
        let lie = Artifact::build(Manifest::Encoder(manifest), packed.payload().clone()).unwrap();
        match Model::open(&lie) {
            Err(ModelError::Bound(bounds::BoundError::Row { stage: 2, bits: 10, .. })) => {}
            other => panic!("{other:?}"),
        }
    }
}
