//! Every fast element-wise operation equals its plain definition, for ordinary values, for the
//! extremes, and where a result leaves the range the fast path hopes for.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod paths;

use nesa_kernels::ops::{self, NORM_LIMIT, RESIDUAL_LIMIT, Requantize, RowScale, plain};
use paths::on_every_path;
use proptest::prelude::*;

/// Values of up to `bits` bits and sign, with the extremes of that range among them.
fn row(len: usize, bits: u32) -> impl Strategy<Value = Vec<i32>> {
    let top = ((1i64 << bits) - 1) as i32;
    let value = prop_oneof![6 => -top..=top, 1 => Just(top), 1 => Just(-top), 1 => Just(0)];
    prop::collection::vec(value, len)
}

/// As [`row`] up to 31 bits, and the most negative value too.
fn any_row(len: usize) -> impl Strategy<Value = Vec<i32>> {
    (1u32..=31, any::<bool>()).prop_flat_map(move |(bits, lowest)| {
        row(len, bits).prop_map(move |mut row| {
            if lowest && let Some(first) = row.first_mut() {
                *first = i32::MIN;
            }
            row
        })
    })
}

/// Positive parameters below 2^31, the largest among them.
fn multipliers(len: usize) -> impl Strategy<Value = Vec<u32>> {
    (1u32..=31).prop_flat_map(move |bits| {
        let top = ((1u64 << bits) - 1) as u32;
        prop::collection::vec(prop_oneof![4 => 0..=top, 1 => Just(top)], len)
    })
}

fn scale() -> impl Strategy<Value = RowScale> {
    let mantissa = prop_oneof![Just(1u32 << 30), Just((1 << 31) - 1), (1u32 << 30)..1 << 31];
    (mantissa, 0u32..=30).prop_map(|(mantissa, exponent)| RowScale { mantissa, exponent })
}

const LENGTHS: std::ops::Range<usize> = 0..70;

proptest! {
    #[test]
    fn quantising(row in LENGTHS.prop_flat_map(any_row), q_max in 1u32..1 << 15) {
        on_every_path(|| {
            let (mut expected, mut got) = (vec![7; row.len()], vec![8; row.len()]);
            let scale = plain::quantize_row(&row, q_max, &mut expected);
            prop_assert_eq!(ops::quantize_row(&row, q_max, &mut got), scale);
            prop_assert_eq!(got, expected);
            Ok(())
        })?;
    }

    #[test]
    fn smoothing(
        (row, factor) in LENGTHS.prop_flat_map(|n| {
            (any_row(n), prop::collection::vec(any::<u16>(), n))
        }),
    ) {
        on_every_path(|| {
            let (mut expected, mut got) = (row.clone(), row.clone());
            plain::smooth_row(&mut expected, &factor);
            ops::smooth_row(&mut got, &factor);
            prop_assert_eq!(got, expected);
            Ok(())
        })?;
    }

    #[test]
    fn requantising(
        (y, multiplier, bias) in LENGTHS.prop_flat_map(|n| (any_row(n), multipliers(n), any_row(n))),
        scale in scale(),
        shift in 32u32..=63,
        limit in prop_oneof![
            Just(ops::QUERY_KEY_LIMIT), Just(ops::VALUE_LIMIT), Just(RESIDUAL_LIMIT), Just(ops::GELU_LIMIT),
        ],
    ) {
        on_every_path(|| {
            let to = Requantize { multiplier: &multiplier, shift, bias: &bias, limit };
            let (mut expected, mut got) = (vec![7; y.len()], vec![8; y.len()]);
            plain::requantize_row(&y, scale, to, &mut expected);
            ops::requantize_row(&y, scale, to, &mut got);
            prop_assert_eq!(got, expected);
            Ok(())
        })?;
    }

    #[test]
    fn normalising(
        (h, gain, bias) in LENGTHS.prop_flat_map(|n| {
            ((1u32..=25).prop_flat_map(move |bits| row(n, bits)), any_row(n), any_row(n))
        }),
        epsilon in any::<u32>(),
        shift in 1u32..=62,
    ) {
        on_every_path(|| {
            let gain: Vec<i32> = gain.iter().map(|g| (*g).max(-i32::MAX)).collect();
            let (mut expected, mut got) = (h.clone(), h.clone());
            plain::layer_norm_row(&mut expected, epsilon.into(), &gain, shift, &bias);
            ops::layer_norm_row(&mut got, epsilon.into(), &gain, shift, &bias);
            prop_assert!(got.iter().all(|v| v.abs() <= NORM_LIMIT));
            prop_assert_eq!(got, expected);
            Ok(())
        })?;
    }

    #[test]
    fn gelu(u in LENGTHS.prop_flat_map(any_row), table in prop::collection::vec(any::<u16>(), 0..5000)) {
        on_every_path(|| {
            let (mut expected, mut got) = (u.clone(), u.clone());
            plain::gelu_row(&mut expected, &table);
            ops::gelu_row(&mut got, &table);
            prop_assert_eq!(got, expected);
            Ok(())
        })?;
    }

    #[test]
    fn softmax(
        scores in (0usize..200).prop_flat_map(any_row),
        multiplier in 0u32..1 << 31,
        table in prop::collection::vec(0u16..=32767, 0..300),
        valid: bool,
    ) {
        on_every_path(|| {
            let mut table = table.clone();
            if valid {
                // What a model's table must be; others must still give equal weights.
                table.sort_unstable_by(|a, b| b.cmp(a));
                if let Some(first) = table.first_mut() {
                    *first = 32767;
                }
            }
            let (mut expected, mut got) = (vec![0; scores.len()], vec![0; scores.len()]);
            plain::softmax_row(&scores, multiplier, &table, &mut expected);
            ops::softmax_row(&scores, multiplier, &table, &mut got);
            prop_assert_eq!(got, expected);
            Ok(())
        })?;
    }

    /// Without a bias a biased row is a plain one but for the bits that are dropped, and a bias that
    /// outweighs every score decides alone.
    #[test]
    fn biased_softmax(
        scores in (1usize..60).prop_flat_map(any_row),
        multiplier in 0u32..1 << 31,
        at in 0usize..60,
    ) {
        let table: Vec<u16> = (0..64).map(|i| (63 - i) * 520).collect();
        let n = scores.len();
        let (mut expected, mut got) = (vec![0; n], vec![0; n]);
        // 128-bit integers, straight from the definition.
        let mut bias = vec![-7; n];
        bias[at % n] = i32::MAX;
        for bias in [vec![0; n], bias] {
            let z = |j: usize| {
                ((i128::from(scores[j]) * i128::from(multiplier)) >> 28) + i128::from(bias[j])
            };
            let max = (0..n).map(z).max().unwrap();
            let e: Vec<i128> =
                (0..n).map(|j| table[((max - z(j)) >> 12).min(63) as usize].into()).collect();
            let r = (32767i128 << 31) / e.iter().sum::<i128>();
            for (p, e) in expected.iter_mut().zip(&e) {
                *p = ((e * r + (1 << 30)) >> 31) as i16;
            }
            ops::softmax_biased_row(&scores, multiplier, &bias, &table, &mut got);
            prop_assert_eq!(&got, &expected);
        }
    }

    #[test]
    fn adding_embedding_and_narrowing(
        (a, b) in LENGTHS.prop_flat_map(|n| (any_row(n), any_row(n))),
        scale in 0u32..1 << 31,
        shift in 1u32..=62,
    ) {
        on_every_path(|| {
            let (mut expected, mut got) = (a.clone(), a.clone());
            plain::add_residual(&mut expected, &b);
            ops::add_residual(&mut got, &b);
            prop_assert_eq!(&got, &expected);

            plain::round_context(&mut expected);
            ops::round_context(&mut got);
            prop_assert_eq!(&got, &expected);

            let words: Vec<i8> = a.iter().map(|&v| v as i8).collect();
            plain::embed_row(&words, scale, shift, &b, &mut expected);
            ops::embed_row(&words, scale, shift, &b, &mut got);
            prop_assert_eq!(&got, &expected);

            let mut narrow = vec![0; b.len()];
            ops::narrow_row(&b, &mut narrow);
            prop_assert!(narrow.iter().zip(&b).all(|(&n, &b)| n == b as i16));
            Ok(())
        })?;
    }
}
