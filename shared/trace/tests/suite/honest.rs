//! What honest runs leave behind.

use crate::support::*;
use nesa_model::PlainDecoder;
use nesa_model::decoder::{DecoderModel, DecoderRun, Feed, Input, KvCache, Logits, Output};
use nesa_primitives::Hash;
use nesa_trace::*;
use std::sync::{Arc, Mutex};

/// Every word of every row is what the referee computes from the rows before it: the referee and the
/// engine agree on all operations, and no row is out of its reach.
#[test]
fn the_referee_finds_every_value_of_an_honest_run() {
    for toy in toys() {
        for layers in [0..usize::from(toy.layers), 1..usize::from(toy.layers)] {
            if layers.is_empty() {
                continue;
            }
            let lab = Lab::new(&toy, layers, &[3, 1, 1], 5);
            let (_, rows, _) = lab.record();
            let (m, g) = (lab.manifest(), lab.geometry());
            let facts = Whole { lab: &lab, rows: &rows };
            let mut judged = 0;
            for (&(token, slot), row) in &rows {
                let op = g.op(slot).unwrap();
                assert_eq!(row.len(), g.words(op), "{op:?}");
                if op == Op::Input {
                    continue;
                }
                for index in 0..row.len() as u32 {
                    let honest_wins = |claim: &Claim| {
                        let truth = judge(m, &g, token, op, claim, &facts).unwrap();
                        assert!(!truth.left_lies && truth.right_lies, "{op:?} {index} {claim:?}");
                    };
                    let word = row[index as usize];
                    let long = |i: usize| i64::from(row[i + 1]) << 32 | i64::from(row[i] as u32);
                    let base = match op {
                        Op::NormStats(_) => row[0],
                        Op::AttentionStats(_) => row[index as usize / 4 * 4],
                        _ => 0,
                    };
                    let sum = |value: i64, to: u32| {
                        let claims = [value, value ^ 1];
                        honest_wins(&Claim::Sum { index, base, from: 0, to, claims });
                    };
                    let seen = if g.window == 0 { token + 1 } else { (token + 1).min(g.window) };
                    let part = index % 4;
                    match op {
                        Op::Product(stage) => {
                            let input = if matches!(op, Op::Product(s) if s.is_multiple_of(2)) {
                                Op::Normed(stage)
                            } else {
                                Op::Offered(stage)
                            };
                            sum(word.into(), g.words(input) as u32);
                        }
                        Op::NormStats(_) if index == 2 => sum(long(2), g.d_model),
                        Op::AttentionStats(_) if part == 2 => sum(i64::from(word as u32), seen),
                        Op::Sums(_) if index.is_multiple_of(2) => sum(long(index as usize), seen),
                        Op::NormStats(_) if index == 3 || index == 1 || index == 5 => continue,
                        Op::Sums(_) => continue,
                        Op::OfferStats(_) | Op::AttentionStats(_) if part == 1 => continue,
                        Op::NormStats(_) if index == 0 || index == 4 => {
                            peaks(row, (index, base), &honest_wins);
                        }
                        Op::OfferStats(_) | Op::AttentionStats(_) if part == 0 => {
                            peaks(row, (index, base), &honest_wins);
                        }
                        _ => {
                            let claims = [word, word ^ 4];
                            honest_wins(&Claim::Word { index, claims });
                        }
                    }
                    judged += 1;
                }
            }
            assert!(judged > 3_000, "{judged}");
        }
    }
}

/// A peak beats a larger value that is not there, and its own value elsewhere.
fn peaks(row: &[i32], (index, base): (u32, i32), honest_wins: &dyn Fn(&Claim)) {
    let i = index as usize;
    let right = Peak { value: row[i], at: row[i + 1] as u32 };
    for wrong in [
        Peak { value: right.value.wrapping_add(1), ..right },
        Peak { value: right.value.wrapping_sub(1), ..right },
        Peak { at: right.at + 1, ..right },
        Peak { at: u32::MAX, ..right },
    ] {
        honest_wins(&Claim::Peak { index, base, claims: [right, wrong] });
    }
}

#[test]
fn a_prompt_read_at_once_or_token_by_token_or_in_a_batch_leaves_one_trace() {
    let toy = &toys()[0];
    let all = |feeds: &[usize]| {
        let mut lab = Lab::new(toy, 0..2, feeds, 5);
        lab.logits = Logits::All;
        lab.record().0.root(TOKEN_BITS)
    };
    let root = all(&[5]);
    assert_eq!(root, all(&[1, 1, 1, 1, 1]));
    assert_eq!(root, all(&[3, 2]));
    assert_ne!(root, all(&[4]));

    // Beside another sequence in one batch.
    let mut lab = Lab::new(toy, 0..2, &[5], 5);
    lab.logits = Logits::All;
    let model = DecoderModel::open(&lab.artifact).unwrap();
    let g = lab.geometry();
    let recorder = Recorder::new(vec![Trace::new(g, Hash([1; 32])), Trace::new(g, SALT)]);
    let recorder = Arc::new(Mutex::new(recorder));
    let feed = |input| Feed { cache: KvCache::new(), input, logits: Logits::All };
    let feeds = vec![feed(Input::Tokens(vec![1, 2, 3])), feed(lab.inputs[0].clone())];
    let run = DecoderRun::start_observed(&model, feeds, Box::new(recorder.clone())).unwrap();
    run.run(&PlainDecoder(&model)).unwrap();
    let traces = recorder.lock().unwrap().finish();
    assert_eq!(traces[1].0.root(TOKEN_BITS), root);
    assert_eq!((traces[0].0.len(), traces[1].0.len()), (3, 5));
    assert!(traces[1].1.is_empty(), "rows are kept on request only");
}

#[test]
fn an_observed_run_gives_what_an_unobserved_one_gives() {
    for toy in toys() {
        let lab = Lab::new(&toy, 0..usize::from(toy.layers), &[4], 8);
        let model = DecoderModel::open(&lab.artifact).unwrap();
        let feed = Feed { cache: KvCache::new(), input: lab.inputs[0].clone(), logits: lab.logits };
        let run = DecoderRun::start(&model, vec![feed]).unwrap();
        let plain = run.run(&PlainDecoder(&model)).unwrap().pop().unwrap().output;
        assert_eq!(lab.record().2, [plain]);
    }
}

#[test]
fn outputs_are_proven_under_the_root_and_nothing_else_is() {
    let mut lab = Lab::new(&toys()[0], 0..2, &[4], 3);
    lab.logits = Logits::All;
    let (trace, _, outputs) = lab.record();
    let Output::Logits(logits) = &outputs[0] else { panic!("logits") };
    let (root, g) = (trace.root(TOKEN_BITS), lab.geometry());
    let slot = g.slot(Op::Logits).unwrap();
    for (token, row) in (0u32..).zip(logits.chunks_exact(50)) {
        let proof = trace.prove(TOKEN_BITS, token, slot).unwrap();
        let holds = |root: &Hash, token, op, row: &[i32], proof: &RowProof| {
            verify_row(root, TOKEN_BITS, &g, (token, op), row, proof)
        };
        assert!(holds(&root, token, Op::Logits, row, &proof));
        assert!(!holds(&Hash([1; 32]), token, Op::Logits, row, &proof));
        assert!(!holds(&root, token + 1, Op::Logits, row, &proof));
        assert!(!holds(&root, token + 32, Op::Logits, row, &proof));
        assert!(!holds(&root, token, Op::Product(8), row, &proof));
        assert!(!holds(&root, token, Op::Logits, &row[1..], &proof));
        let mut other = row.to_vec();
        other[7] ^= 1;
        assert!(!holds(&root, token, Op::Logits, &other, &proof));
        let short = RowProof { path: proof.path[1..].to_vec() };
        assert!(!holds(&root, token, Op::Logits, row, &short));
    }
}

#[test]
fn a_root_tells_nothing_about_a_guessed_prompt_without_its_salt() {
    let lab = Lab::new(&toys()[0], 0..2, &[4], 3);
    let (trace, rows, _) = lab.record();
    let guess = retrace(&Trace::new(lab.geometry(), Hash::ZERO), &rows);
    assert_ne!(guess.root(TOKEN_BITS), trace.root(TOKEN_BITS));
    assert_eq!(retrace(&trace, &rows).root(TOKEN_BITS), trace.root(TOKEN_BITS));
}

#[test]
fn a_truncated_trace_goes_on_as_if_it_had_never_been_longer() {
    let long = Lab::new(&toys()[0], 0..2, &[3, 2], 3).record().0;
    let mut short = long.clone();
    short.truncate(3);
    assert_eq!(short, Lab::new(&toys()[0], 0..2, &[3], 3).record().0);
}
