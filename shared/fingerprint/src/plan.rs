//! Where a model is tapped, as it is named.

use nesa_primitives::{Hash, domain};
use serde::{Deserialize, Serialize};

/// Values inside a run that are sketched, at most.
pub const TAPS: usize = 8;
/// Entries of a sketch, as in TOPLOC.
pub const SKETCH_ENTRIES: usize = 128;

/// Which values of a model are sketched, and how: a function of the model's bytes alone, so that a
/// replica cannot choose. Who has the model computes it; others can only check its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Digest of the model.
    pub model: Hash,
    /// Names of the tapped tensors, in the order of the graph.
    pub taps: Vec<String>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// What computes, with its version: another one may place its roundings elsewhere.
    pub engine: String,
}

impl Plan {
    /// The digest that fingerprints and calibrations name: model, taps, sketch and engine.
    pub fn digest(&self) -> Hash {
        let mut hasher = domain("float plan", &Hash::ZERO);
        hasher.update(&self.model.0);
        for text in self.taps.iter().chain(&self.outputs).chain([&self.engine]) {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(&(SKETCH_ENTRIES as u64).to_be_bytes());
        hasher.update(&(self.taps.len() as u64).to_be_bytes());
        hasher.finalize().into()
    }
}
