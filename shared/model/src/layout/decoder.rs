//! Tensors of a decoder.

use super::{LayoutError, Plan, TensorKind, within};
use crate::manifest::{DecoderConfig, DecoderManifest, STAGES_PER_LAYER, WeightForm};
use nesa_kernels::nibbles::packed_bytes;
use nesa_kernels::rotary::COSINE_ENTRIES;
use nesa_kernels::sample::SAMPLE_TABLE_ENTRIES;

/// Plans every tensor; returns how many belong to the local region.
pub(super) fn plan(manifest: &DecoderManifest, plan: &mut Plan) -> Result<usize, LayoutError> {
    let c = &manifest.config;
    let vocab = within("vocab", c.vocab.into(), 1..=1 << 20, "1 to 2^20")?;
    let d = within("d_model", c.d_model.into(), 1..=1 << 14, "1 to 2^14")?;
    within("d_ff", c.d_ff.into(), 1..=1 << 17, "1 to 2^17")?;
    let heads = within("heads", c.heads.into(), 1..=256, "1 to 256")?;
    let kv_heads = within("kv_heads", c.kv_heads.into(), 1..=256, "1 to 256")?;
    let width = within("head_width", c.head_width.into(), 2..=256, "2 to 256")?;
    if heads % kv_heads != 0 {
        return Err(size("kv_heads", kv_heads, "a divisor of heads"));
    }
    if width % 2 != 0 {
        return Err(size("head_width", width, "an even number"));
    }
    if heads * width > 1 << 14 {
        return Err(size("heads times head_width", heads * width, "at most 2^14"));
    }
    within("max_tokens", c.max_tokens.into(), 1..=1 << 17, "1 to 2^17")?;
    within("embed_shift", c.embed_shift.into(), 1..=62, "1 to 62")?;
    let silu = within("silu_entries", c.silu_entries.into(), 1..=1 << 14, "1 to 2^14")?;
    let exp = within("exp_entries", c.exp_entries.into(), 2..=1 << 14, "2 to 2^14")?;
    let tokenizer =
        within("tokenizer_bytes", c.tokenizer_bytes.into(), 0..=1 << 26, "at most 2^26")?;
    let template = within("template_bytes", c.template_bytes.into(), 0..=1 << 17, "at most 2^17")?;
    for &token in manifest.special.start.iter().chain(&manifest.special.ends) {
        within("special token", token.into(), 0..=vocab as u64 - 1, "below vocab")?;
    }
    for n in &manifest.norms {
        within("norm epsilon", n.epsilon, 0..=(1 << 62) - 1, "below 2^62")?;
    }
    for (i, s) in manifest.stages.iter().enumerate() {
        // After a norm the factors are part of its gain.
        if s.smoothed && follows_norm(i, c) {
            return Err(size("smoothed stage", i, "only stages that follow no norm"));
        }
    }

    plan.push(TensorKind::Word, vocab, d);
    plan.push(TensorKind::WordScale, vocab, 4);
    for norm in 0..manifest.norms.len() {
        plan.push(TensorKind::NormGain(norm), d, 4);
    }
    for (index, stage) in manifest.stages.iter().enumerate() {
        plan.push_stage(index, stage_shape(index, c), stage);
    }
    for layer in 0..usize::from(c.layers) {
        plan.push(TensorKind::Score(layer), heads, 4);
    }
    plan.push(TensorKind::Frequency, width / 2, 8);
    plan.push(TensorKind::Cosine, COSINE_ENTRIES, 4);
    plan.push(TensorKind::SiluTable, silu, 2);
    plan.push(TensorKind::ExpTable, exp, 2);
    plan.push(TensorKind::SampleTable, SAMPLE_TABLE_ENTRIES, 4);
    plan.push(TensorKind::Tokenizer, tokenizer, 1);
    plan.push(TensorKind::Template, template, 1);
    let local = plan.tensors.len();
    let with_weight = manifest.stages.len() - usize::from(c.tied);
    for index in 0..with_weight {
        let (k, n) = stage_shape(index, c);
        let is_head = index + 1 == manifest.stages.len();
        let row = match manifest.weights {
            WeightForm::Nibbles if !is_head => {
                plan.packed.push(k);
                packed_bytes(k)
            }
            _ => k,
        };
        plan.push(TensorKind::Weight(index), n, row);
    }
    Ok(local)
}

fn size(what: &'static str, got: usize, allowed: &'static str) -> LayoutError {
    LayoutError::Size { what, got: got as u64, allowed }
}

/// Whether a stage's input comes from a norm.
pub(crate) fn follows_norm(index: usize, config: &DecoderConfig) -> bool {
    index + 1 == config.stages() || matches!(index % STAGES_PER_LAYER, 0 | 2)
}

/// `(k, n)` of a stage by its index.
pub(crate) fn stage_shape(index: usize, c: &DecoderConfig) -> (usize, usize) {
    let (d, ff) = (c.d_model as usize, c.d_ff as usize);
    let width = usize::from(c.head_width);
    let (heads, kv_heads) = (usize::from(c.heads), usize::from(c.kv_heads));
    if index + 1 == c.stages() {
        return (d, c.vocab as usize);
    }
    match index % STAGES_PER_LAYER {
        0 => (d, (heads + 2 * kv_heads) * width),
        1 => (heads * width, d),
        2 => (d, 2 * ff),
        _ => (ff, d),
    }
}
