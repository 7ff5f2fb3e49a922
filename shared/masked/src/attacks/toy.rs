//! A made-up model small enough to check by hand, and its run.

use std::collections::BTreeMap;

use nesa_kernels::Weight;
use nesa_primitives::Hash;
use rand::rngs::StdRng;

use crate::{Lane, Run, RunStep, Stage, preparation::Preparation, server::Weights};

pub(super) const MODEL: Hash = Hash([3; 32]);

/// Three stages of different shapes, as `[n, k]` matrices.
pub(super) struct Toy {
    pub(super) lane: Lane,
    weights: BTreeMap<u16, Vec<i8>>,
}

impl Weights for Toy {
    fn weights(&self, stage: u16) -> Weight<'_> {
        Weight::Bytes(self.weights.get(&stage).map_or(&[], |w| w))
    }
}

impl Toy {
    pub(super) fn new() -> Self {
        let shape = |id, k, n| Stage { id, k, n, input_bits: 12, row_bound_bits: 22 };
        let lane = Lane::new(vec![shape(0, 6, 9), shape(7, 9, 4), shape(3, 4, 6)]).unwrap();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8 as i8
        };
        let weights = lane
            .stages()
            .iter()
            .map(|s| (s.id, (0..s.n * s.k).map(|_| next()).collect()))
            .collect();
        Self { lane, weights }
    }

    pub(super) fn matrix(&self, stage: u16) -> &[i8] {
        &self.weights[&stage]
    }

    pub(super) fn prepare(&self, rng: &mut StdRng) -> Preparation {
        Preparation::from_weights(MODEL, &self.lane, |s| self.matrix(s), rng).unwrap()
    }

    /// What a prompt must give.
    pub(super) fn expected(&self, prompt: &[i32]) -> Vec<i32> {
        let mut run = ToyRun::new(self, prompt);
        loop {
            match run.step() {
                RunStep::Done(y) => return y,
                RunStep::Linear { stage, x } => {
                    let (_, s) = self.lane.find(stage).unwrap();
                    let (n, k) = (s.n as usize, s.k as usize);
                    let rows = x.len() / k;
                    let mut y = vec![0; rows * n];
                    nesa_kernels::matmul_i8(self.matrix(stage), &x, n, k, rows, &mut y);
                    run.resume(y);
                }
            }
        }
    }
}

/// A run whose "tokens" are numbers: stages with a shift and a clamp between them.
pub(super) struct ToyRun {
    stages: Vec<(u16, usize)>,
    at: usize,
    x: Vec<i32>,
}

impl ToyRun {
    pub(super) fn new(toy: &Toy, prompt: &[i32]) -> Self {
        let stages: Vec<(u16, usize)> =
            toy.lane.stages().iter().map(|s| (s.id, s.n as usize)).collect();
        let x = prompt
            .iter()
            .flat_map(|&t| (0..6).map(move |i| (t.wrapping_mul(31 + i) % 2047).clamp(-2047, 2047)))
            .collect();
        Self { stages, at: 0, x }
    }
}

impl Run for ToyRun {
    type Output = Vec<i32>;

    fn step(&mut self) -> RunStep<Vec<i32>> {
        match self.stages.get(self.at) {
            Some(&(stage, _)) => RunStep::Linear { stage, x: self.x.clone() },
            None => RunStep::Done(self.x.clone()),
        }
    }

    fn resume(&mut self, y: Vec<i32>) -> bool {
        self.at += 1;
        self.x = y.into_iter().map(|v| (v >> 7).clamp(-2047, 2047)).collect();
        true
    }
}
