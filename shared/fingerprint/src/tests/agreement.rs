//! Replicas that lie, and those that only add up in another order.

use super::{Machine, Network, Ran, calibrate, input, plan};
use crate::{Decision, Demand, Fingerprint, Run, agree};
use nesa_primitives::Hash;

fn decide(runs: &[Option<&Ran>]) -> Decision {
    let runs: Vec<Option<Run<'_>>> = runs.iter().map(|r| r.map(Ran::as_run)).collect();
    agree(&calibrate(), &Demand::default(), &runs)
}

fn members(decision: &Decision) -> Vec<usize> {
    match decision {
        Decision::Agreed { members, .. } => members.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn honest_machines_agree_and_one_with_another_model_is_found() {
    let network = Network::new(1);
    let x = input(700);
    let a = network.run(&x, Machine::Forward);
    let b = network.run(&x, Machine::Lanes);
    for liar in [network.int8(), network.bf16(), Network::new(2)] {
        let liar = liar.run(&x, Machine::Lanes);
        assert_eq!(members(&decide(&[Some(&a), Some(&liar), Some(&b)])), [0, 2]);
    }
    assert_eq!(members(&decide(&[Some(&a), Some(&b), Some(&a)])), [0, 1, 2]);
}

#[test]
fn what_is_missing_leaves_it_open_and_what_differs_closes_it() {
    let network = Network::new(1);
    let x = input(701);
    let a = network.run(&x, Machine::Forward);
    let b = network.int8().run(&x, Machine::Forward);
    let c = Network::new(2).run(&x, Machine::Forward);
    assert!(matches!(decide(&[Some(&a), None, None]), Decision::Undecided { .. }));
    assert!(matches!(decide(&[Some(&a), Some(&b), None]), Decision::Undecided { .. }));
    assert!(matches!(decide(&[]), Decision::Undecided { .. }));
    assert!(matches!(decide(&[Some(&a)]), Decision::Undecided { .. }));
    let all = decide(&[Some(&a), Some(&b), Some(&c)]);
    assert_eq!(all, Decision::Disagreed { got: 1, expected: 2 });
    assert_eq!(decide(&[Some(&a), Some(&b)]), Decision::Disagreed { got: 1, expected: 2 });
}

/// Being near is not transitive: someone in the middle could vote for two groups.
#[test]
fn overlapping_groups_are_not_an_agreement() {
    let network = Network::new(1);
    let base = network.run(&input(702), Machine::Forward);
    let thresholds = calibrate().thresholds;
    let moved = |share: f32| {
        let mut run = network.run(&input(702), Machine::Forward);
        let largest = run.output.iter().fold(0f32, |m, v| m.max(v.abs()));
        run.output[0] += share * thresholds.output_ppb as f32 * 1e-9 * largest;
        run
    };
    let (left, right) = (moved(-0.8), moved(0.8));
    let decision = decide(&[Some(&left), Some(&base), Some(&right)]);
    assert!(matches!(decision, Decision::Undecided { .. }), "{decision:?}");
}

#[test]
fn a_fingerprint_of_another_plan_is_in_no_group() {
    let network = Network::new(1);
    let x = input(703);
    let a = network.run(&x, Machine::Forward);
    let mut b = network.run(&x, Machine::Lanes);
    b.fingerprint.plan = Hash([9; 32]);
    assert_eq!(members(&decide(&[Some(&a), Some(&b), Some(&a)])), [0, 2]);
    assert_eq!(decide(&[Some(&a), Some(&b)]), Decision::Disagreed { got: 1, expected: 2 });
    // All of another plan: it is the calibration that does not fit.
    assert!(matches!(decide(&[Some(&b), Some(&b)]), Decision::Undecided { .. }));
    assert_ne!(plan(), b.fingerprint.plan);
    let empty = Fingerprint { plan: plan(), sketches: Vec::new() };
    let empty = Ran { fingerprint: empty, output: a.output.clone() };
    assert_eq!(decide(&[Some(&a), Some(&empty)]), Decision::Disagreed { got: 1, expected: 2 });
}

#[test]
fn a_weak_calibration_decides_nothing() {
    let network = Network::new(1);
    let x = input(704);
    let a = network.run(&x, Machine::Forward);
    let mut weak = calibrate();
    weak.classes.clear();
    let runs = [Some(a.as_run()), Some(a.as_run())];
    assert!(matches!(agree(&weak, &Demand::default(), &runs), Decision::Undecided { .. }));
}
