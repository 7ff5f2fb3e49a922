//! The state machine equals the plain interpreter; hostile bytes harm nobody.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_model::artifact::{ArtifactError, ChunkError, HeaderError};
use nesa_model::manifest::{Manifest, Reading};
use nesa_model::toy::{self, ToyConfig};
use nesa_model::{
    Artifact, Assembler, EncoderRun, Header, Model, ModelLimits, PlainEngine, ResumeError,
    StartError, Step, TokenIds, bounds, interpreter,
};
use proptest::prelude::*;
use std::sync::OnceLock;

fn toy() -> &'static (Artifact, Model) {
    static TOY: OnceLock<(Artifact, Model)> = OnceLock::new();
    TOY.get_or_init(|| {
        let artifact = toy::artifact(&ToyConfig::default()).unwrap();
        let model = Model::open(&artifact).unwrap();
        (artifact, model)
    })
}

fn tokens(ids: &[u32]) -> TokenIds {
    TokenIds { ids: ids.to_vec(), second: None, truncated: false }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn run_equals_the_interpreter(
        batch in prop::collection::vec(prop::collection::vec(0u32..56, 1..24), 1..4),
        padding in 0usize..9,
        seed in 0u64..6,
        input_bits in prop::sample::select(vec![8u8, 10, 12, 15]),
    ) {
        let config = ToyConfig { seed, input_bits, ..ToyConfig::default() };
        let model = Model::open(&toy::artifact(&config).unwrap()).unwrap();
        let batch: Vec<_> = batch.iter().map(|ids| tokens(ids)).collect();
        let total: usize = batch.iter().map(TokenIds::len).sum();
        let expected: Vec<_> =
            batch.iter().map(|t| interpreter::embed(&model, t).unwrap()).collect();
        let run = EncoderRun::start_padded(&model, &batch, total + padding).unwrap();
        prop_assert_eq!(run.run(&PlainEngine(&model)).unwrap(), expected);
    }

    /// Whatever a server returns, the client neither panics nor leaves the stage's input range.
    #[test]
    fn any_product_is_safe(seed: u64, ids in prop::collection::vec(0u32..56, 1..12)) {
        let (_, model) = toy();
        let mut run = EncoderRun::start(model, &[tokens(&ids)]).unwrap();
        let mut state = seed;
        while let Step::Linear { stage, tokens, x } = run.step() {
            let spec = model.stage(stage);
            prop_assert_eq!(x.len(), tokens * spec.k);
            prop_assert!(x.iter().all(|x| x.abs() <= spec.input_max()));
            let y = (0..tokens * spec.n).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(99);
                match state >> 61 { 0 => i32::MIN, 1 => i32::MAX, 2 => 0, _ => (state >> 17) as i32 }
            });
            run.resume(y.collect()).unwrap();
        }
    }

    #[test]
    fn mutated_files_are_refused(at in 0usize..10_000, bit in 0u8..8) {
        let mut file = toy().0.to_file();
        let at = at * file.len() / 10_000;
        file[at] ^= 1 << bit;
        // A changed header byte may still be a valid header, but never this model.
        if let Ok(other) = Artifact::open(file, &ModelLimits::default()) {
            prop_assert_ne!(other.digest(), toy().0.digest());
        }
    }

    #[test]
    fn cut_files_are_refused(at in 0usize..10_000) {
        let file = toy().0.to_file();
        let at = at * file.len() / 10_000;
        prop_assert!(Artifact::open(file[..at].to_vec(), &ModelLimits::default()).is_err());
    }

    #[test]
    fn random_headers_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let limits = ModelLimits::default();
        prop_assert!(Header::decode(&bytes, &limits).is_err());
        let mut file = nesa_model::artifact::MAGIC.to_vec();
        file.extend_from_slice(&bytes);
        prop_assert!(Artifact::open(file, &limits).is_err());
    }

    /// Headers mutated but kept decodable: sizes lie, nothing panics or allocates beyond limits.
    #[test]
    fn lying_manifests_are_survived(at in 0usize..120, value: u8) {
        let (artifact, _) = toy();
        let mut bytes = artifact.header().bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = value;
        let limits = ModelLimits { max_bytes: 1 << 22, ..ModelLimits::default() };
        if let Ok(header) = Header::decode(&bytes, &limits) {
            prop_assert!(header.layout().total_bytes <= 1 << 22);
        }
    }

    /// Payloads of random parameters under an honest manifest: opened or refused, never a panic,
    /// and what opens also runs.
    #[test]
    fn random_parameters_are_survived(seed: u64, kind in 0usize..40) {
        let (artifact, _) = toy();
        let mut payload = artifact.payload().to_vec();
        let layout = artifact.header().layout();
        let range = layout.tensors[kind % layout.tensors.len()].range();
        let mut state = seed;
        for byte in &mut payload[range] {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        let manifest = artifact.header().manifest().clone();
        let artifact = Artifact::build(manifest, payload.into()).unwrap();
        if let Ok(model) = Model::open(&artifact) {
            let batch = tokens(&[2, 9, 30, 41, 3]);
            let got = EncoderRun::start(&model, std::slice::from_ref(&batch)).unwrap();
            let got = got.run(&PlainEngine(&model)).unwrap();
            prop_assert_eq!(&got[0], &interpreter::embed(&model, &batch).unwrap());
        }
    }

    #[test]
    fn any_text_is_tokenised_within_limits(text in ".{0,200}", max in 0usize..50) {
        let (_, model) = toy();
        let ids = model.tokenizer().unwrap().encode_within(&text, max);
        prop_assert!(ids.len() >= 2 && ids.len() <= max.clamp(2, model.max_tokens()));
        prop_assert!(ids.ids.iter().all(|&id| id < model.config().vocab));
    }
}

#[test]
fn pieces_assemble_in_any_order_and_lies_are_named() {
    let (artifact, model) = toy();
    let header = artifact.header();
    let limits = ModelLimits::default();
    let decoded = Header::decode_expected(header.bytes(), &artifact.digest(), &limits).unwrap();
    assert_eq!(&decoded, header.as_ref());
    let other = nesa_primitives::Hash::of_bytes("test", &nesa_primitives::Hash::ZERO, b"other");
    assert!(matches!(
        Header::decode_expected(header.bytes(), &other, &limits),
        Err(HeaderError::Digest { .. })
    ));

    let mut whole = Assembler::whole(header.clone());
    let mut local = Assembler::local(header.clone());
    for index in (0..header.piece_count()).rev() {
        let piece = artifact.piece(index).unwrap();
        let mut wrong = piece.to_vec();
        wrong[0] ^= 1;
        assert!(matches!(whole.insert(index, wrong), Err(ChunkError::Hash { .. })));
        assert!(matches!(whole.insert(index, piece.slice(1..)), Err(ChunkError::Length { .. })));
        whole.insert(index, piece.clone()).unwrap();
        if index < header.local_pieces() {
            local.insert(index, piece).unwrap();
        }
    }
    assert!(matches!(whole.insert(9999, vec![]), Err(ChunkError::Index { .. })));
    assert_eq!(whole.missing().count(), 0);
    assert_eq!(whole.finish().unwrap().to_file(), artifact.to_file());

    let local = Model::open_local(&local.finish_local().unwrap()).unwrap();
    assert!(!local.has_weights() && model.has_weights());
    let batch = [tokens(&[2, 8, 3])];
    let run = EncoderRun::start(&local, &batch).unwrap();
    let expected = EncoderRun::start(model, &batch).unwrap().run(&PlainEngine(model)).unwrap();
    assert_eq!(run.run(&PlainEngine(model)).unwrap(), expected);
    assert!(matches!(Assembler::local(header.clone()).finish(), Err(ChunkError::Missing { .. })));
}

/// Chunks hold whole rows, and together every weight row exactly once, in order.
#[test]
fn chunks_cover_the_weights_by_whole_rows() {
    let config =
        ToyConfig { d_model: 384, d_ff: 1536, heads: 12, layers: 1, ..ToyConfig::default() };
    let artifact = toy::artifact(&config).unwrap();
    let model = Model::open(&artifact).unwrap();
    let mut next = vec![0; model.stages().len()];
    for (i, chunk) in artifact.header().layout().chunks.iter().enumerate() {
        let bytes = artifact.piece(i + 1).unwrap();
        assert!(bytes.len() <= nesa_model::layout::MAX_CHUNK_BYTES);
        for part in &chunk.weights {
            let spec = &model.stages()[part.stage];
            assert_eq!(part.rows.start, next[part.stage]);
            assert_eq!(part.bytes.len(), part.rows.len() * spec.k);
            next[part.stage] = part.rows.end;
            let rows = nesa_kernels::as_i8(&bytes[part.bytes.clone()]);
            bounds::check_rows(spec, part.rows.start, rows).unwrap();
            let all = model.weights(spec.id).bytes(spec.k);
            assert_eq!(rows, &all[part.rows.start * spec.k..part.rows.end * spec.k]);
        }
    }
    let rows: Vec<usize> = model.stages().iter().map(|s| s.n).collect();
    assert_eq!(next, rows);
}

/// The client recomputes the bound: a manifest that promises too little is refused.
#[test]
fn understated_bounds_are_refused() {
    let (artifact, _) = toy();
    let mut manifest = artifact.header().manifest().encoder().unwrap().clone();
    manifest.stages[3].row_bound_bits -= 1;
    let lie = Artifact::build(Manifest::Encoder(manifest), artifact.payload().clone()).unwrap();
    let error = Model::open(&lie).unwrap_err();
    assert!(matches!(
        error,
        nesa_model::ModelError::Bound(bounds::BoundError::Row { stage: 3, .. })
    ));
}

#[test]
fn batches_and_products_that_do_not_fit_are_refused() {
    let (_, model) = toy();
    let start = |ids: &[u32]| EncoderRun::start(model, &[tokens(ids)]).map(|_| ());
    assert!(matches!(start(&[]), Err(StartError::Length { got: 0, .. })));
    assert!(matches!(start(&[2; 33]), Err(StartError::Length { got: 33, .. })));
    assert!(matches!(start(&[2, 56]), Err(StartError::Token { got: 56, .. })));
    assert!(matches!(
        EncoderRun::start_padded(model, &[tokens(&[2, 3])], 1).map(|_| ()),
        Err(StartError::Padding { .. })
    ));
    let mut run = EncoderRun::start(model, &[tokens(&[2, 3])]).unwrap();
    let before = run.step();
    assert!(matches!(run.resume(vec![0; 5]), Err(ResumeError::Length { .. })));
    assert_eq!(run.step(), before);
    let mut empty = EncoderRun::start(model, &[]).unwrap();
    assert_eq!(empty.step(), Step::Done(vec![]));
    assert_eq!(empty.resume(vec![]), Err(ResumeError::Finished));
    assert!(matches!(
        Artifact::open(b"NESAEXM0".to_vec(), &ModelLimits::default()),
        Err(ArtifactError::Prefix(_))
    ));
}

/// A vocabulary made to trap the search: an empty token, a bare `##`, nothing longer than a byte.
#[test]
fn trapping_vocabularies_end() {
    use nesa_model::{Tokenizer, VocabError, manifest::TokenizerConfig};
    let config = |max_word_chars| TokenizerConfig {
        vocab_bytes: 10,
        unknown: 0,
        start: 1,
        end: 2,
        max_word_chars,
    };
    let tokenizer =
        Tokenizer::new(&config(100), &Reading::default(), b"u\ns\n\n##\na\n", 5, 16).unwrap();
    assert_eq!(tokenizer.encode("a é é a ab aa").ids, [1, 4, 0, 0, 4, 0, 0, 2]);
    let tokenizer = Tokenizer::new(&config(100), &Reading::default(), b"u\ns\n\n", 3, 16).unwrap();
    assert_eq!(tokenizer.encode("東 é").ids, [1, 0, 0, 2]);
    assert!(matches!(
        Tokenizer::new(&config(401), &Reading::default(), b"u\ns\n\n", 3, 16),
        Err(VocabError::Limit { got: 401, .. })
    ));
    assert!(matches!(
        Tokenizer::new(&config(100), &Reading::default(), b"a\na\nb\n", 3, 16),
        Err(VocabError::Duplicate(0))
    ));
}

/// Padding rows carry zeros and change nothing.
#[test]
fn padding_is_zero_and_ignored() {
    let (_, model) = toy();
    let batch = [tokens(&[2, 7, 8, 3])];
    let mut run = EncoderRun::start_padded(model, &batch, 16).unwrap();
    let Step::Linear { x, tokens: rows, stage } = run.step() else { panic!() };
    assert_eq!(rows, 16);
    assert!(x[4 * model.stage(stage).k..].iter().all(|&x| x == 0));
}
