//! Freivalds: why the field is 61 bits wide, and that trying again does not help.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{Lane, Stage, field, freivalds, preparation::Preparation};
use nesa_primitives::Hash;

const P31: i64 = (1 << 31) - 1;

/// A stage whose results span the whole of 32 bits.
fn wide() -> (Lane, Vec<i8>) {
    let stage = Stage { id: 0, k: 1024, n: 2, input_bits: 15, row_bound_bits: 31 };
    (Lane::new(vec![stage]).unwrap(), vec![127i8; 2048])
}

#[test]
fn a_forgery_by_a_multiple_of_a_31_bit_prime_is_caught() {
    let (lane, w) = wide();
    let mut rng = StdRng::seed_from_u64(1);
    // y = 127·x summed: pick x so that y is just above −2^30, and y + p is still in range.
    let x: Vec<i32> = (0..1024).map(|_| -(1 << 13)).collect();
    let y = [-127 * 1024 * (1 << 13); 2];
    let forged: Vec<i32> = y.iter().map(|&v| (i64::from(v) + P31) as i32).collect();
    assert!(forged.iter().all(|&v| v > 0));
    for _ in 0..100 {
        let preparation = Preparation::from_weights(Hash::ZERO, &lane, |_| &w, &mut rng).unwrap();
        let secrets = preparation.stage(0).unwrap();
        assert!(bool::from(freivalds::accepts(secrets, &x, &y)));
        assert!(!bool::from(freivalds::accepts(secrets, &x, &forged)));
        // A check modulo 2^31 − 1 accepts this forgery for every r.
        let r: Vec<i64> = (0..2).map(|_| rng.random_range(0..P31)).collect();
        let dot = |y: &[i32]| -> i64 {
            let sum: i128 = r.iter().zip(y).map(|(&r, &y)| i128::from(r) * i128::from(y)).sum();
            sum.rem_euclid(i128::from(P31)) as i64
        };
        assert_eq!(dot(&y), dot(&forged));
    }
}

/// A forger who learns the outcome of each attempt (one bit) and has 20,000 of them, structured so
/// that a check with small or structured r, or one that merges rows without weights, would fall.
#[test]
fn adaptive_attempts_do_not_pass() {
    let stage = Stage { id: 0, k: 8, n: 12, input_bits: 12, row_bound_bits: 22 };
    let lane = Lane::new(vec![stage]).unwrap();
    let mut rng = StdRng::seed_from_u64(2);
    let w: Vec<i8> = (0..96).map(|_| rng.random()).collect();
    let preparation = Preparation::from_weights(Hash::ZERO, &lane, |_| &w, &mut rng).unwrap();
    let secrets = preparation.stage(0).unwrap();
    let x: Vec<i32> = (0..16).map(|_| rng.random_range(-2047..=2047)).collect();
    let mut y = [0; 24];
    nesa_kernels::matmul_i8(&w, &x, 12, 8, 2, &mut y);
    let mut last = vec![0i32; 24];
    for attempt in 0..20_000u32 {
        let mut delta = vec![0i32; 24];
        let (i, j) = (rng.random_range(0..24), rng.random_range(0..24));
        match attempt % 5 {
            0 => delta[i] = 1,
            1 => (delta[i], delta[j]) = (1, -1),
            // The same error in both rows, with opposite signs: their sum cancels.
            2 => (delta[i % 12], delta[i % 12 + 12]) = (7, -7),
            // A multiple of a row of W: cancels against a wrong x.
            3 => delta[..8].iter_mut().zip(&w).for_each(|(d, &w)| *d = i32::from(w)),
            // Close to the last one that failed.
            _ => {
                delta.clone_from(&last);
                delta[i] ^= 1 << rng.random_range(0..10);
            }
        }
        if delta.iter().all(|&d| d == 0) {
            continue;
        }
        let forged: Vec<i32> = y.iter().zip(&delta).map(|(&y, &d)| y.wrapping_add(d)).collect();
        assert!(!bool::from(freivalds::accepts(secrets, &x, &forged)));
        last = delta;
    }
}

/// Out of range by one is out of range, even where the inner product would hold: with a zero row
/// of W, r's coordinate is all that stands between.
#[test]
fn lengths_and_ranges_are_checked_beside_the_product() {
    let stage = Stage { id: 0, k: 2, n: 2, input_bits: 8, row_bound_bits: 15 };
    let lane = Lane::new(vec![stage]).unwrap();
    let mut rng = StdRng::seed_from_u64(3);
    let w = [1i8, 1, 0, 0];
    let preparation = Preparation::from_weights(Hash::ZERO, &lane, |_| &w, &mut rng).unwrap();
    let secrets = preparation.stage(0).unwrap();
    let good = |x: &[i32], y: &[i32]| bool::from(freivalds::accepts(secrets, x, y));
    assert!(good(&[3, 4], &[7, 0]));
    assert!(!good(&[3, 4], &[7, 1]));
    assert!(!good(&[3, 4], &[7]));
    assert!(!good(&[3, 4], &[]));
    assert!(!good(&[3], &[7, 0]));
    // Not the range of an honest answer: x itself is beyond the model's.
    assert!(!good(&[200, 200], &[400, 0]));
}

#[test]
fn the_field_is_the_kernels_field() {
    assert_eq!(field::P, nesa_kernels::P61);
}
