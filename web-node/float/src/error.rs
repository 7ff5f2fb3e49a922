//! What can go wrong, by the name of what it went wrong with.

use nesa_fingerprint::{SketchError, TensorError};
use thiserror::Error as ThisError;

/// A graph that does not load or run.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum FloatError {
    /// The file is too long.
    #[error("a model of {got} bytes, at most {max} allowed")]
    Bytes {
        /// Its bytes.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// No ONNX model.
    #[error("no ONNX model: {0}")]
    Malformed(String),
    /// Too many nodes.
    #[error("more than {max} nodes")]
    Nodes {
        /// The limit.
        max: usize,
    },
    /// An operator that the engine does not have.
    #[error("node {node:?} is {operator} of domain {domain:?}, which the engine does not have")]
    Operator {
        /// The node's name, or its first output's.
        node: String,
        /// Its operator.
        operator: String,
        /// The operator's domain.
        domain: String,
    },
    /// An operator that draws random numbers: no two runs would agree.
    #[error("node {node:?} is {operator}, which is random: two runs could not be compared")]
    Random {
        /// The node's name, or its first output's.
        node: String,
        /// Its operator.
        operator: String,
    },
    /// A tensor that is too large, or whose shape is no shape.
    #[error("tensor {name:?} has shape {shape:?}, at most {max} elements allowed")]
    Tensor {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<i64>,
        /// The limit.
        max: usize,
    },
    /// A tensor whose data lie in another file.
    #[error("the data of tensor {name:?} lie in another file; save the model as one file")]
    External {
        /// Its name.
        name: String,
    },
    /// All intermediate values together are too large for these inputs.
    #[error("the run would hold {got} values at tensor {name:?}, at most {max} allowed")]
    Values {
        /// The tensor that exceeds it.
        name: String,
        /// Values up to there.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A run would compute too much for these inputs.
    #[error("the run would take {got} operations up to node {name:?}, at most {max} allowed")]
    Operations {
        /// The node that exceeds it.
        name: String,
        /// Operations up to there.
        got: u64,
        /// The limit.
        max: u64,
    },
    /// An input that the model does not have.
    #[error("no input {got:?}; the model has {expected:?}")]
    UnknownInput {
        /// The name given.
        got: String,
        /// The names there are.
        expected: Vec<String>,
    },
    /// An input is missing.
    #[error("input {name:?} is missing")]
    MissingInput {
        /// Its name.
        name: String,
    },
    /// An input was given twice.
    #[error("input {name:?} is given twice")]
    TwoInputs {
        /// Its name.
        name: String,
    },
    /// An input of another shape.
    #[error("input {name:?} has shape {got:?}, expected {expected}")]
    Shape {
        /// Its name.
        name: String,
        /// The shape given.
        got: Vec<u32>,
        /// The declared one.
        expected: String,
    },
    /// Values that are no tensor.
    #[error(transparent)]
    Exchanged(#[from] TensorError),
    /// A type that cannot be exchanged.
    #[error("tensor {name:?} is of type {got}, expected numbers of at most 64 bits or booleans")]
    Type {
        /// Its name.
        name: String,
        /// The type.
        got: String,
    },
    /// A dimension that is not fixed and was not given.
    #[error("dimension {dimension:?} of input {input:?} is open: give it a size")]
    Open {
        /// The input.
        input: String,
        /// The dimension's name or place.
        dimension: String,
    },
    /// tract refused.
    #[error("{step}: {message}")]
    Engine {
        /// What was tried.
        step: &'static str,
        /// What tract said, innermost last.
        message: String,
    },
    /// tract stopped; the graph is unusable.
    #[error("{step}: the engine broke off")]
    Broke {
        /// What was tried.
        step: &'static str,
    },
    /// A tensor that has no sketch.
    #[error("tensor {name:?}: {error}")]
    Sketch {
        /// Its name.
        name: String,
        /// Why.
        error: SketchError,
    },
}
