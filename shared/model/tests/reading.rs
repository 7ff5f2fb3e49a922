//! Encoders that read more than uncased single texts: cased vocabularies, pairs, segments.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_model::layout::TensorKind;
use nesa_model::manifest::{ClassesConfig, Head, Manifest, Reading};
use nesa_model::toy::{self, ToyConfig};
use nesa_model::{
    Artifact, EncoderRun, Header, Model, ModelLimits, PlainEngine, TokenIds, interpreter,
};
use proptest::prelude::*;

fn readings() -> impl Strategy<Value = Reading> {
    let all = (any::<bool>(), 0u8..=2, any::<bool>(), any::<bool>(), any::<bool>());
    all.prop_map(|(cased, separators, segments, relative, brought)| Reading {
        cased: cased && !brought,
        separators,
        segments: segments && separators > 0,
        relative,
        brought,
    })
}

fn head() -> Head {
    let classes = ClassesConfig { classes: 3, hidden: None, tanh_entries: 0, label_bytes: 0 };
    Head { classes: Some(classes), ..Head::default() }
}

fn toy(reading: Reading) -> Artifact {
    toy::artifact_with(&ToyConfig::default(), head(), reading).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pairs_equal_the_interpreter(
        reading in readings(),
        batch in prop::collection::vec((prop::collection::vec(0u32..56, 1..20), 0usize..22), 1..4),
        positions in any::<bool>(),
    ) {
        let mut artifact = toy(reading);
        if positions {
            // The largest there are: their sum is clamped.
            let mut payload = artifact.payload().to_vec();
            for kind in [TensorKind::Position, TensorKind::Segment, TensorKind::Relative] {
                let Some(tensor) = artifact.header().layout().tensor(kind) else { continue };
                for (i, bytes) in payload[tensor.range()].chunks_exact_mut(4).enumerate() {
                    let extreme = if i % 3 == 0 { i32::MIN } else { i32::MAX };
                    bytes.copy_from_slice(&extreme.to_le_bytes());
                }
            }
            artifact = Artifact::build(artifact.header().manifest().clone(), payload.into()).unwrap();
        }
        let model = Model::open(&artifact).unwrap();
        let batch: Vec<_> = batch
            .into_iter()
            .map(|(ids, second)| TokenIds { ids, second: second.checked_sub(1), truncated: false })
            .collect();
        let expected: Vec<_> =
            batch.iter().map(|t| interpreter::embed(&model, t).unwrap()).collect();
        for path in nesa_kernels::Path::available() {
            let run = EncoderRun::start(&model, &batch).unwrap();
            let got = path.during(|| run.run(&PlainEngine(&model)).unwrap()).unwrap();
            prop_assert_eq!(&got, &expected, "on {}", path.name());
        }
    }

    /// A manifest of each version is read as it was written, and only so.
    #[test]
    fn headers_keep_their_readings(reading in readings(), plain in any::<bool>()) {
        let head = if plain { Head::default() } else { head() };
        let artifact = toy::artifact_with(&ToyConfig::default(), head, reading).unwrap();
        let bytes = artifact.header().bytes();
        let header = Header::decode(bytes, &ModelLimits::default()).unwrap();
        prop_assert_eq!(&header, &**artifact.header());
        let expected = match (reading == Reading::default(), plain) {
            (true, true) => 1,
            (true, false) => 4,
            (false, _) => 6,
        };
        prop_assert_eq!(header.manifest().version(), expected);
    }

    /// However long the two are, a pair is one sequence of the model's limit at most, in order.
    #[test]
    fn pairs_fit(reading in readings(), text in ".{0,80}", pair in "[ -~]{0,80}") {
        let model = Model::open(&toy(reading)).unwrap();
        let Some(tokenizer) = model.tokenizer() else {
            prop_assert!(reading.brought && model.brought_tokenizer().is_some());
            return Ok(());
        };
        let Some(read) = tokenizer.encode_pair(&text, &pair) else {
            prop_assert!(!reading.pairs());
            return Ok(());
        };
        prop_assert!(read.len() <= tokenizer.max_tokens());
        prop_assert_eq!((read.ids[0], *read.ids.last().unwrap()), (2, 3));
        let Some(second) = read.second else {
            prop_assert!(pair.is_empty());
            return Ok(());
        };
        let separators = usize::from(reading.separators);
        prop_assert!(read.ids[second - separators..second].iter().all(|&id| id == 3));
        // Neither is cut while the other has more than half of the room.
        let (first, other) = (second - 1 - separators, read.len() - second - 1);
        let whole = |text: &str| {
            let wide = ToyConfig { max_tokens: 1000, ..ToyConfig::default() };
            let wide = toy::artifact_with(&wide, head(), reading).unwrap();
            Model::open(&wide).unwrap().tokenizer().unwrap().encode(text).len() - 2
        };
        let (whole_first, whole_other) = (whole(&text), whole(&pair));
        prop_assert_eq!(read.truncated, (first, other) != (whole_first, whole_other));
        let room = tokenizer.max_tokens() - 2 - separators;
        if whole_first + whole_other <= room {
            prop_assert_eq!((first, other), (whole_first, whole_other));
        } else {
            prop_assert_eq!(first + other, room);
            prop_assert!(first == whole_first || first >= room / 2);
            prop_assert!(other == whole_other || other >= room / 2);
        }
    }
}

#[test]
fn cases_and_accents_stay_where_the_model_keeps_them() {
    let read = |cased, text: &str| {
        let model = Model::open(&toy(Reading { cased, ..Reading::default() })).unwrap();
        model.tokenizer().unwrap().encode(text).ids
    };
    assert_eq!(read(false, "A é"), read(false, "a e"));
    // The toy has small letters without accents only.
    assert_eq!(read(true, "A é a"), [2, 1, 1, 4, 3]);
    assert_eq!(read(true, "a\u{7}b\u{a0}c"), read(false, "a\u{7}b\u{a0}c"));
}

/// Relative positions count, up to the model's limit.
#[test]
fn relative_positions_count() {
    let reading = Reading { relative: true, ..Reading::default() };
    let model = Model::open(&toy(reading)).unwrap();
    let run = |ids: &[u32]| {
        let text = TokenIds { ids: ids.to_vec(), second: None, truncated: false };
        interpreter::embed(&model, &text).unwrap().values
    };
    let plain = Model::open(&toy(Reading { cased: true, ..Reading::default() })).unwrap();
    let text = TokenIds { ids: vec![2, 7, 9, 3], second: None, truncated: false };
    assert_ne!(run(&[2, 7, 9, 3]), interpreter::embed(&plain, &text).unwrap().values);
    // At the model's limit the first and the last token reach the table's ends.
    let whole: Vec<u32> = (0..32).map(|i| 4 + i).collect();
    assert_eq!(run(&whole).len(), 3);
}

#[test]
fn lying_readings_are_refused() {
    let honest =
        toy(Reading { cased: true, separators: 1, segments: true, relative: true, brought: false });
    let Manifest::Encoder(manifest) = honest.header().manifest().clone() else { panic!() };
    // Every byte of the header: refused, or another model.
    let bytes = honest.header().bytes();
    for at in 0..bytes.len() {
        for flip in [1u8, 2, 0x80] {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= flip;
            if let Ok(header) = Header::decode(&bytes, &ModelLimits::default()) {
                assert_ne!(header.digest(), honest.digest());
            }
        }
    }
    let refused = |reading: Reading| {
        let mut manifest = manifest.clone();
        manifest.reading = reading;
        let made = Artifact::build(Manifest::Encoder(manifest), honest.payload().clone());
        // What can be built was built of another size, or cannot be read again.
        match made {
            Err(_) => true,
            Ok(made) => Header::decode(made.header().bytes(), &ModelLimits::default()).is_err(),
        }
    };
    assert!(refused(Reading {
        cased: false,
        separators: 0,
        segments: true,
        relative: true,
        brought: false
    }));
    assert!(refused(Reading {
        cased: true,
        separators: 3,
        segments: true,
        relative: true,
        brought: false
    }));
    assert!(refused(Reading { brought: true, ..manifest.reading }));
    assert!(refused(Reading::default()), "what version 4 can say, of another size");
    // A pair needs room for its separators.
    let small = ToyConfig { max_tokens: 3, ..ToyConfig::default() };
    let reading = Reading { separators: 2, ..Reading::default() };
    let small = toy::artifact_with(&small, head(), reading).unwrap();
    assert!(Model::open(&small).unwrap_err().to_string().contains("max_tokens is 3"));
}
