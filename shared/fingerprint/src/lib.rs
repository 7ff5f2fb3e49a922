//! Fingerprints of float inference: small sketches of the values inside a run, how far two of them are
//! apart, measured error rates, and agreement of replicas decided by those rates.
//!
//! ```text
//! values at a tap ─▶ Sketch (top k) ─┐
//! values at a tap ─▶ Sketch ─────────┼─▶ Fingerprint ─┐
//! outputs ─────────▶ Sketch ─────────┘                ├─▶ Statistics ─▶ Thresholds ─▶ apart or not
//!                                      of another run ┘                     ▲
//!                                                     Calibration (rates) ──┘──▶ Decision over replicas
//! ```
//!
//! Floats differ between machines in their last bits, so two honest runs are not equal; a run of
//! another model, of weights rounded to fewer bits, or on another input is farther away. How much
//! farther is measured, not assumed: nothing here decides without a [`Calibration`]. The idea and the
//! statistics are those of TOPLOC (Ong et al., *TOPLOC: A Locality Sensitive Hashing Scheme for
//! Trustless Verifiable Inference*, arXiv 2501.16007); what is done differently, and why, is said at
//! [`Sketch`]. `docs/float-lane.md` says what this is evidence of, and what it is not.
//!
//! All is pure: no I/O, no clock, no randomness. Statistics and thresholds are whole numbers, so that
//! every machine decides alike.

#![deny(missing_docs)]

mod agreement;
mod answer;
mod calibration;
mod card;
mod fingerprint;
mod plan;
mod rate;
mod sketch;
mod statistics;
mod tensor;

pub use agreement::{Decision, MAX_ANSWERS, Run, agree};
pub use answer::{Answer, decide};
pub use calibration::{
    Calibration, CalibrationError, Class, Demand, FLOOR, MAX_CLASSES, MAX_PLATFORMS, Weakness,
};
pub use card::{Card, CardError, Dimension, InputInfo};
pub use fingerprint::{Fingerprint, FingerprintError, MAX_SKETCHES};
pub use plan::{Plan, SKETCH_ENTRIES, TAPS};
pub use rate::Rate;
pub use sketch::{EXPONENT_BITS, Limits, MANTISSA_BITS, MAX_ENTRIES, Sketch, SketchError, Value};
pub use statistics::{Statistics, output_difference};
pub use tensor::{
    Data, Kind, MAX_RANK, MAX_TENSORS, Tensor, TensorError, TensorLimits, many, volume,
};

#[cfg(test)]
mod tests;
