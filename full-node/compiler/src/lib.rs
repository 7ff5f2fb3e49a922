//! Compiles safetensors and ONNX models to the exact form and measures their accuracy.
//!
//! Floats live here and nowhere behind: the compiler reads the published weights, chooses scales
//! from a fixed calibration text, and writes integers. It uses IEEE operations in a fixed order and
//! `libm` for everything else, so that the same weights give the same file on every machine.

#![deny(missing_docs)]

pub mod bench;
mod bert;
mod calibrate;
mod checkpoint;
mod compile;
pub mod decoder;
pub mod eval;
mod groups;
mod linalg;
pub mod onnx;
mod parts;
mod quantize;
mod reader;
pub mod source;
mod tables;
mod verify;
pub mod yardstick;

pub use compile::{CompileError, Options, Progress, Summary, compile, compile_with};
pub use reader::Reader;
pub use verify::{VerifyError, verify};

/// The texts that scales are chosen from, one by one; part of the compiler, so that the same
/// weights always give the same file.
pub fn calibration_texts() -> impl Iterator<Item = &'static str> {
    calibrate::CALIBRATION.lines().filter(|line| !line.is_empty())
}
