//! Preparers that lie, guess, or sit on both sides; and clients that would let them.

use std::{collections::BTreeSet, sync::Arc};

use nesa_chain::Side;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    harness::{CHAIN, Fault, Scene, Seen, Story, link},
    toy::{MODEL, Toy},
};
use crate::{
    client::{Candidate, Mutant, Reason, SessionError, StartError},
    field, freivalds,
    message::Request,
    origin::{Origin, Standing},
    preparation::{Preparation, SealError, StageSecrets},
    secret::SecretVector,
    thin::{self, PreparerRequest, Preparing, TEST_ROWS, ThinError, server::Received},
};

const P: u64 = field::P;

/// What the first preparer adds to its share of s: (place of the stage, column, by how much).
#[derive(Debug, Clone, Default)]
pub(super) struct Lie {
    deltas: Vec<(usize, usize, u64)>,
    preparers: Option<[Candidate; 2]>,
}

impl Lie {
    fn new(deltas: &[(usize, usize, u64)]) -> Self {
        Self { deltas: deltas.to_vec(), preparers: None }
    }

    fn by(operators: [u8; 2]) -> Self {
        Self { deltas: Vec::new(), preparers: Some(operators.map(|o| candidate(o, o))) }
    }
}

fn candidate(node: u8, operator: u8) -> Candidate {
    Candidate { node: [node; 32].into(), operator: [operator; 32].into() }
}

/// What each preparer was told, and everything that printed.
pub(super) struct Heard {
    shares: [Vec<u64>; 2],
    log: String,
}

/// A whole thin preparation in memory.
pub(super) fn prepare(
    toy: &Toy,
    lie: &Lie,
    mutant: Option<thin::Mutant>,
    rng: &mut StdRng,
) -> (Preparation, Heard) {
    let preparers = lie.preparers.unwrap_or([candidate(60, 61), candidate(70, 71)]);
    let mut client = Preparing::new(CHAIN, MODEL, toy.lane.clone(), preparers, rng).unwrap();
    if let Some(mutant) = mutant {
        client.mutate(mutant);
    }
    let mut heard = Heard { shares: Default::default(), log: String::new() };
    for which in [0, 1] {
        let node = preparers[which].node;
        let mut server = thin::server::Session::new(CHAIN, MODEL, node, toy.lane.clone());
        while let Some(frame) = client.next_frame(which) {
            let request = thin::decode_request(&frame).unwrap();
            heard.log += &format!("{request:?}\n");
            if let PreparerRequest::Rows(rows) = &request {
                heard.shares[which].extend(rows.values.residues());
            }
            let answers = match server.receive(&frame).unwrap() {
                Received::Reply(bytes) => vec![bytes],
                Received::Quiet => Vec::new(),
                Received::Work(job) => {
                    let mut done = job.run(toy).unwrap();
                    let (place, _) = toy.lane.find(done.stage()).unwrap();
                    let mine = lie.deltas.iter().filter(|d| which == 0 && d.0 == place);
                    mine.for_each(|&(_, column, by)| done.corrupt(column, by));
                    done.frames()
                }
            };
            for answer in answers {
                heard.log += &format!("{:?}\n", thin::decode_response(&answer).unwrap());
                client.received(which, &answer).unwrap();
            }
        }
        assert!(server.is_over() && client.is_complete(which));
    }
    (client.finish().unwrap(), heard)
}

fn scene(lie: Lie) -> Scene {
    Scene { thin: Some(lie), ..Scene::new() }
}

/// Whether a request of a pass behind the test went out.
fn private_data_flowed(story: &Story) -> bool {
    story.requests.iter().any(|(_, request)| request.slot().pass > 0)
}

#[test]
fn what_two_honest_strangers_prepare_checks_like_the_local_one() {
    let thin = scene(Lie::default());
    let (preparation, rng) = thin.preparation();
    let preparation = Arc::new(preparation);
    assert_eq!(preparation.standing(), Standing::Untested);
    let prompt: &[i32] = &[5; 33];
    let story = thin.play_session(thin.session_under(preparation.clone(), rng, &[prompt]).unwrap());
    assert_eq!(story.outputs, [thin.toy.expected(prompt)]);
    assert_eq!(story.transcript.unwrap().tokens, TEST_ROWS + 64);
    assert_eq!(preparation.standing(), Standing::Trusted);
    // The next query needs no test.
    let rng = StdRng::seed_from_u64(2);
    let story = thin.play_session(thin.session_under(preparation, rng, &[prompt]).unwrap());
    assert_eq!(story.outputs, [thin.toy.expected(prompt)]);
    assert_eq!(story.transcript.unwrap().tokens, 64);
}

/// Message for message and byte for byte, the test is a text of the smallest bucket.
#[test]
fn the_test_looks_like_a_short_text() {
    let prompt: &[i32] = &[5; 33];
    let tested = scene(Lie::default()).play(&[prompt]);
    let ordinary = Scene::new().play(&[&[9; 3], prompt]);
    assert_eq!(tested.trace, ordinary.trace);
}

/// Every bit of every share is set about half of the time (six standard deviations), whichever
/// preparer looks.
fn shares_are_uniform(mutant: Option<thin::Mutant>) -> bool {
    let toy = Toy::new();
    let mut shares = [Vec::new(), Vec::new()];
    let mut secrets: Vec<u64> = Vec::new();
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (preparation, heard) = prepare(&toy, &Lie::default(), mutant, &mut rng);
        for (all, share) in shares.iter_mut().zip(&heard.shares) {
            all.extend_from_slice(share);
        }
        for index in 0..toy.lane.stages().len() {
            let r = &preparation.stage(index).unwrap().r;
            secrets.extend((0..r.len()).map(|i| r.residue(i)));
        }
    }
    // Together the two hold r: this is what colluding preparers have.
    let sums = shares[0].iter().zip(&shares[1]).map(|(&u, &v)| field::add(u, v));
    assert!(sums.eq(secrets.iter().copied()));
    let fair = |test: &dyn Fn(usize) -> bool| {
        let n = secrets.len() as f64;
        let count = (0..secrets.len()).filter(|&i| test(i)).count() as f64;
        (count - n / 2.0).abs() < 6.0 * (n / 4.0).sqrt()
    };
    shares.iter().all(|share| {
        (0..61).all(|bit| {
            // Neither biased, nor agreeing with r.
            fair(&|i| share[i] >> bit & 1 == 1)
                && fair(&|i| (share[i] ^ secrets[i]) >> bit & 1 == 1)
        })
    })
}

#[test]
fn each_preparer_sees_a_uniform_share() {
    assert!(shares_are_uniform(None));
    assert!(!shares_are_uniform(Some(thin::Mutant::NarrowMask)));
}

/// Over several preparations, retries included, no coordinate of r and none of a share comes twice.
fn nothing_is_shared_twice(mutant: Option<thin::Mutant>) -> bool {
    let toy = Toy::new();
    let mut rng = StdRng::seed_from_u64(1);
    let mut seen = BTreeSet::new();
    let mut fresh = true;
    for attempt in 0..4 {
        if attempt == 2 {
            // A preparer fails in mid-way: the other's share is spent as well.
            let preparers = [candidate(1, 2), candidate(3, 4)];
            let lane = toy.lane.clone();
            let mut dropped = Preparing::new(CHAIN, MODEL, lane, preparers, &mut rng).unwrap();
            mutant.into_iter().for_each(|m| dropped.mutate(m));
            let r = dropped.secret(0);
            fresh &= (0..r.len()).all(|i| seen.insert(r.residue(i)));
            continue;
        }
        let (_, heard) = prepare(&toy, &Lie::default(), mutant, &mut rng);
        let [u, v] = &heard.shares;
        let r = u.iter().zip(v).map(|(&u, &v)| field::add(u, v));
        fresh &= u.iter().chain(v).copied().chain(r).all(|value| seen.insert(value));
    }
    fresh
}

#[test]
fn r_is_fresh_for_every_preparation() {
    assert!(nothing_is_shared_twice(None));
    assert!(!nothing_is_shared_twice(Some(thin::Mutant::ReusedR)));
    assert!(!nothing_is_shared_twice(Some(thin::Mutant::ReusedMask)));
}

#[test]
fn a_lie_in_one_coefficient_is_found_before_anything_private_is_sent() {
    let mut rng = StdRng::seed_from_u64(3);
    let shapes: Vec<_> = Toy::new().lane.stages().iter().map(|s| s.k as usize).collect();
    for (place, k) in shapes.into_iter().enumerate() {
        for column in 0..k {
            for by in [1, P - 1, rng.random_range(1..P)] {
                let thin = scene(Lie::new(&[(place, column, by)]));
                let (preparation, rng) = thin.preparation();
                let preparation = Arc::new(preparation);
                let session = thin.session_under(preparation.clone(), rng, &[&[1; 20]]).unwrap();
                let story = thin.play_session(session);
                assert_eq!(story.failed, Some(SessionError::Preparation));
                assert!(!private_data_flowed(&story));
                // Nobody is blamed for it, and it checks nothing any more.
                assert_eq!(story.rejected, []);
                assert_eq!(preparation.standing(), Standing::Discarded);
                let again = thin.session_under(preparation, StdRng::seed_from_u64(1), &[&[1; 20]]);
                assert!(matches!(again, Err(StartError::Preparation)));
            }
        }
    }
}

/// Selective failure: s is bent so that an honest product is refused unless the input obeys an
/// equation. Whatever is observable must be the same whether it does or not.
fn learns_something(deltas: &[(usize, usize, u64)], mutant: Option<Mutant>) -> bool {
    // Zero inputs obey every such equation; these others do not.
    let trace = |prompt: &[i32], seed| {
        let story = Scene { mutant, seed, ..scene(Lie::new(deltas)) }.play(&[prompt]);
        (story.trace, story.rejected, story.failed)
    };
    trace(&[0; 20], 1) != trace(&[1; 20], 2)
}

#[test]
fn a_preparer_that_bends_s_to_a_guess_learns_nothing() {
    let guess_one = [(0, 0, 1)];
    let guess_two = [(0, 0, 1), (0, 1, P - 1)];
    for deltas in [&guess_one[..], &guess_two] {
        assert!(!learns_something(deltas, None));
        // Without the test the guess is answered.
        assert!(learns_something(deltas, Some(Mutant::Untested)));
    }
    // On rows of ones the second lie cannot be seen.
    assert!(learns_something(&guess_two, Some(Mutant::KnownTestRows)));
}

/// A preparer that works with both servers knows its share of r, its δ and the input, and may bend s
/// so that one chosen error passes if r is what it believes. With one share it believes wrongly;
/// with both (the collusion that is not promised against) it is right.
#[test]
fn one_share_of_r_forges_nothing_and_two_forge_everything() {
    let toy = Toy::new();
    let (k, n) = (6, 9);
    let mut x = vec![0i32; k];
    x[0] = 1;
    let mut y = vec![0i32; n];
    nesa_kernels::matmul_i8(toy.matrix(0), &x, n, k, 1, &mut y);
    for seed in 0..100 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (preparation, heard) = prepare(&toy, &Lie::default(), None, &mut rng);
        let honest = preparation.stage(0).unwrap();
        let row = seed as usize % n;
        let passes = |believed: u64| {
            let copy = |v: &SecretVector| (0..v.len()).map(|i| v.residue(i)).collect::<Vec<_>>();
            let (r, mut s) = (copy(&honest.r), copy(&honest.s));
            // <r, y + e> = <s, x> + r_row, and <s + δ, x> = <s, x> + δ_0.
            s[0] = field::add(s[0], believed);
            let bent = StageSecrets {
                stage: honest.stage,
                r: SecretVector::from_residues(r).unwrap(),
                s: SecretVector::from_residues(s).unwrap(),
                bounds: honest.bounds.clone(),
            };
            let mut forged = y.clone();
            forged[row] += 1;
            bool::from(freivalds::accepts(&bent, &x, &forged))
        };
        let [u, v] = [heard.shares[0][row], heard.shares[1][row]];
        assert!(!passes(u) && !passes(v) && !passes(0));
        assert!(passes(field::add(u, v)));
    }
}

/// Behind the test, what servers see of a failure does not depend on the input either, and two
/// condemned servers end the query: one bit, once.
#[test]
fn later_failures_look_the_same_for_both_inputs() {
    // Different bits: the same on both sides could cancel, and a right sum is no lie.
    let lies = |stage, bits| Fault::Stubborn { stage, bits };
    for stage in [0, 7, 3] {
        let play = |prompt: &[i32], seed| {
            // The test is passed honestly first.
            let honest = Scene { seed, ..scene(Lie::default()) };
            let (preparation, rng) = honest.preparation();
            let preparation = Arc::new(preparation);
            let first = honest.session_under(preparation.clone(), rng, &[&[3; 3]]).unwrap();
            assert_eq!(honest.play_session(first).failed, None);
            let scene = honest.fault(Side::A, 0, lies(stage, 4)).fault(Side::B, 0, lies(stage, 1));
            let rng = StdRng::seed_from_u64(seed + 50);
            let session = scene.session_under(preparation.clone(), rng, &[prompt]).unwrap();
            let story = scene.play_session(session);
            assert_eq!(story.failed, Some(SessionError::Preparation));
            assert_eq!(preparation.standing(), Standing::Discarded);
            story.trace
        };
        assert_eq!(play(&[0; 20], 1), play(&[1; 31], 2));
    }
}

#[test]
fn a_server_that_lies_in_the_test_is_replaced_and_s_is_kept() {
    for side in [Side::A, Side::B] {
        let fault = Fault::Xor { stage: 7, part: 0, index: 3, bits: 1 };
        let thin = scene(Lie::default()).fault(side, 0, fault);
        let story = thin.play(&[&[1; 20]]);
        assert_eq!(story.rejected, [(link(side, 0), Reason::Rejected)]);
        assert_eq!(story.outputs, [thin.toy.expected(&[1; 20])]);
    }
}

#[test]
fn one_operator_cannot_prepare_both_halves() {
    let lane = Toy::new().lane;
    for second in [candidate(9, 2), candidate(1, 8), candidate(1, 2)] {
        let mut rng = StdRng::seed_from_u64(1);
        let both = [candidate(1, 2), second];
        let refused = Preparing::new(CHAIN, MODEL, lane.clone(), both, &mut rng);
        assert_eq!(refused.err(), Some(ThinError::Operator([2; 32].into())));
    }
    let mut stages = lane.stages().to_vec();
    stages[1].input_bits = 3;
    let narrow = crate::Lane::new(stages).unwrap();
    let both = [candidate(1, 2), candidate(3, 4)];
    let refused = Preparing::new(CHAIN, MODEL, narrow, both, &mut StdRng::seed_from_u64(1));
    assert_eq!(refused.err(), Some(ThinError::Narrow { stage: 7, got: 3 }));
}

/// The operators of A are 100, 101, 102 in order of attempt, those of B 200, 201, 202.
#[test]
fn a_preparer_never_serves() {
    let dialled = |story: &Story| {
        story
            .trace
            .iter()
            .filter_map(|s| if let Seen::Dial(l) = s { Some(*l) } else { None })
            .collect::<Vec<_>>()
    };
    let first = scene(Lie::by([100, 200])).play(&[&[1; 20]]);
    assert_eq!(dialled(&first), [link(Side::A, 1), link(Side::B, 1)]);
    assert!(first.transcript.is_some());
    // A replacement passes over it too.
    let vanish = Fault::Vanish { stage: 7 };
    let later = scene(Lie::by([101, 70])).fault(Side::A, 0, vanish).play(&[&[1; 20]]);
    assert_eq!(dialled(&later), [link(Side::A, 0), link(Side::B, 0), link(Side::A, 2)]);
    let last = scene(Lie::by([101, 102])).fault(Side::A, 0, vanish).play(&[&[1; 20]]);
    assert_eq!(last.failed, Some(SessionError::Exhausted(Side::A)));
    // Where nobody else is left, this preparation cannot be used.
    let scene = scene(Lie::by([100, 101]));
    let (preparation, rng) = scene.preparation();
    let config = crate::client::Committee {
        a: super::harness::committee().a[..2].to_vec(),
        b: super::harness::committee().b,
    };
    let refused = scene.session_with(config, Arc::new(preparation), rng, &[&[1; 20]]);
    assert!(matches!(refused, Err(StartError::Prepared(Side::A))));
}

/// Whether a text shows a residue, in the forms logs take.
fn leaks(text: &str, residues: &[u64]) -> bool {
    let text = text.to_lowercase();
    residues.iter().any(|v| {
        let little: String = v.to_le_bytes().iter().map(|b| format!("{b:02x}")).collect();
        text.contains(&v.to_string()) || text.contains(&format!("{v:x}")) || text.contains(&little)
    })
}

#[test]
fn nothing_of_a_share_is_printed() {
    let toy = Toy::new();
    let mut rng = StdRng::seed_from_u64(1);
    let (preparation, heard) = prepare(&toy, &Lie::default(), None, &mut rng);
    let mut residues = heard.shares.concat();
    for index in 0..toy.lane.stages().len() {
        let stage = preparation.stage(index).unwrap();
        for vector in [&stage.r, &stage.s] {
            residues.extend((0..vector.len()).map(|i| vector.residue(i)));
        }
    }
    assert!(heard.log.len() > 300);
    assert!(!leaks(&heard.log, &residues));
    // The mutant: a careless log line.
    let careless = format!("{}answering {:?}", heard.log, &heard.shares[1][..2]);
    assert!(leaks(&careless, &residues));
}

#[test]
fn a_sealed_thin_preparation_says_who_made_it() {
    let (toy, key) = (Toy::new(), [5; 32]);
    let mut rng = StdRng::seed_from_u64(1);
    let (thin, _) = prepare(&toy, &Lie::default(), None, &mut rng);
    let blobs = thin.seal(&key, &mut rng);
    let open = |blobs: &[Vec<u8>]| Preparation::unseal(MODEL, &toy.lane, &key, blobs);
    let back = open(&blobs).unwrap();
    assert_eq!((back.origin(), back.standing()), (thin.origin(), Standing::Untested));
    assert!(
        matches!(back.origin(), Origin::Thin { preparers } if preparers[1] == candidate(70, 71))
    );
    thin.note(Standing::Trusted);
    let tested = thin.seal(&key, &mut rng);
    assert_eq!(open(&tested).unwrap().standing(), Standing::Trusted);
    let refused = |blobs: &[Vec<u8>]| matches!(open(blobs), Err(SealError));
    // Thin secrets do not pass for local ones, untested ones not for tested ones, nor the reverse.
    assert!(refused(&blobs[..3]));
    assert!(refused(&[&blobs[..3], &tested[3..]].concat()));
    assert!(refused(&[&tested[..3], &blobs[3..]].concat()));
    let local = toy.prepare(&mut rng).seal(&key, &mut rng);
    assert!(open(&local).is_ok_and(|p| *p.origin() == Origin::Local));
    assert!(refused(&[&local[..], &blobs[3..]].concat()));
    assert!(refused(&[&blobs[..], &blobs[3..]].concat()));
    for bit in 0..blobs[3].len() * 8 {
        let mut altered = blobs.clone();
        altered[3][bit / 8] ^= 1 << (bit % 8);
        assert!(refused(&altered), "bit {bit}");
    }
}

/// An opened receipt holds the passes of the text, and rechecks behind the test.
#[test]
fn an_opened_query_begins_behind_the_test() {
    let thin = Scene { open_receipt: true, ..scene(Lie::default()) };
    let prompt: &[i32] = &[4; 20];
    let opened = thin.play(&[prompt]).transcript.unwrap().opened;
    assert!(!opened.is_empty());
    assert!(opened.iter().all(|part| part.slot.pass == 1 && part.slot.tokens == 32));
    let requests = thin.play(&[prompt]).requests;
    assert!(
        requests.iter().any(|(_, r)| matches!(r, Request::Seed { slot, .. } if slot.pass == 0))
    );
}
