//! What a step of the sealed lane leaves to the processor when a device computes its products, measured
//! without one: `follow [LAYERS D_MODEL D_FF HEADS KV_HEADS [CONTEXT]]`.
//!
//! A step of one token is run in two ways by turns, traced each time: with the processor's products, and with
//! products that are there already. The second is a device that takes no time; their ratio bounds what any
//! device can gain. Checks of the products are not in it: `nesa-node` makes them, at 2 (n + k) multiplications
//! a row. Numbers are least times in ms.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nesa_model::decoder::toy::{self, Noting, TOY_CONTEXT, ToyDecoder};
use nesa_model::decoder::{DecoderModel, DecoderRun, Feed, Input, KvCache, Logits};
use nesa_model::{Linear, PlainDecoder, StageId};
use nesa_primitives::Hash;
use nesa_trace::{Geometry, Recorder, Trace};

const TURNS: usize = 9;

/// Products that are there already, by stage.
struct Given(RefCell<Vec<Vec<i32>>>);

impl Linear for Given {
    fn apply(&self, stage: StageId, _: &[i32], _: usize) -> Vec<i32> {
        self.0.borrow()[usize::from(stage.0)].clone()
    }

    fn apply_to(&self, stage: StageId, _: &[i32], _: usize, y: &mut [i32]) {
        y.copy_from_slice(&self.0.borrow()[usize::from(stage.0)]);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|n| n.parse().ok()).collect();
    let mut toy = ToyDecoder { seed: 3, ..ToyDecoder::default() };
    // SmolLM-135M's layers.
    (toy.layers, toy.d_model, toy.d_ff, toy.heads, toy.kv_heads) = (30, 576, 1536, 9, 3);
    if let [layers, d_model, d_ff, heads, kv_heads, ..] = numbers[..] {
        (toy.layers, toy.d_model, toy.d_ff) = (u16::try_from(layers)?, d_model, d_ff);
        (toy.heads, toy.kv_heads) = (u16::try_from(heads)?, u16::try_from(kv_heads)?);
    }
    toy.head_width = u16::try_from(toy.d_model / u32::from(toy.heads))?;
    let context = numbers.get(5).copied().unwrap_or(32).min(TOY_CONTEXT - 1);
    let model = DecoderModel::open(&toy::artifact(&toy)?)?;
    let geometry = Geometry::of(model.config(), 0..toy.layers)?;
    let run = |cache: KvCache,
               tokens: Vec<u32>,
               engine: &dyn Fn(DecoderRun) -> Vec<nesa_model::decoder::Fed>| {
        let recorder = Recorder::new(vec![Trace::new(geometry, Hash([7; 32]))]);
        let recorder = Arc::new(Mutex::new(recorder));
        let feed = Feed { cache, input: Input::Tokens(tokens), logits: Logits::Last };
        DecoderRun::start_observed(&model, vec![feed], Box::new(recorder)).map(engine)
    };
    let plain = |run: DecoderRun| run.run(&PlainDecoder(&model)).unwrap_or_default();
    let prompt = (0..context).map(|i| i % 50).collect();
    let cache = run(KvCache::new(), prompt, &plain)?.remove(0).cache;
    let noting = Noting::new(&model);
    run(cache.clone(), vec![1], &|run| run.run(&noting).unwrap_or_default())?;
    let given = Given(RefCell::new(noting.into_products()));
    let (mut whole, mut followed) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..TURNS {
        let began = Instant::now();
        run(cache.clone(), vec![1], &plain)?;
        whole = whole.min(began.elapsed().as_secs_f64() * 1e3);
        let began = Instant::now();
        run(cache.clone(), vec![1], &|run| run.run(&given).unwrap_or_default())?;
        followed = followed.min(began.elapsed().as_secs_f64() * 1e3);
    }
    let ratio = whole / followed;
    println!(
        r#"{{"layers":{},"d_model":{},"d_ff":{},"context":{context},"whole_ms":{whole:.2},"followed_ms":{followed:.2},"most_gain":{ratio:.1}}}"#,
        toy.layers, toy.d_model, toy.d_ff
    );
    Ok(())
}
