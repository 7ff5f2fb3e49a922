//! Generation with the exact engine beside llama.cpp (Q8_0) and PyTorch (f32): the same random weights, the
//! same tokens, one thread each, by turns; and, in one page of Chromium, the exact engine as wasm beside wllama,
//! which is llama.cpp as wasm. The page's logits must be the native ones.

use super::{
    peers::{json_of, tools_from_npm, web_engine},
    report,
};
use crate::workspace::{NATIVE_PROFILE, cargo, native_binary, root, run, target};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// What `tools/bench/decoders.py` makes.
const MODELS: [&str; 2] = ["llama-8m", "llama-135m"];
const PEERS: [&str; 2] = ["llama.cpp", "torch"];
/// What `tools/bench/decode_web.mjs` calls its two engines, and what they are called here.
const IN_CHROMIUM: [(&str, &str); 2] =
    [("exact", "exact in Chromium"), ("wllama", "wllama in Chromium")];
/// Programs cannot run in one process, so they take turns.
const TURNS: usize = 3;
/// Tokens of the prompt, tokens written after it, rounds in each turn, threads.
const WORK: [&str; 4] = ["256", "64", "3", "1"];
/// What is measured, and what becomes a ratio.
const RATES: [&str; 2] = ["prefill_tokens_per_second", "decode_tokens_per_second"];

/// Tokens per second of reading and of writing, ours and each peer's, and their ratios (above 1: we are
/// faster).
pub(crate) fn decode() -> Result<()> {
    tools_from_npm()?;
    let python = python()?;
    let models = models(&python)?;
    let package = ["-p", "nesa-model", "--example", "decode"];
    cargo(&[&["build", "--locked", "--profile", NATIVE_PROFILE][..], &package].concat())?;
    let example = target().join(NATIVE_PROFILE).join("examples/decode");
    let tools = root().join("tools/bench");
    let (script, module) = (tools.join("decode_peers.py"), web_engine()?);
    let mut out = Map::new();
    for model in MODELS {
        let folder = models.join(model);
        let mut best: Map<String, Value> = Map::new();
        for _ in 0..TURNS {
            let file = folder.join("exact.nesa");
            let exact = json_of(Command::new(&example).arg(&file).args(WORK))?;
            keep_greatest(&mut best, "exact", exact);
            let page = json_of(
                Command::new("node")
                    .arg(tools.join("decode_web.mjs"))
                    .arg(&module)
                    .arg(&folder)
                    .args(&WORK[..3]),
            )?;
            for (engine, name) in IN_CHROMIUM {
                keep_greatest(&mut best, name, page[engine].clone());
            }
            for peer in PEERS {
                let turn =
                    json_of(Command::new(&python).arg(&script).arg(peer).arg(&folder).args(WORK))?;
                keep_greatest(&mut best, peer, turn);
            }
        }
        let [(_, mine), (_, theirs)] = IN_CHROMIUM;
        let (native, web) = (&best["exact"]["checksum"], &best[mine]["checksum"]);
        ensure!(native == web, "{model}: logits differ, {native} natively, {web} in Chromium");
        let mut ratios = Map::new();
        let native = PEERS.map(|peer| ("exact", peer));
        for (mine, theirs) in native.into_iter().chain([(mine, theirs)]) {
            for rate in RATES {
                let pair = best[mine][rate].as_f64().zip(best[theirs][rate].as_f64());
                let ratio = pair.map(|(mine, theirs)| mine / theirs);
                ratios.insert(format!("{mine} / {theirs}, {rate}"), json!(ratio));
            }
        }
        best.insert("ratios".into(), ratios.into());
        out.insert(model.into(), best.into());
    }
    report("decode", &out.into())
}

/// Adds one turn: rates keep their greatest value, the rest their first.
fn keep_greatest(best: &mut Map<String, Value>, engine: &str, turn: Value) {
    let Some(before) = best.get_mut(engine) else {
        best.insert(engine.into(), turn);
        return;
    };
    for rate in RATES {
        if turn[rate].as_f64() > before[rate].as_f64() {
            before[rate] = turn[rate].clone();
        }
    }
}

/// The interpreter that `NESA_BENCH_PYTHON` names, or one with the peers in it under target/bench.
fn python() -> Result<PathBuf> {
    if let Some(python) = env::var_os("NESA_BENCH_PYTHON") {
        return Ok(python.into());
    }
    let venv = target().join("bench/venv-decode");
    let python = venv.join("bin/python");
    let ready = || {
        let peers = ["-c", "import gguf, llama_cpp, torch, transformers"];
        Command::new(&python).args(peers).output().is_ok_and(|out| out.status.success())
    };
    if !ready() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
            .context("install python3-venv to build the peers")?;
        let requirements = root().join("tools/bench/decoders.txt");
        run(Command::new(&python).args(["-m", "pip", "install", "-q", "-r"]).arg(requirements))
            .context("llama.cpp is built from source: it needs a C++ compiler")?;
    }
    Ok(python)
}

/// The folder with every model in every form: the one that `NESA_BENCH_DECODERS` names, or one made here.
fn models(python: &Path) -> Result<PathBuf> {
    let folder = env::var_os("NESA_BENCH_DECODERS")
        .map_or_else(|| target().join("bench/decoders"), PathBuf::from);
    let lacks = |file: &str| MODELS.iter().any(|m| !folder.join(m).join(file).is_file());
    if lacks("q8_0.gguf") {
        run(Command::new(python).arg(root().join("tools/bench/decoders.py")).arg(&folder))?;
    }
    if lacks("exact.nesa") {
        cargo(&["build", "--locked", "--profile", NATIVE_PROFILE, "-p", "nesa"])?;
        for model in MODELS {
            let of = folder.join(model);
            run(Command::new(native_binary("nesa"))
                .args(["model", "compile", "--no-accuracy", "--out"])
                .arg(of.join("exact.nesa"))
                .arg(&of))?;
        }
    }
    ensure!(!lacks("exact.nesa"), "no compiled models in {}", folder.display());
    Ok(folder)
}
