//! Texts are written as the interpreter would, whatever the pieces; how many passes it takes says no
//! more than it must.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_kernels::sample::Sampling;
use nesa_model::PlainDecoder;
use nesa_model::decoder::toy::{self, TOY_CONTEXT, TOY_VOCAB, ToyDecoder};
use nesa_model::decoder::{
    DecoderModel, DraftError, DraftModel, Drafter, Repeats, Shard, WriteError, WriteRequest,
    Writing, Written, choose, interpreter,
};
use proptest::prelude::*;

const WARM: Sampling = Sampling { temperature: 2 << 16, top_k: 0, top_p: 1 << 16 };

fn model(seed: u64, tied: bool) -> DecoderModel {
    let toy = ToyDecoder { seed, tied, layers: 2, ..ToyDecoder::default() };
    DecoderModel::open(&toy::artifact(&toy).unwrap()).unwrap()
}

fn request(prompt: &[u32], tokens: usize, seed: u8) -> WriteRequest {
    WriteRequest {
        prompt: prompt.to_vec(),
        tokens,
        sampling: WARM,
        seed: [seed; 32],
        pad_to: 1,
        piece: 1000,
        draft: 0,
    }
}

/// Every pass's tokens and what it gave first.
fn write(model: &DecoderModel, request: WriteRequest) -> Vec<(usize, Written)> {
    let first = |(rows, written): (usize, Vec<Written>)| (rows, written[0]);
    passes(model, request).into_iter().map(first).collect()
}

/// Every pass's tokens and all it gave.
fn passes(model: &DecoderModel, request: WriteRequest) -> Vec<(usize, Vec<Written>)> {
    drafted(model, request, Box::new(Repeats))
}

/// The same with the guesses of a drafter.
fn drafted(
    model: &DecoderModel,
    request: WriteRequest,
    drafter: Box<dyn Drafter>,
) -> Vec<(usize, Vec<Written>)> {
    let mut writing = Writing::start_drafted(model, request, drafter).unwrap();
    let mut passes = Vec::new();
    loop {
        let rows = writing.pending().unwrap().rows;
        passes.push((rows, writing.run(&PlainDecoder(model)).unwrap().unwrap().to_vec()));
        if !writing.goes_on() {
            return passes;
        }
        let next = writing.next_tokens();
        writing.advance().unwrap();
        assert_eq!(writing.pending().unwrap().rows, next);
    }
}

/// The tokens of a text, its end included.
fn text(passes: &[(usize, Written)]) -> Vec<u32> {
    let token = |(_, w): &(usize, Written)| match w {
        Written::Token(t) | Written::End(t) => Some(*t),
        Written::Read | Written::Padding => None,
    };
    passes.iter().filter_map(token).collect()
}

/// The same by the interpreter alone, each token from scratch.
fn expected(model: &DecoderModel, request: &WriteRequest) -> Vec<u32> {
    let (mut all, mut text) = (request.prompt.clone(), Vec::new());
    while text.len() < request.tokens {
        let logits = interpreter::logits(model, &all).unwrap().pop().unwrap();
        let token = choose(model, &logits, &request.sampling, &request.seed, all.len()).unwrap();
        all.push(token);
        text.push(token);
        if model.special().ends.contains(&token) {
            break;
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_text_is_the_interpreters(
        seed in 0u64..50,
        tied: bool,
        prompt in prop::collection::vec(0..TOY_VOCAB, 1..9),
        tokens in 1usize..12,
        piece in 1usize..9,
        random: u8,
    ) {
        let model = model(seed, tied);
        let request = WriteRequest { piece, ..request(&prompt, tokens, random) };
        let passes = write(&model, request.clone());
        prop_assert_eq!(text(&passes), expected(&model, &request));
        // As long as it goes on, its passes are the plan's.
        let plan: Vec<usize> = Writing::passes(&request).collect();
        let got: Vec<usize> = passes.iter().map(|(rows, _)| *rows).collect();
        prop_assert_eq!(&plan[..got.len()], &got[..]);
    }

    /// Guesses never show in the text; passes have the same rows whether guesses are right or wrong, and
    /// nobody sees where the text ended but to a multiple of passes.
    #[test]
    fn a_draft_changes_no_token(
        seed in 0u64..50,
        tied: bool,
        prompt in prop::collection::vec(0..TOY_VOCAB, 1..9),
        tokens in 1usize..14,
        draft in 1usize..5,
        greedy: bool,
        random: u8,
    ) {
        let model = model(seed, tied);
        let plain = request(&prompt, tokens, random);
        // Greedy texts soon repeat themselves, so that guesses come true; warm ones rarely do.
        let sampling = if greedy { Sampling { temperature: 0, ..WARM } } else { WARM };
        let plain = WriteRequest { sampling, ..plain };
        let drafted = passes(&model, WriteRequest { draft, pad_to: 4, ..plain.clone() });
        let flat: Vec<(usize, Written)> =
            drafted.iter().flat_map(|(rows, all)| all.iter().map(|w| (*rows, *w))).collect();
        prop_assert_eq!(text(&flat), expected(&model, &plain));
        prop_assert!(drafted[1..].iter().all(|(rows, _)| *rows == draft + 1));
        prop_assert!(drafted.len().is_multiple_of(4) || drafted.len() == tokens);
        let plan: Vec<usize> =
            Writing::passes(&WriteRequest { draft, ..plain }).take(drafted.len()).collect();
        prop_assert_eq!(plan, drafted.iter().map(|(rows, _)| *rows).collect::<Vec<_>>());
    }

    /// A model drafts for another one: the text stays what it is, whoever drafts; a model that drafts for
    /// itself is always right.
    #[test]
    fn a_draft_model_changes_no_token(
        seed in 0u64..50,
        prompt in prop::collection::vec(0..TOY_VOCAB, 1..9),
        tokens in 1usize..14,
        draft in 1usize..5,
        itself: bool,
        random: u8,
    ) {
        let model = model(seed, true);
        let other = ToyDecoder { seed: seed + 1, layers: 1, ..ToyDecoder::default() };
        let other = DecoderModel::open(&toy::artifact(&other).unwrap()).unwrap();
        let drafts = if itself { model.clone() } else { other };
        let plain = request(&prompt, tokens, random);
        let drafter = DraftModel::new(&drafts, &model, plain.sampling, plain.seed).unwrap();
        let asked = WriteRequest { draft, ..plain.clone() };
        let all = drafted(&model, asked, Box::new(drafter));
        let flat: Vec<(usize, Written)> =
            all.iter().flat_map(|(rows, all)| all.iter().map(|w| (*rows, *w))).collect();
        let expected = expected(&model, &plain);
        prop_assert_eq!(&text(&flat), &expected);
        prop_assert!(all[1..].iter().all(|(rows, _)| *rows == draft + 1));
        if itself {
            // The first token comes with the prompt, then draft + 1 in each pass.
            prop_assert_eq!(all.len(), 1 + (expected.len() - 1).div_ceil(draft + 1));
        }
    }

    /// A drafter may say anything, any number of it.
    #[test]
    fn nonsense_drafts_change_no_token(
        seed in 0u64..50,
        said in prop::collection::vec(any::<u32>(), 0..9),
        random: u8,
    ) {
        struct Nonsense(Vec<u32>);
        impl Drafter for Nonsense {
            fn draft(&mut self, _: &[u32], _: usize) -> Vec<u32> {
                let by = 1.min(self.0.len());
                self.0.rotate_left(by);
                self.0.clone()
            }
        }
        let model = model(seed, false);
        let plain = request(&[1, 2], 9, random);
        let asked = WriteRequest { draft: 3, ..plain.clone() };
        let all = drafted(&model, asked, Box::new(Nonsense(said)));
        let flat: Vec<(usize, Written)> =
            all.iter().flat_map(|(rows, all)| all.iter().map(|w| (*rows, *w))).collect();
        prop_assert_eq!(text(&flat), expected(&model, &plain));
    }

    /// Two texts that end in the same stretch take the same passes.
    #[test]
    fn padding_hides_where_a_text_ends(
        seed in 0u64..50,
        prompt in prop::collection::vec(0..TOY_VOCAB, 1..9),
        random: u8,
    ) {
        let model = model(seed, true);
        let plain = request(&prompt, 30, random);
        let length = text(&write(&model, plain.clone())).len();
        let padded = write(&model, WriteRequest { pad_to: 8, ..plain.clone() });
        prop_assert_eq!(text(&padded).len(), length);
        prop_assert_eq!(padded.len(), length.next_multiple_of(8).min(30));
        let after = padded.iter().skip_while(|(_, w)| !matches!(w, Written::End(_))).skip(1);
        prop_assert!(after.clone().all(|(_, w)| *w == Written::Padding));
    }
}

#[test]
fn what_cannot_be_written_is_named() {
    let model = model(1, false);
    let start = |request| Writing::start(&model, request).map(|_| ());
    assert_eq!(start(request(&[], 4, 0)), Err(WriteError::Empty));
    let max = TOY_CONTEXT as usize;
    for tokens in [0, max - 2, usize::MAX] {
        let error = WriteError::Length { prompt: 3, tokens, max };
        assert_eq!(start(request(&[1, 2, 3], tokens, 0)), Err(error));
    }
    assert_eq!(start(request(&[1, 2, 3], max - 3, 0)), Ok(()));
    assert!(matches!(start(request(&[TOY_VOCAB], 1, 0)), Err(WriteError::Run(_))));
    let artifact = toy::artifact(&ToyDecoder::default()).unwrap();
    let shard = Shard::of_artifact(&artifact, 0..1).unwrap();
    let shard = DecoderModel::open_shard(&shard).unwrap();
    assert_eq!(Writing::start(&shard, request(&[1], 1, 0)).map(|_| ()), Err(WriteError::Shard));
}

/// A model that repeats itself is followed in fewer passes.
#[test]
fn right_guesses_save_passes() {
    let greedy = Sampling { temperature: 0, ..WARM };
    let saved = (0..20).any(|seed| {
        let model = model(seed, true);
        let request = WriteRequest { sampling: greedy, ..request(&[3, 1], 30, 0) };
        let plain = passes(&model, request.clone()).len();
        passes(&model, WriteRequest { draft: 4, ..request }).len() * 2 <= plain
    });
    assert!(saved);
}

#[test]
fn a_model_that_cannot_draft_is_named() {
    let (plain, model) = (request(&[1], 1, 0), model(1, false));
    let new = |draft: &DecoderModel| {
        DraftModel::new(draft, &model, plain.sampling, plain.seed).map(|_| ()).unwrap_err()
    };
    let shard = Shard::of_artifact(&toy::artifact(&ToyDecoder::default()).unwrap(), 0..1).unwrap();
    let shard = DecoderModel::open_shard(&shard).unwrap();
    assert!(matches!(new(&shard), DraftError::Partial { .. }));
    let other = ToyDecoder { tokenizer: b"{ }", ..ToyDecoder::default() };
    let other = DecoderModel::open(&toy::artifact(&other).unwrap()).unwrap();
    let error = new(&other);
    assert!(matches!(error, DraftError::Tokenizer { got: TOY_VOCAB, expected: TOY_VOCAB, .. }));
    assert!(error.to_string().contains("is not the same file"), "{error}");
}

/// Where the draft model's context ends, texts are guessed from what was written.
#[test]
fn a_draft_model_may_read_less_than_the_model() {
    let model = model(1, false);
    let mut drafter = DraftModel::new(&model, &model, WARM, [0; 32]).unwrap();
    let max = TOY_CONTEXT as usize;
    let seen: Vec<u32> = (0..max as u32 - 2).map(|i| i % 5).collect();
    let within = drafter.draft(&seen, 3);
    assert_eq!(within.len(), 3);
    let beyond = drafter.draft(&seen, 4);
    assert_eq!(beyond, Repeats.draft(&seen, 4));
    assert_eq!(drafter.draft(&seen, 3), within, "and it is of use again after an edit");
    assert_eq!(drafter.draft(&seen[..5], 2).len(), 2);
    assert_eq!(drafter.draft(&[], 2), Repeats.draft(&[], 2));
}

/// The guesses of the last pass have places of their own in the context.
#[test]
fn a_draft_needs_room() {
    let model = model(1, false);
    let max = TOY_CONTEXT as usize;
    let with = |tokens, draft| WriteRequest { draft, ..request(&[1, 2, 3], tokens, 0) };
    assert!(Writing::start(&model, with(max - 3, 1)).is_err());
    assert!(Writing::start(&model, with(1, usize::MAX)).is_err());
    passes(&model, with(max - 7, 4));
}

#[test]
fn a_tied_head_is_never_handed_out() {
    for tied in [false, true] {
        let model = model(3, tied);
        let mut writing = Writing::start(&model, request(&[1, 2], 3, 0)).unwrap();
        let mut stages = 0;
        while let Some(pending) = writing.pending() {
            let stage = pending.stage;
            assert!(model.served_stages().iter().any(|s| s.id == stage));
            let y =
                nesa_model::Linear::apply(&PlainDecoder(&model), stage, pending.x, pending.rows);
            writing.resume(&y).unwrap();
            stages += 1;
        }
        assert_eq!(stages, model.served_stages().len());
        assert!(writing.resume(&[]).is_err());
    }
}

#[test]
fn debug_shows_no_token() {
    let request = request(&[41, 42, 43], 5, 9);
    let writing = Writing::start(&model(1, true), request.clone()).unwrap();
    for shown in [format!("{request:?}"), format!("{writing:?}")] {
        assert!(!shown.contains("42"), "{shown}");
    }
}
