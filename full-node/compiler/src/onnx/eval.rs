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
    fits(original, exact, samples)?;
    if labels.len() != samples.len() || labels.size() != 1 {
        let what = format!("{} labels for {} samples", labels.len(), samples.len());
        return Err(OnnxError::Samples(what));
    }
    let (mut right, mut exactly, mut alike) = (0, 0, 0);
    for (sample, label) in samples.iter().zip(labels.iter()) {
        let (float, integer) = logits(original, exact, sample)?;
        let (float, integer) = (greatest(&float), best(&integer));
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

/// How close a classifier in exact form stays to its original, on samples whose classes nobody says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassifierAgreement {
    /// Samples.
    pub samples: usize,
    /// Share that both classify alike.
    pub agreement: f64,
    /// Root mean square of the logits' errors, as a share of that of the original's logits. The exact form's
    /// have a scale of their own, the same for all images; the best one is taken.
    pub logit_error: f64,
}

/// Compares both on the first `most` samples.
///
/// # Errors
/// [`OnnxError::Samples`] when samples and models do not fit each other.
pub fn compare_classifier(
    original: &Classifier,
    exact: &ClassifierModel,
    samples: &Samples,
    most: usize,
) -> Result<ClassifierAgreement, OnnxError> {
    fits(original, exact, samples)?;
    let (mut alike, mut count) = (0usize, 0usize);
    // Of floats and integers: both squared, and their product.
    let (mut floats, mut integers, mut both) = (0.0, 0.0, 0.0);
    for sample in samples.iter().take(most) {
        let (float, integer) = logits(original, exact, sample)?;
        alike += usize::from(greatest(&float) == best(&integer));
        count += 1;
        for (f, i) in float.iter().map(|&f| f64::from(f)).zip(integer.iter().map(|&i| f64::from(i)))
        {
            floats += f * f;
            integers += i * i;
            both += f * i;
        }
    }
    // |f − s·i|² is least at s = f·i / i·i.
    let rest = floats - both * both / integers.max(f64::MIN_POSITIVE);
    Ok(ClassifierAgreement {
        samples: count,
        agreement: alike as f64 / count.max(1) as f64,
        logit_error: (rest.max(0.0) / floats.max(f64::MIN_POSITIVE)).sqrt(),
    })
}

/// Whether samples and both forms belong together.
fn fits(
    original: &Classifier,
    exact: &ClassifierModel,
    samples: &Samples,
) -> Result<(), OnnxError> {
    let manifest = exact.header().manifest().classifier();
    if manifest.is_none_or(|m| m.layers != original.layers) {
        return Err(OnnxError::Samples("the models have other layers".into()));
    }
    check(original, samples, exact.image().max_value)
}

/// The logits of both forms.
fn logits(
    original: &Classifier,
    exact: &ClassifierModel,
    sample: &[u8],
) -> Result<(Vec<f32>, Vec<i32>), OnnxError> {
    let refused = |error: String| OnnxError::Samples(error);
    let run = ClassifierRun::start(exact, &[sample]).map_err(|e| refused(e.to_string()))?;
    let integer = run.run(&PlainClassifier(exact)).map_err(|e| refused(e.to_string()))?;
    let float = original.logits(&to_floats(sample, exact.image().max_value));
    Ok((float, integer.into_iter().next().unwrap_or_default()))
}

/// The class of the greatest logit, the lowest index of equals.
fn greatest(logits: &[f32]) -> Option<usize> {
    logits.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i)
}
