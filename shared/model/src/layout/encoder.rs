//! Tensors of an encoder.

use super::{LayoutError, Plan, TensorKind, within};
use crate::manifest::{EncoderManifest, STAGES_PER_LAYER, WeightForm};
use nesa_kernels::nibbles::packed_bytes;

/// Plans every tensor; returns how many belong to the local region.
pub(super) fn plan(manifest: &EncoderManifest, plan: &mut Plan) -> Result<usize, LayoutError> {
    let e = &manifest.encoder;
    let vocab = within("vocab", e.vocab.into(), 1..=1 << 20, "1 to 2^20")?;
    let d = within("d_model", e.d_model.into(), 1..=2048, "1 to 2048")?;
    within("d_ff", e.d_ff.into(), 1..=1 << 14, "1 to 2^14")?;
    let heads = within("heads", e.heads.into(), 1..=128, "1 to 128")?;
    if d % heads != 0 || d / heads > 256 {
        return Err(LayoutError::Size {
            what: "head width",
            got: (d / heads) as u64,
            allowed: "a divisor of d_model of at most 256",
        });
    }
    let tokens = within("max_tokens", e.max_tokens.into(), 2..=1024, "2 to 1024")?;
    within("embed_shift", e.embed_shift.into(), 1..=62, "1 to 62")?;
    let gelu = within("gelu_entries", e.gelu_entries.into(), 1..=1 << 14, "1 to 2^14")?;
    let exp = within("exp_entries", e.exp_entries.into(), 2..=1 << 14, "2 to 2^14")?;
    let vocab_bytes =
        within("vocab_bytes", manifest.tokenizer.vocab_bytes.into(), 1..=1 << 25, "1 to 2^25")?;
    for n in &manifest.norms {
        within("norm shift", n.shift.into(), 1..=62, "1 to 62")?;
    }

    let shape = |index| stage_shape(index, manifest);
    plan.push(TensorKind::Word, vocab, d);
    plan.push(TensorKind::WordScale, vocab, 4);
    plan.push(TensorKind::Position, tokens, 4 * d);
    if manifest.reading.segments {
        plan.push(TensorKind::Segment, d, 4);
    }
    if manifest.reading.relative {
        plan.push(TensorKind::Relative, heads, 4 * (2 * tokens - 1));
    }
    for norm in 0..manifest.norms.len() {
        plan.push(TensorKind::NormGain(norm), d, 4);
        plan.push(TensorKind::NormBias(norm), d, 4);
    }
    for (index, stage) in manifest.stages.iter().enumerate() {
        plan.push_stage(index, shape(index), stage);
    }
    for layer in 0..usize::from(e.layers) {
        plan.push(TensorKind::Score(layer), heads, 4);
    }
    plan.push(TensorKind::GeluTable, gelu, 2);
    plan.push(TensorKind::ExpTable, exp, 2);
    if let Some(c) = &manifest.head.classes {
        within("tanh_entries", c.tanh_entries.into(), 0..=1 << 14, "at most 2^14")?;
        // A newline for each class at least.
        let labels = u64::from(c.label_bytes);
        let allowed = "one line per class, at most 2^20";
        within("label_bytes", labels, u64::from(c.classes)..=1 << 20, allowed)?;
        if c.tanh_entries > 0 {
            plan.push(TensorKind::TanhTable, c.tanh_entries.into(), 2);
        }
        plan.push(TensorKind::Labels, c.label_bytes as usize, 1);
    }
    plan.push(TensorKind::Vocab, vocab_bytes, 1);
    let local = plan.tensors.len();
    for index in 0..manifest.stages.len() {
        let (k, n) = shape(index);
        let is_layer = index < usize::from(e.layers) * STAGES_PER_LAYER;
        let row = match manifest.weights {
            WeightForm::Nibbles if is_layer => {
                plan.packed.push(k);
                packed_bytes(k)
            }
            _ => k,
        };
        plan.push(TensorKind::Weight(index), n, row);
    }
    Ok(local)
}

/// `(k, n)` of a stage by its index.
pub(crate) fn stage_shape(index: usize, manifest: &EncoderManifest) -> (usize, usize) {
    let (d_model, d_ff) = (manifest.encoder.d_model as usize, manifest.encoder.d_ff as usize);
    let layers = usize::from(manifest.encoder.layers) * STAGES_PER_LAYER;
    if let (Some(of_head), Some(c)) = (index.checked_sub(layers), &manifest.head.classes) {
        let is_hidden = of_head == 0 && c.hidden.is_some();
        return (d_model, if is_hidden { d_model } else { c.classes.into() });
    }
    match index % STAGES_PER_LAYER {
        0 => (d_model, 3 * d_model),
        1 => (d_model, d_model),
        2 => (d_model, d_ff),
        _ => (d_ff, d_model),
    }
}
