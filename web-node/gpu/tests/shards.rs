//! Shards whose products a device computed write the rows, the hand-over and the traces of the processor.
//!
//! Any Vulkan device will do, a software one too. Where there is none, each test says so and does nothing.

#![cfg(all(feature = "decoder", not(target_family = "wasm")))]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

#[path = "support/shapes.rs"]
mod shapes;
mod support;

use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock};

use futures::executor::block_on;
use nesa_gpu::Caps;
use nesa_gpu::decoder::{GpuDecoder, GpuSequence, Kernels, Part, Products};
use nesa_model::decoder::toy::{self, TOY_VOCAB, ToyDecoder};
use nesa_model::decoder::{DecoderModel, DecoderRun, Feed, Input, KvCache, Logits, Output, Shard};
use nesa_model::manifest::WeightForm;
use nesa_model::{Linear, PlainDecoder, StageId};
use nesa_primitives::Hash;
use nesa_trace::{Geometry, Recorder, Trace};
use proptest::prelude::*;

/// So few bytes to a binding that a prompt goes in several submits.
const TIGHT: Caps = Caps { binding: 16 << 10, groups: 65_535 };

fn prove(caps: Option<Caps>) -> Option<Arc<Kernels>> {
    support::open(caps).map(|gpu| block_on(Kernels::prove(Arc::new(gpu))).unwrap())
}

/// A device as it is, and one with tight bindings.
fn devices() -> Option<[Arc<Kernels>; 2]> {
    static DEVICES: OnceLock<Option<[Arc<Kernels>; 2]>> = OnceLock::new();
    DEVICES.get_or_init(|| Some([prove(None)?, prove(Some(TIGHT))?])).clone()
}

/// Gives the products of a device, each once and in order.
struct Given {
    first: usize,
    products: RefCell<Vec<Vec<i32>>>,
}

impl Linear for Given {
    fn apply(&self, stage: StageId, _: &[i32], _: usize) -> Vec<i32> {
        std::mem::take(&mut self.products.borrow_mut()[usize::from(stage.0) - self.first])
    }
}

/// A sequence in a shard, on the processor or followed there.
struct Seen {
    cache: KvCache,
    trace: Trace,
}

impl Seen {
    fn new(model: &DecoderModel) -> Self {
        let layers = model.layers();
        let geometry = Geometry::of(model.config(), layers.start as u16..layers.end as u16);
        Self { cache: KvCache::new(), trace: Trace::new(geometry.unwrap(), Hash([7; 32])) }
    }
}

/// Runs a batch on the processor with these products.
fn follow(
    model: &DecoderModel,
    seen: &mut [Seen],
    inputs: &[(Input, Logits)],
    engine: &impl Linear,
) -> Vec<Output> {
    let traces = seen.iter().map(|s| s.trace.clone()).collect();
    let recorder = Arc::new(Mutex::new(Recorder::new(traces)));
    let feeds = seen.iter_mut().zip(inputs).map(|(s, (input, logits))| Feed {
        cache: std::mem::take(&mut s.cache),
        input: input.clone(),
        logits: *logits,
    });
    let run = DecoderRun::start_observed(model, feeds.collect(), Box::new(recorder.clone()));
    let fed = run.unwrap().run(engine).unwrap();
    let traces = recorder.lock().unwrap().finish();
    let mut outputs = Vec::new();
    for ((seen, fed), (trace, _)) in seen.iter_mut().zip(fed).zip(traces) {
        (seen.cache, seen.trace) = (fed.cache, trace);
        outputs.push(fed.output);
    }
    outputs
}

/// A shard on the device and on the processor, with some sequences in it.
struct Pair {
    model: DecoderModel,
    decoder: GpuDecoder,
    sequences: Vec<GpuSequence>,
    followed: Vec<Seen>,
    alone: Vec<Seen>,
}

impl Pair {
    fn new(kernels: &Arc<Kernels>, model: DecoderModel, sequences: usize) -> Self {
        let decoder = GpuDecoder::place(kernels.clone(), &model).unwrap();
        let capacity = model.config().max_tokens as usize;
        Self {
            sequences: (0..sequences).map(|_| decoder.sequence(capacity).unwrap()).collect(),
            followed: (0..sequences).map(|_| Seen::new(&model)).collect(),
            alone: (0..sequences).map(|_| Seen::new(&model)).collect(),
            decoder,
            model,
        }
    }

    fn products(&mut self, inputs: &[(Input, Logits)]) -> Products {
        let parts = self.sequences.iter_mut().zip(inputs);
        let mut parts: Vec<Part<'_>> = parts
            .map(|(sequence, (input, logits))| Part { sequence, input, logits: *logits })
            .collect();
        block_on(self.decoder.products(&mut parts)).unwrap()
    }

    /// One step of all sequences, which must come out alike.
    fn step(&mut self, inputs: &[(Input, Logits)]) -> (Vec<Output>, Products) {
        let products = self.products(inputs);
        let first = self.model.stages_here().start;
        let given = Given { first, products: RefCell::new(products.stages.clone()) };
        let got = follow(&self.model, &mut self.followed, inputs, &given);
        let plain = PlainDecoder(&self.model);
        let expected = follow(&self.model, &mut self.alone, inputs, &plain);
        assert!(got == expected, "outputs differ");
        for (followed, alone) in self.followed.iter().zip(&self.alone) {
            assert_eq!(followed.trace.root(8), alone.trace.root(8), "traces differ");
        }
        (got, products)
    }

    fn truncate(&mut self, tokens: usize) {
        self.sequences.iter_mut().for_each(|sequence| sequence.truncate(tokens));
        for seen in self.followed.iter_mut().chain(&mut self.alone) {
            seen.cache.truncate(tokens).unwrap();
            seen.trace.truncate(tokens);
        }
    }
}

fn pieces(outputs: Vec<Output>, logits: Logits) -> Vec<(Input, Logits)> {
    let row = |output| match output {
        Output::Hidden(rows) => (Input::Hidden(rows), logits),
        Output::Logits(_) => panic!("logits are not handed on"),
    };
    outputs.into_iter().map(row).collect()
}

proptest! {
    // Each case runs on a software device.
    #![proptest_config(ProptestConfig::with_cases(10))]

    /// Several sequences with prompts of their own, then token by token, and back, through 1, 2 and 4
    /// shards: rows, logits and trace roots of the processor, with weights of bytes and of four bits.
    #[test]
    fn batches_of_shards_equal_the_processors(
        toy in shapes::shapes(4),
        texts in prop::collection::vec(prop::collection::vec(0..TOY_VOCAB, 1..9), 1..4),
        more in prop::collection::vec(0..TOY_VOCAB, 1..4),
        every: bool,
        tight: bool,
        packed: bool,
    ) {
        let Some(devices) = devices() else { return Ok(()) };
        let kernels = &devices[usize::from(tight)];
        let form = if packed { WeightForm::Nibbles } else { WeightForm::Bytes };
        let artifact = toy::artifact_of(&toy, form).unwrap();
        for cuts in [&[0usize, 4][..], &[0, 2, 4], &[0, 1, 2, 3, 4]] {
            let mut shards: Vec<Pair> = cuts
                .windows(2)
                .map(|cut| {
                    let shard = Shard::of_artifact(&artifact, cut[0]..cut[1]).unwrap();
                    Pair::new(kernels, DecoderModel::open_shard(&shard).unwrap(), texts.len())
                })
                .collect();
            let last = shards.len() - 1;
            let mut step = |inputs: Vec<Vec<u32>>, logits, back: Option<usize>| {
                let mut inputs: Vec<(Input, Logits)> =
                    inputs.into_iter().map(|tokens| (Input::Tokens(tokens), logits)).collect();
                for (index, shard) in shards.iter_mut().enumerate() {
                    if let Some(tokens) = back {
                        shard.truncate(tokens);
                    }
                    let (outputs, products) = shard.step(&inputs);
                    assert!(products.submits >= 1);
                    if index < last {
                        inputs = pieces(outputs, logits);
                    }
                }
            };
            step(texts.clone(), if every { Logits::All } else { Logits::Last }, None);
            for token in &more {
                step(vec![vec![*token]; texts.len()], Logits::Last, None);
            }
            // Back to the first token of each, and on from there.
            step(vec![vec![more[0]]; texts.len()], Logits::All, Some(1));
        }
    }
}

/// A step is one submit, one copy and one read, whatever the number of layers and sequences.
#[test]
fn a_step_is_one_submit_and_one_read() {
    let Some([kernels, tight]) = devices() else { return };
    for layers in [2, 5] {
        let toy = ToyDecoder { layers, ..ToyDecoder::default() };
        let artifact = toy::artifact(&toy).unwrap();
        let model = DecoderModel::open(&artifact).unwrap();
        let mut pair = Pair::new(&kernels, model.clone(), 3);
        let tokens = |tokens: &[u32]| (Input::Tokens(tokens.to_vec()), Logits::Last);
        let prompts = [tokens(&[1, 2, 3, 4, 5]), tokens(&[7]), tokens(&[9, 9])];
        let (_, products) = pair.step(&prompts);
        assert_eq!(products.submits, 1);
        // Eleven a layer, two more for each sequence, and a norm for each row of logits.
        let expected = usize::from(layers) * (11 + 2 * 3) + 3 + 1;
        assert_eq!(products.dispatches, expected);
        // Every product's words, to a multiple of 256 bytes, and nothing else.
        let words = |rows: usize, n: usize| (rows * n).next_multiple_of(64);
        let stages = model.stages();
        let layer: usize = stages[..4].iter().map(|stage| words(8, stage.n)).sum();
        let head = words(3, stages.last().unwrap().n);
        assert_eq!(products.bytes, 4 * (usize::from(layers) * layer + head));

        // With bindings of 16 KiB the same prompt takes several.
        let mut pair = Pair::new(&tight, model, 1);
        let (_, products) = pair.step(&[tokens(&[1; 40])]);
        assert!(products.submits > 1, "{}", products.submits);
    }
}
