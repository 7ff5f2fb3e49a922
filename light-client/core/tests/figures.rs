//! What the client's checks cost in a dedicated worker of a headless browser.
//!
//! `cargo xtask bench browser` runs this and reads the line it prints. That the checks accept what
//! is measured is asserted, so that no figure is of a refusal.
#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed run

mod support;

use nesa_light::sync::{BATCH, Certified, HeaderSync, HeadersRequest};
use nesa_masked::{Lane, bench};
use nesa_model::{
    Model,
    toy::{self, ToyConfig},
};
use nesa_platform::time::Instant;
use rand::{SeedableRng as _, rngs::StdRng};
use support::Quorum;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// Headers verified for the figure, in batches of [`BATCH`].
const HEADERS: u64 = 3 * BATCH;
/// Tokens of the padded batch whose cost is measured.
const TOKENS: u32 = 32;
/// The best of this many runs is shown: what else the machine does only adds.
const RUNS: usize = 5;
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

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds to verify the whole chain in batches.
fn walk(quorum: &Quorum, chain: &[Certified]) -> f64 {
    let mut sync = HeaderSync::new(&quorum.trust).unwrap();
    let mut rng = StdRng::seed_from_u64(3);
    let mut took = 0.0;
    for (batch, headers) in chain.chunks(BATCH as usize).enumerate() {
        let request = HeadersRequest { from: 1 + batch as u64 * BATCH, max: BATCH };
        let headers = headers.to_vec();
        let start = Instant::now();
        assert!(sync.accept(&mut rng, request, headers).is_valid());
        took += ms(start);
    }
    took
}

/// Milliseconds to verify one header alone, as a state proof brings it.
fn single(quorum: &Quorum, head: &Certified) -> f64 {
    let mut sync = HeaderSync::new(&quorum.trust).unwrap();
    let start = Instant::now();
    assert!(sync.accept_head(&mut StdRng::seed_from_u64(3), head.clone()).is_valid());
    ms(start)
}

fn best(run: impl FnMut() -> f64) -> f64 {
    std::iter::repeat_with(run).take(RUNS).fold(f64::INFINITY, f64::min)
}

#[wasm_bindgen_test]
fn figures() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(HEADERS);
    let batched = best(|| walk(&quorum, &chain)) / HEADERS as f64;
    let alone = best(|| single(&quorum, &chain[7]));

    let model = Model::open(&toy::artifact(&MINILM_SHAPE).unwrap()).unwrap();
    let lane = Lane::of_model(model.stages()).unwrap();
    let origin = Instant::now();
    let costs = (0..RUNS)
        .map(|_| {
            let mut rng = StdRng::seed_from_u64(1);
            bench::costs(&lane, &model, TOKENS, &mut rng, || ms(origin)).unwrap()
        })
        .min_by(|a, b| a.client_ms().total_cmp(&b.client_ms()))
        .unwrap();
    let figures = serde_json::json!({
        "headers_per_second": 1e3 / batched,
        "header_in_batch_ms": batched,
        "header_alone_ms": alone,
        "freivalds_ms_per_token": costs.freivalds_ms,
        "client_ms_per_token": costs.client_ms(),
        "share_product_ms_per_token": costs.share_product_ms,
        "preparation_ms": costs.preparation_ms,
    });
    wasm_bindgen_test::console_log!("FIGURES {figures}");
}
