//! Models that pretend to be another.

use super::{MODELS, file, inputs, open};
use nesa_fingerprint::{FLOOR, Statistics};
use nesa_float::{
    Graph, Limits, model_digest,
    perturb::{Deviation, deviate},
};

#[test]
fn quantised_and_swapped_models_are_beyond_the_least_thresholds() {
    for name in MODELS {
        let bytes = file(name);
        let mut graph = open(name);
        // The last two show what passes: they are not told apart, nor promised to be.
        for deviation in &Deviation::USUAL[..6] {
            let deviation = *deviation;
            let other = deviate(&bytes, deviation, 1, &Limits::default()).expect("has weights");
            assert_ne!(model_digest(&other), model_digest(&bytes));
            // A replica that pretends taps where the real model is tapped.
            let mut other = Graph::open_as(&other, Limits::default(), graph.plan()).expect("runs");
            for seed in 0..4 {
                let x = inputs(&graph, seed);
                let (a, b) = (graph.run(&x).expect("runs"), other.run(&x).expect("runs"));
                let (left, right) = (a.values(), b.values());
                let distance = a.as_run(&left).distance(&b.as_run(&right));
                assert!(!distance.within(&FLOOR), "{name}, {}: {distance:?}", deviation.name());
            }
        }
    }
}

#[test]
fn a_run_on_another_input_is_beyond_them_too() {
    for name in MODELS {
        let mut graph = open(name);
        for seed in 0..10 {
            let (x, y) = (inputs(&graph, seed), inputs(&graph, seed + 100));
            let (a, b) = (graph.run(&x).expect("runs"), graph.run(&y).expect("runs"));
            let (left, right) = (a.values(), b.values());
            let distance = a.as_run(&left).distance(&b.as_run(&right));
            assert!(!distance.within(&FLOOR), "{name}: {distance:?}");
            assert_ne!(distance, Statistics::default());
        }
    }
}

#[test]
fn deviations_are_reproducible_and_a_model_without_weights_has_none() {
    let bytes = file("mlp");
    for deviation in Deviation::USUAL {
        let limits = Limits::default();
        let a = deviate(&bytes, deviation, 1, &limits).expect("has weights");
        assert_eq!(a, deviate(&bytes, deviation, 1, &limits).expect("has weights"));
        let random = matches!(deviation, Deviation::Swapped | Deviation::Moved { .. });
        let b = deviate(&bytes, deviation, 2, &limits).expect("has weights");
        assert_eq!(a != b, random, "{}", deviation.name());
    }
}
