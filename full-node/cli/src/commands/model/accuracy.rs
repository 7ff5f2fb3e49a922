//! What compiling cost in accuracy, measured right after it on a sample small enough to wait for.
//!
//! The compiled file is opened whole for it, and the original is read again, a layer at a time: more memory than
//! compiling takes, which is why it can be left out. `nesa model eval` measures on more.

use std::path::Path;

use anyhow::Result;
use nesa_compiler::decoder::evaluate_decoder;
use nesa_compiler::eval::{CORPUS, evaluate, evaluate_classes};
use nesa_compiler::onnx::{Classifier, Samples, compare_classifier};
use nesa_compiler::source::Bert;
use nesa_model::classifier::ClassifierModel;
use nesa_model::decoder::DecoderModel;
use nesa_model::{Artifact, Model as Exact};
use serde_json::{Value, json};

use super::{decoder, unusable};
use crate::{node::model, output};

/// Weights times tokens: some seconds, up to a minute, for the original's floats on one core.
const WORK: usize = 30_000_000_000;

/// Most logits that are held of each form, 4 bytes each.
const MAX_LOGITS: usize = 1 << 24;

/// Fewest and most tokens of a decoder's sample.
const TOKENS: (usize, usize) = (32, 2048);

/// Fewest and most texts of an encoder's sample.
const TEXTS: (usize, usize) = (8, 64);

/// Tokens that a line of the corpus has, about.
const LINE: usize = 40;

/// Most images of a classifier's sample.
const IMAGES: usize = 256;

/// What a sample is of, that no model is calibrated with.
const HELD_OUT: &str = "of the built-in corpus, none of them used for calibration";

fn with(accuracy: impl serde::Serialize, on: String) -> Result<Value> {
    let mut object = serde_json::to_value(accuracy)?;
    object["measured_on"] = json!(on);
    Ok(object)
}

/// What was measured, or why nothing was: the compiled file is there all the same.
pub(super) fn told(measured: Result<Value>) -> Value {
    measured.unwrap_or_else(|error| json!({ "not_measured": format!("{error:#}") }))
}

/// Perplexities and greedy agreement of a decoder compiled to `file`.
pub(super) fn of_decoder(dir: &Path, file: &Path) -> Result<Value> {
    let checkpoint = decoder::open(dir)?;
    let artifact = model::open(file)?;
    let exact = DecoderModel::open(&artifact)?;
    let config = &checkpoint.llama.config;
    let most = (WORK / config.parameters().max(1)).clamp(TOKENS.0, TOKENS.1);
    let mut left = most.min(MAX_LOGITS / config.vocab_size.max(1)).max(2);
    let lines = CORPUS.lines().filter(|line| !line.is_empty());
    let mut sample = decoder::sequences(&checkpoint.tokenizer, lines, exact.config().max_tokens)?;
    for sequence in &mut sample {
        sequence.truncate(left);
        left -= sequence.len();
    }
    sample.retain(|sequence| sequence.len() > 1);
    if sample.is_empty() {
        return Ok(json!({ "measured_on": "nothing: the tokenizer makes no text of the corpus" }));
    }
    let bar = output::progress(Some(sample.len() as u64), "comparing");
    let accuracy = evaluate_decoder(&checkpoint.llama, &exact, &sample, |done| {
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let tokens: usize = sample.iter().map(Vec::len).sum();
    with(accuracy.map_err(unusable)?, format!("{tokens} tokens {HELD_OUT}"))
}

/// Cosines of an encoder's embeddings, or classes of a classifier of texts, compiled to `file`.
pub(super) fn of_encoder(dir: &Path, file: &Path) -> Result<Value> {
    let bert = Bert::load(dir).map_err(unusable)?;
    let artifact = model::open(file)?;
    let exact = Exact::open(&artifact)?;
    let c = &bert.config;
    let layer = c.hidden_size * (4 * c.hidden_size + 2 * c.intermediate_size);
    let most = WORK / (c.num_hidden_layers * layer * LINE).max(1);
    let lines = CORPUS.lines().filter(|line| !line.is_empty());
    let texts: Vec<&str> = lines.take(most.clamp(TEXTS.0, TEXTS.1)).collect();
    let bar = output::progress(Some(texts.len() as u64), "comparing");
    let progress = |done| bar.set_position(done as u64);
    let (sample, on) = (texts.iter().copied(), format!("{} texts {HELD_OUT}", texts.len()));
    let mut object = if exact.labels().is_empty() {
        with(evaluate(&bert, &exact, sample, progress).map_err(unusable)?, on)?
    } else {
        with(evaluate_classes(&bert, &exact, sample, progress).map_err(unusable)?, on)?
    };
    bar.finish_and_clear();
    // A whole text, which is for `nesa model eval` to show.
    if let Some(fields) = object.as_object_mut() {
        fields.remove("worst");
    }
    Ok(object)
}

/// Classes and logits of a classifier of images. There are no other images of its kind than those it was
/// calibrated with.
pub(super) fn of_classifier(
    original: &Classifier,
    artifact: &Artifact,
    samples: &Samples,
) -> Result<Value> {
    let exact = ClassifierModel::open(artifact)?;
    let agreement = compare_classifier(original, &exact, samples, IMAGES).map_err(unusable)?;
    let count = agreement.samples;
    with(agreement, format!("{count} of the images that it is calibrated with"))
}
