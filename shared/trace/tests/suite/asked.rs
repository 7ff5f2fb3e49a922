//! What the client asked for, how many tokens and which logits: two askings that it signed convict it, one
//! convicts who did something else, and who was asked for less is never blamed.

use crate::support::*;
use nesa_crypto::SecretKey;
use nesa_model::decoder::Logits;
use nesa_primitives::Hash;
use nesa_trace::*;
use proptest::prelude::*;

/// A party, and what it holds of the client's.
#[derive(Clone, Copy)]
struct Holder<'a> {
    trace: &'a Trace,
    rows: &'a Rows,
    receipt: Option<(bool, &'a Context, u32)>,
    end: Option<(u32, &'a Context)>,
}

/// What `left` and `right` lead to when each shows what it holds, and only that.
fn judged(lab: &Lab, left: Holder<'_>, right: Holder<'_>) -> Decision {
    judged_by(lab, &client(), left, right)
}

fn judged_by(lab: &Lab, key: &SecretKey, left: Holder<'_>, right: Holder<'_>) -> Decision {
    let holders = [left, right];
    let context = lab.context(holders.map(|holder| holder.trace.root(TOKEN_BITS)));
    let pieces = |index| lab.artifact.piece(index);
    let layers = lab.layers.start as u16..lab.layers.end as u16;
    let party = |holder: &Holder<'_>, f: &mut dyn FnMut(&Party<'_>)| {
        let receipt = |token: u32| {
            let (logits, place, by) = holder.receipt?;
            let digest = holder.trace.digest(token, 0)?;
            Some(place.sign_receipt(key, token + by, digest, logits))
        };
        let end = holder.end.map(|(tokens, place)| place.sign_end(key, tokens));
        let (header, trace, rows) = (lab.artifact.header(), holder.trace, holder.rows);
        f(&Party { header, pieces: &pieces, trace, rows, receipt: &receipt, end });
    };
    let mut opened = None;
    party(&left, &mut |party| {
        let slice = party.manifest_slice().unwrap();
        let layers = layers.clone();
        opened = Some(Dispute::open(&context, &slice, |_| Some(layers), TOKEN_BITS).unwrap());
    });
    let mut dispute = opened.unwrap();
    let mut stages = Vec::new();
    while dispute.ruling().is_none() {
        let before = dispute.stage.clone();
        stages.push(before.clone());
        for (side, holder) in Side::BOTH.into_iter().zip(&holders) {
            if dispute.stage == before {
                party(holder, &mut |party| {
                    // What is refused counts as silence.
                    if let Ok(answer) = party.answer(&dispute) {
                        let _ = dispute.answer(&context, side, answer);
                    }
                });
            }
        }
        if dispute.stage == before {
            dispute.time_out();
        }
    }
    assert!(matches!(stages.last(), Some(Stage::Asked { .. })), "{stages:?}");
    dispute.decision().unwrap()
}

/// Three tokens and four of one text, each as a replica traced it.
struct Lengths {
    lab: Lab,
    short: (Trace, Rows),
    long: (Trace, Rows),
    context: Context,
}

fn lengths() -> Lengths {
    let (a, b) = (Lab::new(&toys()[0], 0..2, &[3], 1), Lab::new(&toys()[0], 0..2, &[3, 1], 1));
    let ((short, few, _), (long, more, _)) = (a.record(), b.record());
    let context = a.context([Hash::ZERO; 2]);
    Lengths { lab: a, short: (short, few), long: (long, more), context }
}

fn decision(ruling: Ruling, grounds: Grounds) -> Decision {
    Decision { ruling, grounds }
}

#[test]
fn a_client_that_asks_for_different_lengths_is_the_one_that_lies() {
    let Lengths { lab, short, long, context } = &lengths();
    let asked = Some((true, context, 0));
    let less = Holder { trace: &short.0, rows: &short.1, receipt: asked, end: Some((3, context)) };
    let more = Holder { trace: &long.0, rows: &long.1, receipt: asked, end: Some((4, context)) };
    let lies = decision(Ruling::ClientLies, Grounds::Receipts);
    assert_eq!(judged(lab, less, more), lies);
    assert_eq!(judged(lab, more, less), lies);
    // The longer one need not have heard an end: the client asked for a token after it had signed one.
    assert_eq!(judged(lab, less, Holder { end: None, ..more }), lies);
}

/// Who was given fewer tokens, and heard nothing more of the client, has nothing to show and is not blamed.
#[test]
fn a_client_that_leaves_without_a_word_convicts_nobody() {
    let Lengths { lab, short, long, context } = &lengths();
    let asked = Some((true, context, 0));
    let less = Holder { trace: &short.0, rows: &short.1, receipt: asked, end: None };
    let more = Holder { trace: &long.0, rows: &long.1, receipt: asked, end: None };
    let nobody = decision(Ruling::Lengths, Grounds::Silence);
    assert_eq!(judged(lab, less, more), nobody);
    assert_eq!(judged(lab, more, less), nobody);
    let nothing = Holder { receipt: None, ..more };
    assert_eq!(judged(lab, less, nothing), nobody);
}

/// A replica that makes a token up has no receipt for it; the other shows that the client wanted no more.
#[test]
fn a_token_that_nobody_asked_for_convicts_who_made_it_up() {
    let Lengths { lab, short, long, context } = &lengths();
    let asked = Some((true, context, 0));
    let honest =
        Holder { trace: &short.0, rows: &short.1, receipt: asked, end: Some((3, context)) };
    let liar = Holder { trace: &long.0, rows: &long.1, receipt: None, end: Some((3, context)) };
    assert_eq!(judged(lab, honest, liar), decision(Ruling::RightLies, Grounds::Silence));
    assert_eq!(judged(lab, liar, honest), decision(Ruling::LeftLies, Grounds::Silence));
}

/// An end for another shard, query or chain, by another key, or after the token, frames no client; nor does
/// a receipt for another token.
#[test]
fn words_about_something_else_frame_no_client() {
    let Lengths { lab, short, long, context } = &lengths();
    let other = [
        Context { shard: 1, ..*context },
        Context { query: Hash([9; 32]), ..*context },
        Context { chain: Hash([9; 32]), ..*context },
    ];
    let asked = Some((true, context, 0));
    let more = Holder { trace: &long.0, rows: &long.1, receipt: asked, end: Some((4, context)) };
    let nobody = decision(Ruling::Lengths, Grounds::Silence);
    for end in other.iter().map(|place| (3, place)).chain([(4, context), (u32::MAX, context)]) {
        let less = Holder { trace: &short.0, rows: &short.1, receipt: asked, end: Some(end) };
        assert_eq!(judged(lab, less, more), nobody);
    }
    let less = Holder { trace: &short.0, rows: &short.1, receipt: asked, end: Some((3, context)) };
    for receipt in other.iter().map(|place| (true, place, 0)).chain([(true, context, 1)]) {
        let forger = Holder { receipt: Some(receipt), ..more };
        assert_eq!(judged(lab, less, forger), decision(Ruling::RightLies, Grounds::Silence));
    }
    let stranger = SecretKey::from_seed(&[8; 32]);
    assert_eq!(judged_by(lab, &stranger, less, more), nobody);
}

/// Neither party can answer as the other should.
#[test]
fn who_has_a_token_shows_a_receipt_and_who_has_none_an_end() {
    let Lengths { lab, short, long, context: place } = &lengths();
    let context = lab.context([short.0.root(TOKEN_BITS), long.0.root(TOKEN_BITS)]);
    let digest = long.0.digest(3, 0).unwrap();
    let stage = Stage::Asked { token: 3, slot: 0, digests: [Hash::ZERO, digest] };
    let geometry = lab.geometry();
    let dispute = Dispute { geometry, token_bits: TOKEN_BITS, stage, answers: [None, None] };
    let receipt = Answer::Receipt(place.sign_receipt(&client(), 3, digest, true));
    let end = Answer::End(place.sign_end(&client(), 3));
    let answered = |side, answer: &Answer| dispute.clone().answer(&context, side, answer.clone());
    assert!(matches!(answered(Side::Left, &receipt), Err(AnswerError::Kind { .. })));
    assert!(matches!(answered(Side::Right, &end), Err(AnswerError::Kind { .. })));
    let other = Answer::Receipt(place.sign_receipt(&client(), 3, Hash([1; 32]), true));
    assert!(matches!(answered(Side::Right, &other), Err(AnswerError::Unfit { .. })));
    answered(Side::Left, &end).unwrap();
    answered(Side::Right, &receipt).unwrap();
}

/// One text, with the logits of its last token and with those of all.
fn logits() -> (Lab, [(Trace, Rows); 2], Context) {
    let last = Lab::new(&toys()[0], 0..2, &[3], 1);
    let mut all = Lab::new(&toys()[0], 0..2, &[3], 1);
    all.logits = Logits::All;
    let ((trace, rows, _), (fuller, more, _)) = (last.record(), all.record());
    let context = last.context([Hash::ZERO; 2]);
    (last, [(trace, rows), (fuller, more)], context)
}

#[test]
fn a_client_that_asks_one_replica_alone_for_logits_is_the_one_that_lies() {
    let (lab, [few, all], context) = &logits();
    let end = Some((3, context));
    let less = Holder { trace: &few.0, rows: &few.1, receipt: Some((false, context, 0)), end };
    let more = Holder { trace: &all.0, rows: &all.1, receipt: Some((true, context, 0)), end };
    let lies = decision(Ruling::ClientLies, Grounds::Receipts);
    assert_eq!(judged(lab, less, more), lies);
    assert_eq!(judged(lab, more, less), lies);
}

/// Logits left out although asked for, and put in although not: the receipt that the liar has says so.
#[test]
fn logits_left_out_or_put_in_convict_who_did_it() {
    let (lab, [few, all], context) = &logits();
    let end = Some((3, context));
    let hold = |of: usize, logits| {
        let (trace, rows) = [few, all][of];
        Holder { trace, rows, receipt: Some((logits, context, 0)), end }
    };
    let (left, right) = (Ruling::LeftLies, Ruling::RightLies);
    for (asked, ruling) in [(true, left), (false, right)] {
        let judgement = judged(lab, hold(0, asked), hold(1, asked));
        assert_eq!(judgement, decision(ruling, Grounds::Silence));
    }
    // Without any receipt neither is shown to have lied.
    let none = [0, 1].map(|of| Holder { receipt: None, ..hold(of, true) });
    let judgement = judged(lab, none[0], none[1]);
    assert_eq!(judgement, decision(Ruling::Undecided, Grounds::Silence));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever a liar holds, a client that signs one asking for each token and one end is never convicted,
    /// and nor is the replica that did what it was asked.
    #[test]
    fn no_words_of_an_honest_client_convict_it_or_an_honest_replica(
        longer in any::<bool>(), hides in any::<bool>(), drops in any::<bool>(), left in any::<bool>(),
        ended in any::<bool>(),
    ) {
        let Lengths { lab, short, long, context } = &lengths();
        // The client asked for three tokens, or for four; the liar did the other.
        let (truth, lie) = if longer { (long, short) } else { (short, long) };
        let asked = truth.0.len() as u32;
        let end = (ended && !drops).then_some((asked, context));
        let receipts = Some((true, context, 0));
        let honest = Holder {
            trace: &truth.0, rows: &truth.1, receipt: receipts, end: Some((asked, context)),
        };
        // Of a token beyond the end there is no receipt.
        let forged = longer && !hides;
        let liar = Holder {
            trace: &lie.0, rows: &lie.1, receipt: receipts.filter(|_| forged), end,
        };
        let (a, b) = if left { (liar, honest) } else { (honest, liar) };
        let ruling = judged(lab, a, b).ruling;
        prop_assert_ne!(ruling, Ruling::ClientLies);
        let of_honest = if left { Side::Right } else { Side::Left };
        prop_assert!(!ruling.convicts(of_honest));
        if !longer {
            prop_assert!(ruling.convicts(of_honest.other()), "it made a token up");
        }
    }
}
