//! The products on the graphics adapter at hand, beside kernels that only copy or only multiply.

use super::{peers::json_of, report};
use crate::workspace::{NATIVE_PROFILE, cargo, target};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::process::Command;

/// `[n, k, tokens]`: the gate and up of a model of 1.1 thousand million parameters, and the widest layer of MiniLM.
const SHAPES: [[&str; 3]; 2] = [["11264", "2048", "256"], ["1536", "384", "256"]];

/// Share of the memory's rate for one row, and of the integer units' rate for a prompt. A software adapter is
/// named as one: its shares say nothing of a graphics processor.
pub(crate) fn gpu() -> Result<()> {
    let example = ["-p", "nesa-gpu", "--features", "bench", "--example", "roofline"];
    cargo(&[&["build", "--locked", "--profile", NATIVE_PROFILE][..], &example].concat())?;
    let example = target().join(NATIVE_PROFILE).join("examples/roofline");
    let mut out = Vec::new();
    for shape in SHAPES {
        let measured = json_of(Command::new(&example).args(shape)).context(
            "no Vulkan device: install mesa-vulkan-drivers and libvulkan1 for a software one",
        )?;
        out.push(measured);
    }
    report("gpu", &json!(out))
}
