//! Four-bit weights on every path: unpacking equals its definition and undoes packing, products with packed
//! rows equal the reference.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod paths;

use nesa_kernels::nibbles::{GROUP, MAX_MULTIPLIER, pack, packed_bytes, plain, unpack};
use nesa_kernels::{Weight, reference};
use paths::on_every_path;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

fn rows() -> impl Strategy<Value = (usize, usize, Vec<u8>)> {
    (0usize..9, 0usize..150).prop_flat_map(|(rows, k)| {
        (Just(rows), Just(k), prop::collection::vec(any::<u8>(), rows * packed_bytes(k)))
    })
}

proptest! {
    /// Every byte string is a valid row, so any will do.
    #[test]
    fn every_path_unpacks_alike((rows, k, packed) in rows()) {
        let mut expected = vec![77i8; rows * k];
        plain(&packed, k, &mut expected);
        on_every_path(|| {
            let mut got = vec![77i8; rows * k];
            unpack(&packed, k, &mut got);
            prop_assert_eq!(&got, &expected);
            Ok(())
        })?;
    }

    #[test]
    fn packing_keeps_every_weight(
        values in prop::collection::vec(-8i8..=7, 0..130),
        multipliers in prop::collection::vec(0..=MAX_MULTIPLIER, 5),
    ) {
        let packed = pack(&values, &multipliers);
        prop_assert_eq!(packed.len(), packed_bytes(values.len()));
        let mut got = vec![0i8; values.len()];
        plain(&packed, values.len(), &mut got);
        for (i, (&value, &got)) in values.iter().zip(&got).enumerate() {
            prop_assert_eq!(i32::from(got), i32::from(value) * i32::from(multipliers[i / GROUP]));
        }
    }

    /// The product with unpacked weights is that of the reference with their definition, on every path.
    #[test]
    fn products_of_packed_rows_equal_the_reference((rows, k, packed) in rows(), seed in any::<u64>()) {
        let mut weights = vec![0i8; rows * k];
        plain(&packed, k, &mut weights);
        let mut state = seed;
        // One digit to the base 256, two, three and more than sixteen bits.
        let bits = 64 - [8, 12, 16, 17][(seed % 4) as usize];
        let mut value = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state as i64 >> bits) as i32
        };
        for tokens in [0, 1, 2, 3, 9] {
            let x: Vec<i32> = (0..tokens * k).map(|_| value()).collect();
            on_every_path(|| equal(&packed, &weights, &x, [rows, k, tokens]))?;
        }
    }
}

/// Every product with packed rows is that of the reference with `weights`.
fn equal(packed: &[u8], weights: &[i8], x: &[i32], [n, k, tokens]: [usize; 3]) -> TestCaseResult {
    let weight = Weight::Nibbles(packed);
    prop_assert!(weight.holds(n, k));
    let (mut got, mut expected) = (vec![7; tokens * n], vec![0; tokens * n]);
    reference::matmul_i8(weights, x, n, k, tokens, &mut expected);
    weight.matmul_i8(x, n, k, tokens, &mut got);
    prop_assert_eq!(got, expected);

    let share: Vec<u32> = x.iter().map(|&x| (x as u32).wrapping_mul(0x9e37_79b9)).collect();
    let (mut got, mut expected) = (vec![7; tokens * n], vec![0; tokens * n]);
    reference::matmul_mask_u32(weights, &share, n, k, tokens, &mut expected);
    weight.matmul_mask_u32(&share, n, k, tokens, &mut got);
    prop_assert_eq!(got, expected);
    let (mut got, mut expected) = (vec![7; tokens * n], vec![0; tokens * n]);
    reference::matmul_full_i64(weights, &share, n, k, tokens, &mut expected);
    weight.matmul_full_i64(&share, n, k, tokens, &mut got);
    prop_assert_eq!(got, expected);

    // Some rows alone, and all of them as bytes.
    let (from, to) = (n / 3, n - n / 4);
    let part = weight.rows(from..to, k);
    prop_assert_eq!(&*part.bytes(k), &weights[from * k..to * k]);
    let pieces: Vec<i8> = weight.pieces(k).flat_map(|(_, rows)| rows.into_owned()).collect();
    prop_assert_eq!(&pieces[..], weights);
    Ok(())
}

/// Longer than a panel, more rows than are unpacked at a time, and every operand at its extremes, where sums
/// leave 32 bits and wrap.
#[test]
fn extremes_at_full_size() {
    for (k, n) in [(1536, 5), (1000, 70), (33, 131)] {
        for (value, multiplier) in [(-8, 15), (7, 15), (-8, 0), (7, 1), (-1, 9)] {
            let row = pack(&vec![value; k], &vec![multiplier; k.div_ceil(GROUP)]);
            let packed = row.repeat(n);
            let weights = vec![value * multiplier as i8; n * k];
            for x in [i32::from(i16::MIN), i16::MAX.into(), 32_639, 32_640, -128, 127, 128, -32_641]
            {
                for tokens in [1, 2, 5] {
                    let x = vec![x; tokens * k];
                    on_every_path(|| equal(&packed, &weights, &x, [n, k, tokens])).unwrap();
                }
            }
        }
    }
}

/// Bits behind the last column say nothing.
#[test]
fn what_lies_past_the_last_column_is_ignored() {
    for k in [1, 31, 33, 290] {
        let clean = pack(&vec![3; k], &vec![5; k.div_ceil(GROUP)]);
        let mut dirty = clean.clone();
        let groups = k.div_ceil(GROUP);
        for at in k % GROUP..GROUP {
            let byte = &mut dirty[(groups - 1) * 16 + at % 16];
            *byte |= if at < 16 { 0x0f } else { 0xf0 };
        }
        if groups % 2 == 1 {
            *dirty.last_mut().unwrap() |= 0xf0;
        }
        assert_ne!(clean, dirty);
        for tokens in [1, 4] {
            let x: Vec<i32> = (0..tokens * k).map(|i| i as i32 % 4001 - 2000).collect();
            on_every_path(|| equal(&dirty.repeat(3), &vec![15; 3 * k], &x, [3, k, tokens]))
                .unwrap();
        }
    }
}

#[test]
fn weights_of_another_shape_are_told_apart() {
    let packed = vec![0; 3 * packed_bytes(40)];
    let weight = Weight::Nibbles(&packed);
    assert!(weight.holds(3, 40));
    assert!(!weight.holds(3, 65) && !weight.holds(2, 40) && !weight.holds(usize::MAX, 40));
    assert!(!Weight::Bytes(&[1; 6]).holds(2, 2) && Weight::Bytes(&[1; 6]).holds(2, 3));
    let refused = std::panic::catch_unwind(|| weight.matmul_i8(&[0; 65], 3, 65, 1, &mut [0; 3]));
    assert!(refused.is_err());
}
