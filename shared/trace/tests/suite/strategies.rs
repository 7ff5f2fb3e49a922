//! Parties that do not play by the rules, and things that nobody can tell.

use crate::support::*;
use nesa_primitives::Hash;
use nesa_trace::*;

struct Case {
    lab: Lab,
    trace: Trace,
    rows: Rows,
    lie: Trace,
    lies: Rows,
}

/// A wrong product in a wide row: its dispute goes through every stage.
fn case() -> Case {
    let lab = Lab::new(&toys()[3], 0..1, &[3, 1], 5);
    let (trace, rows, _) = lab.record();
    let mut lies = rows.clone();
    let slot = lab.geometry().slot(Op::Product(3)).unwrap();
    lies.get_mut(&(2, slot)).unwrap()[90] += 17;
    let lie = retrace(&trace, &lies);
    Case { lab, trace, rows, lie, lies }
}

fn play<'a>(case: &'a Case, liar: &'a mut Manner<'a>) -> (Ruling, Course) {
    let mut good = honestly;
    let honest =
        Player { trace: &case.trace, rows: &case.rows, manner: &mut good, has_receipts: true };
    let liar = Player { trace: &case.lie, rows: &case.lies, manner: liar, has_receipts: false };
    drive(&case.lab, &mut [honest, liar])
}

#[test]
fn the_case_goes_through_every_stage() {
    let (ruling, course) = play(&case(), &mut cooked(3));
    assert_eq!(ruling, Ruling::RightLies);
    for stage in ["tree", "row", "sum", "opening"] {
        assert!(course.stages.contains(&stage), "{course:?}");
    }
    assert!(course.stages.iter().filter(|s| **s == "sum").count() >= 2, "{course:?}");
}

#[test]
fn who_falls_silent_at_any_round_loses() {
    for last in 0..20u32 {
        let mut round = 0;
        let mut quit = move |dispute: &Dispute, answer: Result<Answer, PartyError>| {
            round += 1;
            if round > last { None } else { cooked(1)(dispute, answer) }
        };
        assert_eq!(play(&case(), &mut quit).0, Ruling::RightLies, "silent after {last}");
    }
}

#[test]
fn who_opens_garbage_at_any_round_loses() {
    for kind in 0..5 {
        for at in 0..12u32 {
            let mut round = 0;
            let mut garble = move |dispute: &Dispute, answer: Result<Answer, PartyError>| {
                round += 1;
                let mut answer = cooked(2)(dispute, answer)?;
                if round > at {
                    match (&mut answer, kind) {
                        (Answer::Nodes(nodes), 0) => nodes[0].0[0] ^= 1,
                        (Answer::Nodes(nodes), 1) => nodes.truncate(1),
                        (Answer::Block(block), 0) => block.0[70] ^= 1,
                        (Answer::Block(block), 1) => block.0.truncate(8),
                        (Answer::Sums(sums), 0) => sums[0] = sums[0].wrapping_add(1),
                        (Answer::Sums(sums), 1) => sums.clear(),
                        (_, 2) => answer = Answer::Nodes(vec![Hash::ZERO; 16]),
                        (_, 3) => answer = Answer::Sums(vec![i64::MAX; 16]),
                        (_, 4) => answer = Answer::Opening(Box::default()),
                        (Answer::Opening(opening), _) => opening.rows.clear(),
                        _ => {}
                    }
                }
                Some(answer)
            };
            assert_eq!(play(&case(), &mut garble).0, Ruling::RightLies, "{kind} from {at}");
        }
    }
}

#[test]
fn a_liar_alone_cannot_bend_an_opening() {
    // The liar opens first, with one thing changed each time: refused, and the honest opening decides.
    let case = case();
    for what in 0..9 {
        let mut bend = move |dispute: &Dispute, answer: Result<Answer, PartyError>| {
            let mut answer = cooked(2)(dispute, answer)?;
            if let Answer::Opening(opening) = &mut answer {
                match what {
                    0 => opening.rows[0].slices[0].data.0[80] ^= 1,
                    1 => opening.rows[0].path[2].0[0] ^= 1,
                    2 => opening.rows[0].token += 1,
                    3 => opening.rows[0].digest.0[1] ^= 1,
                    4 => opening.pieces[0].slice.data.0[90] ^= 1,
                    5 => opening.pieces[0].chunk = 0,
                    6 => opening.header[0].data.0[40] ^= 1,
                    7 => opening.pieces.clear(),
                    _ => opening.header.clear(),
                }
            }
            Some(answer)
        };
        let mut good = honestly;
        let liar =
            Player { trace: &case.lie, rows: &case.lies, manner: &mut bend, has_receipts: false };
        let honest =
            Player { trace: &case.trace, rows: &case.rows, manner: &mut good, has_receipts: true };
        assert_eq!(drive(&case.lab, &mut [liar, honest]).0, Ruling::LeftLies, "{what}");
    }
}

#[test]
fn the_liars_own_true_opening_convicts_it() {
    let case = case();
    let mut mute_at_opening = |dispute: &Dispute, answer: Result<Answer, PartyError>| {
        if matches!(dispute.stage, Stage::Opening { .. }) { None } else { answer.ok() }
    };
    let mut bad = cooked(2);
    let honest = Player {
        trace: &case.trace,
        rows: &case.rows,
        manner: &mut mute_at_opening,
        has_receipts: true,
    };
    let liar = Player { trace: &case.lie, rows: &case.lies, manner: &mut bad, has_receipts: false };
    assert_eq!(drive(&case.lab, &mut [honest, liar]).0, Ruling::RightLies);
}

#[test]
fn two_silent_parties_are_both_left_alone() {
    let case = case();
    let silent = |_: &Dispute, _: Result<Answer, PartyError>| -> Option<Answer> { None };
    let (mut one, mut two) = (silent, silent);
    let (ruling, _) = drive(
        &case.lab,
        &mut [
            Player { trace: &case.trace, rows: &case.rows, manner: &mut one, has_receipts: true },
            Player { trace: &case.lie, rows: &case.lies, manner: &mut two, has_receipts: true },
        ],
    );
    assert_eq!(ruling, Ruling::Undecided);
}

/// Two traces of one case, both answering as they should.
fn between(lab: &Lab, left: (&Trace, &Rows, bool), right: (&Trace, &Rows, bool)) -> Ruling {
    let (mut one, mut two) = (cooked(0), cooked(1));
    drive(
        lab,
        &mut [
            Player { trace: left.0, rows: left.1, manner: &mut one, has_receipts: left.2 },
            Player { trace: right.0, rows: right.1, manner: &mut two, has_receipts: right.2 },
        ],
    )
    .0
}

#[test]
fn different_inputs_are_decided_by_the_clients_receipt_alone() {
    let (a, b) = (Lab::new(&toys()[0], 0..2, &[3], 1), Lab::new(&toys()[0], 0..2, &[3], 2));
    let ((trace, rows, _), (other, others, _)) = (a.record(), b.record());
    let rule = |left, right| between(&a, (&trace, &rows, left), (&other, &others, right));
    assert_eq!(rule(true, false), Ruling::RightLies);
    assert_eq!(rule(false, true), Ruling::LeftLies);
    // The client gave both what they used: it is the one who lied.
    assert_eq!(rule(true, true), Ruling::ClientLies);
    assert_eq!(rule(false, false), Ruling::Undecided);
    for side in Side::BOTH {
        assert!(!Ruling::ClientLies.convicts(side), "neither replica pays for it");
    }
}

/// A receipt says which input, token, shard and query it is for: no other one blames the client, or
/// saves who made an input up.
#[test]
fn a_receipt_for_something_else_shows_nothing() {
    let (a, b) = (Lab::new(&toys()[0], 0..2, &[3], 1), Lab::new(&toys()[0], 0..2, &[3], 2));
    let ((trace, rows, _), (other, others, _)) = (a.record(), b.record());
    let context = a.context([trace.root(TOKEN_BITS), other.root(TOKEN_BITS)]);
    let stranger = nesa_crypto::SecretKey::from_seed(&[8; 32]);
    for kind in 0..6 {
        let mut forge = |dispute: &Dispute, answer: Result<Answer, PartyError>| {
            let Stage::Input { token, digests } = dispute.stage else { return answer.ok() };
            let (own, theirs) = (digests[1], digests[0]);
            let sign = |context: &Context, token, digest| {
                Some(Answer::Receipt(context.sign_receipt(&client(), token, digest, false)))
            };
            match kind {
                0 => sign(&context, token, theirs),
                1 => sign(&context, token + 1, own),
                2 => sign(&Context { shard: 1, ..context }, token, own),
                3 => sign(&Context { query: Hash([9; 32]), ..context }, token, own),
                4 => sign(&Context { chain: Hash([9; 32]), ..context }, token, own),
                _ => Some(Answer::Receipt(context.sign_receipt(&stranger, token, own, false))),
            }
        };
        let mut good = honestly;
        let honest = Player { trace: &trace, rows: &rows, manner: &mut good, has_receipts: true };
        let forger =
            Player { trace: &other, rows: &others, manner: &mut forge, has_receipts: false };
        assert_eq!(drive(&a, &mut [honest, forger]).0, Ruling::RightLies, "kind {kind}");
    }
}

#[test]
fn a_lie_before_the_end_is_found_in_traces_of_different_lengths() {
    let (a, b) = (Lab::new(&toys()[0], 0..2, &[3], 1), Lab::new(&toys()[0], 0..2, &[3, 1], 1));
    let ((trace, rows, _), (longer, mut lies, _)) = (a.record(), b.record());
    lies.get_mut(&(1, 8)).unwrap()[4] ^= 1;
    let lie = retrace(&longer, &lies);
    assert_eq!(between(&a, (&trace, &rows, true), (&lie, &lies, false)), Ruling::RightLies);
}

#[test]
fn rows_left_out_or_put_in_convict_who_did_it() {
    let lab = Lab::new(&toys()[0], 0..2, &[3], 1);
    let (trace, rows, _) = lab.record();
    let slots = lab.geometry().slots();
    for slot in [1, 2, 9, slots - 5] {
        let mut lies = rows.clone();
        lies.remove(&(1, slot));
        let lie = retrace(&trace, &lies);
        assert_eq!(between(&lab, (&trace, &rows, true), (&lie, &lies, true)), Ruling::RightLies);
        assert_eq!(between(&lab, (&lie, &lies, true), (&trace, &rows, true)), Ruling::LeftLies);
    }
    // A row of a token that was not run, of a head that was not asked for, and beyond the last slot.
    for key in [(9, 4), (0, slots - 1), (1, slots + 3)] {
        let mut lies = rows.clone();
        lies.insert(key, vec![1, 2, 3]);
        let lie = retrace(&trace, &lies);
        assert_eq!(between(&lab, (&trace, &rows, true), (&lie, &lies, true)), Ruling::RightLies);
    }
}

#[test]
fn a_row_with_another_prefix_or_length_convicts_its_party() {
    let lab = Lab::new(&toys()[0], 0..2, &[3], 1);
    let (trace, rows, _) = lab.record();
    // The digest of another slot's message, of a longer one, and of nothing at all.
    let row = &rows[&(1, 9)];
    let longer = [&row[..], &[0; 300]].concat();
    for digest in [row_digest(&SALT, 1, 8, row), row_digest(&SALT, 1, 9, &longer), Hash([3; 32])] {
        let mut lie = trace.clone();
        lie.set(1, 9, digest);
        assert_eq!(between(&lab, (&trace, &rows, true), (&lie, &rows, false)), Ruling::RightLies);
    }
}

#[test]
fn honest_parties_never_meet() {
    let lab = Lab::new(&toys()[0], 0..2, &[3], 1);
    let (trace, rows, _) = lab.record();
    let root = trace.root(TOKEN_BITS);
    let context = lab.context([root, root]);
    let pieces = |index| lab.artifact.piece(index);
    let header = lab.artifact.header();
    let (pieces, receipt) = (&pieces, &|_| None);
    let party = Party { header, pieces, trace: &trace, rows: &rows, receipt, end: None };
    let slice = party.manifest_slice().unwrap();
    let open = |context: &Context, slice: &Slice, layers| {
        Dispute::open(context, slice, |_| layers, TOKEN_BITS)
    };
    assert_eq!(open(&context, &slice, Some(0..2)), Err(OpenError::Equal));
    // Another model's header, none at all, and layers it does not have open nothing either.
    let context = lab.context([root, Hash([1; 32])]);
    assert!(open(&context, &slice, Some(0..2)).is_ok());
    let other = Context { model: Hash([5; 32]), ..context };
    assert!(matches!(open(&other, &slice, Some(0..2)), Err(OpenError::Header(_))));
    assert!(matches!(open(&context, &slice, Some(1..9)), Err(OpenError::Geometry(_))));
    assert!(matches!(open(&context, &slice, None), Err(OpenError::Shard { .. })));
}
