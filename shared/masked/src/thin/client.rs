//! The client's side of one thin preparation: a state machine without I/O.

use bytes::Bytes;
use commonware_codec::Encode;
use nesa_primitives::{Address, Hash};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    MIN_INPUT_BITS, VALUES_PER_FRAME,
    message::{FieldValues, PreparerRequest, PreparerResponse, Refusal, RowShare, decode_response},
};
use crate::{
    client::Candidate,
    field,
    preparation::{Preparation, StageSecrets},
    secret::SecretVector,
    spec::Lane,
};

/// Why there is no preparation. Of an answer that does not fit it says whose, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ThinError {
    /// Both preparers are of one operator, who would see r.
    #[error("operator {0} would prepare both halves")]
    Operator(Address),
    /// A stage's inputs are too narrow for random rows to tell a wrong s.
    #[error("stage {stage} takes inputs of {got} bits, a thin preparation needs {MIN_INPUT_BITS}")]
    Narrow {
        /// The stage.
        stage: u16,
        /// Bits of its inputs.
        got: u8,
    },
    /// A preparer declined.
    #[error("preparer {node}: {refusal}")]
    Refused {
        /// Who.
        node: Address,
        /// In its words.
        refusal: Refusal,
    },
    /// A preparer answered something that is not due.
    #[error("preparer {0} does not keep to the protocol")]
    Answer(Address),
    /// Not everything has come.
    #[error("preparer {0} has not answered every stage")]
    Incomplete(Address),
}

/// One preparer as the client sees it.
struct Half {
    preparer: Candidate,
    /// Place of the next frame to send: the opening, then (stage, first row).
    sent: Option<(usize, usize)>,
    opened: bool,
    accepted: bool,
    /// Its shares of s; the last may be unfinished.
    columns: Vec<Zeroizing<Vec<u64>>>,
}

/// A preparation being made by two nodes. Dropping it ends the life of its r.
pub struct Preparing {
    chain: Hash,
    model: Hash,
    lane: Lane,
    /// Per stage: r `[n]`, and the share u of the first preparer; the other's is r − u.
    secrets: Vec<(SecretVector, SecretVector)>,
    halves: [Half; 2],
}

impl Preparing {
    /// Draws a fresh r for every stage, and its first share. `rng` must be cryptographically secure
    /// and freshly seeded.
    ///
    /// # Errors
    /// [`ThinError::Operator`] when one operator would see both shares, [`ThinError::Narrow`] when
    /// the result could not be tested.
    pub fn new(
        chain: Hash,
        model: Hash,
        lane: Lane,
        preparers: [Candidate; 2],
        rng: &mut impl CryptoRng,
    ) -> Result<Self, ThinError> {
        let [first, second] = &preparers;
        if first.operator == second.operator || first.node == second.node {
            return Err(ThinError::Operator(first.operator));
        }
        if let Some(narrow) = lane.stages().iter().find(|s| s.input_bits < MIN_INPUT_BITS) {
            return Err(ThinError::Narrow { stage: narrow.id, got: narrow.input_bits });
        }
        let secrets = lane.stages().iter().map(|stage| {
            let n = stage.n as usize;
            (SecretVector::uniform(n, rng), SecretVector::uniform(n, rng))
        });
        let secrets = secrets.collect();
        let halves = preparers.map(|preparer| Half {
            preparer,
            sent: Some((0, 0)),
            opened: false,
            accepted: false,
            columns: Vec::new(),
        });
        Ok(Self { chain, model, lane, secrets, halves })
    }

    /// The next frame for preparer `which` (0 or 1); `None` once everything has been handed out.
    pub fn next_frame(&mut self, which: usize) -> Option<Bytes> {
        let half = self.halves.get_mut(which)?;
        if !half.opened {
            half.opened = true;
            let node = half.preparer.node;
            let open = PreparerRequest::Open { chain: self.chain, model: self.model, node };
            return Some(open.encode());
        }
        let (index, first) = half.sent?;
        let stage = self.lane.stages().get(index)?;
        let end = (first + VALUES_PER_FRAME).min(stage.n as usize);
        half.sent = match end == stage.n as usize {
            true if index + 1 == self.lane.stages().len() => None,
            true => Some((index + 1, 0)),
            false => Some((index, end)),
        };
        let (r, u) = self.secrets.get(index)?;
        let share = |row: usize| match which {
            0 => u.residue(row),
            _ => field::add(r.residue(row), field::negate(u.residue(row))),
        };
        let values = FieldValues::new((first..end).map(share).collect())?;
        let rows = RowShare { stage: stage.id, first: first as u32, values };
        Some(PreparerRequest::Rows(rows).encode())
    }

    /// Takes one frame from preparer `which`.
    ///
    /// # Errors
    /// [`ThinError`], after which this preparation is to be dropped, r with it.
    pub fn received(&mut self, which: usize, frame: &[u8]) -> Result<(), ThinError> {
        let Some(half) = self.halves.get_mut(which) else { return Ok(()) };
        let node = half.preparer.node;
        let strange = ThinError::Answer(node);
        match decode_response(frame).map_err(|_| strange)? {
            PreparerResponse::Refused(refusal) => Err(ThinError::Refused { node, refusal }),
            PreparerResponse::Accept if !half.accepted => {
                half.accepted = true;
                Ok(())
            }
            PreparerResponse::Columns(columns) if half.accepted => half
                .columns(&self.lane, columns.stage, columns.first, &columns.values)
                .ok_or(strange),
            _ => Err(strange),
        }
    }

    /// Whether preparer `which` has answered everything.
    pub fn is_complete(&self, which: usize) -> bool {
        self.halves.get(which).is_some_and(|half| half.is_complete(&self.lane))
    }

    /// Adds both shares of s. What comes out is [`Untested`](crate::origin::Standing::Untested).
    ///
    /// # Errors
    /// [`ThinError::Incomplete`] names a preparer that owes an answer.
    pub fn finish(self) -> Result<Preparation, ThinError> {
        for half in &self.halves {
            if !half.is_complete(&self.lane) {
                return Err(ThinError::Incomplete(half.preparer.node));
            }
        }
        let [first, second] = &self.halves;
        let preparers = [first.preparer, second.preparer];
        let mut stages = Vec::with_capacity(self.secrets.len());
        let shares = first.columns.iter().zip(&second.columns);
        for ((stage, (r, _)), (a, b)) in self.lane.stages().iter().zip(self.secrets).zip(shares) {
            let sum = a.iter().zip(b.iter()).map(|(&a, &b)| field::add(a, b)).collect();
            let incomplete = ThinError::Incomplete(first.preparer.node);
            let s = SecretVector::from_residues(sum).ok_or(incomplete)?;
            // The weights are not here to give each row its own bound, so the model's word for the
            // whole stage stands in for it: products are still below 2^31, which is what makes a
            // wrong one a wrong one mod p.
            let bound = ((1u64 << stage.row_bound_bits) - 1) as u32;
            let bounds = vec![bound; stage.n as usize];
            stages.push(StageSecrets { stage: *stage, r, s, bounds });
        }
        Ok(Preparation::thin(self.model, preparers, stages, false))
    }
}

impl Half {
    /// Files columns, if they are those due.
    fn columns(&mut self, lane: &Lane, stage: u16, first: u32, values: &FieldValues) -> Option<()> {
        let width = |index: usize| lane.stages().get(index).map(|s| s.k as usize);
        let unfinished = self
            .columns
            .last()
            .is_some_and(|last| width(self.columns.len() - 1).is_some_and(|k| last.len() < k));
        if !unfinished {
            let k = width(self.columns.len())?;
            self.columns.push(Zeroizing::new(Vec::with_capacity(k)));
        }
        let index = self.columns.len() - 1;
        let (due, last) = (lane.stages().get(index)?, self.columns.last_mut()?);
        let left = due.k as usize - last.len();
        let values = values.residues();
        if stage != due.id || first as usize != last.len() || values.len() > left {
            return None;
        }
        last.extend_from_slice(values);
        Some(())
    }

    fn is_complete(&self, lane: &Lane) -> bool {
        self.columns.len() == lane.stages().len()
            && self.columns.iter().zip(lane.stages()).all(|(c, s)| c.len() == s.k as usize)
    }
}

/// Clients that each break one rule, so that the attack tests can show they would notice.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// r from the stage alone: the next preparation shares the same one again.
    ReusedR,
    /// u from the stage alone: two preparations under one mask differ by what their r differ.
    ReusedMask,
    /// u of 32 bits: the other share shows the high bits of r.
    NarrowMask,
}

#[cfg(test)]
impl Preparing {
    pub(crate) fn mutate(&mut self, mutant: Mutant) {
        let constant = |n: usize, of: u64| {
            let value = |i: u64| field::multiply(i + 3, 0x0123_4567_89ab_cdef ^ of);
            SecretVector::from_residues((0..n as u64).map(value).collect()).unwrap()
        };
        for (stage, (r, u)) in self.lane.stages().iter().zip(&mut self.secrets) {
            let (n, id) = (stage.n as usize, u64::from(stage.id));
            match mutant {
                Mutant::ReusedR => *r = constant(n, id),
                Mutant::ReusedMask => *u = constant(n, id),
                Mutant::NarrowMask => {
                    let narrow = (0..n).map(|i| u.residue(i) & 0xffff_ffff).collect();
                    *u = SecretVector::from_residues(narrow).unwrap();
                }
            }
        }
    }

    pub(crate) fn secret(&self, index: usize) -> &SecretVector {
        &self.secrets[index].0
    }
}
