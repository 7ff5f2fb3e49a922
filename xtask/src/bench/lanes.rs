//! One text in every lane over a line of several round trips: what privacy and verification cost beside the
//! engine alone and beside one node that reads all, what handing rows from shard to shard costs, and how soon a
//! killed node is replaced.

use super::{
    link::{ROUND_TRIPS, ask},
    memory::Network,
    peers::json_of,
    report,
};
use crate::workspace::{NATIVE_PROFILE, cargo, native_binary, root, target};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};

/// A definition of 41 tokens that the dictionary knows by heart.
const QUESTION: &str = "What is a violin?";
const TOKENS: &str = "64";
const MBIT: &str = "100";
/// Shards and replicas of each.
const SEALED: [(u32, u32); 5] = [(1, 1), (2, 1), (4, 1), (1, 3), (2, 3)];
/// Queries of each kind; the one with the fewest milliseconds a token counts.
const RUNS: usize = 2;

/// The lanes beside each other, and beside the engine alone on this machine.
pub(crate) fn lanes() -> Result<()> {
    cargo(&["build", "--locked", "--profile", NATIVE_PROFILE, "-p", "nesa"])?;
    let model = root().join("models/dictionary.nesa").display().to_string();
    let alone = best(|| alone(&model))?;
    let engine_ms = ms(&alone, "ms_per_token")?;
    let mut settings = Vec::new();
    for round_trip in ROUND_TRIPS {
        let delay = (round_trip / 2).to_string();
        let shape = ["--model", &model, "--link-delay-ms", &delay, "--link-mbit", MBIT];
        let mut rows = Vec::new();
        let folder = fresh(&format!("lanes-{round_trip}"))?;
        let network = Network::start(&folder, &shape)?;
        for (shards, replicas) in SEALED {
            let mut row = best(|| sealed(&folder, shards, replicas))?;
            row["what"] = json!(format!("sealed, {shards} shards on {replicas} nodes each"));
            rows.push(row);
        }
        let mut row = best(|| masked(&folder))?;
        row["what"] = json!("masked");
        rows.push(row);
        drop(network);
        let one_node = ms(&rows[0], "ms_per_token")?;
        for row in &mut rows {
            let each = ms(row, "ms_per_token")?;
            row["÷ engine alone"] = json!(each / engine_ms);
            row["÷ one node that reads all"] = json!(each / one_node);
        }
        let folder = fresh(&format!("lanes-crash-{round_trip}"))?;
        let network = Network::start(&folder, &[&shape[..], &["--scenario", "crash"]].concat())?;
        let killed = sealed(&folder, 2, 3)?;
        drop(network);
        settings.push(json!({
            "added_round_trip_ms": round_trip,
            "lanes": rows,
            "a_killed_node": { "recovered_ms": killed["recovered_ms"], "text": killed["text"] },
        }));
    }
    report("lanes", &json!({ "question": QUESTION, "engine_alone": alone, "settings": settings }))
}

fn fresh(name: &str) -> Result<std::path::PathBuf> {
    let folder = target().join("bench").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    Ok(folder)
}

fn ms(row: &Value, name: &str) -> Result<f64> {
    row[name].as_f64().with_context(|| format!("no {name} in {row}"))
}

/// The run with the fewest milliseconds a token.
fn best(run: impl Fn() -> Result<Value>) -> Result<Value> {
    let runs: Vec<Value> = (0..RUNS).map(|_| run()).collect::<Result<_>>()?;
    let each = |row: &Value| row["ms_per_token"].as_f64().unwrap_or(f64::INFINITY);
    let best = runs.iter().min_by(|a, b| each(a).total_cmp(&each(b)));
    let mut best = best.context("nothing was run")?.clone();
    best["all_ms_per_token"] = runs.iter().map(each).collect();
    Ok(best)
}

/// The text by the engine of one process, one thread.
fn alone(model: &str) -> Result<Value> {
    let how = ["--chat", QUESTION, "--tokens", TOKENS, "--temperature", "0", "--json"];
    let answer =
        json_of(Command::new(native_binary("nesa")).args(["model", "generate", model]).args(how))?;
    let pace = answer["tokens_per_second"].as_f64().context("no tokens_per_second")?;
    Ok(json!({
        "text": answer["text"],
        "tokens": answer["tokens"],
        "first_token_ms": answer["first_token_ms"],
        "ms_per_token": 1e3 / pace,
    }))
}

fn asked(folder: &Path, more: &[&str]) -> Result<Value> {
    let how = ["generate", "--chat", "--prompt", QUESTION, "--tokens", TOKENS];
    ask(folder, &[&how[..], &["--temperature", "0"], more].concat())
}

/// Milliseconds of a further token: the whole time in the lane but for the first, which includes connecting.
fn sealed(folder: &Path, shards: u32, replicas: u32) -> Result<Value> {
    let (shards, replicas) = (shards.to_string(), replicas.to_string());
    let how =
        ["--lane", "sealed", "--shards", &shards, "--replicas", &replicas, "--deadline", "12"];
    let answer = asked(folder, &how)?;
    let timings = &answer["timings"];
    let (first, total) = (ms(timings, "first_token_ms")?, ms(timings, "total_ms")?);
    let tokens = answer["tokens"].as_f64().context("no tokens")?;
    let bytes = |name: &str| answer["bytes"][name].as_f64().map(|bytes| bytes / tokens);
    Ok(json!({
        "text": answer["text"],
        "tokens": tokens,
        "first_token_ms": first,
        // The step after the last token, which ends the text, is one too.
        "ms_per_token": (total - first) / tokens,
        "bytes_up_per_token": bytes("up"),
        "bytes_down_per_token": bytes("down"),
        "recovered_ms": timings["recovered_ms"],
    }))
}

fn masked(folder: &Path) -> Result<Value> {
    let answer = asked(folder, &[])?;
    let tokens = answer["tokens"].as_f64().context("no tokens")?;
    let bytes = |name: &str| answer["bytes"][name].as_f64().map(|bytes| bytes / tokens);
    Ok(json!({
        "text": answer["text"],
        "tokens": tokens,
        "first_token_ms": answer["first_token_ms"],
        "ms_per_token": answer["ms_per_token"],
        "bytes_up_per_token": bytes("up"),
        "bytes_down_per_token": bytes("down"),
    }))
}
