//! What the browser's part costs, in headless Chromium on this machine.

use super::{peers::json_of, report};
use crate::{
    bundle, prerequisites,
    test::runner,
    workspace::{NATIVE_PROFILE, WASM_PROFILE, WASM_TARGET, cargo, native_binary, root},
};
use anyhow::{Context as _, Result, ensure};
use std::{env, process::Command};

/// What the line with the figures begins with, as `light-client/core/tests/figures.rs` prints it.
const MARK: &str = "FIGURES ";

/// Headers verified per second and the masked client's work per token, in a dedicated worker.
pub(crate) fn checks() -> Result<()> {
    prerequisites::for_build()?;
    prerequisites::for_browser_tests()?;
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let out = Command::new(cargo)
        .current_dir(root())
        .args(["test", "--locked", "--profile", WASM_PROFILE, "--target", WASM_TARGET])
        .args(["-p", "nesa-light", "--test", "figures", "--", "--nocapture"])
        .envs(runner()?)
        .output()
        .context("running the figures in a browser")?;
    let text = String::from_utf8_lossy(&out.stdout);
    ensure!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    let figures = text
        .lines()
        .find_map(|line| line.split_once(MARK))
        .with_context(|| format!("no figures in:\n{text}"))?;
    report("browser", &serde_json::from_str(figures.1.trim())?)
}

/// From opening the playground to "ready": on an empty device, and with everything stored.
pub(crate) fn start() -> Result<()> {
    prerequisites::for_browser_tests()?;
    bundle::build()?;
    cargo(&["build", "--locked", "--profile", NATIVE_PROFILE, "-p", "nesa"])?;
    let script = root().join("tools/bench/start.mjs");
    let node = json_of(Command::new("node").arg(script).env("NESA", native_binary("nesa")))?;
    report("start", &node)
}

/// Products of one thread of a tab, of two and of three by turns, and what handing a product over costs.
pub(crate) fn pool() -> Result<()> {
    prerequisites::for_browser_tests()?;
    // First, so that the honest module is the one that stays where cargo puts it.
    let figures = bundle::figures_worker()?;
    bundle::build()?;
    let script = root().join("tools/bench/pool.mjs");
    report("pool", &json_of(Command::new("node").arg(script).arg(figures))?)
}
