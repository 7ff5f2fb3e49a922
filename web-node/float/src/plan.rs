//! Where a model is tapped.

use crate::model_digest;
use nesa_fingerprint::{Plan, TAPS};
use nesa_primitives::{Hash, domain};
use tract_onnx::pb::{GraphProto, ModelProto};

/// What computes. Another version may place its roundings elsewhere, so it belongs to the plan.
pub const ENGINE: &str = "tract-onnx 0.23.9";

/// Operators whose outputs are sums of many products: all that lies before them flows into each value.
const LINEAR: [&str; 10] = [
    "MatMul",
    "Gemm",
    "Conv",
    "ConvTranspose",
    "Einsum",
    "MatMulNBits",
    "Attention",
    "LSTM",
    "GRU",
    "RNN",
];

/// The plan of a model: outputs of linear operators (of any operator where there are none), one from
/// each of [`TAPS`] equal parts of their list, chosen in it by the model's digest.
pub(crate) fn of(bytes: &[u8], model: &ModelProto) -> Plan {
    let digest = model_digest(bytes);
    let empty = GraphProto::default();
    let graph = model.graph.as_ref().unwrap_or(&empty);
    let outputs: Vec<String> = graph.output.iter().map(|value| value.name.clone()).collect();
    let tensors = |linear: bool| -> Vec<String> {
        let nodes = graph.node.iter().filter(|n| !linear || LINEAR.contains(&&*n.op_type));
        let nodes = nodes.filter(|n| n.op_type != "Constant");
        let first = nodes.filter_map(|n| n.output.first());
        first.filter(|name| !name.is_empty() && !outputs.contains(name)).cloned().collect()
    };
    let mut candidates = tensors(true);
    if candidates.is_empty() {
        candidates = tensors(false);
    }
    let parts = candidates.len().min(TAPS);
    let taps = (0..parts).map(|part| {
        let start = part * candidates.len() / parts;
        let end = (part + 1) * candidates.len() / parts;
        let mut hasher = domain("float tap", &Hash::ZERO);
        hasher.update(&digest.0);
        hasher.update(&(part as u64).to_be_bytes());
        let mut word = [0u8; 8];
        word.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        // A part is never empty; the bias of the remainder is below 2^-40.
        let place = u64::from_be_bytes(word) % (end - start).max(1) as u64;
        candidates[start + place as usize].clone()
    });
    let taps = taps.collect();
    Plan { model: digest, taps, outputs, engine: ENGINE.to_owned() }
}
