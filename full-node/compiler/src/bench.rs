//! Where the time of the plain exact engine goes, on this machine and thread.

use nesa_model::{EncoderRun, Linear, Model, PlainEngine, StageId, TokenIds};
use serde::Serialize;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Times of one embedding, milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct StageTimes {
    /// Tokens embedded, special ones included.
    pub tokens: usize,
    /// Kernel path, as [`nesa_kernels::Path::name`].
    pub kernel: &'static str,
    /// Fastest whole run.
    pub fastest_ms: f64,
    /// Median whole run.
    pub median_ms: f64,
    /// Linear stages in the fastest run: name without its layer, and milliseconds.
    pub linear_ms: Vec<(String, f64)>,
    /// Everything else in the fastest run: quantisation, attention, tables, norms.
    pub client_ms: f64,
}

fn milliseconds(d: Duration) -> f64 {
    d.as_secs_f64() * 1000.0
}

/// Times `runs` embeddings of `tokens` tokens (cut to the model's limit). No runs give `None`.
pub fn stage_times(model: &Model, tokens: usize, runs: usize) -> Option<StageTimes> {
    let text = "the ".repeat(tokens);
    let batch = match model.tokenizer() {
        Some(words) => [words.encode_within(&text, tokens)],
        // Tokens are tokens to what is timed.
        None => [model.frame().single(&vec![0; tokens.saturating_sub(2)])],
    };
    let mut all = Vec::with_capacity(runs);
    for _ in 0..runs {
        all.push(timed(model, &batch)?);
    }
    all.sort_by_key(|run| run.0);
    let median = all.get(runs / 2)?.0;
    let (total, linear) = all.first()?;
    let mut named: Vec<(String, f64)> = Vec::new();
    for (spec, &time) in model.stages().iter().zip(linear) {
        let name = spec.name.split_once('.').map_or(spec.name.as_str(), |n| n.1);
        match named.iter_mut().find(|n| n.0 == name) {
            Some(n) => n.1 += milliseconds(time),
            None => named.push((name.to_owned(), milliseconds(time))),
        }
    }
    Some(StageTimes {
        tokens: batch[0].len(),
        kernel: nesa_kernels::path_name(),
        fastest_ms: milliseconds(*total),
        median_ms: milliseconds(median),
        client_ms: milliseconds(*total - linear.iter().sum::<Duration>()),
        linear_ms: named,
    })
}

/// The plain engine, noting what each stage took.
struct Timed<'a> {
    engine: PlainEngine<'a>,
    stages: RefCell<Vec<Duration>>,
}

impl Linear for Timed<'_> {
    fn apply(&self, stage: StageId, x: &[i32], tokens: usize) -> Vec<i32> {
        self.engine.apply(stage, x, tokens)
    }

    fn apply_to(&self, stage: StageId, x: &[i32], tokens: usize, y: &mut [i32]) {
        let before = Instant::now();
        self.engine.apply_to(stage, x, tokens, y);
        self.stages.borrow_mut().push(before.elapsed());
    }
}

/// One run: its whole time, and that of each stage.
fn timed(model: &Model, batch: &[TokenIds]) -> Option<(Duration, Vec<Duration>)> {
    let stages = RefCell::new(Vec::with_capacity(model.stages().len()));
    let engine = Timed { engine: PlainEngine(model), stages };
    let start = Instant::now();
    let run = EncoderRun::start(model, batch).ok()?;
    std::hint::black_box(run.run(&engine).ok()?);
    Some((start.elapsed(), engine.stages.into_inner()))
}
