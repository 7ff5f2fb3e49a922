//! Models as published, folders with `config.json`, `model.safetensors` and `tokenizer.json`: what their
//! families have in common.

use std::path::PathBuf;
use thiserror::Error;

/// A folder that does not hold a model this compiler understands.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A file could not be read.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file could not be parsed.
    #[error("{path}: {error}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        error: String,
    },
    /// The model is of a kind that has no exact form here.
    #[error("unsupported model: {what} is {got}, expected {expected}")]
    Unsupported {
        /// Which property.
        what: &'static str,
        /// Its value.
        got: String,
        /// What is supported.
        expected: &'static str,
    },
    /// A tensor is absent or of another shape.
    #[error("tensor {name}: {error}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        error: String,
    },
}

/// A linear map `y = w·x + b`, `w` row-major `[n, k]`.
#[derive(Clone, Debug)]
pub struct Dense {
    /// `[n, k]`.
    pub weight: Vec<f32>,
    /// `[n]`.
    pub bias: Vec<f32>,
    /// Output width.
    pub n: usize,
    /// Input width.
    pub k: usize,
}

pub use crate::bert::{Bert, BertConfig, Classes, Layer, Norm, Vocabulary};
