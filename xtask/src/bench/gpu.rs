//! The products on the graphics adapter at hand, beside kernels that only copy or only multiply.

use super::{peers::json_of, report};
use crate::workspace::{NATIVE_PROFILE, cargo, target};
use anyhow::{Context as _, Result};
use std::process::Command;

/// Share of the memory's rate for one row, and of the integer units' rate for a prompt. A software adapter is
/// named as one: its shares say nothing of a graphics processor.
pub(crate) fn gpu() -> Result<()> {
    let example = ["-p", "nesa-gpu", "--features", "bench", "--example", "roofline"];
    cargo(&[&["build", "--locked", "--profile", NATIVE_PROFILE][..], &example].concat())?;
    let example = target().join(NATIVE_PROFILE).join("examples/roofline");
    let measured = json_of(&mut Command::new(&example)).context(
        "no Vulkan device: install mesa-vulkan-drivers and libvulkan1 for a software one",
    )?;
    report("gpu", &measured)
}
