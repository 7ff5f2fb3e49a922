//! Encoders: compile, measure, and read a text on this machine.

use std::path::Path;

use anyhow::Result;
use nesa_compiler::{Options, Reader, compile, compile_with, eval, source::Bert};
use nesa_model::{Artifact, Embedding, Model as Exact};
use serde_json::{Value, json};

use super::{accuracy, advance, decoder::weight_bits, unusable};
use crate::{
    failure::{Code, Failure},
    node::model,
    output,
};

/// Compiles a checkpoint to a file, and measures what it cost if `measured`.
pub(super) fn compile_file(
    dir: &Path,
    out: &Path,
    options: &Options,
    measured: bool,
) -> Result<Value> {
    let bar = output::progress(Some(1), "compiling");
    let shown = bar.clone();
    let summary = compile(dir, out, options, |progress| advance(&shown, progress));
    let summary = summary.map_err(unusable)?;
    bar.finish_and_clear();
    let mut object = json!({
        "file": out,
        "digest": summary.digest,
        "bytes": summary.bytes,
        "stages": summary.stages,
        "chunks": summary.chunks,
    });
    if measured {
        object["accuracy"] = accuracy::told(accuracy::of_encoder(dir, out));
    }
    Ok(object)
}

/// Cosines and top-1 agreement of embeddings, or agreement of classes, with the original.
pub(super) fn evaluate(
    path: &Path,
    original: Option<&Path>,
    texts: Option<usize>,
    options: &Options,
) -> Result<Value> {
    let folder = match (path.is_dir(), original) {
        (true, _) => path,
        (false, Some(folder)) => folder,
        (false, None) => return evaluate_committed(path),
    };
    let bert = Bert::load(folder).map_err(unusable)?;
    let bar = output::progress(Some(1), "compiling");
    let artifact = if path.is_dir() {
        compile_with(&bert, options, &mut |progress| advance(&bar, progress)).map_err(unusable)?
    } else {
        model::open(path)?
    };
    let exact = Exact::open(&artifact)?;
    let all: Vec<&str> = eval::CORPUS.lines().filter(|line| !line.is_empty()).collect();
    let chosen = &all[..texts.unwrap_or(all.len()).min(all.len())];
    bar.set_message("comparing");
    bar.set_length(chosen.len() as u64);
    let texts = chosen.iter().copied();
    let progress = |done| bar.set_position(done as u64);
    if !exact.labels().is_empty() {
        let accuracy = eval::evaluate_classes(&bert, &exact, texts, progress).map_err(unusable)?;
        bar.finish_and_clear();
        let mut object = serde_json::to_value(accuracy)?;
        object["digest"] = json!(artifact.digest());
        object["bytes"] = json!(artifact.file_len());
        object["weight_bits"] = json!(weight_bits(&artifact));
        return Ok(object);
    }
    let accuracy = eval::evaluate(&bert, &exact, texts, progress).map_err(unusable)?;
    bar.finish_and_clear();
    accuracy_object(&accuracy, &artifact, "the original weights")
}

/// Compares a compiled model with the committed vectors of its original: no weights are needed.
fn evaluate_committed(path: &Path) -> Result<Value> {
    let artifact = model::open(path)?;
    let exact = Exact::open(&artifact)?;
    let bar = output::progress(Some(eval::REFERENCE_TEXTS as u64), "comparing");
    let accuracy = eval::evaluate_committed(&exact, |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    let accuracy = accuracy.ok_or_else(|| {
        Failure::new(
            Code::Usage,
            format!("the committed reference vectors are not of {}", path.display()),
            "name the folder of its original weights with --original DIR",
        )
    })?;
    accuracy_object(&accuracy, &artifact, "committed reference vectors")
}

fn accuracy_object(accuracy: &eval::Accuracy, artifact: &Artifact, against: &str) -> Result<Value> {
    let mut object = serde_json::to_value(accuracy)?;
    object["against"] = json!(against);
    object["digest"] = json!(artifact.digest());
    object["bytes"] = json!(artifact.file_len());
    object["weight_bits"] = json!(weight_bits(artifact));
    Ok(object)
}

/// What there is to know of a compiled encoder.
pub(super) fn info(file: &Path, artifact: &Artifact) -> Result<Value> {
    let exact = Exact::open(artifact)?;
    let header = artifact.header();
    let encoder = exact.config();
    let lane = nesa_masked::Lane::of_model(exact.stages());
    let stages: Vec<Value> = exact
        .stages()
        .iter()
        .map(|stage| {
            json!({
                "id": stage.id.0,
                "name": stage.name,
                "k": stage.k,
                "n": stage.n,
                "input_bits": stage.input_bits,
                "row_bound_bits": stage.row_bound_bits,
            })
        })
        .collect();
    Ok(json!({
        "file": file,
        "family": header.manifest().family(),
        "digest": artifact.digest(),
        "name": exact.name(),
        "bytes": artifact.file_len(),
        "pieces": header.piece_count(),
        "local_bytes": header.layout().local_bytes,
        "weight_bytes": header.layout().total_bytes - header.layout().local_bytes,
        "layers": encoder.layers,
        "d_model": encoder.d_model,
        "d_ff": encoder.d_ff,
        "heads": encoder.heads,
        "vocabulary": encoder.vocab,
        "max_tokens": encoder.max_tokens,
        "labels": exact.labels(),
        "cased": exact.reading().cased,
        "pairs": exact.reading().pairs(),
        "lanes": if lane.is_ok() { vec!["masked"] } else { Vec::new() },
        "stages": stages,
    }))
}

/// What a model makes of a text.
fn read(file: &Path, text: &str, pair: Option<&str>) -> Result<(Artifact, Exact, Embedding)> {
    let artifact = model::open(file)?;
    let exact = Exact::open(&artifact)?;
    let reader = Reader::of(&exact).map_err(unusable)?;
    let ids = match pair {
        None => reader.encode(text).map_err(unusable)?,
        Some(pair) => reader.encode_pair(text, pair).map_err(unusable)?.ok_or_else(|| {
            let message = format!("{} reads single texts", exact.name());
            Failure::new(Code::Usage, message, "leave --pair out")
        })?,
    };
    let result = eval::embed_exact(&exact, &[ids]).into_iter().next();
    let result = result
        .ok_or_else(|| Failure::new(Code::Usage, "the text has no tokens", "write some of it"))?;
    Ok((artifact, exact, result))
}

/// The class of a text, and the logits of all.
pub(super) fn classify(file: &Path, text: &str, pair: Option<&str>) -> Result<Value> {
    let (artifact, exact, result) = read(file, text, pair)?;
    let labels = exact.labels();
    if labels.is_empty() {
        let message = format!("{} embeds texts and has no classes", exact.name());
        return Err(Failure::new(Code::Usage, message, "use `nesa model embed`").into());
    }
    let best = nesa_model::classifier::best(&result.values).unwrap_or(0);
    Ok(json!({
        "class": best,
        "label": labels.get(best),
        "logits": result.to_f32(),
        "probabilities": nesa_model::probabilities(&result.values),
        "labels": labels,
        "tokens": result.tokens,
        "truncated": result.truncated,
        "digest": artifact.digest(),
    }))
}

/// The unit vector of a text.
pub(super) fn embed(file: &Path, text: &str) -> Result<Value> {
    let (artifact, exact, result) = read(file, text, None)?;
    if !exact.labels().is_empty() {
        let message = format!("{} classifies texts and embeds none", exact.name());
        return Err(Failure::new(Code::Usage, message, "use `nesa model classify`").into());
    }
    Ok(json!({
        "vector": result.to_f32(),
        "tokens": result.tokens,
        "truncated": result.truncated,
        "digest": artifact.digest(),
    }))
}
