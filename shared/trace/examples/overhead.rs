//! What recording a trace costs beside the run it records: one prompt and some single tokens of a made-up
//! decoder, with and without a recorder. Prints milliseconds and their ratio.
//!
//! ```sh
//! cargo run --profile local -p nesa-trace --example overhead
//! ```

use nesa_model::PlainDecoder;
use nesa_model::decoder::toy::{ToyDecoder, artifact};
use nesa_model::decoder::{DecoderModel, DecoderRun, Feed, Input, KvCache, Logits};
use nesa_model::manifest::Manifest;
use nesa_primitives::Hash;
use nesa_trace::{Geometry, Recorder, Trace};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const PROMPT: u32 = 48;
const SINGLE: u32 = 15;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let toy = ToyDecoder {
        d_model: 576,
        d_ff: 1536,
        heads: 9,
        kv_heads: 3,
        head_width: 64,
        layers: 6,
        input_bits: 8,
        ..ToyDecoder::default()
    };
    let artifact = artifact(&toy)?;
    let model = DecoderModel::open(&artifact)?;
    let Manifest::Decoder(manifest) = artifact.header().manifest() else { return Ok(()) };
    let geometry = Geometry::of(&manifest.config, 0..toy.layers)?;
    let mut best = [[f64::MAX; 2]; 2];
    for _ in 0..5 {
        for recorded in [false, true] {
            let mut trace = Trace::new(geometry, Hash::ZERO);
            let mut cache = KvCache::new();
            let mut times = [0.0; 2];
            let prompt = (0..PROMPT).map(|t| t * 7 % 50).collect::<Vec<_>>();
            let singles = (0..SINGLE).map(|t| vec![t * 11 % 50]);
            for (i, tokens) in std::iter::once(prompt).chain(singles).enumerate() {
                let feed = Feed { cache, input: Input::Tokens(tokens), logits: Logits::Last };
                let start = Instant::now();
                let recorder = Arc::new(Mutex::new(Recorder::new(vec![trace])));
                let run = if recorded {
                    DecoderRun::start_observed(&model, vec![feed], Box::new(recorder.clone()))?
                } else {
                    DecoderRun::start(&model, vec![feed])?
                };
                let fed = run.run(&PlainDecoder(&model))?.pop().ok_or("no output")?;
                times[i.min(1)] += start.elapsed().as_secs_f64() * 1e3;
                cache = fed.cache;
                let mut recorder = recorder.lock().map_err(|_| "poisoned")?;
                trace = recorder.finish().pop().ok_or("no trace")?.0;
            }
            for (best, time) in best[usize::from(recorded)].iter_mut().zip(times) {
                *best = best.min(time);
            }
        }
    }
    for (what, i, tokens) in [("prompt", 0, PROMPT), ("single tokens", 1, SINGLE)] {
        let (plain, traced) = (best[0][i], best[1][i]);
        let per = f64::from(tokens);
        println!(
            "{what}: {:.3} ms a token, with a trace {:.3} ms ({:.2} times)",
            plain / per,
            traced / per,
            traced / plain
        );
    }
    Ok(())
}
