//! Decoding in steps, batches and shards equals the plain interpreter; hostile input harms nobody.

#![cfg(not(target_family = "wasm"))] // threads
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_kernels::sample::Sampling;
use nesa_model::decoder::toy::{self, TOY_CONTEXT, TOY_VOCAB, ToyDecoder};
use nesa_model::decoder::{
    DecoderModel, DecoderRun, Fed, Feed, Input, KvCache, Logits, Output, RunError, Shard,
    ShardError, choose, interpreter,
};
use nesa_model::{
    Artifact, Header, Linear, ModelError, ModelLimits, PlainDecoder, ThreadedDecoder,
};
use proptest::prelude::*;

fn feed(cache: KvCache, tokens: &[u32], logits: Logits) -> Feed {
    Feed { cache, input: Input::Tokens(tokens.to_vec()), logits }
}

fn run(model: &DecoderModel, feeds: Vec<Feed>) -> Vec<Fed> {
    DecoderRun::start(model, feeds).unwrap().run(&PlainDecoder(model)).unwrap()
}

fn logits(fed: &Fed) -> &[i32] {
    match &fed.output {
        Output::Logits(l) => l,
        Output::Hidden(_) => panic!("hidden rows where logits were expected"),
    }
}

fn flat(rows: &[Vec<i32>]) -> Vec<i32> {
    rows.concat()
}

fn shapes() -> impl Strategy<Value = ToyDecoder> {
    (
        0u64..1000,
        prop::sample::select(vec![(4u16, 2u16, 8u16), (2, 2, 16), (6, 1, 4), (3, 3, 2)]),
        prop::sample::select(vec![0u32, 1, 3]),
        any::<bool>(),
        prop::sample::select(vec![8u8, 12, 14]),
        prop::sample::select(vec![0u8, 4, 9, 18]),
        1u16..4,
    )
        .prop_map(
            |(seed, (heads, kv_heads, head_width), window, tied, input_bits, loudness, layers)| {
                ToyDecoder {
                    heads,
                    kv_heads,
                    head_width,
                    window,
                    tied,
                    input_bits,
                    loudness,
                    layers,
                    seed,
                    ..ToyDecoder::default()
                }
            },
        )
}

fn tokens(max: usize) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..TOY_VOCAB, 1..max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Prefill in one on every path of this machine, token by token, or cut anywhere: the interpreter's
    /// logits.
    #[test]
    fn steps_equal_the_interpreter(toy in shapes(), text in tokens(14), cut in 0usize..14) {
        let model = DecoderModel::open(&toy::artifact(&toy).unwrap()).unwrap();
        let expected = interpreter::logits(&model, &text).unwrap();

        for path in nesa_kernels::Path::available() {
            let feeds = || vec![feed(KvCache::new(), &text, Logits::All)];
            let whole = path.during(|| run(&model, feeds())).unwrap().remove(0);
            prop_assert_eq!(logits(&whole), &flat(&expected)[..], "on {}", path.name());
        }

        let cut = cut.min(text.len() - 1);
        let mut cache = KvCache::new();
        if cut > 0 {
            cache = run(&model, vec![feed(cache, &text[..cut], Logits::Last)]).remove(0).cache;
        }
        for (t, token) in text.iter().enumerate().skip(cut) {
            let fed = run(&model, vec![feed(cache, &[*token], Logits::Last)]).remove(0);
            prop_assert_eq!(logits(&fed), &expected[t][..]);
            cache = fed.cache;
        }
        prop_assert_eq!(cache.len(), text.len());
    }

    /// However many threads there are, and whatever falls to each.
    #[test]
    fn threads_change_nothing(seed: u64, threads in 1usize..6, text in tokens(14)) {
        // Wide enough that products are handed out even for single rows.
        let wide = ToyDecoder { d_model: 512, d_ff: 518, layers: 1, seed, ..ToyDecoder::default() };
        let model = DecoderModel::open(&toy::artifact(&wide).unwrap()).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (mut ours, mut plain) = (KvCache::new(), KvCache::new());
        for part in [&text[..], &[3], &[7]] {
            let feeds = |cache| vec![feed(cache, part, Logits::All)];
            let expected = run(&model, feeds(plain)).remove(0);
            let run = DecoderRun::start(&model, feeds(ours)).unwrap();
            let got = pool.install(|| run.run(&ThreadedDecoder(&model))).unwrap().remove(0);
            prop_assert_eq!(logits(&got), logits(&expected));
            (ours, plain) = (got.cache, expected.cache);
        }
    }

    /// Sequences of a batch never see each other, nor the padding.
    #[test]
    fn batches_equal_single_runs(
        toy in shapes(),
        a in tokens(9),
        b in tokens(9),
        padding in 0usize..7,
    ) {
        let model = DecoderModel::open(&toy::artifact(&toy).unwrap()).unwrap();
        let feeds = vec![
            feed(KvCache::new(), &a, Logits::Last),
            feed(KvCache::new(), &b, Logits::All),
        ];
        let rows = a.len() + b.len() + padding;
        let both = DecoderRun::start_padded(&model, feeds, rows).unwrap();
        let both = both.run(&PlainDecoder(&model)).unwrap();
        let alone = interpreter::logits(&model, &a).unwrap();
        prop_assert_eq!(logits(&both[0]), &alone[a.len() - 1][..]);
        prop_assert_eq!(logits(&both[1]), &flat(&interpreter::logits(&model, &b).unwrap())[..]);
    }

    /// Rows that hide how many tokens there are hold nothing of the stages before.
    #[test]
    fn padding_is_zero(toy in shapes(), text in tokens(9), padding in 1usize..7) {
        let model = DecoderModel::open(&toy::artifact(&toy).unwrap()).unwrap();
        let feeds = vec![feed(KvCache::new(), &text, Logits::Last)];
        let rows = text.len() + padding;
        let mut run = DecoderRun::start_padded(&model, feeds, rows).unwrap();
        while let Some(pending) = run.pending() {
            let spec = &model.stages()[usize::from(pending.stage.0)];
            if pending.stage.0 as usize + 1 < model.stages().len() {
                prop_assert_eq!(pending.rows, rows);
                prop_assert!(pending.x[text.len() * spec.k..].iter().all(|&x| x == 0));
            }
            let y = PlainDecoder(&model).apply(pending.stage, pending.x, pending.rows);
            run.resume(&y).unwrap();
        }
    }

    /// One, two or as many shards as layers: the same bytes.
    #[test]
    fn shards_equal_the_whole(toy in shapes(), text in tokens(9), more in tokens(4), cut in 0usize..8) {
        let artifact = toy::artifact(&toy).unwrap();
        let model = DecoderModel::open(&artifact).unwrap();
        let layers = usize::from(toy.layers);
        let bounds: Vec<usize> = (0..=layers)
            .filter(|&l| l == 0 || l == layers || cut & (1 << (l - 1)) != 0)
            .collect();
        let mut shards: Vec<(DecoderModel, KvCache)> = bounds
            .windows(2)
            .map(|w| {
                let shard = Shard::of_artifact(&artifact, w[0]..w[1]).unwrap();
                (DecoderModel::open_shard(&shard).unwrap(), KvCache::new())
            })
            .collect();
        let mut seen = Vec::new();
        for part in [&text, &more] {
            seen.extend_from_slice(part);
            let mut input = Input::Tokens(part.clone());
            let mut last = Vec::new();
            for (shard, cache) in &mut shards {
                let feed = Feed { cache: std::mem::take(cache), input, logits: Logits::Last };
                let fed = run(shard, vec![feed]).remove(0);
                *cache = fed.cache;
                match fed.output {
                    Output::Hidden(rows) => input = Input::Hidden(rows),
                    Output::Logits(l) => {
                        last = l;
                        input = Input::Hidden(Vec::new());
                    }
                }
            }
            let expected = interpreter::logits(&model, &seen).unwrap();
            prop_assert_eq!(&last, &expected[seen.len() - 1]);
        }
    }

    /// Going back and saying something else is as if the first had never been said.
    #[test]
    fn truncation_forgets(toy in shapes(), text in tokens(8), wrong in tokens(5), right in tokens(5)) {
        let model = DecoderModel::open(&toy::artifact(&toy).unwrap()).unwrap();
        let both = [&text[..], &wrong].concat();
        let mut cache = run(&model, vec![feed(KvCache::new(), &both, Logits::Last)]).remove(0).cache;
        cache.truncate(text.len()).unwrap();
        let fed = run(&model, vec![feed(cache, &right, Logits::Last)]).remove(0);
        let expected = interpreter::logits(&model, &[&text[..], &right].concat()).unwrap();
        prop_assert_eq!(logits(&fed), &expected.last().unwrap()[..]);
    }

    /// A run given up midway leaves the cache as it was.
    #[test]
    fn cancelling_changes_nothing(toy in shapes(), text in tokens(8), steps in 0usize..13, next in tokens(3)) {
        let model = DecoderModel::open(&toy::artifact(&toy).unwrap()).unwrap();
        let cache = run(&model, vec![feed(KvCache::new(), &text, Logits::Last)]).remove(0).cache;
        let mut given_up = DecoderRun::start(&model, vec![feed(cache, &[1, 2, 3], Logits::Last)]).unwrap();
        for _ in 0..steps.min(4 * usize::from(toy.layers)) {
            let pending = given_up.pending().unwrap();
            let n = model.stages()[usize::from(pending.stage.0)].n;
            let y = vec![7; pending.rows * n];
            given_up.resume(&y).unwrap();
        }
        let cache = given_up.cancel().remove(0);
        prop_assert_eq!(cache.len(), text.len());
        let fed = run(&model, vec![feed(cache, &next, Logits::Last)]).remove(0);
        let expected = interpreter::logits(&model, &[&text[..], &next].concat()).unwrap();
        prop_assert_eq!(logits(&fed), &expected.last().unwrap()[..]);
    }

    /// Whatever a server returns, the client neither panics nor leaves the stage's input range.
    #[test]
    fn any_product_is_safe(toy in shapes(), text in tokens(8), seed: u64) {
        let model = DecoderModel::open(&toy::artifact(&toy).unwrap()).unwrap();
        let mut run = DecoderRun::start(&model, vec![feed(KvCache::new(), &text, Logits::Last)]).unwrap();
        let mut state = seed;
        while let Some(pending) = run.pending() {
            let spec = &model.stages()[usize::from(pending.stage.0)];
            prop_assert_eq!(pending.x.len(), pending.rows * spec.k);
            prop_assert!(pending.x.iter().all(|x| x.abs() <= spec.input_max()));
            let y: Vec<i32> = (0..pending.rows * spec.n).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(99);
                match state >> 61 { 0 => i32::MIN, 1 => i32::MAX, 2 => 0, _ => (state >> 17) as i32 }
            }).collect();
            run.resume(&y).unwrap();
        }
        prop_assert!(run.into_output().is_some());
    }

    /// Headers mutated but kept decodable: sizes lie, nothing panics or allocates beyond limits.
    #[test]
    fn lying_manifests_are_survived(at in 0usize..160, value: u8) {
        let artifact = toy::artifact(&ToyDecoder::default()).unwrap();
        let mut bytes = artifact.header().bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = value;
        let limits = ModelLimits { max_bytes: 1 << 22, ..ModelLimits::default() };
        if let Ok(header) = Header::decode(&bytes, &limits) {
            prop_assert!(header.layout().total_bytes <= 1 << 22);
        }
    }

    /// Payloads of random parameters under an honest manifest: opened or refused, never a panic,
    /// and what opens also runs and equals the interpreter.
    #[test]
    fn random_parameters_are_survived(seed: u64, kind in 0usize..60) {
        let artifact = toy::artifact(&ToyDecoder::default()).unwrap();
        let mut payload = artifact.payload().to_vec();
        let tensors = &artifact.header().layout().tensors;
        let range = tensors[kind % tensors.len()].range();
        let mut state = seed;
        for byte in &mut payload[range] {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        let manifest = artifact.header().manifest().clone();
        let artifact = Artifact::build(manifest, payload.into()).unwrap();
        if let Ok(model) = DecoderModel::open(&artifact) {
            let text = [3, 1, 4, 1, 5];
            let fed = run(&model, vec![feed(KvCache::new(), &text, Logits::All)]).remove(0);
            prop_assert_eq!(logits(&fed), &flat(&interpreter::logits(&model, &text).unwrap())[..]);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_text_and_another_another() {
    let model = DecoderModel::open(&toy::artifact(&ToyDecoder::default()).unwrap()).unwrap();
    let write = |seed: u8, sampling: &Sampling| {
        let mut cache = KvCache::new();
        let mut text = vec![1];
        while text.len() < 30 {
            let last = [*text.last().unwrap()];
            let fed = run(&model, vec![feed(cache, &last, Logits::Last)]).remove(0);
            text.push(choose(&model, logits(&fed), sampling, &[seed; 32], text.len()).unwrap());
            cache = fed.cache;
        }
        text
    };
    let warm = Sampling { temperature: 50 << 16, top_k: 0, top_p: 1 << 16 };
    assert_eq!(write(1, &warm), write(1, &warm));
    assert_ne!(write(1, &warm), write(2, &warm));
    assert_eq!(write(1, &Sampling::GREEDY), write(2, &Sampling::GREEDY));
}

#[test]
fn what_does_not_fit_is_refused() {
    let artifact = toy::artifact(&ToyDecoder::default()).unwrap();
    let model = DecoderModel::open(&artifact).unwrap();
    let start = |feed| DecoderRun::start(&model, vec![feed]).err().unwrap();
    let fresh = KvCache::new;
    assert_eq!(start(feed(fresh(), &[], Logits::Last)), RunError::Empty { index: 0 });
    assert_eq!(
        start(feed(fresh(), &[TOY_VOCAB], Logits::Last)),
        RunError::Token { index: 0, got: TOY_VOCAB, vocab: TOY_VOCAB }
    );
    let long = vec![0; TOY_CONTEXT as usize + 1];
    assert_eq!(
        start(feed(fresh(), &long, Logits::Last)),
        RunError::Length { index: 0, got: 65, max: 64 }
    );
    let rows = Feed { cache: fresh(), input: Input::Hidden(vec![0; 32]), logits: Logits::Last };
    assert!(matches!(start(rows), RunError::Input { .. }));

    let shard = DecoderModel::open_shard(&Shard::of_artifact(&artifact, 1..2).unwrap()).unwrap();
    let start = |feed| DecoderRun::start(&shard, vec![feed]).err().unwrap();
    assert!(matches!(start(feed(fresh(), &[1], Logits::Last)), RunError::Input { .. }));
    let hidden =
        |rows| Feed { cache: KvCache::new(), input: Input::Hidden(rows), logits: Logits::Last };
    assert!(matches!(start(hidden(vec![0; 31])), RunError::Input { .. }));
    assert!(matches!(start(hidden(vec![i32::MIN; 32])), RunError::Input { .. }));
    let whole = run(&model, vec![feed(fresh(), &[1, 2], Logits::Last)]).remove(0);
    let foreign = Feed { cache: whole.cache, ..hidden(vec![0; 32]) };
    assert!(matches!(start(foreign), RunError::Cache { .. }));

    let header = artifact.header().clone();
    assert!(matches!(Shard::new(header.clone(), 2..4), Err(ShardError::Layers { .. })));
    let mut shard = Shard::new(header, 0..1).unwrap();
    assert!(matches!(DecoderModel::open_shard(&shard), Err(ModelError::Absent(_))));
    let mut piece = artifact.piece(1).unwrap().to_vec();
    piece[0] ^= 1;
    assert!(matches!(shard.insert(1, piece), Err(ShardError::Chunk(_))));
    let encoder = nesa_model::toy::artifact(&Default::default()).unwrap();
    assert!(matches!(DecoderModel::open(&encoder), Err(ModelError::Family { .. })));
    assert!(matches!(nesa_model::Model::open(&artifact), Err(ModelError::Family { .. })));
}
