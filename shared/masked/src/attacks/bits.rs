//! One flipped bit anywhere in a response is caught, signed or not.

use nesa_chain::Side;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::harness::{Fault, Scene};
use super::toy::Toy;
use crate::{freivalds, preparation::Preparation};

const PROMPT: &[i32] = &[3, 1, 4];

/// Damage on the way: every bit of one frame.
#[test]
fn every_bit_of_a_frame() {
    let honest = Scene::new().play(&[PROMPT]);
    let size = honest
        .trace
        .iter()
        .find_map(|s| match s {
            super::harness::Seen::Down(_, "product", size) => Some(*size),
            _ => None,
        })
        .unwrap();
    let expected = Toy::new().expected(PROMPT);
    // Every bit of the head and the signature, and every fifth of the values in between.
    let bits = (0..size * 8).filter(|b| *b < 160 || *b >= (size - 70) * 8 || b % 5 == 0);
    for (i, bit) in bits.enumerate() {
        let side = if i % 2 == 0 { Side::A } else { Side::B };
        let story = Scene::new().fault(side, 0, Fault::Frame { stage: 0, bit }).play(&[PROMPT]);
        assert_eq!(story.outputs, std::slice::from_ref(&expected), "bit {bit}");
        assert_eq!(story.rejected.len(), 1, "bit {bit}");
        assert_eq!(story.rejected[0].0.side, side);
    }
}

fn product(toy: &Toy, stage: usize, x: &[i32]) -> Vec<i32> {
    let s = toy.lane.stages()[stage];
    let rows = x.len() / s.k as usize;
    let mut y = vec![0; rows * s.n as usize];
    nesa_kernels::matmul_i8(toy.matrix(s.id), x, s.n as usize, s.k as usize, rows, &mut y);
    y
}

/// A liar signs what it likes: every bit of every value of a product, under one preparation, so
/// that the attempts are adaptive (the liar learns that each earlier one failed).
#[test]
fn every_bit_of_a_signed_product() {
    let toy = Toy::new();
    let mut rng = StdRng::seed_from_u64(3);
    let preparation: Preparation = toy.prepare(&mut rng);
    for (index, stage) in toy.lane.stages().iter().enumerate() {
        let secrets = preparation.stage(index).unwrap();
        let x: Vec<i32> = (0..stage.k * 16).map(|_| rng.random_range(-2047..=2047)).collect();
        let y = product(&toy, index, &x);
        assert!(bool::from(freivalds::accepts(secrets, &x, &y)));
        let shift = 32 - stage.share_bits();
        for i in 0..y.len() {
            for bit in 0..stage.share_bits() {
                let mut forged = y.clone();
                // As the client would see it: the sum mod 2^k, sign-extended.
                forged[i] = ((forged[i] ^ (1 << bit)) << shift) >> shift;
                assert!(!bool::from(freivalds::accepts(secrets, &x, &forged)));
            }
        }
    }
}

/// The same through whole queries, sampled.
#[test]
fn sampled_bits_of_signed_products_through_whole_queries() {
    let expected = Toy::new().expected(PROMPT);
    let mut rng = StdRng::seed_from_u64(4);
    for _ in 0..60 {
        let (stage, n) = [(0, 9), (7, 4), (3, 6)][rng.random_range(0..3)];
        let index = rng.random_range(0..n * 16);
        let bits = 1 << rng.random_range(0..23);
        let side = if rng.random() { Side::A } else { Side::B };
        let fault = Fault::Xor { stage, part: 0, index, bits };
        let story = Scene::new().fault(side, 0, fault).play(&[PROMPT]);
        assert_eq!(story.outputs, std::slice::from_ref(&expected));
        assert_eq!(story.rejected.len(), 1);
        assert_eq!(story.rejected[0].0.side, side);
    }
}
