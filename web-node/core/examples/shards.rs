//! What it costs to hand a text from shard to shard, and how long a killed node is missed.
//!
//! `cargo run --profile local -p nesa-node --example shards`: a decoder of SmolLM-135M's layers with
//! made-up weights, its shards on nodes of one process behind WebSockets on loopback, one replica each,
//! so that only one computes at a time. A row is a median over its runs.

#[cfg(not(target_family = "wasm"))]
#[path = "../tests/support/shards.rs"]
#[allow(dead_code, clippy::unwrap_used)] // the tests' set-up
mod support;

#[cfg(target_family = "wasm")]
fn main() {}

#[cfg(not(target_family = "wasm"))]
#[allow(clippy::unwrap_used)] // a failed set-up ends the measurement
fn main() {
    use nesa_light::sealed::{SealedEvent, SealedListener};
    use nesa_model::decoder::toy::ToyDecoder;
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    };
    use support::{TOKENS, World, link};

    const RUNS: usize = 5;
    let toy = ToyDecoder {
        d_model: 576,
        d_ff: 1536,
        heads: 9,
        kv_heads: 3,
        head_width: 64,
        layers: 30,
        seed: 3,
        ..ToyDecoder::default()
    };
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("{TOKENS} tokens after a prompt of 7; all in ms");
        println!("shards  first token  per further token  bytes up  bytes down");
        for cuts in [&[0, 30][..], &[0, 15, 30], &[0, 7, 15, 22, 30]] {
            let mut world = World::new(&toy, cuts, 1);
            world.fill(1, &[]).await;
            let (mut first, mut next, mut bytes) = (Vec::new(), Vec::new(), (0, 0));
            // The first run loads the shards.
            for run in 0..=RUNS {
                let quiet: Arc<dyn SealedListener> = Arc::new(|_| {});
                let (_, timings) = world.ask(quiet).await.unwrap();
                if run > 0 {
                    let rest = timings.total_ms - timings.first_token_ms;
                    first.push(timings.first_token_ms);
                    next.push(rest / (TOKENS - 1) as f64);
                    bytes = (timings.bytes_up, timings.bytes_down);
                }
            }
            let (shards, first, next) = (cuts.len() - 1, median(first), median(next));
            println!("{shards:6}  {first:11.1}  {next:17.2}  {:8}  {:10}", bytes.0, bytes.1);
        }
        println!("a node killed after 12 tokens, of 2 shards with 2 replicas and a spare:");
        let mut missed = Vec::new();
        for run in 0..=RUNS {
            let mut world = World::new(&toy, &[0, 15, 30], 2);
            world.fill(3, &[]).await;
            let victim = world.nodes[&link(1, 0)].network.clone();
            let (count, once) = (Mutex::new(0), AtomicBool::new(false));
            let runtime = tokio::runtime::Handle::current();
            let listener: Arc<dyn SealedListener> = Arc::new(move |event| {
                if let SealedEvent::Token(_) = event {
                    let mut count = count.lock().unwrap();
                    *count += 1;
                    if *count == 12 && !once.swap(true, Ordering::SeqCst) {
                        let victim = victim.clone();
                        runtime.spawn(async move { victim.shutdown().await });
                    }
                }
            });
            let (_, timings) = world.ask(listener).await.unwrap();
            if run > 0 {
                missed.extend(timings.recovered_ms);
            }
        }
        println!(
            "from its loss to the next agreement: {:.0} of {} runs",
            median(missed.clone()),
            missed.len()
        );
    });
}
