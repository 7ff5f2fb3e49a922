//! A calibration of machines that differ in their last bits.

use super::{file, inputs, open, recipe};
use nesa_fingerprint::{Decision, Demand, agree};
use nesa_float::{
    Answer, Data, Graph, Limits, Tensor,
    calibrate::{CalibrateError, Machine, Native, Settings, calibrate},
    perturb::{Deviation, deviate},
};

/// Weights moved by a last bit stand for another order of summation: what a machine of another kind
/// does, in one process. The real ones are compared by `nesa float calibrate`.
struct Elsewhere(Graph);

impl Elsewhere {
    fn new(name: &str) -> Self {
        let near =
            deviate(&file(name), Deviation::LastBit, 1, &Limits::default()).expect("weights");
        Self(Graph::open_as(&near, Limits::default(), open(name).plan()).expect("runs"))
    }
}

impl Machine for Elsewhere {
    fn name(&self) -> String {
        "elsewhere".into()
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Answer, String> {
        self.0.run(inputs).map_err(|error| error.to_string())
    }
}

fn settings() -> Settings {
    Settings {
        recipe: recipe(),
        inputs: 160,
        margin_percent: 300,
        deviations: Deviation::USUAL.to_vec(),
        others: Vec::new(),
        limits: Limits::default(),
    }
}

#[test]
fn a_calibration_lets_replicas_agree_and_finds_the_one_that_deviates() {
    let mut machines: Vec<Box<dyn Machine>> =
        vec![Box::new(Native(open("encoder"))), Box::new(Elsewhere::new("encoder"))];
    let mut heard = Vec::new();
    let calibration =
        calibrate(&file("encoder"), &settings(), &mut machines, |n| heard.push(n)).expect("runs");
    assert_eq!(heard, (1..=160).collect::<Vec<_>>());
    calibration.check().expect("consistent");
    assert!(calibration.honest.output_ppb > 0, "the machines differ: {:?}", calibration.honest);
    let demand = Demand::default();
    calibration.meets(&demand).expect("good enough");

    let x = inputs(&open("encoder"), 9_999);
    let run = |mut graph: Graph| graph.run(&x).expect("runs");
    let mut elsewhere = Elsewhere::new("encoder");
    let honest = [run(open("encoder")), elsewhere.run(&x).expect("runs")];
    for deviation in [Deviation::Int8, Deviation::Bf16, Deviation::Swapped] {
        let other = deviate(&file("encoder"), deviation, 7, &Limits::default()).expect("weights");
        let plan = open("encoder").plan().clone();
        let liar = run(Graph::open_as(&other, Limits::default(), &plan).expect("runs"));
        let answers = [&honest[0], &liar, &honest[1]];
        let values = answers.map(Answer::values);
        let runs: Vec<_> = answers.iter().zip(&values).map(|(a, v)| Some(a.as_run(v))).collect();
        let decision = agree(&calibration, &demand, &runs);
        assert!(
            matches!(&decision, Decision::Agreed { members, .. } if members[..] == [0, 2]),
            "{}: {decision:?}",
            deviation.name()
        );
    }
    // Without saying whose plan it is, a deviating model is of another plan, and in no group.
    let other = deviate(&file("encoder"), Deviation::Int8, 7, &Limits::default()).expect("weights");
    let own = run(Graph::open(&other, Limits::default()).expect("runs"));
    assert_ne!(own.fingerprint.plan, calibration.plan);
}

#[test]
fn a_calibration_needs_two_machines_that_run_the_model() {
    let bytes = file("mlp");
    let mut alone: Vec<Box<dyn Machine>> = vec![Box::new(Native(open("mlp")))];
    let error = calibrate(&bytes, &settings(), &mut alone, |_| ()).expect_err("alone");
    assert!(matches!(error, CalibrateError::Machines { got: 1 }));
    let mut other: Vec<Box<dyn Machine>> =
        vec![Box::new(Native(open("mlp"))), Box::new(Native(open("cnn")))];
    let error = calibrate(&bytes, &settings(), &mut other, |_| ()).expect_err("another model");
    assert!(matches!(error, CalibrateError::Machine { .. }), "{error}");
    let wrong = Tensor::new("x", &[1, 32], Data::F32(vec![0.0; 32])).expect("whole");
    assert!(Native(open("cnn")).run(&[wrong]).is_err());
}
