//! Small models, their traces, and a dispute driven to its end.

use nesa_crypto::SecretKey;
use nesa_model::Artifact;
use nesa_model::PlainDecoder;
use nesa_model::decoder::toy::{ToyDecoder, artifact_of};
use nesa_model::decoder::{DecoderModel, DecoderRun, Feed, Input, KvCache, Logits, Output, Shard};
use nesa_model::layout::TensorKind;
use nesa_model::manifest::{DecoderManifest, Manifest, WeightForm};
use nesa_primitives::Hash;
use nesa_trace::*;
use std::ops::Range;
use std::sync::{Arc, Mutex};

pub(crate) const SALT: Hash = Hash([7; 32]);
pub(crate) const TOKEN_BITS: u8 = 5;

pub(crate) fn client() -> SecretKey {
    SecretKey::from_seed(&[9; 32])
}

/// SplitMix64 (Steele et al., 2014).
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// One shard of a toy, and what it is fed.
pub(crate) struct Lab {
    pub(crate) artifact: Artifact,
    pub(crate) layers: Range<usize>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) logits: Logits,
}

pub(crate) fn toys() -> [ToyDecoder; 4] {
    let base = ToyDecoder { layers: 2, ..ToyDecoder::default() };
    [
        base,
        ToyDecoder { tied: true, window: 3, kv_heads: 1, seed: 2, ..base },
        ToyDecoder { loudness: 12, input_bits: 8, heads: 2, head_width: 16, seed: 3, ..base },
        // Rows of several blocks, sums of several rounds.
        ToyDecoder { d_ff: 1200, d_model: 96, layers: 1, kv_heads: 4, seed: 4, ..base },
    ]
}

impl Lab {
    /// `feeds` runs of so many tokens each, over the layers of one shard.
    pub(crate) fn new(toy: &ToyDecoder, layers: Range<usize>, feeds: &[usize], seed: u64) -> Self {
        Self::of(toy, WeightForm::Bytes, layers, feeds, seed)
    }

    /// With weights kept in one form or the other.
    pub(crate) fn of(
        toy: &ToyDecoder,
        weights: WeightForm,
        layers: Range<usize>,
        feeds: &[usize],
        seed: u64,
    ) -> Self {
        let artifact = artifact_of(toy, weights).unwrap();
        let mut random = SplitMix(seed);
        let inputs = feeds.iter().map(|&n| match layers.start {
            0 => Input::Tokens((0..n).map(|_| (random.next() % 50) as u32).collect()),
            _ => {
                let values = n * toy.d_model as usize;
                Input::Hidden((0..values).map(|_| random.next() as i32 >> 4).collect())
            }
        });
        let inputs = inputs.collect();
        Self { artifact, layers, inputs, logits: Logits::Last }
    }

    pub(crate) fn manifest(&self) -> &DecoderManifest {
        match self.artifact.header().manifest() {
            Manifest::Decoder(manifest) => manifest,
            _ => panic!("a decoder"),
        }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        let layers = self.layers.start as u16..self.layers.end as u16;
        Geometry::of(&self.manifest().config, layers).unwrap()
    }

    /// Runs the shard with this model's weights and records everything.
    pub(crate) fn record(&self) -> (Trace, Rows, Vec<Output>) {
        self.record_with(&self.artifact)
    }

    pub(crate) fn record_with(&self, artifact: &Artifact) -> (Trace, Rows, Vec<Output>) {
        self.record_keeping(artifact, &|| Box::new(|_, _| true))
    }

    pub(crate) fn record_keeping(
        &self,
        artifact: &Artifact,
        keep: &dyn Fn() -> Keep,
    ) -> (Trace, Rows, Vec<Output>) {
        let shard = Shard::of_artifact(artifact, self.layers.clone()).unwrap();
        let model = DecoderModel::open_shard(&shard).unwrap();
        let (mut trace, mut rows) = (Trace::new(self.geometry(), SALT), Rows::new());
        let mut cache = KvCache::new();
        let mut outputs = Vec::new();
        for input in &self.inputs {
            let recorder = Recorder::new(vec![trace]).keeping(keep());
            let recorder = Arc::new(Mutex::new(recorder));
            let feed = Feed { cache, input: input.clone(), logits: self.logits };
            let run =
                DecoderRun::start_observed(&model, vec![feed], Box::new(recorder.clone())).unwrap();
            let fed = run.run(&PlainDecoder(&model)).unwrap().pop().unwrap();
            cache = fed.cache;
            outputs.push(fed.output);
            let (longer, more) = recorder.lock().unwrap().finish().pop().unwrap();
            trace = longer;
            rows.extend(more);
        }
        (trace, rows, outputs)
    }

    pub(crate) fn context(&self, roots: [Hash; 2]) -> Context {
        Context {
            chain: Hash([1; 32]),
            query: Hash([2; 32]),
            shard: 0,
            client_key: client().public(),
            model: self.artifact.digest(),
            roots,
        }
    }
}

/// What the judge is shown when nothing is hidden.
pub(crate) struct Whole<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) rows: &'a Rows,
}

impl Facts for Whole<'_> {
    fn word(&self, token: u32, op: Op, index: usize) -> Result<i32, Missing> {
        let slot = self.lab.geometry().slot(op);
        slot.and_then(|slot| self.rows.get(&(token, slot))?.get(index).copied())
            .ok_or(Missing::Word { token, op, index })
    }

    fn bytes(&self, kind: TensorKind, at: usize, out: &mut [u8]) -> Result<(), Missing> {
        let tensor = self.lab.artifact.header().layout().tensor(kind);
        let start = tensor.ok_or(Missing::Bytes { kind, at })?.offset + at;
        out.copy_from_slice(&self.lab.artifact.payload()[start..start + out.len()]);
        Ok(())
    }
}

/// Puts rows' digests into a trace.
pub(crate) fn retrace(trace: &Trace, rows: &Rows) -> Trace {
    let mut out = Trace::new(*trace.geometry(), *trace.salt());
    for (&(token, slot), row) in rows {
        out.set(token, slot, row_digest(trace.salt(), token, slot, row));
    }
    out
}

/// How a party behaves: it may change its honest answer.
pub(crate) type Manner<'a> = dyn FnMut(&Dispute, Result<Answer, PartyError>) -> Option<Answer> + 'a;

pub(crate) fn honestly(_: &Dispute, answer: Result<Answer, PartyError>) -> Option<Answer> {
    answer.ok()
}

/// One party and its manner.
pub(crate) struct Player<'a> {
    pub(crate) trace: &'a Trace,
    pub(crate) rows: &'a Rows,
    pub(crate) manner: &'a mut Manner<'a>,
    pub(crate) has_receipts: bool,
}

/// Figures of a dispute.
#[derive(Debug, Default)]
pub(crate) struct Course {
    pub(crate) rounds: u32,
    pub(crate) longest: usize,
    pub(crate) stages: Vec<&'static str>,
}

/// Drives a dispute: each round both may answer once, and what is refused counts as silence.
pub(crate) fn drive(lab: &Lab, players: &mut [Player<'_>; 2]) -> (Ruling, Course) {
    use commonware_codec::{Decode, Encode};
    let roots = [0, 1].map(|i: usize| players[i].trace.root(TOKEN_BITS));
    let context = lab.context(roots);
    let pieces = |index| lab.artifact.piece(index);
    let header = lab.artifact.header();
    let layers = lab.layers.start as u16..lab.layers.end as u16;
    let mut dispute = {
        let party = Party {
            header,
            pieces: &pieces,
            trace: players[0].trace,
            rows: players[0].rows,
            receipt: &|_| None,
            end: None,
        };
        let slice = party.manifest_slice().unwrap();
        Dispute::open(&context, &slice, |_| Some(layers), TOKEN_BITS).unwrap()
    };
    let mut course = Course::default();
    while dispute.ruling().is_none() {
        course.rounds += 1;
        assert!(course.rounds <= MAX_DISPUTE_ROUNDS, "a dispute without end");
        let before = dispute.stage.clone();
        course.stages.push(match before {
            Stage::Tree { .. } => "tree",
            Stage::Input { .. } => "input",
            Stage::Asked { .. } => "asked",
            Stage::Row { .. } => "row",
            Stage::Sum { .. } => "sum",
            Stage::Opening { .. } => "opening",
            Stage::Done { .. } => "done",
        });
        let bytes = dispute.encode();
        assert_eq!(Dispute::decode_cfg(bytes, &()).unwrap(), dispute);
        for side in Side::BOTH {
            if dispute.stage != before {
                break;
            }
            let player = &mut players[side as usize];
            let (trace, has_receipts) = (player.trace, player.has_receipts);
            let receipt = |token| {
                let digest = trace.digest(token, 0)?;
                let logits = trace.digest(token, trace.geometry().head_slot()).is_some();
                has_receipts.then(|| context.sign_receipt(&client(), token, digest, logits))
            };
            let end = has_receipts.then(|| context.sign_end(&client(), trace.len() as u32));
            let (rows, receipt) = (player.rows, &receipt);
            let party = Party { header, pieces: &pieces, trace, rows, receipt, end };
            let answer = party.answer(&dispute);
            if let Some(answer) = (player.manner)(&dispute, answer) {
                course.longest = course.longest.max(answer.encode().len());
                let unchanged = dispute.clone();
                match dispute.answer(&context, side, answer) {
                    Ok(()) => {}
                    Err(_) => assert_eq!(dispute, unchanged),
                }
            }
        }
        if dispute.stage == before {
            dispute.time_out();
        }
    }
    (dispute.ruling().unwrap(), course)
}

/// A liar that makes its sums fit its claim: the difference goes to a part picked by `pick`.
pub(crate) fn cooked(
    pick: usize,
) -> impl FnMut(&Dispute, Result<Answer, PartyError>) -> Option<Answer> {
    move |dispute, answer| {
        let mut answer = answer.ok()?;
        if let (Stage::Sum { claims, .. }, Answer::Sums(sums)) = (&dispute.stage, &mut answer) {
            // Whichever of the claims it made: the other one fits already.
            let true_sum: i64 = sums.iter().fold(0, |a, b| a.wrapping_add(*b));
            let own = if claims[0] == true_sum { claims[1] } else { claims[0] };
            let at = pick % sums.len();
            sums[at] = sums[at].wrapping_add(own.wrapping_sub(true_sum));
        }
        Some(answer)
    }
}
