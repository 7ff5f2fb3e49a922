//! What a sketch holds, and what it tells apart.

use super::{K, Machine, Network, calibrate, distance, input};
use crate::{MAX_ENTRIES, Sketch, SketchError, Statistics, Value};

fn indices(sketch: &Sketch) -> Vec<u32> {
    sketch.entries().iter().map(|&(index, _)| index).collect()
}

#[test]
fn the_largest_magnitudes_are_taken_and_of_ties_the_first() {
    let sketch = Sketch::of(&[1.0, -3.0, 2.0, 3.0, 2.0, 2.0], 3).expect("small");
    assert_eq!(indices(&sketch), [1, 2, 3]);
    assert!(sketch.entries()[0].1.negative());
}

#[test]
fn magnitudes_that_differ_below_the_kept_bits_are_ordered_by_all_bits() {
    let larger = f32::from_bits(1.0f32.to_bits() + 1);
    let sketch = Sketch::of(&[1.0, larger], 1).expect("small");
    assert_eq!(indices(&sketch), [1]);
}

#[test]
fn zeros_and_subnormal_numbers_are_no_values() {
    let tiny = f32::from_bits(1);
    let sketch = Sketch::of(&[0.0, -0.0, tiny, -tiny, 1.0], 4).expect("small");
    assert_eq!(indices(&sketch), [4]);
    let zeros = Sketch::of(&[0.0; 9], 4).expect("small");
    assert_eq!(Statistics::of(&zeros, &zeros), Statistics::default());
    // Something where there was nothing is as far as can be.
    assert_eq!(
        Statistics::of(&zeros, &Sketch::of(&[1.0; 9], 4).expect("small")).missing_ppm,
        1_000_000
    );
}

#[test]
fn every_nan_is_one_value_and_larger_than_infinity() {
    let payload = f32::from_bits(0xffc0_1234);
    let a = Sketch::of(&[f32::INFINITY, payload, 1.0], 2).expect("small");
    let b = Sketch::of(&[f32::INFINITY, f32::NAN, 1.0], 2).expect("small");
    assert_eq!(a, b);
    assert_eq!(a.entries()[1].1, Value::NAN);
    let one = Sketch::of(&[f32::INFINITY, payload, 1.0], 1).expect("small");
    assert_eq!(indices(&one), [1]);
    // A NaN is no infinity: their exponents are equal, their mantissas as far apart as can be.
    let infinity = Sketch::of(&[f32::INFINITY], 1).expect("small");
    let nan = Sketch::of(&[f32::NAN], 1).expect("small");
    assert_eq!(Statistics::of(&infinity, &nan).median_milli, 32_767_000);
}

#[test]
fn sizes_without_a_sketch_are_refused() {
    assert_eq!(Sketch::of(&[1.0], 0), Err(SketchError::Entries { got: 0 }));
    let got = MAX_ENTRIES + 1;
    assert_eq!(Sketch::of(&[1.0], got), Err(SketchError::Entries { got }));
    assert!(Sketch::of(&[], 1).expect("empty").entries().is_empty());
}

#[test]
fn a_run_on_another_input_is_told_apart() {
    let (network, thresholds) = (Network::new(1), calibrate().thresholds);
    for seed in 500..600 {
        let a = network.run(&input(seed), Machine::Forward);
        let b = network.run(&input(seed + 1000), Machine::Lanes);
        assert!(!distance(&a, &b).within(&thresholds), "input {seed}");
        // One of 96 input values moved by a hundredth is another input too.
        let mut near = input(seed);
        near[5] += 0.01;
        let c = network.run(&near, Machine::Forward);
        assert!(!distance(&a, &c).within(&thresholds), "near input {seed}");
    }
}

#[test]
fn a_truncated_a_perturbed_and_a_borrowed_fingerprint_are_told_apart() {
    let (network, thresholds) = (Network::new(1), calibrate().thresholds);
    let honest = network.run(&input(900), Machine::Forward);
    let mut other = network.run(&input(900), Machine::Lanes);
    assert!(distance(&honest, &other).within(&thresholds));
    // Half of a sketch.
    let whole = other.fingerprint.sketches[2].clone();
    let mut half = vec![0f32; whole.elements() as usize];
    half.iter_mut().enumerate().for_each(|(i, v)| *v = if i % 2 == 0 { 1.0 } else { 0.0 });
    other.fingerprint.sketches[2] = Sketch::of(&half, K).expect("small");
    assert!(!distance(&honest, &other).within(&thresholds));
    // A sketch left out.
    other.fingerprint.sketches[2] = whole;
    let last = other.fingerprint.sketches.pop().expect("some");
    assert_eq!(distance(&honest, &other), Statistics::APART);
    other.fingerprint.sketches.push(last);
    assert!(distance(&honest, &other).within(&thresholds));
    // An output that was changed after the run.
    other.output[3] *= 1.001;
    assert!(!distance(&honest, &other).within(&thresholds));
    // A fingerprint of another run with the right output.
    let mut borrowed = network.run(&input(901), Machine::Lanes);
    borrowed.output = honest.output.clone();
    assert!(!distance(&honest, &borrowed).within(&thresholds));
}
