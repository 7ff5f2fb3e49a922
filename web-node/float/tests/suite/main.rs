//! Graphs that run, graphs that are refused, and runs that are told apart.

mod calibration;
mod codec;
mod deviations;
mod hostile;
mod running;

use nesa_float::{
    Graph, Limits, Tensor,
    inputs::{Recipe, make},
};
use std::{collections::BTreeMap, fs, path::PathBuf};

pub(crate) const MODELS: [&str; 3] = ["mlp", "cnn", "encoder"];

/// The file of a small model; `tools/float/models.py` makes them.
pub(crate) fn file(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/float");
    fs::read(folder.join(format!("{name}.onnx"))).expect("committed")
}

pub(crate) fn open(name: &str) -> Graph {
    Graph::open(&file(name), Limits::default()).expect("runs")
}

pub(crate) fn recipe() -> Recipe {
    Recipe { dimensions: BTreeMap::from([("tokens".to_owned(), 12)]), below: 97 }
}

pub(crate) fn inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    make(graph, &recipe(), seed).expect("small")
}
