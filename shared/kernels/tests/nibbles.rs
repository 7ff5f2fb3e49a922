//! Unpacking four-bit weights equals its definition on every path, and undoes packing.

mod paths;

use nesa_kernels::nibbles::{GROUP, MAX_MULTIPLIER, pack, packed_bytes, plain, unpack};
use nesa_kernels::{matmul_i8, reference};
use paths::on_every_path;
use proptest::prelude::*;

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
        let value = |i: u64| (seed.wrapping_mul(2 * i + 1) >> 40) as i32 % 2048;
        let x: Vec<i32> = (0..3 * k as u64).map(value).collect();
        let mut expected = vec![0; 3 * rows];
        reference::matmul_i8(&weights, &x, rows, k, 3, &mut expected);
        on_every_path(|| {
            let mut unpacked = vec![0i8; rows * k];
            unpack(&packed, k, &mut unpacked);
            let mut got = vec![0; 3 * rows];
            matmul_i8(&unpacked, &x, rows, k, 3, &mut got);
            prop_assert_eq!(&got, &expected);
            Ok(())
        })?;
    }
}
