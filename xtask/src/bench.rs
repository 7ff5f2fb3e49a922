//! `cargo xtask bench`: ratios against a named peer measured in the same run.

mod browser;
mod decode;
mod gpu;
mod lanes;
mod link;
mod masked;
mod memory;
mod peers;

use crate::{
    bundle,
    workspace::{cargo_output, target},
};
use anyhow::{Result, bail};
use std::fs;

/// A benchmark: its name, what it compares, and the program that measures it.
struct Benchmark {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<()>,
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "sizes",
        about: "wasm sizes of page, worker and verifier, raw and brotli, against their budgets",
        run: sizes,
    },
    Benchmark {
        name: "embed",
        about: "exact MiniLM, 32 and 256 tokens, against onnxruntime (node and web) and tract",
        run: peers::embed,
    },
    Benchmark {
        name: "decode",
        about: "exact Llama models of 8M and 135M parameters against llama.cpp Q8_0 and PyTorch f32",
        run: decode::decode,
    },
    Benchmark {
        name: "gpu",
        about: "products on the graphics adapter at hand against a copy kernel and a dot4 kernel on it",
        run: gpu::gpu,
    },
    Benchmark {
        name: "masked",
        about: "the masked lane against the plain engine, and against its floor on known links",
        run: masked::masked,
    },
    Benchmark {
        name: "link",
        about: "embeddings and texts over a shaped link at 0, 10 and 30 ms, against their floor",
        run: link::link,
    },
    Benchmark {
        name: "lanes",
        about: "one text in every lane at 0, 10 and 30 ms, against the engine alone; a killed shard",
        run: lanes::lanes,
    },
    Benchmark {
        name: "memory",
        about: "resident memory of every process of a local network, before and after a query",
        run: memory::memory,
    },
    Benchmark {
        name: "browser",
        about: "headers verified per second and the masked client's work per token, in Chromium",
        run: browser::checks,
    },
    Benchmark {
        name: "pool",
        about: "a volunteer's products on one, two and three threads, in Chromium",
        run: browser::pool,
    },
    Benchmark {
        name: "start",
        about: "opening the playground to ready, cold and warm, against 1 s, in Chromium",
        run: browser::start,
    },
    Benchmark {
        name: "finality",
        about: "a leader's clock to the finalized, executed block at each of 4 validators",
        run: finality,
    },
];

/// Runs one benchmark, or all.
pub(crate) fn run(name: Option<&str>, list: bool) -> Result<()> {
    if list {
        for b in BENCHMARKS {
            println!("{:<10} {}", b.name, b.about);
        }
        return Ok(());
    }
    let chosen: Vec<_> = BENCHMARKS.iter().filter(|b| name.is_none_or(|n| n == b.name)).collect();
    if chosen.is_empty() {
        let known: Vec<_> = BENCHMARKS.iter().map(|b| b.name).collect();
        bail!("no benchmark is called {:?}; known: {}", name.unwrap_or(""), known.join(", "));
    }
    for b in chosen {
        (b.run)()?;
    }
    Ok(())
}

/// Writes one benchmark's JSON under target/bench and prints it.
fn report(name: &str, value: &serde_json::Value) -> Result<()> {
    let folder = target().join("bench");
    fs::create_dir_all(&folder)?;
    let text = serde_json::to_string_pretty(value)?;
    fs::write(folder.join(format!("{name}.json")), &text)?;
    println!("{text}");
    Ok(())
}

fn sizes() -> Result<()> {
    let built = bundle::build()?;
    let verifier = bundle::verifier()?;
    let entry = |raw: u64, br: u64, budget: Option<u64>| {
        serde_json::json!({
            "raw": raw,
            "brotli": br,
            "budget": budget,
            "ratio": budget.map(|b| br as f64 / b as f64),
        })
    };
    let mut out = serde_json::Map::new();
    for (name, (raw, br)) in &built.sizes {
        let budget = (name == "nesa-worker.wasm").then_some(1_500_000);
        out.insert(name.clone(), entry(*raw, *br, budget));
    }
    out.insert("nesa-verifier.wasm".into(), entry(verifier.0, verifier.1, Some(150_000)));
    report("sizes", &out.into())
}

/// Four validators in one process over loopback; the test prints what it measured.
fn finality() -> Result<()> {
    const LINE: &str = "FINALITY ";
    let args = ["test", "--locked", "--profile", "local", "-p", "nesa-consensus"];
    let only = ["--test", "network", "--", "--ignored", "--exact", "--nocapture", "finality"];
    let output = cargo_output(&[&args[..], &only].concat())?;
    let text = String::from_utf8_lossy(&output);
    let Some(json) = text.lines().find_map(|line| line.split_once(LINE)).map(|(_, json)| json)
    else {
        bail!("the measurement printed no figures:\n{text}");
    };
    report("finality", &serde_json::from_str(json)?)
}
