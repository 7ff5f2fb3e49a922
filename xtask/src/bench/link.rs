//! Whole queries over a shaped link: real processes and sockets, a forwarder with a rate and a delay
//! between them, against a floor measured through the same forwarder in the same run.

use super::{memory::Network, peers::json_of, report};
use crate::workspace::{NATIVE_PROFILE, cargo, native_binary, root, target};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

/// Added round trips, in milliseconds.
pub(super) const ROUND_TRIPS: [u64; 3] = [0, 10, 30];
/// Rate of the line in each direction unless `NESA_BENCH_MBIT` names another.
const MBIT: &str = "100";
/// Times each text is embedded; the one with the least time in the lane counts.
const RUNS: usize = 3;
/// Padded tokens of the embedded texts.
const TOKENS: [usize; 2] = [32, 256];
/// Most tokens written.
const WRITTEN: &str = "48";
/// Guesses in a pass that writes.
const DRAFTS: [usize; 2] = [0, 3];
/// Bytes and exchanges that the line is measured with.
const BYTES: usize = 16 << 20;
const EXCHANGES: usize = 21;

/// Embeddings and written texts over a line of known rate at several round trips.
pub(crate) fn link() -> Result<()> {
    let build = ["build", "--locked", "--profile", NATIVE_PROFILE];
    cargo(&[&build[..], &["-p", "nesa"]].concat())?;
    cargo(&[&build[..], &["-p", "nesa-masked", "--example", "costs"]].concat())?;
    let encoder = root().join("models/all-minilm-l6-v2.nesa");
    let decoder = env::var_os("NESA_BENCH_DECODER")
        .map_or_else(|| root().join("models/dictionary.nesa"), PathBuf::from);
    ensure!(
        decoder.is_file(),
        "no {}: name a compiled decoder with NESA_BENCH_DECODER",
        decoder.display()
    );
    let products = Products {
        encoder: product_ms(&encoder, "32")?,
        prompt: product_ms(&decoder, "16")?,
        written: [product_ms(&decoder, "1")?, product_ms(&decoder, "4")?],
    };
    let mbit = env::var("NESA_BENCH_MBIT").unwrap_or_else(|_| MBIT.into());
    let mut settings = Vec::new();
    for round_trip in ROUND_TRIPS {
        let delay = (round_trip / 2).to_string();
        let shape = ["--delay-ms", &delay, "--mbit", &mbit];
        let line = measure(&shape)?;
        let folder = target().join(format!("bench/link-{round_trip}"));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let models = [&encoder, &decoder].map(|model| model.display().to_string());
        let models = ["--model", &models[0], "--model", &models[1]];
        let shape = ["--link-delay-ms", &delay, "--link-mbit", &mbit];
        let network = Network::start(&folder, &[&models[..], &shape].concat())?;
        let mut queries = Vec::new();
        for tokens in TOKENS {
            // One word is one token, and the tokenizer adds two.
            let text = "day ".repeat(tokens - 2);
            let query = |n: usize| {
                let text = format!("{text} {}", ["sun", "sea", "sky"][n % 3]);
                let text = text.replacen("day ", "", 1);
                ask(&folder, &["embed", "--text", &text])
            };
            queries.push(embedded(tokens, &best(query)?, &line, &products)?);
        }
        for (draft, product) in DRAFTS.into_iter().zip(products.written) {
            let guesses = draft.to_string();
            let what = ["generate", "--prompt", "What is a lighthouse?", "--draft", &guesses];
            // The same text each time, and with any draft.
            let how = ["--temperature", "1", "--seed", "1", "--tokens", WRITTEN];
            // One text is a thousand round trips, and needs no other beside it.
            let mut answer = ask(&folder, &[&what[..], &how].concat())?;
            answer["all_lane_ms"] = json!([lane_ms(&answer)]);
            queries.push(written(draft, &answer, &line, product, products.prompt)?);
        }
        // The guesses of a model on this machine, where one is named.
        if let Some(model) = env::var_os("NESA_BENCH_DRAFT") {
            let model = PathBuf::from(model).display().to_string();
            let (draft, product) = (DRAFTS[1], products.written[1]);
            let guesses = draft.to_string();
            let what = ["generate", "--prompt", "What is a lighthouse?", "--draft", &guesses];
            let how = ["--temperature", "1", "--seed", "1", "--tokens", WRITTEN];
            let by = ["--draft-model", &model];
            let mut answer = ask(&folder, &[&what[..], &how, &by].concat())?;
            answer["all_lane_ms"] = json!([lane_ms(&answer)]);
            let mut row = written(draft, &answer, &line, product, products.prompt)?;
            row["what"] = json!(format!("generate, {draft} guesses of a draft model"));
            queries.push(row);
        }
        drop(network);
        settings.push(json!({
            "added_round_trip_ms": round_trip,
            "mbit": mbit.parse::<u64>()?,
            "line": { "bytes_per_second": line.bytes_per_ms * 1e3, "round_trip_ms": line.round_trip_ms },
            "queries": queries,
        }));
    }
    report(
        "link",
        &json!({ "decoder": decoder.file_name().map(|n| n.to_string_lossy()), "settings": settings }),
    )
}

/// One server's products, in milliseconds per padded token.
struct Products {
    encoder: f64,
    /// Of a decoder's prompt, many rows at once.
    prompt: f64,
    /// Of the rows of a pass that writes, one or several.
    written: [f64; DRAFTS.len()],
}

/// One server's share product per token, `rows` at a time.
fn product_ms(model: &Path, rows: &str) -> Result<f64> {
    let example = target().join(NATIVE_PROFILE).join("examples/costs");
    let costs = json_of(Command::new(example).arg(model).arg(rows))?;
    costs["share_product_ms"].as_f64().context("costs tells no share product")
}

/// What the line does, seen from its ends.
struct Measured {
    bytes_per_ms: f64,
    round_trip_ms: f64,
}

/// Sends bytes through a forwarder of `shape`, and bounces one to and fro.
fn measure(shape: &[&str]) -> Result<Measured> {
    let end = TcpListener::bind("127.0.0.1:0")?;
    let door = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let port = format!("{door}={}", end.local_addr()?);
    let _forwarder = Forwarder::start(&[&["--port", &port][..], shape].concat())?;
    let sent = std::thread::spawn(move || send(door));
    let (mut stream, _) = end.accept()?;
    stream.set_nodelay(true)?;
    let mut byte = [0];
    for _ in 0..EXCHANGES {
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)?;
    }
    // From the first byte's arrival on, so that neither start nor delay is in it.
    let mut piece = vec![0; 1 << 16];
    let first = stream.read(&mut piece)?;
    let (start, mut got) = (Instant::now(), 0);
    loop {
        match stream.read(&mut piece)? {
            0 => break,
            count => got += count,
        }
    }
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let round_trip_ms = sent.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    ensure!(first + got == BYTES, "{} of {BYTES} bytes arrived", first + got);
    Ok(Measured { bytes_per_ms: got as f64 / ms, round_trip_ms })
}

/// The sender's part; the median round trip of a byte, in milliseconds.
fn send(door: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(door)?;
    stream.set_nodelay(true)?;
    let mut times = Vec::new();
    for _ in 0..EXCHANGES {
        let start = Instant::now();
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    stream.write_all(&vec![7; BYTES])?;
    times.sort_by(f64::total_cmp);
    Ok(times[EXCHANGES / 2])
}

/// `nesa node link`, ended when dropped.
struct Forwarder(Child);

impl Forwarder {
    fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(native_binary("nesa"))
            .args(["node", "link"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .context("could not start nesa node link")?;
        let out = child.stdout.take().context("nesa node link has no output")?;
        let forwarder = Self(child);
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        ensure!(line.trim() == "READY", "nesa node link said {line:?}");
        Ok(forwarder)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn ask(folder: &Path, query: &[&str]) -> Result<Value> {
    json_of(
        Command::new(native_binary("nesa"))
            .arg("query")
            .args(query)
            .args(["--json", "--dir"])
            .arg(folder)
            .env("NESA_HOME", folder.join("home")),
    )
}

/// Milliseconds of a query in the lane: everything but the chain.
fn lane_ms(answer: &Value) -> f64 {
    let of = |name: &str| answer["timings"][name].as_f64().unwrap_or(f64::NAN);
    of("total_ms") - of("chain_ms")
}

/// The fastest of several.
fn best(ask: impl Fn(usize) -> Result<Value>) -> Result<Value> {
    let all: Vec<Value> = (0..RUNS).map(ask).collect::<Result<_>>()?;
    let fastest = all.iter().min_by(|a, b| lane_ms(a).total_cmp(&lane_ms(b)));
    let mut fastest = fastest.context("nothing was asked")?.clone();
    fastest["all_lane_ms"] = all.iter().map(lane_ms).collect();
    Ok(fastest)
}

/// What is counted at the rung where layers are checked.
fn counted(answer: &Value, name: &str) -> Result<f64> {
    let rungs = answer["ladder"].as_array().context("a ladder")?;
    let rung = rungs.iter().find(|rung| rung["id"] == "layers-checked");
    let count = rung.and_then(|rung| rung["evidence"][name].as_f64());
    count.with_context(|| format!("the ladder does not tell {name}"))
}

/// A query against its floor: all bytes at the line's rate, and one server's products.
fn against(answer: &Value, line: &Measured, products_ms: f64) -> Result<Value> {
    let whole = lane_ms(answer);
    let count = |name: &str| answer["bytes"][name].as_f64().context("bytes are missing");
    let (up, down) = (count("up")?, count("down")?);
    let floor = (up + down) / line.bytes_per_ms + products_ms;
    // The line carries both directions at once: nothing can be faster than the busier one.
    let busier = up.max(down) / line.bytes_per_ms + products_ms;
    let rounds = counted(answer, "stages")? * counted(answer, "passes")?;
    let waits = rounds * line.round_trip_ms;
    let connecting = answer["timings"]["connect_ms"].as_f64().context("no connect_ms")?;
    Ok(json!({
        "lane_ms": whole,
        "all_lane_ms": answer["all_lane_ms"],
        "bytes_up": up,
        "bytes_down": down,
        "floor_ms": floor,
        "whole/floor": whole / floor,
        "busier_direction_floor_ms": busier,
        "whole/busier_direction_floor": whole / busier,
        "round_trips": rounds,
        "round_trips_ms": waits,
        "connecting_ms": connecting,
        "(whole - connecting)/(floor + round trips)": (whole - connecting) / (floor + waits),
    }))
}

fn embedded(tokens: usize, answer: &Value, line: &Measured, products: &Products) -> Result<Value> {
    let padded = counted(answer, "padded_tokens")?;
    ensure!(padded as usize == tokens, "{padded} padded tokens, expected {tokens}");
    let mut out = against(answer, line, padded * products.encoder)?;
    out["what"] = json!(format!("embed, {tokens} tokens"));
    out["timings"] = answer["timings"].clone();
    Ok(out)
}

/// A written text: what a pass costs, and where its time and bytes go.
fn written(
    draft: usize,
    answer: &Value,
    line: &Measured,
    product: f64,
    prompt_product: f64,
) -> Result<Value> {
    let (passes, padded) = (counted(answer, "passes")?, counted(answer, "padded_tokens")?);
    // One pass reads the prompt, and all others are the last token and the guesses.
    let writing = passes - 1.0;
    let rows = writing * (draft + 1) as f64;
    let mut out = against(answer, line, rows * product + (padded - rows) * prompt_product)?;
    let tokens = answer["tokens"].as_f64().context("no tokens")?;
    out["what"] = json!(format!("generate, {draft} guesses"));
    out["tokens"] = answer["tokens"].clone();
    out["writing_passes"] = json!(writing);
    out["first_token_ms"] = answer["first_token_ms"].clone();
    out["ms_per_token"] = answer["ms_per_token"].clone();
    let time = |name: &str| answer["timings"][name].as_f64().map(|ms| ms / passes);
    let bytes = |name: &str| answer["bytes"][name].as_f64();
    let rounds = counted(answer, "stages")? * line.round_trip_ms;
    let connecting = time("connect_ms").unwrap_or_default();
    let products = product * (draft + 1) as f64;
    let waited = time("network_ms").zip(time("nodes_ms")).map(|(a, b)| a + b - connecting);
    out["per_pass_ms"] = json!({
        "round trips": rounds,
        "products": products,
        "transfer and all other waiting": waited.map(|w| w - rounds - products),
        "connecting": connecting,
        "this device": time("device_ms"),
        "checks": time("check_ms"),
    });
    let names = [("to A", "a_up"), ("from A", "a_down"), ("to B", "b_up"), ("from B", "b_down")];
    let per = |count: f64| -> Map<String, Value> {
        names
            .iter()
            .map(|(to, name)| ((*to).into(), json!(bytes(name).map(|b| b / count))))
            .collect()
    };
    out["bytes_per_padded_token"] = per(padded).into();
    out["bytes_per_token"] = per(tokens).into();
    Ok(out)
}
