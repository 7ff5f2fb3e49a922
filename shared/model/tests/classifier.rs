//! Classifiers: the run equals the interpreter, any split of a batch the whole, and what is not a model
//! is refused.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_model::classifier::toy::{ToyClassifier, artifact, square};
use nesa_model::classifier::{ClassifierModel, ClassifierRun, ImageError, best, interpreter};
use nesa_model::layout::TensorKind;
use nesa_model::manifest::{ClassifierManifest, ImageConfig, Layer, Manifest, Window};
use nesa_model::{
    Artifact, Assembler, ModelError, ModelLimits, PlainClassifier, ResumeError, StageId,
};
use proptest::prelude::*;

fn open(shape: &ToyClassifier) -> ClassifierModel {
    ClassifierModel::open(&artifact(shape).unwrap()).unwrap()
}

fn logits(model: &ClassifierModel, images: &[&[u8]]) -> Vec<Vec<i32>> {
    ClassifierRun::start(model, images).unwrap().run(&PlainClassifier(model)).unwrap()
}

/// Made-up images; the first is empty, the second full.
fn images(model: &ClassifierModel, count: usize, seed: u32) -> Vec<Vec<u8>> {
    let max = model.image().max_value;
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) % (u32::from(max) + 1)) as u8
    };
    let image = |i| match i {
        0 => vec![0; model.image_len()],
        1 => vec![max; model.image_len()],
        _ => (0..model.image_len()).map(|_| next()).collect(),
    };
    (0..count).map(image).collect()
}

fn views(images: &[Vec<u8>]) -> Vec<&[u8]> {
    images.iter().map(Vec::as_slice).collect()
}

#[test]
fn the_run_equals_the_interpreter() {
    let model = open(&ToyClassifier::default());
    let images = images(&model, 6, 3);
    let all = logits(&model, &views(&images));
    assert_eq!(all.len(), 6);
    for (image, got) in images.iter().zip(&all) {
        assert_eq!(Some(got), interpreter::logits(&model, image).as_ref());
        assert_eq!(&logits(&model, &[image])[0], got);
    }
    assert_ne!(all[2], all[3]);
    assert!(logits(&model, &[]).is_empty());
}

#[test]
fn the_lowest_of_equal_classes_wins() {
    assert_eq!(best(&[1, 7, 7, -3]), Some(1));
    assert_eq!(best(&[-5, -5]), Some(0));
    assert_eq!(best(&[]), None);
}

#[test]
fn images_that_do_not_fit_are_named() {
    let model = open(&ToyClassifier::default());
    let good = vec![0; model.image_len()];
    let short = ClassifierRun::start(&model, &[&good, &good[1..]]).map(|_| ()).unwrap_err();
    let expected = model.image_len();
    assert_eq!(short, ImageError::Length { index: 1, got: expected - 1, expected });
    let bright = vec![201; model.image_len()];
    let bright = ClassifierRun::start(&model, &[&bright]).map(|_| ()).unwrap_err();
    assert_eq!(bright, ImageError::Value { index: 0, got: 201, max: 200 });
}

/// Whoever computes a stage may answer anything of the right length.
#[test]
fn any_product_is_safe_and_lengths_are_checked() {
    let model = open(&ToyClassifier::default());
    let image = vec![7; model.image_len()];
    for value in [i32::MIN, i32::MAX, 0, -1] {
        let mut run = ClassifierRun::start(&model, &[&image, &image]).unwrap();
        let mut stages = 0;
        while let Some(pending) = run.pending() {
            let spec = &model.stages()[usize::from(pending.stage.0)];
            assert_eq!(pending.stage, StageId(stages));
            assert_eq!(pending.x.len(), pending.rows * spec.k);
            assert!(pending.x.iter().all(|x| x.abs() <= spec.input_max()));
            let expected = pending.rows * spec.n;
            let wrong = run.resume(&vec![0; expected + 1]).unwrap_err();
            let got = expected + 1;
            assert_eq!(wrong, ResumeError::Length { stage: StageId(stages), got, expected });
            run.resume(&vec![value; expected]).unwrap();
            stages += 1;
        }
        assert_eq!(usize::from(stages), model.stages().len());
        assert_eq!(run.resume(&[]).unwrap_err(), ResumeError::Finished);
        assert_eq!(run.output().unwrap().len(), 2);
    }
}

#[test]
fn the_local_part_runs_with_products_from_elsewhere() {
    let artifact = artifact(&ToyClassifier::default()).unwrap();
    let whole = ClassifierModel::open(&artifact).unwrap();
    let header = artifact.header();
    let mut parts = Assembler::local(header.clone());
    for piece in 1..header.local_pieces() {
        parts.insert(piece, artifact.piece(piece).unwrap()).unwrap();
    }
    let local = ClassifierModel::open_local(&parts.finish_local().unwrap()).unwrap();
    let images = images(&whole, 3, 5);
    let run = ClassifierRun::start(&local, &views(&images)).unwrap();
    assert_eq!(run.run(&PlainClassifier(&whole)).unwrap(), logits(&whole, &views(&images)));
    assert!(!local.has_weights());
    assert_eq!(interpreter::logits(&local, &images[0]), None);
}

fn manifest(shape: &ToyClassifier) -> ClassifierManifest {
    artifact(shape).unwrap().header().manifest().classifier().unwrap().clone()
}

#[test]
fn files_survive_and_other_families_are_told_apart() {
    let made = artifact(&ToyClassifier::default()).unwrap();
    let read = Artifact::open(made.to_file(), &ModelLimits::default()).unwrap();
    assert_eq!(read.digest(), made.digest());
    assert_eq!(read.header().manifest(), made.header().manifest());
    let other = nesa_model::Model::open(&made).unwrap_err();
    assert_eq!(other, ModelError::Family { got: "classifier", expected: "encoder" });
    let encoder = nesa_model::toy::artifact(&nesa_model::toy::ToyConfig::default()).unwrap();
    let other = ClassifierModel::open(&encoder).unwrap_err();
    assert_eq!(other, ModelError::Family { got: "encoder", expected: "classifier" });
}

#[test]
fn impossible_shapes_are_refused() {
    let refused = |change: &dyn Fn(&mut ToyClassifier), what: &str| {
        let mut shape = ToyClassifier::default();
        change(&mut shape);
        let error = artifact(&shape).unwrap_err().to_string();
        assert!(error.contains(what), "{error}, expected {what}");
    };
    let convolution = |window: Window| Layer::Convolution { outputs: 3, window };
    refused(&|s| s.layers[0] = convolution(square(12, 1, 1)), "window");
    refused(&|s| s.layers[0] = convolution(square(0, 1, 0)), "window");
    refused(&|s| s.layers[0] = convolution(square(3, 0, 1)), "stride");
    refused(&|s| s.layers[0] = convolution(square(3, 1, 3)), "rim");
    refused(
        &|s| s.layers[0] = convolution(Window { height: u16::MAX, ..square(3, 1, 1) }),
        "window",
    );
    refused(&|s| s.layers[4] = Layer::AveragePool(square(2, 1, 1)), "rim of an average");
    refused(&|s| s.layers[7] = Layer::Dense { outputs: 1 }, "classes");
    refused(&|s| s.layers.push(Layer::Relu), "classes");
    refused(&|s| s.layers[5] = Layer::Dense { outputs: u32::MAX }, "outputs");
    refused(&|s| s.image.max_value = 0, "greatest value");
    refused(&|s| s.image.channels = 0, "channels");
    let wide = ImageConfig { channels: 1024, height: 1024, width: 1024, max_value: 1 };
    refused(&|s| s.image = wide, "values of a tensor");
    // Every window of a large image at once would not fit a small machine.
    let large = ImageConfig { channels: 1, height: 1024, width: 1024, max_value: 1 };
    refused(&|s| (s.image, s.layers[0]) = (large, convolution(square(9, 1, 4))), "all windows");
}

#[test]
fn parameters_outside_the_bounds_are_refused() {
    let shape = ToyClassifier::default();
    let honest = artifact(&shape).unwrap();
    let change = |kind, at: usize, bytes: &[u8]| {
        let mut payload = honest.payload().to_vec();
        let start = honest.header().layout().tensor(kind).unwrap().offset + at;
        payload[start..start + bytes.len()].copy_from_slice(bytes);
        let lie = Artifact::build(Manifest::Classifier(manifest(&shape)), payload.into()).unwrap();
        ClassifierModel::open(&lie).map(|_| ())
    };
    let refused = change(TensorKind::Multiplier(1), 4, &(1u32 << 31).to_le_bytes()).unwrap_err();
    assert!(matches!(refused, ModelError::Parameter { what: "multiplier", index: 1, .. }));
    change(TensorKind::Bias(0), 0, &i32::MIN.to_le_bytes()).unwrap();
    // A bound that the weights do not keep.
    let mut lie = manifest(&shape);
    lie.stages[2].row_bound_bits -= 1;
    let lie = Artifact::build(Manifest::Classifier(lie), honest.payload().clone()).unwrap();
    let refused = ClassifierModel::open(&lie).map(|_| ()).unwrap_err();
    assert!(matches!(refused, ModelError::Bound(_)), "{refused}");
}

prop_compose! {
    fn window(most: u16)(
        height in 1..=most, width in 1..=most, stride_y in 1u16..4, stride_x in 1u16..4,
        rim in 0u16..3,
    ) -> Window {
        let (rim_y, rim_x) = (rim.min(height - 1), (rim + 1).min(width - 1));
        Window {
            height, width, stride_y, stride_x,
            top: rim_y, left: rim_x, bottom: rim_y / 2, right: rim_x,
        }
    }
}

fn layer() -> impl Strategy<Value = Layer> {
    prop_oneof![
        (1u32..5, window(3)).prop_map(|(outputs, window)| Layer::Convolution { outputs, window }),
        (1u32..20).prop_map(|outputs| Layer::Dense { outputs }),
        Just(Layer::Relu),
        window(3).prop_map(Layer::MaxPool),
        (0u16..6).prop_map(Layer::Take),
        (0u16..6).prop_map(Layer::Add),
        (0u16..6).prop_map(Layer::Join),
        window(3).prop_map(|w| Layer::AveragePool(Window {
            top: 0,
            left: 0,
            bottom: 0,
            right: 0,
            ..w
        })),
    ]
}

/// A residual block, a block whose branches are joined, and a tensor that is looked at twice.
#[test]
fn branches_equal_the_interpreter() {
    let same = |outputs| Layer::Convolution {
        outputs,
        window: Window {
            height: 3,
            width: 3,
            stride_y: 1,
            stride_x: 1,
            top: 1,
            left: 1,
            bottom: 1,
            right: 1,
        },
    };
    let image = ImageConfig { channels: 2, height: 6, width: 5, max_value: 255 };
    let layers = vec![
        same(4),
        Layer::Relu,
        same(4),
        Layer::Relu,
        same(4),
        // The sum with what went into the block.
        Layer::Add(2),
        Layer::Relu,
        Layer::Take(2),
        same(3),
        Layer::Join(7),
        // Twice itself.
        Layer::Add(10),
        Layer::Dense { outputs: 5 },
    ];
    for seed in 0..8 {
        let shape = ToyClassifier { image, layers: layers.clone(), input_bits: 12, seed };
        let model = ClassifierModel::open(&artifact(&shape).unwrap()).unwrap();
        let images = images(&model, 3, seed as u32);
        for (image, got) in images.iter().zip(logits(&model, &views(&images))) {
            assert_eq!(got, interpreter::logits(&model, image).unwrap());
        }
    }

    let refused = |layers: Vec<Layer>, what: &str| {
        let layers = [layers, vec![Layer::Dense { outputs: 2 }]].concat();
        let shape = ToyClassifier { image, layers, input_bits: 12, seed: 1 };
        let error = artifact(&shape).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    refused(vec![Layer::Relu, Layer::Add(2)], "earlier tensor");
    refused(vec![Layer::Take(u16::MAX)], "earlier tensor");
    refused(vec![same(3), Layer::Add(0)], "values that are added");
    let half = Window {
        height: 2,
        width: 2,
        stride_y: 2,
        stride_x: 2,
        top: 0,
        left: 0,
        bottom: 0,
        right: 0,
    };
    refused(vec![Layer::MaxPool(half), Layer::Join(0)], "values that are joined");
    // Each tensor is allowed, but a run would hold all of them.
    let large = ImageConfig { channels: 64, height: 256, width: 256, ..image };
    let mut layers = vec![Layer::Relu; 8];
    layers.extend((0..8).map(Layer::Add));
    layers.push(Layer::AveragePool(Window { height: 256, width: 256, ..half }));
    layers.push(Layer::Dense { outputs: 2 });
    let shape = ToyClassifier { image: large, layers, input_bits: 12, seed: 1 };
    let error = artifact(&shape).unwrap_err().to_string();
    assert!(error.contains("values of earlier tensors"), "{error}");
}

proptest! {
    #[test]
    fn any_shape_equals_the_interpreter(
        (channels, height, width) in (1u16..4, 1u16..10, 1u16..10),
        max_value in 1u8..=255,
        mut layers in prop::collection::vec(layer(), 0..6),
        input_bits in 2u8..=16,
        seed: u64,
    ) {
        layers.push(Layer::Dense { outputs: 3 });
        let image = ImageConfig { channels, height, width, max_value };
        let shape = ToyClassifier { image, layers, input_bits, seed };
        // A window larger than what is left is no model.
        let Ok(made) = artifact(&shape) else { return Ok(()) };
        let model = ClassifierModel::open(&made).unwrap();
        let images = images(&model, 3, seed as u32);
        let all = logits(&model, &views(&images));
        for (image, got) in images.iter().zip(&all) {
            prop_assert_eq!(got, &interpreter::logits(&model, image).unwrap());
        }
    }

    /// Any change of any parameter is refused, or runs and equals the interpreter.
    #[test]
    fn hostile_parameters(changes in prop::collection::vec((0usize..4000, any::<u8>()), 1..40)) {
        let shape = ToyClassifier::default();
        let mut payload = artifact(&shape).unwrap().payload().to_vec();
        let len = payload.len();
        changes.iter().for_each(|&(at, to)| payload[at % len] = to);
        let made = Artifact::build(Manifest::Classifier(manifest(&shape)), payload.into()).unwrap();
        let Ok(model) = ClassifierModel::open(&made) else { return Ok(()) };
        let images = images(&model, 3, 1);
        let all = logits(&model, &views(&images));
        for (image, got) in images.iter().zip(&all) {
            prop_assert_eq!(got, &interpreter::logits(&model, image).unwrap());
        }
    }
}
