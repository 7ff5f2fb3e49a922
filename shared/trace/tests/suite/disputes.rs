//! One party lies anywhere: it is found, and the honest one never is.

use crate::support::*;
use nesa_model::Artifact;
use nesa_model::decoder::toy::ToyDecoder;
use nesa_model::layout::TensorKind;
use nesa_model::manifest::{Manifest, WeightForm};
use nesa_trace::*;
use proptest::prelude::*;

/// The honest party on one side, a liar on the other; returns the course.
fn convict(
    lab: &Lab,
    honest: (&Trace, &Rows),
    liar: (&Trace, &Rows),
    left: bool,
    pick: usize,
) -> Course {
    let (mut good, mut bad) = (honestly, cooked(pick));
    let honest = Player { trace: honest.0, rows: honest.1, manner: &mut good, has_receipts: true };
    let liar = Player { trace: liar.0, rows: liar.1, manner: &mut bad, has_receipts: false };
    let (ruling, course) =
        if left { drive(lab, &mut [liar, honest]) } else { drive(lab, &mut [honest, liar]) };
    let expected = if left { Ruling::LeftLies } else { Ruling::RightLies };
    assert_eq!(ruling, expected, "{course:?}");
    course
}

/// Every operation, one corrupted word each, alone or with all later rows corrupted too.
#[test]
fn a_lie_in_any_operation_is_found() {
    let mut random = SplitMix(77);
    let mut longest = (0, 0);
    for toy in toys() {
        let layers = usize::from(toy.layers);
        for shard in [0..layers, layers - 1..layers] {
            let lab = Lab::new(&toy, shard, &[3, 1], 5);
            let (trace, rows, _) = lab.record();
            for slot in 1..lab.geometry().slots() {
                for later in [false, true] {
                    let token = if rows.contains_key(&(1, slot)) && later { 1 } else { 3 };
                    let Some(row) = rows.get(&(token, slot)) else { continue };
                    let mut lies = rows.clone();
                    let at = random.next() as usize % row.len();
                    lies.get_mut(&(token, slot)).unwrap()[at] ^= 1 << (random.next() % 32);
                    if later {
                        for (_, row) in lies.range_mut((token, slot + 1)..).filter(|(k, _)| k.1 > 0)
                        {
                            row[0] = row[0].wrapping_add(1);
                        }
                    }
                    let lie = retrace(&trace, &lies);
                    let left = random.next().is_multiple_of(2);
                    let pick = random.next() as usize;
                    let course = convict(&lab, (&trace, &rows), (&lie, &lies), left, pick);
                    longest = (longest.0.max(course.rounds), longest.1.max(course.longest));
                }
            }
        }
    }
    // What the limits of a chain's transactions must carry.
    assert!(longest.1 < 24 * 1024, "{longest:?}");
    println!("at most {} rounds, answers of at most {} bytes", longest.0, longest.1);
}

/// A party need not have kept its rows: it runs again, and keeps what the disputed row needs.
#[test]
fn a_party_that_ran_again_for_one_row_can_answer() {
    for toy in [toys()[0], toys()[1]] {
        let lab = Lab::new(&toy, 1..2, &[4, 1], 5);
        let (trace, all, _) = lab.record();
        let g = lab.geometry();
        for slot in 1..g.slots() {
            let (mut lies, token) = (all.clone(), 4);
            lies.get_mut(&(token, slot)).unwrap()[2] ^= 64;
            let lie = retrace(&trace, &lies);
            let again = || keep_for(&g, token, slot);
            let (same, rows, _) = lab.record_keeping(&lab.artifact, &again);
            assert_eq!(same, trace);
            assert!(rows.len() <= usize::from(g.slots()) + 4);
            convict(&lab, (&trace, &rows), (&lie, &lies), slot.is_multiple_of(2), 1);
        }
    }
}

/// A replica that runs another model than the one named: one byte of one tensor differs.
#[test]
fn a_replica_with_one_changed_parameter_is_found() {
    let toy = toys()[0];
    let lab = Lab::new(&toy, 0..2, &[4, 1], 6);
    let (trace, rows, _) = lab.record();
    let kinds = [
        TensorKind::Word,
        TensorKind::WordScale,
        TensorKind::NormGain(1),
        TensorKind::Multiplier(4),
        TensorKind::Bias(3),
        TensorKind::Smooth(1),
        TensorKind::Score(1),
        TensorKind::Frequency,
        TensorKind::Weight(0),
        TensorKind::Weight(5),
        TensorKind::Weight(6),
        TensorKind::Weight(7),
        TensorKind::Weight(8),
    ];
    let mut found = 0usize;
    for kind in kinds {
        let tensor = lab.artifact.header().layout().tensor(kind).unwrap();
        // The high byte of every element, but for the weights' only one: something surely changes.
        let step = match kind {
            TensorKind::Word | TensorKind::Weight(_) => 1,
            TensorKind::Smooth(_) => 2,
            TensorKind::Frequency => 8,
            _ => 4,
        };
        let mut payload = lab.artifact.payload().to_vec();
        for at in tensor.range().step_by(step) {
            payload[at + step - 1] ^= 1;
        }
        let other = Artifact::build(lab.artifact.header().manifest().clone(), payload.into());
        let (lie, lies, _) = lab.record_with(&other.unwrap());
        if lie.root(TOKEN_BITS) != trace.root(TOKEN_BITS) {
            convict(&lab, (&trace, &rows), (&lie, &lies), found.is_multiple_of(2), found);
            found += 1;
        }
    }
    assert!(found >= 10, "only {found} tensors mattered");
}

/// The referee reads weights of four bits for itself, groups that are full and that are not.
#[test]
fn weights_of_four_bits_are_judged() {
    for toy in [toys()[0], ToyDecoder { d_ff: 100, d_model: 70, layers: 1, ..toys()[1] }] {
        let layers = 0..usize::from(toy.layers);
        let lab = Lab::of(&toy, WeightForm::Nibbles, layers, &[4, 1], 6);
        let (trace, rows, _) = lab.record();
        // Another model: values and multipliers of one stage differ.
        for stage in 0..4 {
            let tensor = lab.artifact.header().layout().tensor(TensorKind::Weight(stage)).unwrap();
            let mut payload = lab.artifact.payload().to_vec();
            for at in tensor.range() {
                payload[at] ^= 0x11;
            }
            // Larger rows than the honest model's need a larger bound, which nothing computes with.
            let mut manifest = lab.manifest().clone();
            manifest.stages.iter_mut().for_each(|s| s.row_bound_bits = 31);
            let other = Artifact::build(Manifest::Decoder(manifest), payload.into());
            let (lie, lies, _) = lab.record_with(&other.unwrap());
            assert_ne!(lie.root(TOKEN_BITS), trace.root(TOKEN_BITS));
            convict(&lab, (&trace, &rows), (&lie, &lies), stage % 2 == 0, stage);
        }
        // The same model, and one value of every kind of row made up.
        for slot in 1..lab.geometry().slots() {
            let mut lies = rows.clone();
            // The head's rows are the last token's alone.
            let Some(row) = lies.get_mut(&(4, slot)) else { continue };
            row[3] ^= 1 << 9;
            let lie = retrace(&trace, &lies);
            convict(&lab, (&trace, &rows), (&lie, &lies), slot.is_multiple_of(2), 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn one_corrupted_value_anywhere_convicts_its_party(
        toy in 0usize..4, feeds in prop::collection::vec(1usize..5, 1..4), seed in any::<u64>(),
        row in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
        value in any::<i32>(), bit in 0u32..32, flip in any::<bool>(), left in any::<bool>(),
        pick in any::<usize>(),
    ) {
        let toy = toys()[toy];
        let layers = usize::from(toy.layers);
        let start = seed as usize % layers;
        let lab = Lab::new(&toy, start..layers, &feeds, seed);
        let (trace, rows, _) = lab.record();
        let keys: Vec<(u32, u16)> = rows.keys().copied().filter(|key| key.1 > 0).collect();
        let key = keys[row.index(keys.len())];
        let mut lies = rows.clone();
        let row = lies.get_mut(&key).unwrap();
        let at = at.index(row.len());
        row[at] = if flip || row[at] == value { row[at] ^ 1 << bit } else { value };
        let lie = retrace(&trace, &lies);
        convict(&lab, (&trace, &rows), (&lie, &lies), left, pick);
    }

    /// Two liars: whoever is convicted has lied, and at least one is.
    #[test]
    fn of_two_liars_at_least_one_is_found(
        seed in any::<u64>(), a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(),
        word in any::<prop::sample::Index>(), bit in 0u32..32,
    ) {
        let lab = Lab::new(&toys()[0], 0..2, &[3], seed);
        let (trace, rows, _) = lab.record();
        let keys: Vec<(u32, u16)> = rows.keys().copied().filter(|key| key.1 > 0).collect();
        let lie = |key: (u32, u16), by: i32| {
            let mut lies = rows.clone();
            let row = lies.get_mut(&key).unwrap();
            let at = word.index(row.len());
            row[at] = (row[at] ^ 1 << bit).wrapping_add(by);
            (retrace(&trace, &lies), lies)
        };
        let (left, right) = (lie(keys[a.index(keys.len())], 0), lie(keys[b.index(keys.len())], 1));
        prop_assume!(left.0.root(TOKEN_BITS) != right.0.root(TOKEN_BITS));
        let (mut one, mut two) = (cooked(0), cooked(1));
        let (ruling, _) = drive(&lab, &mut [
            Player { trace: &left.0, rows: &left.1, manner: &mut one, has_receipts: true },
            Player { trace: &right.0, rows: &right.1, manner: &mut two, has_receipts: true },
        ]);
        prop_assert_ne!(ruling, Ruling::Undecided);
    }
}
