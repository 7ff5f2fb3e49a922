#![no_main]
//! Bytes of a `nesa_fingerprint::Calibration`, and what it decides.

use commonware_codec::Encode as _;
use nesa_fingerprint::{Calibration, Demand};
use nesa_primitives::decode_exact;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(calibration) = decode_exact::<Calibration>(data, &()) {
        assert_eq!(calibration.encode(), data, "a value with two encodings");
        // Whatever was measured, judging it ends.
        let _ = (calibration.check(), calibration.meets(&Demand::default()));
    }
});
