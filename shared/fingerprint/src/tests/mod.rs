//! Tests, attacks among them, on a small network that two "machines" sum up in different orders.

mod agreement;
mod codec;
mod exchange;
mod rates;
mod sketches;

use crate::{
    Calibration, Class, Demand, Fingerprint, Rate, Run, Sketch, Statistics, output_difference,
};
use nesa_primitives::{Hash, Text};

pub(crate) const K: usize = 64;
const WIDTH: usize = 96;
const LAYERS: usize = 4;

/// Reproducible numbers between -1 and 1.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// How a machine adds up.
#[derive(Clone, Copy)]
pub(crate) enum Machine {
    Forward,
    Lanes,
}

/// Layers of `[WIDTH, WIDTH]` with a rectifier between them.
#[derive(Clone)]
pub(crate) struct Network(Vec<Vec<f32>>);

/// A run that owns what [`Run`] borrows.
pub(crate) struct Ran {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) output: Vec<f32>,
}

impl Ran {
    pub(crate) fn as_run(&self) -> Run<'_> {
        Run { fingerprint: &self.fingerprint, output: &self.output }
    }
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        let scale = (3.0 / WIDTH as f32).sqrt();
        let layer = |_| numbers.take(WIDTH * WIDTH).into_iter().map(|v| v * scale).collect();
        Self((0..LAYERS).map(layer).collect())
    }

    pub(crate) fn map(&self, f: impl Fn(f32, f32) -> f32) -> Self {
        let layer = |layer: &Vec<f32>| {
            let largest = layer.iter().fold(0f32, |m, v| m.max(v.abs()));
            layer.iter().map(|&v| f(v, largest)).collect()
        };
        Self(self.0.iter().map(layer).collect())
    }

    pub(crate) fn int8(&self) -> Self {
        self.map(|v, largest| (v / largest * 127.0).round() * largest / 127.0)
    }

    pub(crate) fn bf16(&self) -> Self {
        self.map(|v, _| f32::from_bits((v.to_bits() + 0x8000) & 0xffff_0000))
    }

    pub(crate) fn run(&self, input: &[f32], machine: Machine) -> Ran {
        let (mut x, mut sketches) = (input.to_vec(), Vec::new());
        for (i, layer) in self.0.iter().enumerate() {
            let dot = |row: &[f32]| match machine {
                Machine::Forward => row.iter().zip(&x).fold(0f32, |s, (w, x)| s + w * x),
                Machine::Lanes => {
                    let mut lanes = [0f32; 8];
                    for (i, (w, x)) in row.iter().zip(&x).enumerate() {
                        lanes[i % 8] = w.mul_add(*x, lanes[i % 8]);
                    }
                    lanes.iter().sum()
                }
            };
            let y: Vec<f32> = layer.chunks(WIDTH).map(dot).collect();
            sketches.push(Sketch::of(&y, K).expect("small"));
            let last = i + 1 == LAYERS;
            x = y.into_iter().map(|v| if last { v } else { v.max(0.0) + 0.01 * v }).collect();
        }
        sketches.push(Sketch::of(&x, K).expect("small"));
        Ran { fingerprint: Fingerprint { plan: plan(), sketches }, output: x }
    }
}

pub(crate) fn plan() -> Hash {
    Hash([7; 32])
}

pub(crate) fn input(seed: u64) -> Vec<f32> {
    Numbers::new(seed + 1_000_000).take(WIDTH)
}

pub(crate) fn distance(a: &Ran, b: &Ran) -> Statistics {
    a.as_run().distance(&b.as_run())
}

fn text<const N: usize>(words: &str) -> Text<N> {
    Text::new(words).expect("short")
}

/// Thresholds fitted on 40 inputs, rates measured on 160 others.
pub(crate) fn calibrate() -> Calibration {
    let network = Network::new(1);
    let classes = [
        ("int8 weights", network.int8()),
        ("bf16 weights", network.bf16()),
        ("swapped model", Network::new(2)),
    ];
    let honest_of = |seed| {
        let input = input(seed);
        [network.run(&input, Machine::Forward), network.run(&input, Machine::Lanes)]
    };
    let mut honest = Statistics::default();
    for seed in 0..40 {
        let [a, b] = honest_of(seed);
        honest = honest.max(distance(&a, &b));
    }
    let thresholds = Calibration::fit(honest, 200);
    let mut false_positive = Rate::default();
    let mut tried: Vec<Class> = classes
        .iter()
        .map(|(name, _)| Class {
            name: text(name),
            nearest: Statistics::APART,
            false_negative: Rate::default(),
        })
        .collect();
    for seed in 100..260 {
        let [a, b] = honest_of(seed);
        false_positive.count(!distance(&a, &b).within(&thresholds));
        for ((_, other), class) in classes.iter().zip(&mut tried) {
            let other = other.run(&input(seed), Machine::Lanes);
            let each = [distance(&a, &other), distance(&b, &other)];
            class.nearest = each.iter().fold(class.nearest, |n, d| n.min(*d));
            class.false_negative.count(each.iter().any(|d| d.within(&thresholds)));
        }
    }
    Calibration {
        model: Hash([3; 32]),
        plan: plan(),
        engine: text("a test"),
        platforms: vec![text("forward"), text("lanes")],
        inputs: text("uniform"),
        fitted: 40,
        honest,
        margin_percent: 200,
        thresholds,
        false_positive,
        classes: tried,
    }
}

#[test]
fn the_calibration_of_a_small_network_meets_the_usual_demand() {
    let calibration = calibrate();
    calibration.check().expect("consistent");
    calibration.meets(&Demand::default()).expect("good enough");
    // Summing in another order does move bits; otherwise this would show nothing.
    assert!(calibration.honest.output_ppb > 0);
    let bf16 = &calibration.classes[1];
    assert_eq!(bf16.false_negative.errors, 0, "bf16 weights: {bf16:?}");
}

#[test]
fn outputs_are_compared_in_full() {
    let a = [1.0, -2.0, 0.5];
    assert_eq!(output_difference(&a, &a), 0);
    assert_eq!(output_difference(&a, &[1.0, -2.0, 0.5 + 1.0 / 1024.0]), 488_281);
    assert_eq!(output_difference(&a, &a[..2]), 2_000_000_000);
    assert_eq!(output_difference(&[f32::NAN], &[1.0]), 2_000_000_000);
    assert_eq!(output_difference(&[f32::NAN], &[-f32::NAN]), 0);
    assert_eq!(output_difference(&[f32::INFINITY], &[f32::INFINITY]), 0);
    assert_eq!(output_difference(&[f32::INFINITY], &[f32::NEG_INFINITY]), 2_000_000_000);
    assert_eq!(output_difference(&[0.0], &[-0.0]), 0);
    assert_eq!(output_difference(&[f32::MAX], &[f32::MIN]), 2_000_000_000);
    assert_eq!(output_difference(&[0.0], &[1e-45]), 1_000_000_000);
    assert_eq!(output_difference(&[], &[]), 0);
}
