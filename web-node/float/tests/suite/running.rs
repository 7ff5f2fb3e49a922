//! What is run gives what it should.

use super::{MODELS, file, inputs, open};
use nesa_fingerprint::Statistics;
use nesa_float::{
    Data, FloatError, Graph, Limits, TAPS, Tensor, TensorError, inputs::make, model_digest,
};

#[test]
fn every_model_runs_and_two_runs_are_equal() {
    for name in MODELS {
        let mut graph = open(name);
        let x = inputs(&graph, 1);
        let a = graph.run(&x).expect(name);
        let b = open(name).run(&x).expect(name);
        assert_eq!(a, b, "{name}");
        assert!(a.consistent(), "{name}");
        assert_eq!(a.fingerprint.plan, graph.plan_digest());
        let taps = graph.plan().taps.len();
        assert!((1..=TAPS).contains(&taps), "{name}: {taps} taps");
        assert_eq!(a.fingerprint.sketches.len(), taps + 1, "{name}");
        assert_ne!(a.digest(), graph.run(&inputs(&graph, 2)).expect(name).digest(), "{name}");
    }
}

#[test]
fn the_classifier_is_a_distribution_and_the_encoder_a_unit_vector() {
    let mut cnn = open("cnn");
    let x = inputs(&cnn, 3);
    let answer = cnn.run(&x).expect("runs");
    let values = answer.values();
    assert_eq!(values.len(), 10);
    assert!((values.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    let mut encoder = open("encoder");
    let x = inputs(&encoder, 3);
    let values = encoder.run(&x).expect("runs").values();
    assert!((values.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
}

#[test]
fn open_dimensions_take_the_sizes_of_the_inputs() {
    let mut graph = open("encoder");
    for tokens in [1u32, 5, 64, 5] {
        let mut recipe = super::recipe();
        recipe.dimensions.insert("tokens".to_owned(), tokens);
        recipe.dimensions.insert("batch".to_owned(), 2);
        let x = make(&graph, &recipe, 1).expect("small");
        let answer = graph.run(&x).expect("runs");
        assert_eq!(answer.outputs[0].shape, [2, 40], "{tokens} tokens");
    }
    let mut recipe = super::recipe();
    recipe.dimensions.clear();
    let error = make(&graph, &recipe, 1).expect_err("tokens are open");
    assert!(matches!(error, FloatError::Open { dimension, .. } if dimension == "tokens"));
}

#[test]
fn the_plan_is_a_function_of_the_file() {
    let taps = open("encoder").plan().clone();
    assert_eq!(taps, *open("encoder").plan());
    assert_eq!(taps.model, model_digest(&file("encoder")));
    assert_eq!(taps.taps.len(), TAPS);
    let mut other = file("encoder");
    // A producer's name more: other bytes, another plan.
    other.extend([0x12, 1, b'x']);
    let other = Graph::open(&other, Limits::default()).expect("runs");
    assert_ne!(other.plan_digest(), open("encoder").plan_digest());
}

#[test]
fn an_answer_with_outputs_of_another_run_is_inconsistent() {
    let mut graph = open("mlp");
    let (x, y) = (inputs(&graph, 1), inputs(&graph, 2));
    let (mut a, b) = (graph.run(&x).expect("runs"), graph.run(&y).expect("runs"));
    a.outputs = b.outputs;
    assert!(!a.consistent());
    a.fingerprint.sketches.clear();
    assert!(!a.consistent());
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let mut graph = open("encoder");
    let good = inputs(&graph, 1);
    let error = graph.run(&good[..1]).expect_err("one is missing");
    assert_eq!(error, FloatError::MissingInput { name: "attention_mask".into() });
    let twice = [good[0].clone(), good[0].clone()];
    assert!(matches!(graph.run(&twice), Err(FloatError::TwoInputs { .. })));
    let other = Tensor::new("ids", &[1], Data::I64(vec![1])).expect("whole");
    assert!(matches!(graph.run(&[other]), Err(FloatError::UnknownInput { .. })));
    let flat = Tensor::new("input_ids", &[12], Data::I64(vec![1; 12])).expect("whole");
    let error = graph.run(&[flat, good[1].clone()]).expect_err("one dimension is missing");
    assert_eq!(
        error,
        FloatError::Shape {
            name: "input_ids".into(),
            got: vec![12],
            expected: "[batch, tokens]".into()
        }
    );
    let floats = Tensor::new("input_ids", &[1, 12], Data::F32(vec![1.0; 12])).expect("whole");
    assert!(matches!(graph.run(&[floats, good[1].clone()]), Err(FloatError::Engine { .. })));
    // Sizes that contradict each other, and a token that the table does not have: no panic.
    let short = Tensor::new("attention_mask", &[1, 5], Data::I64(vec![1; 5])).expect("whole");
    assert!(graph.run(&[good[0].clone(), short]).is_err());
    let beyond = Tensor::new("input_ids", &[1, 12], Data::I64(vec![97; 12])).expect("whole");
    assert!(graph.run(&[beyond, good[1].clone()]).is_err());
    assert!(matches!(
        Tensor::new("x", &[2, 3], Data::F32(vec![0.0; 5])),
        Err(TensorError::Count { got: 5, .. })
    ));
    graph.run(&good).expect("still runs");
}

#[test]
fn numbers_that_are_none_do_not_stop_it() {
    let mut graph = open("mlp");
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-45, f32::MAX] {
        let x = Tensor::new("x", &[1, 32], Data::F32(vec![value; 32])).expect("whole");
        let a = graph.run(std::slice::from_ref(&x)).expect("runs");
        let b = graph.run(&[x]).expect("runs");
        assert!(a.consistent(), "{value}");
        let (left, right) = (a.values(), b.values());
        assert_eq!(a.as_run(&left).distance(&b.as_run(&right)), Statistics::default(), "{value}");
    }
}
