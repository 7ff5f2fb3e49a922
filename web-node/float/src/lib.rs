//! The float lane's engine: any ONNX graph that tract runs, its outputs, and the fingerprint of the run.
//!
//! ```text
//! model.onnx ─check─▶ Graph ─(shapes of the inputs)─▶ tract ─▶ outputs
//!    │                  │                              │
//!    └─digest──▶ Plan (taps) ──────────────────────────┴─▶ Fingerprint
//! ```
//!
//! One crate natively and in the browser, where it is a module of its own ([`web`]): only who runs
//! float models loads tract. The bits of a run depend on the machine; what that means for agreement is
//! in `nesa-fingerprint` and `docs/float-lane.md`. [`calibrate`] measures how far
//! machines are apart, [`perturb`] makes the models it must tell from the original, [`inputs`] what they
//! are tried on.

#![deny(missing_docs)]

pub mod calibrate;
mod check;
mod error;
mod graph;
pub mod inputs;
mod limits;
pub mod perturb;
mod plan;
pub mod web;

pub use error::FloatError;
pub use graph::Graph;
pub use limits::Limits;
pub use nesa_fingerprint::{
    Answer, Card, Data, Dimension, InputInfo, Kind, Plan, SKETCH_ENTRIES, TAPS, Tensor,
    TensorError, TensorLimits,
};
pub use plan::ENGINE;

/// The digest that names a float model on the chain: of its file, as it is.
pub fn model_digest(onnx: &[u8]) -> nesa_primitives::Hash {
    nesa_primitives::Hash::of_bytes("float model", &nesa_primitives::Hash::ZERO, onnx)
}
