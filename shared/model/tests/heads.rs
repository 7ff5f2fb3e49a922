//! Encoders with heads: classes of texts, other poolings, wide attention heads.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_model::layout::{LayoutError, TensorKind};
use nesa_model::manifest::{Activation, ClassesConfig, Head, Manifest, Pooling, WeightForm};
use nesa_model::toy::{self, ToyConfig};
use nesa_model::{
    Artifact, EncoderRun, Header, Model, ModelError, ModelLimits, PlainEngine, Step, TokenIds,
    interpreter,
};
use proptest::prelude::*;

fn heads() -> impl Strategy<Value = Head> {
    let pooling = prop::sample::select(vec![Pooling::Mean, Pooling::First, Pooling::Greatest]);
    let hidden = prop::sample::select(vec![None, Some(Activation::Tanh), Some(Activation::Relu)]);
    (pooling, prop::option::of((1u16..9, hidden))).prop_map(|(pooling, classes)| Head {
        pooling,
        classes: classes.map(|(classes, hidden)| config(classes, hidden)),
    })
}

fn config(classes: u16, hidden: Option<Activation>) -> ClassesConfig {
    ClassesConfig { classes, hidden, tanh_entries: 0, label_bytes: 0 }
}

fn tokens(ids: &[u32]) -> TokenIds {
    TokenIds { ids: ids.to_vec(), second: None, truncated: false }
}

fn toy(head: Head) -> Artifact {
    toy::artifact_with_head(&ToyConfig::default(), head).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn heads_equal_the_interpreter(
        head in heads(),
        batch in prop::collection::vec(prop::collection::vec(0u32..56, 1..20), 1..4),
        padding in 0usize..9,
        seed in 0u64..6,
        packed: bool,
        (d_model, heads) in prop::sample::select(vec![(32, 2), (32, 1), (64, 1), (96, 2), (256, 1), (200, 1)]),
    ) {
        let shape = ToyConfig { seed, d_model, heads, ..ToyConfig::default() };
        let form = if packed { WeightForm::Nibbles } else { WeightForm::Bytes };
        let model = Model::open(&toy::artifact_of(&shape, head, form).unwrap()).unwrap();
        let batch: Vec<_> = batch.iter().map(|ids| tokens(ids)).collect();
        let total: usize = batch.iter().map(TokenIds::len).sum();
        let expected: Vec<_> =
            batch.iter().map(|t| interpreter::embed(&model, t).unwrap()).collect();
        let width = head.classes.map_or(d_model as usize, |c| c.classes.into());
        prop_assert!(expected.iter().all(|e| e.values.len() == width));
        for path in nesa_kernels::Path::available() {
            let run = EncoderRun::start_padded(&model, &batch, total + padding).unwrap();
            let got = path.during(|| run.run(&PlainEngine(&model)).unwrap()).unwrap();
            prop_assert_eq!(&got, &expected, "on {}", path.name());
        }
    }

    /// A manifest of either version is read as it was written, and only so.
    #[test]
    fn headers_keep_their_heads(head in heads()) {
        let artifact = toy(head);
        let header = Header::decode(artifact.header().bytes(), &ModelLimits::default()).unwrap();
        prop_assert_eq!(&header, &**artifact.header());
        let plain = head == Head::default();
        prop_assert_eq!(header.manifest().version(), if plain { 1 } else { 4 });
    }
}

/// What a lane sees of a run does not tell how many texts there are: every stage has all rows, those of
/// the head too.
#[test]
fn rows_do_not_tell_the_number_of_texts() {
    let head = Head { classes: Some(config(3, Some(Activation::Tanh))), ..Head::default() };
    let model = Model::open(&toy(head)).unwrap();
    let seen = |batch: &[TokenIds]| {
        let mut run = EncoderRun::start_padded(&model, batch, 16).unwrap();
        let mut seen = Vec::new();
        while let Step::Linear { stage, tokens, x } = run.step() {
            let spec = model.stage(stage);
            seen.push((stage, tokens, x.len()));
            if stage.0 as usize >= model.stages().len() - 2 {
                let unused = &x[batch.len() * spec.k..];
                assert!(unused.iter().all(|&v| v == 0), "rows of the layers before are left");
            }
            let mut y = vec![0; tokens * spec.n];
            model.weights(stage).matmul_i8(&x, spec.n, spec.k, tokens, &mut y);
            run.resume(y).unwrap();
        }
        seen
    };
    let one = seen(&[tokens(&[2, 7, 9, 3])]);
    assert_eq!(one, seen(&[tokens(&[2, 8]), tokens(&[2, 3, 4]), tokens(&[2; 9])]));
    assert_eq!(one.len(), 2 * 4 + 2);
}

#[test]
fn lying_heads_are_refused() {
    let head = Head { classes: Some(config(3, Some(Activation::Tanh))), ..Head::default() };
    let honest = toy(head);
    let Manifest::Encoder(manifest) = honest.header().manifest().clone() else { panic!() };

    // Every byte of the header: refused, or another model.
    let bytes = honest.header().bytes();
    for at in 0..bytes.len() {
        for flip in [1u8, 0x80] {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= flip;
            if let Ok(header) = Header::decode(&bytes, &ModelLimits::default()) {
                assert_ne!(header.digest(), honest.digest());
            }
        }
    }
    // A plain head in version 4.
    let mut plain = toy(Head::default()).header().bytes().to_vec();
    plain[1] = 4;
    assert!(Header::decode(&plain, &ModelLimits::default()).is_err());

    let with = |change: &dyn Fn(&mut ClassesConfig)| {
        let mut manifest = manifest.clone();
        change(manifest.head.classes.as_mut().unwrap());
        Artifact::build(Manifest::Encoder(manifest), honest.payload().clone())
    };
    assert!(with(&|c| c.label_bytes = 2).is_err(), "fewer bytes than classes");
    let error = with(&|c| c.tanh_entries = (1 << 14) + 1).unwrap_err().to_string();
    let expected = LayoutError::Size { what: "tanh_entries", got: 16385, allowed: "at most 2^14" };
    assert!(error.contains(&expected.to_string()), "{error}");

    // Labels that are not one per class, and a tangent above one.
    let changed = |kind, bytes: &[u8]| {
        let mut payload = honest.payload().to_vec();
        let range = honest.header().layout().tensor(kind).unwrap().range();
        payload[range.start..range.start + bytes.len()].copy_from_slice(bytes);
        let made = Artifact::build(Manifest::Encoder(manifest.clone()), payload.into()).unwrap();
        Model::open(&made).unwrap_err()
    };
    let what = |error| match error {
        ModelError::Parameter { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(what(changed(TensorKind::Labels, b"\n\n\n")), "labels");
    assert_eq!(what(changed(TensorKind::Labels, b"\xff")), "labels");
    assert_eq!(what(changed(TensorKind::TanhTable, &32769u16.to_le_bytes())), "tanh table");
    assert_eq!(Model::open(&honest).unwrap().labels(), ["class 0", "class 1", "class 2"]);
    // Its results are no vectors, and whoever wants vectors is told.
    assert_eq!(
        (honest.header().manifest().embeds(), honest.header().manifest().family()),
        (false, "text classifier")
    );
}
