//! Rules 1 and 2: fresh masks, uniform views, and nothing of a live share anywhere else.

use std::collections::BTreeSet;

use nesa_chain::Side;
use nesa_primitives::Hash;

use super::harness::{CHAIN, Fault, Scene, Story};
use crate::{Lane, client::Mutant, commitment, message::Request};

const PROMPT: &[i32] = &[1; 60];

/// Paths on which a careless client would send a seed twice.
fn retries() -> Vec<fn() -> Scene> {
    vec![
        Scene::new,
        || Scene::new().fault(Side::A, 0, Fault::Stubborn { stage: 7, bits: 1 }),
        || Scene::new().fault(Side::B, 0, Fault::Vanish { stage: 3 }),
        || Scene { spoiled: Some(0), ..Scene::new() },
    ]
}

fn seeds(story: &Story) -> Vec<[u8; 32]> {
    story
        .requests
        .iter()
        .filter_map(|(_, request)| match request {
            Request::Seed { seed, .. } => Some(seed.0),
            Request::Share { .. } => None,
        })
        .collect()
}

/// Rule 1: no seed serves two messages, within a query (retries included) or across queries.
/// Blame repeats a request on purpose, to the server that already holds it.
fn seeds_are_fresh(mutant: Option<Mutant>) -> bool {
    let mut all = BTreeSet::new();
    for (i, scene) in retries().into_iter().enumerate() {
        // A reload is a new session with a new generator.
        for seed in [10, 11] {
            let scene = Scene { seed: seed + 100 * i as u64, mutant, ..scene() };
            let story = scene.play(&[PROMPT, &[4; 20]]);
            let mut sent = Vec::new();
            for (link, request) in &story.requests {
                // The same bytes to the same server again are the question of blame.
                if !sent.contains(&(*link, request.clone())) {
                    sent.push((*link, request.clone()));
                }
            }
            let story = Story { requests: sent, ..story };
            let expected = story.trace.iter().filter(|s| is_work_for_b(s)).count();
            let seeds = seeds(&story);
            if seeds.len() != expected || !seeds.into_iter().all(|s| all.insert(s)) {
                return false;
            }
        }
    }
    true
}

fn is_work_for_b(seen: &super::harness::Seen) -> bool {
    matches!(seen, super::harness::Seen::Up(link, "work", _) if link.side == Side::B)
}

#[test]
fn every_message_has_a_fresh_seed() {
    assert!(seeds_are_fresh(None));
    assert!(!seeds_are_fresh(Some(Mutant::ReusedSeed)));
    assert!(!seeds_are_fresh(Some(Mutant::CounterRollback)));
    assert!(!seeds_are_fresh(Some(Mutant::SeedFromPosition)));
}

/// Every bit of every share is set about half of the time, and neighbouring bits do not agree more
/// often than not. 6 standard deviations, so that a fair coin fails one run in 10^8.
fn looks_uniform(lane: &Lane, shares: &[Vec<u32>]) -> bool {
    let bits = lane.stages()[0].share_bits();
    let words: Vec<u32> = shares.iter().flatten().copied().collect();
    let within = |count: usize| {
        let (n, count) = (words.len() as f64, count as f64);
        (count - n / 2.0).abs() < 6.0 * (n / 4.0).sqrt()
    };
    let set = |test: &dyn Fn(u32) -> bool| words.iter().filter(|&&w| test(w)).count();
    (0..bits).all(|b| within(set(&|w| w >> b & 1 == 1)))
        && (1..bits).all(|b| within(set(&|w| (w >> b ^ w >> (b - 1)) & 1 == 1)))
}

fn view(side: Side, mutant: Option<Mutant>, prompt: &[i32]) -> bool {
    let mut shares = Vec::new();
    let toy = super::toy::Toy::new();
    for seed in 0..40 {
        let story = Scene { seed, mutant, ..Scene::new() }.play(&[prompt]);
        let of_side = story.shares(&toy.lane).into_iter().filter(|(l, _)| l.side == side);
        shares.extend(of_side.map(|(_, words)| words));
    }
    looks_uniform(&toy.lane, &shares)
}

#[test]
fn each_view_is_uniform_whatever_the_prompt() {
    for prompt in [&[0; 60][..], &[i32::MAX; 60], PROMPT] {
        assert!(view(Side::A, None, prompt));
        assert!(view(Side::B, None, prompt));
    }
    assert!(!view(Side::A, Some(Mutant::EightBitMask), PROMPT));
}

/// The other side of the coin: A's view and B's seed together are the input. This is what two
/// colluding operators have, and why no share may reach the other operator.
#[test]
fn the_two_views_together_are_the_input() {
    let toy = super::toy::Toy::new();
    let story = Scene::new().play(&[PROMPT]);
    let shares = story.shares(&toy.lane);
    let first = |side| shares.iter().find(|(l, _)| l.side == side).unwrap().1.clone();
    let bits = toy.lane.stages()[0].share_bits();
    let x = crate::share::reconstruct(&first(Side::A), &first(Side::B), bits);
    let mut run = super::toy::ToyRun::new(&toy, PROMPT);
    let crate::RunStep::Linear { x: input, .. } = crate::Run::step(&mut run) else {
        panic!("a run begins with a stage")
    };
    assert_eq!(x[..input.len()], input);
    assert!(x[input.len()..].iter().all(|&v| v == 0), "padding is zero");
}

/// Whether a text contains four words of a share in a row, in the forms logs take.
fn leaks(text: &str, shares: &[Vec<u32>]) -> bool {
    let text = text.to_lowercase();
    shares.iter().any(|words| {
        words.windows(4).any(|w| {
            let hex: String =
                w.iter().flat_map(|v| v.to_le_bytes()).map(|b| format!("{b:02x}")).collect();
            let decimal = w.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            text.contains(&hex) || text.contains(&decimal)
        })
    })
}

/// Rule 2: nothing that prints, and nothing that goes on chain, holds or determines a live share.
#[test]
fn nothing_of_a_share_is_printed() {
    let toy = super::toy::Toy::new();
    for scene in retries() {
        let story = scene().play(&[&PROMPT[..20]]);
        let mut shares: Vec<Vec<u32>> =
            story.shares(&toy.lane).into_iter().map(|(_, words)| words).collect();
        for seed in seeds(&story) {
            let (words, _) = seed.as_chunks::<4>();
            shares.push(words.iter().map(|w| u32::from_le_bytes(*w)).collect());
        }
        assert!(story.log.len() > 1000);
        assert!(!leaks(&story.log, &shares));
        // The mutant: a log line with a share in it, by accident of `{:?}`.
        for careless in [format!("{:?}", &shares[0][..8]), hex(&shares[1][..8])] {
            assert!(leaks(&format!("{}answering {careless}", story.log), &shares));
        }
    }
}

fn hex(words: &[u32]) -> String {
    words.iter().flat_map(|v| v.to_le_bytes()).map(|b| format!("{b:02X}")).collect()
}

/// The commitment on chain is of no use to B, who can compute every leaf of A's for a guess of the
/// prompt. Without the blind the guess could be confirmed; with it, it cannot.
#[test]
fn a_commitment_does_not_confirm_a_guess() {
    let toy = super::toy::Toy::new();
    let story = Scene::new().play(&[PROMPT]);
    let served = &story.transcript.as_ref().unwrap().served[0];
    // B's best guess is right: it knows all of A's requests.
    let guess: Vec<Hash> = story
        .requests
        .iter()
        .filter(|(l, _)| l.side == Side::A)
        .map(|(_, r)| r.digest(&CHAIN))
        .collect();
    assert_eq!(guess.len(), toy.lane.stages().len());
    let on_chain = served.commit.unwrap().blinded_root;
    assert_eq!(on_chain, commitment::blinded_root(&CHAIN, &served.blind, &served.leaves));
    for public in [Hash::ZERO, CHAIN, super::harness::QUERY, on_chain] {
        assert_ne!(on_chain, commitment::blinded_root(&CHAIN, &public, &served.leaves));
    }
    assert_ne!(on_chain, nesa_crypto::merkle::root_of_hashes(&served.leaves));
    let blinds: BTreeSet<Hash> = (0..5)
        .flat_map(|seed| {
            let story = Scene { seed, ..Scene::new() }.play(&[PROMPT]);
            story.transcript.unwrap().served.into_iter().map(|s| s.blind).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(blinds.len(), 10, "a fresh blind for each server and query");
}
