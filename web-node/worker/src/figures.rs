//! What threads beside the worker's own give, for `cargo xtask bench pool`; never part of `www/dist`.
//!
//! Products of one thread, of two and of three by turns, on weights of MiniLM's shape, each compared with the
//! kernel's alone: a figure of a wrong product is none.

use std::{sync::Arc, time::Duration};

use js_sys::Function;
use nesa_model::{
    ExactModel, StageId,
    toy::{self, ToyConfig},
};
use nesa_node::{Team, Threads, Workers as _};
use nesa_platform::{random, task, time::Instant};
use nesa_primitives::Hash;
use rand_core::Rng as _;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use crate::threads::PoolWorkers;

/// The shape of all-MiniLM-L6-v2; costs do not depend on the weights.
const MINILM_SHAPE: ToyConfig = ToyConfig {
    d_model: 384,
    d_ff: 1536,
    heads: 12,
    layers: 6,
    max_tokens: 256,
    input_bits: 12,
    seed: 1,
};
/// Rows of the share: of a part as the lane cuts it, and fewer, down to what stays on one thread.
const ROWS: [usize; 4] = [64, 16, 8, 4];
/// Most threads beside the worker's own.
const MORE: u32 = 2;

fn told(error: impl std::fmt::Display) -> JsError {
    JsError::new(&error.to_string())
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().map_or(f64::NAN, ms)
}

fn words(len: usize) -> Vec<u32> {
    let mut rng = random::rng();
    (0..len).map(|_| rng.next_u32()).collect()
}

/// Milliseconds per product of every shape, alone and with one and two threads more, and what handing over
/// costs; as JSON. `make` makes a thread.
///
/// # Errors
/// When a thread does not start, or a product is not the kernel's.
#[wasm_bindgen]
pub async fn pool_figures(make: Function, rounds: u32) -> Result<String, JsError> {
    console_error_panic_hook::set_once();
    let artifact = toy::artifact(&MINILM_SHAPE).map_err(told)?;
    let digest = artifact.digest();
    let model = ExactModel::open(&artifact).map_err(told)?;
    let mut teams = Vec::new();
    for count in 1..=MORE {
        let threads = Threads::of([(digest, model.clone())]).map_err(told)?;
        #[allow(clippy::arc_with_non_send_sync)] // one thread here
        let workers = Arc::new(PoolWorkers::start(&make, count).await.map_err(told)?);
        let began = Instant::now();
        threads.employ(Team { workers, memory: u64::MAX }).await;
        teams.push((threads, ms(began.elapsed())));
    }
    let mut shapes: Vec<(usize, usize, u16)> = Vec::new();
    for stage in model.served_stages() {
        if !shapes.iter().any(|(n, k, _)| (*n, *k) == (stage.n, stage.k)) {
            shapes.push((stage.n, stage.k, stage.id.0));
        }
    }
    let mut products = Vec::new();
    for (n, k, stage) in shapes {
        for rows in ROWS {
            let key = (digest, stage);
            products.push(compare(&model, key, (n, k, rows), &teams, rounds).await?);
        }
    }
    let loading: Vec<f64> = teams.iter().map(|(_, took)| *took).collect();
    drop(teams);
    let (share, product) = hand_over(&make, rounds).await?;
    let figures = json!({
        "rounds": rounds,
        "loading_ms": loading,
        "products": products,
        "hand_over_ms": { "share of 64 x 1536 words in": share, "product of 64 x 1536 words out": product },
    });
    Ok(figures.to_string())
}

/// One product by turns.
async fn compare(
    model: &ExactModel,
    key: (Hash, u16),
    (n, k, rows): (usize, usize, usize),
    teams: &[(Threads, f64)],
    rounds: u32,
) -> Result<Value, JsError> {
    let share = words(rows * k);
    let mut times = vec![Vec::new(); 1 + teams.len()];
    // The first round warms all up.
    for round in 0..=rounds {
        let began = Instant::now();
        // As a node without threads computes it.
        let (of, own) = (model.clone(), share.clone());
        let alone = task::compute(move || {
            let mut product = vec![0; rows * n];
            let w = of.weights(StageId(key.1));
            w.matmul_mask_u32(&own, n, k, rows, &mut product);
            product
        });
        let alone = alone.await;
        let mut took = vec![began.elapsed()];
        for (threads, _) in teams {
            let began = Instant::now();
            let product = threads.product(key, model, &share, rows).await;
            took.push(began.elapsed());
            // Below the threshold the threads leave it to this one.
            if product.is_some_and(|product| product != alone) {
                return Err(told(format!("a wrong product of {n} x {k}, {rows} rows")));
            }
        }
        if round > 0 {
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
        }
    }
    let mut times = times.into_iter().map(median);
    let alone = times.next().unwrap_or(f64::NAN);
    let more: Vec<Value> = times
        .map(|time| json!({ "ms": time, "per_second": 1e3 / time, "alone_over_it": alone / time }))
        .collect();
    Ok(
        json!({ "n": n, "k": k, "rows": rows, "alone_ms": alone, "alone_per_second": 1e3 / alone, "more": more }),
    )
}

/// Milliseconds of products with next to nothing to compute: a large share in, and a large product out.
async fn hand_over(make: &Function, rounds: u32) -> Result<(f64, f64), JsError> {
    const ROWS: usize = 64;
    const WIDE: usize = 1536;
    let workers = PoolWorkers::start(make, 1).await.map_err(told)?;
    let mut times = [Vec::new(), Vec::new()];
    for (weight, (n, k)) in [(1, WIDE), (WIDE, 1)].into_iter().enumerate() {
        let w = vec![1i8; n * k];
        workers.load(0, weight as u32, &w, k).await.map_err(told)?;
        let share = words(ROWS * k);
        for _ in 0..rounds {
            let began = Instant::now();
            for answer in workers.products(&[0], weight as u32, &share, ROWS) {
                answer.await.map_err(told)?;
            }
            times[weight].push(began.elapsed());
        }
    }
    let [share, product] = times;
    Ok((median(share), median(product)))
}
