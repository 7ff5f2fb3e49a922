//! Image classifiers: compile, measure, and look at an image on this machine.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use nesa_compiler::onnx::{Classifier, Samples, compile_classifier, evaluate_classifier};
use nesa_model::classifier::{ClassifierModel, ClassifierRun, best};
use nesa_model::{Artifact, PlainClassifier};
use serde_json::{Value, json};

use super::{accuracy, image, unusable};
use crate::{
    failure::{Code, Failure},
    node::model,
};

/// What a classifier is calibrated with
#[derive(Debug, Args)]
pub(super) struct Calibration {
    /// Images for a classifier's scales: a .npy of unsigned bytes, [images, …].
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// The value of an image's that the model sees as 1.
    #[arg(long, value_name = "N", default_value_t = 255)]
    max_value: u8,
}

/// What a classifier is measured with
#[derive(Debug, Args)]
pub(super) struct HeldOut {
    /// Held-out images for a classifier: a .npy of unsigned bytes, [images, …].
    #[arg(long, value_name = "FILE", requires = "labels")]
    samples: Option<PathBuf>,
    /// Their classes: a .npy of unsigned bytes, [images].
    #[arg(long, value_name = "FILE", requires = "samples")]
    labels: Option<PathBuf>,
}

/// Whether a path is an ONNX model.
pub(super) fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "onnx")
}

fn required<'a>(path: Option<&'a Path>, message: &str, next: &str) -> Result<&'a Path> {
    Ok(path.ok_or_else(|| Failure::new(Code::Usage, message, next))?)
}

/// Compiles an ONNX model to a file, and measures what it cost if `measured`.
pub(super) fn compile_file(
    path: &Path,
    out: &Path,
    with: &Calibration,
    measured: bool,
) -> Result<Value> {
    let next = "name a .npy of some of the images it was trained on with --samples";
    let samples = required(with.samples.as_deref(), "a classifier needs images", next)?;
    let original = Classifier::open(path).map_err(unusable)?;
    let samples = Samples::open(samples).map_err(unusable)?;
    let artifact = compile_classifier(&original, &samples, with.max_value).map_err(unusable)?;
    let file = artifact.to_file();
    crate::files::write(out, &file)?;
    let mut object = json!({
        "file": out,
        "digest": artifact.digest(),
        "bytes": file.len(),
        "stages": artifact.header().manifest().stages().len(),
        "chunks": artifact.header().layout().chunks.len(),
    });
    if measured {
        object["accuracy"] =
            accuracy::told(accuracy::of_classifier(&original, &artifact, &samples));
    }
    Ok(object)
}

/// Accuracy of a compiled classifier and of its original on labelled images.
pub(super) fn evaluate(file: &Path, original: &Path, on: &HeldOut) -> Result<Value> {
    let next = "name .npy files of images and their classes with --samples and --labels";
    let samples = required(on.samples.as_deref(), "a classifier needs labelled images", next)?;
    let labels = required(on.labels.as_deref(), "a classifier needs labelled images", next)?;
    let artifact = model::open(file)?;
    let exact = ClassifierModel::open(&artifact)?;
    let original = Classifier::open(original).map_err(unusable)?;
    let samples = Samples::open(samples).map_err(unusable)?;
    let labels = Samples::open(labels).map_err(unusable)?;
    let accuracy = evaluate_classifier(&original, &exact, &samples, &labels);
    let mut object = serde_json::to_value(accuracy.map_err(unusable)?)?;
    object["digest"] = json!(artifact.digest());
    Ok(object)
}

/// What there is to know of a compiled classifier.
pub(super) fn info(file: &Path, artifact: &Artifact) -> Result<Value> {
    let exact = ClassifierModel::open(artifact)?;
    let (image, layout) = (exact.image(), artifact.header().layout());
    let stages: Vec<Value> = exact
        .stages()
        .iter()
        .map(|s| json!({"name": s.name, "k": s.k, "n": s.n, "input_bits": s.input_bits, "row_bound_bits": s.row_bound_bits}))
        .collect();
    Ok(json!({
        "file": file,
        "family": "classifier",
        "digest": artifact.digest(),
        "name": exact.name(),
        "bytes": artifact.file_len(),
        "pieces": artifact.header().piece_count(),
        "local_bytes": layout.local_bytes,
        "weight_bytes": layout.total_bytes - layout.local_bytes,
        "image": [image.channels, image.height, image.width],
        "max_value": image.max_value,
        "classes": exact.classes(),
        "stages": stages,
    }))
}

/// How pictures become images of a model
#[derive(Debug, Args)]
pub(crate) struct Pictures {
    /// The picture is dark on light, and the model's images light on dark.
    #[arg(long)]
    invert: bool,
}

impl Pictures {
    /// The picture in `path` as an image of `model`, `[1, height, width]`.
    pub(crate) fn read(&self, path: &Path, model: &ClassifierModel) -> Result<Vec<u8>> {
        let shape = model.image();
        if shape.channels != 1 {
            let message = format!("{} looks at {} channels", model.name(), shape.channels);
            return Err(Failure::new(Code::Usage, message, "use a model of grey images").into());
        }
        let picture = image::read(path, shape.max_value)?;
        picture.fit(shape.width.into(), shape.height.into(), shape.max_value, self.invert)
    }
}

/// The class of a picture, and the logits of all.
pub(super) fn classify(file: &Path, picture: &Path, how: &Pictures) -> Result<Value> {
    let artifact = model::open(file)?;
    let exact = ClassifierModel::open(&artifact)?;
    let values = how.read(picture, &exact)?;
    let run = ClassifierRun::start(&exact, &[&values])?;
    let logits = run.run(&PlainClassifier(&exact))?.into_iter().next().unwrap_or_default();
    Ok(json!({ "class": best(&logits), "logits": logits, "digest": artifact.digest() }))
}
