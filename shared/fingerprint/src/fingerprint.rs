//! The sketches of one run.

use crate::{
    sketch::{Limits, Sketch},
    statistics::Statistics,
};
use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, RangeCfg, Read, ReadExt as _, Write};
use nesa_primitives::Hash;
use thiserror::Error as ThisError;

/// Most sketches of a fingerprint: taps and outputs.
pub const MAX_SKETCHES: usize = 64;

/// What a run left behind: sketches at taps in the order of the plan, then of the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Which values of which model were sketched, and how: the plan's digest.
    pub plan: Hash,
    /// One sketch per tap, then one per output.
    pub sketches: Vec<Sketch>,
}

/// Fingerprints that cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum FingerprintError {
    /// Of another model, or made in another way.
    #[error("a fingerprint of plan {got}, expected {expected}")]
    Plan {
        /// Its plan.
        got: Hash,
        /// The other one's.
        expected: Hash,
    },
    /// Sketches are missing or too many.
    #[error("a fingerprint of {got} sketches, expected {expected}")]
    Sketches {
        /// Its sketches.
        got: usize,
        /// What the plan asks for.
        expected: usize,
    },
}

impl Fingerprint {
    /// The worst statistics over all sketches; the outputs' values are compared apart, by
    /// [`output_difference`](crate::output_difference).
    ///
    /// # Errors
    /// [`FingerprintError`] when the two do not belong to the same plan.
    pub fn compare(&self, other: &Self) -> Result<Statistics, FingerprintError> {
        if self.plan != other.plan {
            return Err(FingerprintError::Plan { got: other.plan, expected: self.plan });
        }
        let (got, expected) = (other.sketches.len(), self.sketches.len());
        if got != expected {
            return Err(FingerprintError::Sketches { got, expected });
        }
        let each = self.sketches.iter().zip(&other.sketches).map(|(a, b)| Statistics::of(a, b));
        Ok(each.fold(Statistics::default(), Statistics::max))
    }
}

impl Write for Fingerprint {
    fn write(&self, buf: &mut impl BufMut) {
        self.plan.write(buf);
        self.sketches.write(buf);
    }
}

impl EncodeSize for Fingerprint {
    fn encode_size(&self) -> usize {
        self.plan.encode_size() + self.sketches.encode_size()
    }
}

impl Read for Fingerprint {
    type Cfg = Limits;
    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        let plan = Hash::read(buf)?;
        let sketches = Vec::read_cfg(buf, &(RangeCfg::new(0..=MAX_SKETCHES), *limits))?;
        Ok(Self { plan, sketches })
    }
}
