//! How well the exact form of a classifier does, and how close it stays to the original.

use nesa_model::PlainClassifier;
use nesa_model::classifier::{ClassifierModel, ClassifierRun, best};
use serde::Serialize;

use super::compile::{check, to_floats};
use super::{Classifier, OnnxError, Samples};

/// Shares of labelled samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassifierAccuracy {
    /// Samples.
    pub samples: usize,
    /// Share that the original classifies as labelled.
    pub original: f64,
    /// Share that the exact form classifies as labelled.
    pub exact: f64,
    /// Share that both classify alike.
    pub agreement: f64,
}

/// Compares both on labelled samples.
///
/// # Errors
/// [`OnnxError::Samples`] when samples, labels and models do not fit each other.
pub fn evaluate_classifier(
    original: &Classifier,
    exact: &ClassifierModel,
    samples: &Samples,
    labels: &Samples,
) -> Result<ClassifierAccuracy, OnnxError> {
    let max_value = exact.image().max_value;
    let manifest = exact.header().manifest().classifier();
    if manifest.is_none_or(|m| m.layers != original.layers) {
        return Err(OnnxError::Samples("the models have other layers".into()));
    }
    check(original, samples, max_value)?;
    if labels.len() != samples.len() || labels.size() != 1 {
        let what = format!("{} labels for {} samples", labels.len(), samples.len());
        return Err(OnnxError::Samples(what));
    }
    let (mut right, mut exactly, mut alike) = (0, 0, 0);
    for (sample, label) in samples.iter().zip(labels.iter()) {
        let logits = original.logits(&to_floats(sample, max_value));
        let first = logits.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1));
        let run = ClassifierRun::start(exact, &[sample]);
        let run = run.map_err(|e| OnnxError::Samples(e.to_string()))?;
        let run = run.run(&PlainClassifier(exact));
        let logits = run.map_err(|e| OnnxError::Samples(e.to_string()))?;
        let (float, integer) =
            (first.map(|(i, _)| i), logits.first().and_then(|logits| best(logits)));
        let label = label.first().map(|&l| usize::from(l));
        right += usize::from(float == label);
        exactly += usize::from(integer == label);
        alike += usize::from(float == integer);
    }
    let share = |count: usize| count as f64 / samples.len() as f64;
    Ok(ClassifierAccuracy {
        samples: samples.len(),
        original: share(right),
        exact: share(exactly),
        agreement: share(alike),
    })
}
