//! The masked lane: what each kind of work costs, and a whole query against its floor.

use super::report;
use crate::workspace::{NATIVE_PROFILE, cargo, root, target};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::process::Command;

/// Milliseconds per padded token by kind of work, whole queries over links of known rate, and the
/// two ways to s.
pub(crate) fn masked() -> Result<()> {
    let build =
        ["build", "--locked", "--profile", NATIVE_PROFILE, "-p", "nesa-masked", "--examples"];
    cargo(&build)?;
    let (per_token, queries) = (example("costs")?, example("lane")?);
    let preparation = example("preparation")?;
    let all = json!({ "per_token": per_token, "queries": queries, "preparation": preparation });
    report("masked", &all)
}

/// What an example of `nesa-masked` prints about the committed model.
fn example(name: &str) -> Result<Value> {
    let out = Command::new(target().join(NATIVE_PROFILE).join("examples").join(name))
        .arg(root().join("models/all-minilm-l6-v2.nesa"))
        .output()
        .with_context(|| format!("could not start the example {name}"))?;
    ensure!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).with_context(|| format!("{name} did not print JSON"))
}
