//! Times a compiled decoder on this machine and prints JSON: tokens per second of reading a prompt and of
//! writing after it, milliseconds per token of each that are not products, and a checksum of the last logits:
//! it is the same on every processor.
//!
//! `cargo run --profile local -p nesa-model --example decode -- MODEL.nesa [PROMPT [WRITTEN [ROUNDS [THREADS [PATH]]]]]`
//!
//! In place of a file, `made-up-8` and `made-up-4` are the layers of SmolLM-135M (30 of width 576) with random
//! weights of so many bits, 50 tokens of vocabulary and sequences of at most 64. `resident_mb` is what the process
//! holds once the model is open.
//!
//! PATH names the instructions to use with one thread (`avx2`, `avx512-vnni`, …) in place of the fastest.

use std::time::{Duration, Instant};

use nesa_model::decoder::toy::{self, ToyDecoder};
use nesa_model::decoder::{DecoderModel, DecoderRun, Fed, Feed, Input, KvCache, Logits, Output};
use nesa_model::manifest::WeightForm;
use nesa_model::{Artifact, Linear, ModelLimits, PlainDecoder, StageId, ThreadedDecoder};

type Failure = Box<dyn std::error::Error>;

/// An engine whose time is counted apart.
struct Timed<'a> {
    engine: &'a (dyn Linear + Sync),
    spent: std::cell::Cell<Duration>,
}

impl Linear for Timed<'_> {
    fn apply(&self, stage: StageId, x: &[i32], tokens: usize) -> Vec<i32> {
        self.engine.apply(stage, x, tokens)
    }

    fn apply_to(&self, stage: StageId, x: &[i32], tokens: usize, y: &mut [i32]) {
        let start = Instant::now();
        self.engine.apply_to(stage, x, tokens, y);
        self.spent.set(self.spent.get() + start.elapsed());
    }
}

/// Least times over all rounds, seconds.
struct Least {
    whole: f64,
    other: f64,
}

impl Least {
    fn take(&mut self, start: Instant, engine: &Timed<'_>) {
        let whole = start.elapsed();
        let other = whole.saturating_sub(engine.spent.take());
        self.whole = self.whole.min(whole.as_secs_f64());
        self.other = self.other.min(other.as_secs_f64());
    }
}

fn step(
    model: &DecoderModel,
    engine: &impl Linear,
    cache: KvCache,
    tokens: Vec<u32>,
) -> Result<Fed, Failure> {
    let feed = Feed { cache, input: Input::Tokens(tokens), logits: Logits::Last };
    let mut fed = DecoderRun::start(model, vec![feed])?.run(engine)?;
    Ok(fed.pop().ok_or("a run without a result")?)
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: decode MODEL.nesa [PROMPT [WRITTEN [ROUNDS [THREADS [PATH]]]]]";
    let file = arguments.next().ok_or(usage)?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |n| n.parse());
    let (prompt, written, rounds, threads) = (number(256)?, number(64)?, number(5)?, number(1)?);
    let model = DecoderModel::open(&artifact(&file)?)?;
    if threads == 1 {
        let alone = || measure(&model, &PlainDecoder(&model), [prompt, written, rounds, threads]);
        let Some(name) = arguments.next() else { return alone() };
        let path = nesa_kernels::Path::available().find(|path| path.name() == name);
        return path.and_then(|path| path.during(alone)).ok_or("no such path on this machine")?;
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let run = || {
        let done = measure(&model, &ThreadedDecoder(&model), [prompt, written, rounds, threads]);
        done.map_err(|e| e.to_string())
    };
    Ok(pool.install(run)?)
}

fn artifact(file: &str) -> Result<Artifact, Failure> {
    let form = match file {
        "made-up-8" => WeightForm::Bytes,
        "made-up-4" => WeightForm::Nibbles,
        _ => return Ok(Artifact::open(std::fs::read(file)?, &ModelLimits::default())?),
    };
    let layers = ToyDecoder {
        d_model: 576,
        d_ff: 1536,
        heads: 9,
        kv_heads: 3,
        head_width: 64,
        layers: 30,
        ..ToyDecoder::default()
    };
    // Read as a file would be, so that what it took to make it is given back.
    let bytes = toy::artifact_of(&layers, form)?.to_file();
    Ok(Artifact::open(bytes, &ModelLimits::default())?)
}

/// Resident memory of this process, megabytes; 0 where the system does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() / 1000
}

fn measure(
    model: &DecoderModel,
    engine: &(dyn Linear + Sync),
    [prompt, written, rounds, threads]: [usize; 4],
) -> Result<(), Failure> {
    let engine = Timed { engine, spent: Default::default() };
    let resident = resident();
    let token = |i: usize| (i * 7919 % model.config().vocab as usize) as u32;
    let mut reading = Least { whole: f64::MAX, other: f64::MAX };
    let mut writing = Least { whole: f64::MAX, other: f64::MAX };
    let mut checksum = 0u64;
    for _ in 0..rounds {
        let tokens = (0..prompt).map(token).collect();
        let start = Instant::now();
        let mut fed = step(model, &engine, KvCache::new(), tokens)?;
        reading.take(start, &engine);
        let start = Instant::now();
        for i in 0..written {
            fed = step(model, &engine, fed.cache, vec![token(prompt + i)])?;
        }
        writing.take(start, &engine);
        let Output::Logits(logits) = fed.output else {
            return Err("a model without a head".into());
        };
        // FNV-1a.
        checksum =
            logits.iter().flat_map(|l| l.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |sum, b| {
                (sum ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
            });
    }
    println!(
        "{{\"kernel\":\"{}\",\"prompt\":{prompt},\"written\":{written},\"threads\":{threads},\
         \"prefill_tokens_per_second\":{:.1},\"decode_tokens_per_second\":{:.2},\
         \"resident_mb\":{resident},\"prefill_other_ms\":{:.4},\"decode_other_ms\":{:.4},\"checksum\":\"{checksum:016x}\"}}",
        nesa_kernels::path_name(),
        prompt as f64 / reading.whole,
        written as f64 / writing.whole,
        reading.other * 1e3 / prompt as f64,
        writing.other * 1e3 / written as f64,
    );
    Ok(())
}
