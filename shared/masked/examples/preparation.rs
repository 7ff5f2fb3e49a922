//! Compares the two ways to s for a compiled model, as JSON:
//! `cargo run --profile local -p nesa-masked --example preparation -- models/all-minilm-l6-v2.nesa`
//!
//! Bytes are those of the frames and of the weight pieces; times are arithmetic and codec, without a
//! link. The two preparers work at the same time, on machines of their own. The fastest of a few
//! runs counts.

use std::time::Instant;

use nesa_masked::{
    Lane,
    client::Candidate,
    preparation::Preparation,
    thin::{Preparing, TEST_ROWS, server},
};
use nesa_model::{Artifact, ExactModel, ModelLimits, StageId};
use nesa_primitives::Hash;
use rand::{SeedableRng, rngs::StdRng};

type Failure = Box<dyn std::error::Error>;

const RUNS: u64 = 5;

#[derive(Default, Clone, Copy)]
struct Thin {
    up: usize,
    down: usize,
    client_ms: f64,
    preparer_ms: f64,
}

fn timed<T>(total: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let out = work();
    *total += start.elapsed().as_secs_f64() * 1e3;
    out
}

fn thin(model: &ExactModel, lane: &Lane, seed: u64) -> Result<Thin, Failure> {
    let candidate =
        |i: u8| Candidate { node: [i; 32].into(), operator: [i.wrapping_add(100); 32].into() };
    let (pair, mut rng) = ([candidate(1), candidate(2)], StdRng::seed_from_u64(seed));
    let mut cost = Thin::default();
    let mut client = timed(&mut cost.client_ms, || {
        Preparing::new(Hash::ZERO, model.digest(), lane.clone(), pair, &mut rng)
    })?;
    let mut busy = [0.0; 2];
    for (which, spent) in busy.iter_mut().enumerate() {
        let node = pair[which].node;
        let mut server = server::Session::new(Hash::ZERO, model.digest(), node, lane.clone());
        while let Some(frame) = timed(&mut cost.client_ms, || client.next_frame(which)) {
            cost.up += frame.len() + 4;
            let answers = timed(spent, || -> Result<_, Failure> {
                Ok(match server.receive(&frame)? {
                    server::Received::Reply(bytes) => vec![bytes],
                    server::Received::Quiet => Vec::new(),
                    server::Received::Work(job) => {
                        job.run(model).ok_or("the weights are here")?.frames()
                    }
                })
            })?;
            for answer in answers {
                cost.down += answer.len() + 4;
                timed(&mut cost.client_ms, || client.received(which, &answer))?;
            }
        }
    }
    let preparation = timed(&mut cost.client_ms, || client.finish())?;
    if !preparation.covers(lane) {
        return Err("the preparation covers the model".into());
    }
    cost.preparer_ms = busy[0].max(busy[1]);
    Ok(cost)
}

fn main() -> Result<(), Failure> {
    let file = std::env::args().nth(1).ok_or("usage: preparation MODEL.nesa")?;
    let artifact = Artifact::open(std::fs::read(file)?, &ModelLimits::default())?;
    let model = ExactModel::open(&artifact)?;
    let lane = Lane::of_model(model.served_stages())?;
    let header = artifact.header();
    let bytes = |pieces: core::ops::Range<usize>| -> usize {
        pieces.filter_map(|index| header.piece_len(index)).sum()
    };
    let (local, all) = (header.local_pieces(), header.piece_count());
    let mut best = Thin { client_ms: f64::MAX, ..Thin::default() };
    let mut fold_ms = f64::MAX;
    for run in 0..RUNS {
        let cost = thin(&model, &lane, run)?;
        if cost.client_ms + cost.preparer_ms < best.client_ms + best.preparer_ms {
            best = cost;
        }
        let (mut spent, mut rng) = (0.0, StdRng::seed_from_u64(run));
        timed(&mut spent, || {
            let weights = |stage| model.weights(StageId(stage));
            Preparation::from_weights(model.digest(), &lane, weights, &mut rng)
        })?;
        fold_ms = fold_ms.min(spent);
    }
    println!(
        "{{\"both\":{{\"pieces_bytes\":{}}},\"local\":{{\"weight_bytes\":{},\"fold_ms\":{fold_ms:.1}}},\
         \"thin\":{{\"up_bytes\":{},\"down_bytes\":{},\"client_ms\":{:.1},\"preparer_ms\":{:.1},\
         \"test_bytes\":{}}}}}",
        bytes(0..local),
        bytes(local..all),
        best.up,
        best.down,
        best.client_ms,
        best.preparer_ms,
        lane.bytes_per_token().total() * u64::from(TEST_ROWS),
    );
    Ok(())
}
