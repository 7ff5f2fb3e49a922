//! What a replica tells: the outputs of its run, and the run's fingerprint.

use crate::{
    agreement::{Decision, Run, agree},
    calibration::{Calibration, Demand},
    fingerprint::Fingerprint,
    plan::SKETCH_ENTRIES,
    sketch::{Limits, Sketch},
    tensor::{Tensor, TensorLimits, many},
};
use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, Read, Write};
use nesa_primitives::{Hash, decode_exact, domain};

/// What a run gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The model's outputs.
    pub outputs: Vec<Tensor>,
    /// The fingerprint of the run: taps, then float outputs.
    pub fingerprint: Fingerprint,
}

impl Write for Answer {
    fn write(&self, buf: &mut impl BufMut) {
        self.outputs.write(buf);
        self.fingerprint.write(buf);
    }
}

impl EncodeSize for Answer {
    fn encode_size(&self) -> usize {
        self.outputs.encode_size() + self.fingerprint.encode_size()
    }
}

impl Read for Answer {
    type Cfg = TensorLimits;
    fn read_cfg(buf: &mut impl Buf, limits: &TensorLimits) -> Result<Self, Error> {
        let elements = u32::try_from(limits.elements).unwrap_or(u32::MAX);
        let sketches = Limits { elements, entries: SKETCH_ENTRIES as u16 };
        let outputs = Vec::read_cfg(buf, &many(*limits))?;
        let fingerprint = Fingerprint::read_cfg(buf, &sketches)?;
        Ok(Self { outputs, fingerprint })
    }
}

impl Answer {
    /// The values of all float outputs, one after the other: what replicas are compared by.
    pub fn values(&self) -> Vec<f32> {
        self.outputs.iter().filter_map(Tensor::floats).flatten().copied().collect()
    }

    /// Whether the outputs are those whose sketches the fingerprint ends with. An answer where they are
    /// not shows outputs of one run and the fingerprint of another.
    pub fn consistent(&self) -> bool {
        let floats: Vec<&[f32]> = self.outputs.iter().filter_map(Tensor::floats).collect();
        let sketches = &self.fingerprint.sketches;
        let Some(start) = sketches.len().checked_sub(floats.len()) else { return false };
        sketches[start..].iter().zip(floats).all(|(sketch, values)| {
            Sketch::of(values, SKETCH_ENTRIES).is_ok_and(|own| own == *sketch)
        })
    }

    /// What [`crate::agree`] compares; `values` are [`Answer::values`].
    pub const fn as_run<'a>(&'a self, values: &'a [f32]) -> Run<'a> {
        Run { fingerprint: &self.fingerprint, output: values }
    }

    /// The digest that a replica commits to.
    pub fn digest(&self) -> Hash {
        let mut hasher = domain("float answer", &Hash::ZERO);
        hasher.update(&commonware_codec::Encode::encode(self));
        hasher.finalize().into()
    }
}

/// Compares what replicas told, by replica; `None` where nothing came. Answers that do not decode within
/// `limits`, or show outputs of one run and the fingerprint of another, count as missing. Returns the
/// decision and the answer of the first that agrees.
pub fn decide(
    calibration: &Calibration,
    demand: &Demand,
    limits: &TensorLimits,
    told: &[Option<impl AsRef<[u8]>>],
) -> (Decision, Option<Answer>) {
    let decode = |bytes: &[u8]| decode_exact::<Answer>(bytes, limits).ok();
    let mut answers: Vec<Option<Answer>> = told
        .iter()
        .map(|bytes| decode(bytes.as_ref()?.as_ref()).filter(Answer::consistent))
        .collect();
    let values: Vec<Vec<f32>> =
        answers.iter().map(|a| a.as_ref().map(Answer::values).unwrap_or_default()).collect();
    let runs: Vec<Option<Run<'_>>> =
        answers.iter().zip(&values).map(|(a, v)| a.as_ref().map(|a| a.as_run(v))).collect();
    let decision = agree(calibration, demand, &runs);
    drop(runs);
    let first = match &decision {
        Decision::Agreed { members, .. } => members.first().copied(),
        _ => None,
    };
    (decision, first.and_then(|place| answers.get_mut(place)?.take()))
}
