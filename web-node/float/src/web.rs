//! The module's face: bytes in, bytes out, the same natively and in the browser.
//!
//! Inputs and answers cross as their encodings, so that what a browser computed can be compared and
//! sent as it is.

use crate::{Answer, FloatError, Graph, Limits, Tensor};
use commonware_codec::Encode as _;
use nesa_fingerprint::many;
use nesa_primitives::{DecodeError, decode_exact};
use thiserror::Error as ThisError;

/// Why bytes gave no answer.
#[derive(Debug, ThisError)]
pub enum ModuleError {
    /// The inputs do not decode.
    #[error("inputs: {0}")]
    Inputs(DecodeError),
    /// The answer does not decode.
    #[error("answer: {0}")]
    Answer(DecodeError),
    /// The model does not load or run.
    #[error(transparent)]
    Float(#[from] FloatError),
}

/// Inputs as bytes.
pub fn encode_inputs(inputs: &[Tensor]) -> Vec<u8> {
    inputs.to_vec().encode().to_vec()
}

/// Inputs from bytes, within limits.
///
/// # Errors
/// [`ModuleError::Inputs`] for anything but one canonical encoding.
pub fn decode_inputs(bytes: &[u8], limits: &Limits) -> Result<Vec<Tensor>, ModuleError> {
    decode_exact(bytes, &many(limits.tensors())).map_err(ModuleError::Inputs)
}

/// Runs a model on encoded inputs.
///
/// # Errors
/// [`ModuleError`].
pub fn run(graph: &mut Graph, inputs: &[u8], limits: &Limits) -> Result<Vec<u8>, ModuleError> {
    let inputs = decode_inputs(inputs, limits)?;
    Ok(graph.run(&inputs)?.encode().to_vec())
}

/// An answer from bytes, within the limits of its model.
///
/// # Errors
/// [`ModuleError::Answer`] for anything but one canonical encoding.
pub fn decode_answer(bytes: &[u8], limits: &Limits) -> Result<Answer, ModuleError> {
    decode_exact(bytes, &limits.tensors()).map_err(ModuleError::Answer)
}

#[cfg(target_family = "wasm")]
#[allow(unreachable_pub, reason = "JavaScript reaches it")]
mod module {
    use super::run;
    use crate::{Graph, Limits};
    use wasm_bindgen::prelude::*;

    fn refused(error: impl std::fmt::Display) -> JsError {
        JsError::new(&error.to_string())
    }

    /// A model, opened.
    #[wasm_bindgen]
    #[derive(Debug)]
    pub struct FloatModel(Graph);

    #[wasm_bindgen]
    impl FloatModel {
        /// Reads and checks an ONNX file.
        ///
        /// # Errors
        /// In words, what is wrong with it.
        pub fn open(onnx: &[u8]) -> Result<FloatModel, JsError> {
            Graph::open(onnx, Limits::browser()).map(Self).map_err(refused)
        }

        /// Digest of the plan: model, taps, sketch, engine. 32 bytes.
        pub fn plan(&self) -> Vec<u8> {
            self.0.plan_digest().0.to_vec()
        }

        /// Runs it on encoded inputs; the encoded answer.
        ///
        /// # Errors
        /// In words.
        pub fn run(&mut self, inputs: &[u8]) -> Result<Vec<u8>, JsError> {
            run(&mut self.0, inputs, &Limits::browser()).map_err(refused)
        }
    }

    /// Whether the module was built with 128-bit vectors.
    #[wasm_bindgen]
    pub fn simd() -> bool {
        cfg!(target_feature = "simd128")
    }
}
