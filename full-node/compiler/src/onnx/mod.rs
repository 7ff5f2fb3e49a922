//! Small image classifiers from ONNX: reading, the f32 original, compilation, accuracy.

mod compile;
mod constants;
mod eval;
mod forward;
mod graph;
mod npy;
mod proto;
mod windows;

use std::path::PathBuf;
use thiserror::Error;

pub use compile::compile_classifier;
pub use eval::{ClassifierAccuracy, ClassifierAgreement, compare_classifier, evaluate_classifier};
pub use graph::Classifier;
pub use npy::Samples;

/// An ONNX model, or samples, that cannot be used.
#[derive(Debug, Error)]
pub enum OnnxError {
    /// A file could not be read.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file that is larger than is read.
    #[error("{path}: {got} bytes, at most {max} are read")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        got: u64,
        /// The limit.
        max: u64,
    },
    /// Not a protobuf of ONNX, or its graph is damaged.
    #[error("{path}: {error}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        error: String,
    },
    /// A node that has no exact form here.
    #[error("node {node} ({operator}): {got}; supported: {supported}")]
    Unsupported {
        /// Its name, or that of its output.
        node: String,
        /// Its operator.
        operator: String,
        /// What it is or has.
        got: String,
        /// What is supported.
        supported: &'static str,
    },
    /// Samples that do not fit the model, or each other.
    #[error("samples: {0}")]
    Samples(String),
}
