//! Every decoder: canonical, bounded, and calm about any bytes.

use crate::support::*;
use commonware_codec::{Decode, Encode};
use nesa_primitives::decode_exact;
use nesa_trace::*;
use proptest::prelude::*;

fn again<T: Decode<Cfg = ()> + Encode>(bytes: &[u8]) -> bool {
    decode_exact::<T>(bytes, &()).is_ok_and(|value| value.encode() == bytes)
}

type Decoder = (&'static str, fn(&[u8]) -> bool);

const DECODERS: [Decoder; 6] = [
    ("Answer", again::<Answer>),
    ("Dispute", again::<Dispute>),
    ("Opening", again::<Opening>),
    ("Slice", again::<Slice>),
    ("Claim", again::<Claim>),
    ("RowProof", again::<RowProof>),
];

/// Answers of a whole dispute, and the disputes they were given in.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let lab = Lab::new(&toys()[3], 0..1, &[2], 5);
    let (trace, rows, _) = lab.record();
    let mut lies = rows.clone();
    let slot = lab.geometry().slot(Op::Product(3)).unwrap();
    lies.get_mut(&(1, slot)).unwrap()[3] += 1;
    let lie = retrace(&trace, &lies);
    let mut samples = Vec::new();
    let mut good = |dispute: &Dispute, answer: Result<Answer, PartyError>| {
        let answer = answer.ok()?;
        samples.push(("Dispute", dispute.encode().to_vec()));
        samples.push(("Answer", answer.encode().to_vec()));
        if let Answer::Opening(opening) = &answer {
            samples.push(("Opening", opening.encode().to_vec()));
            samples.push(("Slice", opening.header[0].encode().to_vec()));
        }
        if let Stage::Opening { claim, .. } = &dispute.stage {
            samples.push(("Claim", claim.encode().to_vec()));
        }
        Some(answer)
    };
    let mut bad = |dispute: &Dispute, answer: Result<Answer, PartyError>| {
        let opening = matches!(dispute.stage, Stage::Opening { .. });
        if opening { None } else { cooked(0)(dispute, answer) }
    };
    drive(
        &lab,
        &mut [
            Player { trace: &lie, rows: &lies, manner: &mut bad, has_receipts: false },
            Player { trace: &trace, rows: &rows, manner: &mut good, has_receipts: true },
        ],
    );
    samples.push(("RowProof", trace.prove(TOKEN_BITS, 1, 4).unwrap().encode().to_vec()));
    samples
}

#[test]
fn samples_are_canonical_and_every_truncation_or_tail_is_refused() {
    let samples = samples();
    assert!(samples.len() > 8);
    for (name, bytes) in samples {
        let decodes = DECODERS.iter().find(|(n, _)| *n == name).unwrap().1;
        assert!(decodes(&bytes), "{name}");
        for end in (0..bytes.len()).step_by(1 + bytes.len() / 300) {
            assert!(!decodes(&bytes[..end]), "{name} cut to {end}");
        }
        assert!(!decodes(&[&bytes[..], &[0]].concat()), "{name} with a tail");
    }
}

proptest! {
    #[test]
    fn no_decoder_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for (_, decodes) in DECODERS {
            let _ = decodes(&bytes);
        }
    }

    /// Any dispute that decodes takes any answer that decodes, without a panic.
    #[test]
    fn any_dispute_takes_any_answer(
        at in any::<prop::sample::Index>(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        pick in any::<prop::sample::Index>(),
    ) {
        thread_local!(static SAMPLES: Vec<(&'static str, Vec<u8>)> = samples());
        SAMPLES.with(|samples| {
            let of = |name| samples.iter().filter(move |(n, _)| *n == name).map(|(_, b)| b).collect::<Vec<_>>();
            let (disputes, answers) = (of("Dispute"), of("Answer"));
            let mut bytes = disputes[at.index(disputes.len())].clone();
            for (at, by) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= by;
            }
            let answer: Answer = decode_exact(answers[pick.index(answers.len())], &()).unwrap();
            if let Ok(mut dispute) = decode_exact::<Dispute>(&bytes, &()) {
                let lab = Lab::new(&toys()[0], 0..1, &[1], 5);
                let context = lab.context([nesa_primitives::Hash::ZERO; 2]);
                let _ = dispute.answer(&context, Side::Left, answer.clone());
                let _ = dispute.answer(&context, Side::Right, answer);
                dispute.time_out();
            }
        });
    }
}
