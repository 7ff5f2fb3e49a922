//! What crosses between strangers: answers as bytes, and the cards of models.

use super::{Machine, Network, calibrate, input, plan};
use crate::{
    Answer, Calibration, Card, CardError, Data, Decision, Demand, Dimension, Fingerprint,
    InputInfo, Kind, MAX_TENSORS, Plan, SKETCH_ENTRIES, Sketch, TAPS, Tensor, TensorError,
    TensorLimits, decide,
};
use commonware_codec::Encode as _;
use nesa_primitives::{Hash, decode_exact};
use proptest::{collection::vec, prelude::*};

const LIMITS: TensorLimits = TensorLimits { elements: 1 << 12 };

/// A run as a node tells it: taps of the network's sketch size, the output sketched as answers are.
fn told(network: &Network, seed: u64, machine: Machine) -> Answer {
    let ran = network.run(&input(seed), machine);
    let mut sketches = ran.fingerprint.sketches;
    sketches.pop();
    sketches.push(Sketch::of(&ran.output, SKETCH_ENTRIES).expect("small"));
    let shape = [ran.output.len() as u32];
    let outputs = vec![Tensor::new("y", &shape, Data::F32(ran.output)).expect("whole")];
    Answer { outputs, fingerprint: Fingerprint { plan: plan(), sketches } }
}

fn bytes(answer: &Answer) -> Option<Vec<u8>> {
    Some(answer.encode().to_vec())
}

/// The demand that the small network's calibration was made for.
fn demand() -> Demand {
    Demand { false_positive: 1.0, false_negative: 1.0, classes: Vec::new() }
}

#[test]
fn bytes_of_replicas_are_decided_and_the_first_that_agrees_is_the_answer() {
    let network = Network::new(1);
    let calibration = calibrate();
    let honest = [Machine::Forward, Machine::Lanes].map(|machine| told(&network, 5, machine));
    let other = told(&network.int8(), 5, Machine::Forward);
    let all = [bytes(&other), bytes(&honest[1]), bytes(&honest[0])];
    let (decision, answer) = decide(&calibration, &demand(), &LIMITS, &all);
    let Decision::Agreed { members, .. } = &decision else { panic!("{decision:?}") };
    assert_eq!(members, &[1, 2]);
    assert_eq!(answer.as_ref(), Some(&honest[1]));
    // Nobody agrees, nobody answers: there is no answer to show.
    let two = [bytes(&other), bytes(&honest[0])];
    let (decision, answer) = decide(&calibration, &demand(), &LIMITS, &two);
    assert!(matches!(decision, Decision::Disagreed { .. }), "{decision:?}");
    assert_eq!(answer, None);
    let none: [Option<Vec<u8>>; 3] = [None, None, None];
    let (decision, answer) = decide(&calibration, &demand(), &LIMITS, &none);
    assert!(matches!(decision, Decision::Undecided { .. }) && answer.is_none(), "{decision:?}");
}

/// Each of these counts as no answer, so that two of three are left and one of them alone is no majority.
#[test]
fn bytes_that_are_no_answer_are_missing() {
    let network = Network::new(1);
    let calibration = calibrate();
    let good = told(&network, 5, Machine::Forward);
    let elsewhere = told(&network, 6, Machine::Forward);
    let swapped = Answer { outputs: elsewhere.outputs, ..good.clone() };
    let whole = good.encode().to_vec();
    let longer = [&whole[..], &[0]].concat();
    for bad in [whole[1..].to_vec(), longer, Vec::new(), swapped.encode().to_vec()] {
        let told = [Some(bad), bytes(&good), None];
        let (decision, answer) = decide(&calibration, &demand(), &LIMITS, &told);
        assert!(matches!(decision, Decision::Undecided { .. }), "{decision:?}");
        assert_eq!(answer, None);
    }
    let few = TensorLimits { elements: 3 };
    let two = [bytes(&good), bytes(&good)];
    let (decision, _) = decide(&calibration, &demand(), &few, &two);
    assert!(matches!(decision, Decision::Undecided { .. }), "over the limit: {decision:?}");
}

fn card(calibration: Option<Calibration>) -> Card {
    let plan = Plan {
        model: Hash([3; 32]),
        taps: vec!["a".into(), "b".into()],
        outputs: vec!["y".into()],
        engine: "an engine".into(),
    };
    let shape = vec![Dimension::Open("batch".into()), Dimension::Fixed(4)];
    let inputs = vec![InputInfo { name: "x".into(), kind: Kind::F32, shape }];
    Card { plan, inputs, calibration }
}

#[test]
fn a_card_holds_together_or_is_refused() {
    let model = Hash([3; 32]);
    let measured = |change: &dyn Fn(&mut Calibration)| {
        let mut calibration = calibrate();
        (calibration.model, calibration.plan) = (model, card(None).plan.digest());
        change(&mut calibration);
        card(Some(calibration))
    };
    let good = measured(&|_| {});
    assert_eq!(good.check(&model), Ok(()));
    let json = serde_json::to_string(&good).expect("plain");
    assert_eq!(serde_json::from_str::<Card>(&json).expect("own"), good);
    assert!(json.contains(r#""shape":["batch",4]"#), "{json}");
    assert_eq!(card(None).check(&model), Ok(()), "a model that nobody measured");

    let refused = |card: &Card| card.check(&model).expect_err("refused");
    assert!(matches!(good.check(&Hash::ZERO), Err(CardError::Model { .. })));
    assert!(matches!(refused(&measured(&|c| c.model = Hash::ZERO)), CardError::Model { .. }));
    assert!(matches!(refused(&measured(&|c| c.plan = Hash::ZERO)), CardError::Plan { .. }));
    let bent = measured(&|c| c.thresholds.output_ppb = 900_000_000);
    assert!(matches!(refused(&bent), CardError::Calibration(_)), "looser thresholds than measured");
    // A plan that names other taps, outputs or another engine is another plan.
    for change in [
        |plan: &mut Plan| plan.taps[0] = "c".into(),
        |plan: &mut Plan| plan.outputs[0] = "z".into(),
        |plan: &mut Plan| plan.engine = "another".into(),
        // One name moved from one list to the next.
        |plan: &mut Plan| plan.outputs.insert(0, plan.taps.pop().unwrap_or_default()),
    ] {
        let mut other = good.clone();
        change(&mut other.plan);
        assert!(matches!(refused(&other), CardError::Plan { .. }));
    }
    let mut many = card(None);
    many.plan.taps = vec!["t".into(); TAPS + 1];
    assert!(matches!(refused(&many), CardError::Many { what: "taps", .. }));
    let mut many = card(None);
    many.inputs = vec![many.inputs[0].clone(); MAX_TENSORS + 1];
    assert!(matches!(refused(&many), CardError::Many { what: "inputs", .. }));
    let mut long = card(None);
    long.inputs[0].name = "x".repeat(5000);
    assert!(matches!(refused(&long), CardError::Many { what: "bytes of a name", .. }));
}

#[test]
fn values_fill_their_shape() {
    let values = || Data::I64(vec![1; 6]);
    assert!(Tensor::new("x", &[2, 3], values()).is_ok());
    assert!(matches!(Tensor::new("x", &[2, 2], values()), Err(TensorError::Count { got: 6, .. })));
    assert!(matches!(Tensor::new("x", &[u32::MAX; 8], values()), Err(TensorError::Count { .. })));
    assert!(matches!(Tensor::new("x", &[1; 9], values()), Err(TensorError::Rank { got: 9, .. })));
    let long = "x".repeat(257);
    assert!(matches!(Tensor::new(&long, &[6], values()), Err(TensorError::Name { got: 257 })));
}

proptest! {
    #[test]
    fn any_bytes_are_one_answer_or_none(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(answer) = decode_exact::<Answer>(&bytes, &LIMITS) {
            prop_assert_eq!(&answer.encode()[..], &bytes[..]);
        }
        if let Ok(tensor) = decode_exact::<Tensor>(&bytes, &LIMITS) {
            prop_assert_eq!(&tensor.encode()[..], &bytes[..]);
        }
    }

    #[test]
    fn answers_round_trip(seed in 0..50u64, cut in any::<prop::sample::Index>()) {
        let answer = told(&Network::new(seed), seed, Machine::Forward);
        let bytes = answer.encode().to_vec();
        prop_assert_eq!(&decode_exact::<Answer>(&bytes, &LIMITS).expect("own"), &answer);
        prop_assert!(decode_exact::<Answer>(&bytes[..cut.index(bytes.len())], &LIMITS).is_err());
    }
}
