//! One encoding per value, within limits.

use super::{Machine, Network, calibrate, input};
use crate::{Calibration, Fingerprint, Limits, MAX_SKETCHES, Sketch, Statistics};
use commonware_codec::Encode as _;
use nesa_primitives::{Hash, decode_exact};
use proptest::{collection::vec, prelude::*};

/// Every bit pattern, special ones often.
fn float() -> impl Strategy<Value = f32> {
    let special =
        prop::sample::select(vec![0.0, -0.0, f32::NAN, -f32::NAN, f32::INFINITY, 1e-45, 1.0, -1.0]);
    prop_oneof![any::<u32>().prop_map(f32::from_bits), special]
}

proptest! {
    #[test]
    fn sketches_round_trip(values in vec(float(), 0..300), k in 1..80usize) {
        let sketch = Sketch::of(&values, k).expect("small");
        prop_assert!(sketch.entries().len() <= k);
        prop_assert!(sketch.entries().is_sorted_by_key(|e| e.0));
        let bytes = sketch.encode();
        prop_assert_eq!(&decode_exact::<Sketch>(&bytes, &Limits::default()).expect("own"), &sketch);
        // The order of the same values elsewhere does not matter to what is found far away.
        prop_assert_eq!(Statistics::of(&sketch, &sketch), Statistics::default());
        if !bytes.is_empty() {
            prop_assert!(decode_exact::<Sketch>(&bytes[..bytes.len() - 1], &Limits::default()).is_err());
        }
        let few = Limits { elements: values.len().saturating_sub(1) as u32, entries: 1024 };
        if !values.is_empty() {
            prop_assert!(decode_exact::<Sketch>(&bytes, &few).is_err());
        }
        if let Some(entries) = sketch.entries().len().checked_sub(1) {
            let few = Limits { entries: entries as u16, ..Limits::default() };
            prop_assert!(decode_exact::<Sketch>(&bytes, &few).is_err());
        }
    }

    #[test]
    fn any_bytes_decode_to_one_value_or_none(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(sketch) = decode_exact::<Sketch>(&bytes, &Limits::default()) {
            prop_assert_eq!(&sketch.encode()[..], &bytes[..]);
            prop_assert!(sketch.entries().iter().all(|e| e.0 < sketch.elements()));
        }
        let _ = decode_exact::<Fingerprint>(&bytes, &Limits::default());
        let _ = decode_exact::<Calibration>(&bytes, &());
    }

    #[test]
    fn the_sketch_is_that_of_a_full_sort(values in vec(float(), 0..200), k in 1..50usize) {
        let magnitude = |v: f32| if v.is_nan() { u32::MAX } else { v.abs().to_bits() };
        let mut order: Vec<usize> =
            (0..values.len()).filter(|&i| magnitude(values[i]) >= 1 << 23).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(magnitude(values[i])), i));
        order.truncate(k);
        order.sort_unstable();
        let sketch = Sketch::of(&values, k).expect("small");
        let got: Vec<usize> = sketch.entries().iter().map(|e| e.0 as usize).collect();
        prop_assert_eq!(got, order);
    }

    #[test]
    fn distance_does_not_depend_on_the_order(a in vec(float(), 40), b in vec(float(), 40)) {
        let (a, b) = (Sketch::of(&a, 16).expect("small"), Sketch::of(&b, 16).expect("small"));
        prop_assert_eq!(Statistics::of(&a, &b), Statistics::of(&b, &a));
        prop_assert!(Statistics::of(&a, &b).within(&Statistics::APART));
    }
}

#[test]
fn fingerprints_and_calibrations_round_trip() {
    let ran = Network::new(1).run(&input(1), Machine::Forward);
    let bytes = ran.fingerprint.encode();
    let again: Fingerprint = decode_exact(&bytes, &Limits::default()).expect("own");
    assert_eq!(again, ran.fingerprint);
    let many = vec![ran.fingerprint.sketches[0].clone(); MAX_SKETCHES + 1];
    let many = Fingerprint { plan: Hash::ZERO, sketches: many };
    assert!(decode_exact::<Fingerprint>(&many.encode(), &Limits::default()).is_err());
    let calibration = calibrate();
    let again: Calibration = decode_exact(&calibration.encode(), &()).expect("own");
    assert_eq!(again, calibration);
    let json = serde_json::to_string(&calibration).expect("plain");
    let again: Calibration = serde_json::from_str(&json).expect("own");
    assert_eq!(again.digest(), calibration.digest());
}

#[test]
fn values_that_no_number_has_are_refused() {
    // One element, one entry at place 0, a value with exponent 0; then a second NaN.
    for value in [[0x00, 0x12, 0x34], [0x7f, 0x80, 0x01], [0xff, 0xff, 0xff]] {
        let bytes = [&[1u8, 0, 1, 0][..], &value].concat();
        assert!(decode_exact::<Sketch>(&bytes, &Limits::default()).is_err(), "{value:?}");
    }
    let bytes = [1u8, 0, 1, 0, 0x7f, 0xff, 0xff];
    assert!(decode_exact::<Sketch>(&bytes, &Limits::default()).is_ok());
}

#[test]
fn an_entry_takes_four_to_five_bytes() {
    let values = super::Numbers::new(4).take(128 * 768);
    let sketch = Sketch::of(&values, 128).expect("small");
    let bytes = sketch.encode().len();
    assert!((512..=700).contains(&bytes), "{bytes} bytes");
}
