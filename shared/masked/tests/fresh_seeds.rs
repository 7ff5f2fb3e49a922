//! A fresh seed for every message: through guesses that were wrong, liars that are replaced, the same prompt
//! asked again and a prompt that was edited, no seed masks two different inputs.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod memory;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use nesa_chain::Side;
use nesa_crypto::prg::Seed;
use nesa_kernels::sample::Sampling;
use nesa_masked::{
    Lane,
    batch::text_passes,
    client::{Link, Pass},
    message::{ClientMessage, Limits, Request, Slot, decode_client},
    pack, share,
};
use nesa_model::ExactModel;
use nesa_model::decoder::{self, DecoderModel, WriteRequest, Writing, Written, toy::ToyDecoder};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use memory::observed;

/// Tokens guessed in each pass.
const DRAFT: usize = 3;

fn request(prompt: &[u32]) -> WriteRequest {
    WriteRequest {
        prompt: prompt.to_vec(),
        tokens: 16,
        sampling: Sampling { temperature: 1 << 16, top_k: 0, top_p: 1 << 16 },
        seed: [3; 32],
        pad_to: 4,
        piece: 3,
        draft: DRAFT,
    }
}

/// A session, and a message's place in it.
type Place = (usize, Slot);

/// Messages of any number of sessions, each once however often it was sent.
#[derive(Default)]
struct Seen {
    seeds: BTreeMap<[u8; 32], Place>,
    shares: BTreeMap<Bytes, Place>,
    /// Messages sent again, to one that was suspected or in the place of one that left.
    again: usize,
}

/// Takes what was seen before at another place only for a failure.
fn once<K: Ord>(all: &mut BTreeMap<K, Place>, what: K, place: Place) -> usize {
    let before = all.insert(what, place);
    assert!(before.is_none_or(|before| before == place), "used at {before:?}, then at {place:?}");
    usize::from(before.is_some())
}

impl Seen {
    fn take(&mut self, session: usize, lane: &Lane, frames: &[(Link, Bytes)]) {
        let limits = Limits { payload: lane.max_message() };
        for (link, frame) in frames {
            let (ClientMessage::Work(request) | ClientMessage::Blame(request)) =
                decode_client(frame, &limits).unwrap()
            else {
                continue;
            };
            let place = (session, request.slot());
            self.again += match request {
                Request::Seed { seed, .. } => {
                    assert_eq!(link.side, Side::B);
                    once(&mut self.seeds, *seed.seed().expose(), place)
                }
                Request::Share { share, .. } => {
                    assert_eq!(link.side, Side::A);
                    once(&mut self.shares, share, place)
                }
            };
        }
    }

    /// Every share of A has a seed of B's that nothing else has: that with which it is an input, and not noise.
    fn check(&self, lane: &Lane) {
        let mut used = BTreeSet::new();
        for (share, place) in &self.shares {
            let stage = &lane.find(place.1.stage).unwrap().1;
            let (bits, len) = (stage.share_bits(), (stage.k * place.1.rows()) as usize);
            let a = pack::unpack(share, len, bits).unwrap();
            // Noise within the limit would be a wonder: shares have more bits than inputs, and there are many.
            let is_input = |seed: &[u8; 32]| {
                let b = share::expand(&Seed::from_bytes(*seed), len, bits);
                let x = share::reconstruct(&a, &b, bits);
                x.iter().all(|x| x.abs() <= stage.input_limit())
            };
            let of_place = self.seeds.iter().filter(|(_, other)| *other == place);
            let fitting: Vec<&[u8; 32]> =
                of_place.map(|(s, _)| s).filter(|s| is_input(s)).collect();
            assert_eq!(fitting.len(), 1, "{place:?}");
            assert!(used.insert(fitting[0]), "two inputs under one seed at {place:?}");
        }
    }
}

#[test]
fn no_seed_is_used_twice_however_a_text_is_written() {
    let toy = ToyDecoder { layers: 2, ..ToyDecoder::default() };
    let model = DecoderModel::open(&decoder::toy::artifact(&toy).unwrap()).unwrap();
    let exact = ExactModel::Decoder(model.clone());
    let lane = Lane::of_model(exact.served_stages()).unwrap();
    let mut seen = Seen::default();
    // One source of randomness for all sessions of a device, as it has.
    let mut device = StdRng::seed_from_u64(11);
    let prompt = [5, 6, 7, 8, 9];
    let edited = [5, 6, 7, 8, 10];
    let liar = |side, attempt| Some(Link { side, attempt });
    let sessions = [
        (&prompt, None),
        // Regenerated: the same text, asked again.
        (&prompt, None),
        // Blamed and replaced, on either side.
        (&prompt, liar(Side::A, 0)),
        (&prompt, liar(Side::B, 0)),
        // Edited, with a beginning that was read before.
        (&edited, None),
    ];
    let mut texts = Vec::new();
    for (session, (prompt, liar)) in sessions.into_iter().enumerate() {
        let request = request(prompt);
        let tokens = text_passes(&request)[0];
        let passes = vec![Pass { run: Writing::start(&model, request).unwrap(), tokens }];
        let rng = StdRng::seed_from_u64(device.next_u64());
        let (written, transcript, frames) = observed(&exact, passes, liar, rng);
        assert_eq!(transcript.rejected.len(), usize::from(liar.is_some()));
        // A pass that gave fewer tokens than it had rows for was rolled back.
        let given = |w: &Vec<Written>| w.iter().filter(|w| **w != Written::Read).count();
        let rolled = written.iter().filter(|w| (1..=DRAFT).contains(&given(w))).count();
        assert!(rolled > 2, "{written:?}");
        let before = seen.again;
        seen.take(session, &lane, &frames);
        assert_eq!(seen.again > before, liar.is_some(), "session {session}");
        texts.push(written);
    }
    assert!(texts[1..4].iter().all(|text| *text == texts[0]), "the same text each time");
    seen.check(&lane);
    assert!(seen.seeds.len() > 5 * 20, "{}", seen.seeds.len());
}
