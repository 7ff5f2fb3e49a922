//! Assembles the exact form of a classifier.

use nesa_model::bounds::row_bound;
use nesa_model::layout::TensorKind;
use nesa_model::manifest::{
    ClassifierManifest, ImageConfig, Layer, Manifest, StageConfig, WeightForm,
};
use nesa_model::{Artifact, ModelLimits};
use nesa_primitives::Text;

use super::forward::Watch;
use super::graph::Classifier;
use super::{OnnxError, Samples};
use crate::compile::CompileError;
use crate::parts::{Parts, Place, bound_bits};
use crate::quantize::Quantizer;

/// Bits of every stage's input, unless its rows would not fit.
const INPUT_BITS: u8 = 12;

/// Widest stage whose rounding errors are compensated; the second moments are of this size squared.
const MAX_GRAM: usize = 1024;

/// Fractional bits of the largest output seen: five more may follow before anything is clamped.
const OUTPUT_BITS: f64 = 20.0;

/// What calibration has seen of a linear layer.
struct Seen {
    /// `[k, k]` (the upper triangle), or `[k]` of a wide one.
    moments: Vec<f64>,
    k: usize,
    peak: f32,
}

struct Statistics(Vec<Seen>);

impl Watch for Statistics {
    fn input(&mut self, index: usize, row: &[f32]) {
        let seen = &mut self.0[index];
        let k = seen.k;
        for (i, &a) in row.iter().enumerate().filter(|(_, a)| **a != 0.0) {
            let a = f64::from(a);
            if k > MAX_GRAM {
                seen.moments[i] += a * a;
                continue;
            }
            for (m, &b) in seen.moments[i * k + i..(i + 1) * k].iter_mut().zip(&row[i..]) {
                *m += a * f64::from(b);
            }
        }
    }

    fn output(&mut self, index: usize, row: &[f32]) {
        let seen = &mut self.0[index];
        seen.peak = row.iter().fold(seen.peak, |m, v| m.max(v.abs()));
    }
}

/// Compiles a classifier, choosing scales from `samples`: images of values up to `max_value`, which the
/// model sees as that part of one.
///
/// # Errors
/// [`OnnxError::Samples`] in [`CompileError::Onnx`] when they are not images of the model; otherwise
/// [`CompileError`] naming what does not fit.
pub fn compile_classifier(
    model: &Classifier,
    samples: &Samples,
    max_value: u8,
) -> Result<Artifact, CompileError> {
    let [channels, height, width] = model.image;
    let range = |what: &str| CompileError::Range { what: what.into() };
    let side = |v: usize| u16::try_from(v).map_err(|_| range("an image's side"));
    let image = ImageConfig {
        channels: side(channels)?,
        height: side(height)?,
        width: side(width)?,
        max_value,
    };
    check(model, samples, max_value)?;
    let name = Text::new(model.name.clone())?;
    let layers = model.layers.clone();
    // Sizes are checked before anything of these sizes is made.
    let any = StageConfig { input_bits: 8, row_bound_bits: 31, shift: 32, smoothed: false };
    let stages = vec![any; model.linear.len()];
    let mut manifest = ClassifierManifest { name, image, layers, stages };
    let limits = ModelLimits::default();
    let sizes = Manifest::Classifier(manifest.clone());
    let mut parts = Parts::new(&sizes, &limits, Place::Memory(Vec::new()))?;

    let seen = |d: &crate::source::Dense| {
        let moments = vec![0.0; if d.k > MAX_GRAM { d.k } else { d.k * d.k }];
        Seen { moments, k: d.k, peak: 0.0 }
    };
    let mut statistics = Statistics(model.linear.iter().map(seen).collect());
    for sample in samples.iter() {
        model.run(&to_floats(sample, max_value), &mut statistics);
    }

    let mut stages = Vec::new();
    // Units per one: an image's own values at first. Tensors that meet must have the same, so where some do
    // all layers put out the units of the largest.
    let mut units = Units::of(model, f64::from(max_value));
    if units.mixed {
        return Err(range("a sum or join of the image's own values and what layers give"));
    }
    let peaks = statistics.0.iter().map(|s| s.peak);
    let shared = units.branches.then(|| peaks.fold(0f32, f32::max));
    for (index, (dense, seen)) in model.linear.iter().zip(&mut statistics.0).enumerate() {
        let weight: Vec<f64> = dense.weight.iter().map(|&w| w.into()).collect();
        let moments = std::mem::take(&mut seen.moments);
        let quantized = Quantizer::new(moments, seen.k, WeightForm::Bytes).rows(&weight);
        let bound = |bits: u8| {
            let rows = quantized.q.chunks_exact(dense.k);
            rows.map(|r| row_bound(r, (1 << (bits - 1)) - 1)).max().unwrap_or(0)
        };
        let bits = (2..=INPUT_BITS).rev().find(|&b| bound(b) < 1 << 31);
        let input_bits = bits.ok_or_else(|| range("a weight's rows"))?;
        let peak = shared.unwrap_or(seen.peak);
        let next = libm::exp2((OUTPUT_BITS - libm::log2(f64::from(peak).max(1e-6))).floor());
        let per_one = units.before(index) * f64::from((1u32 << (input_bits - 1)) - 1);
        let units_out = vec![next; dense.n];
        let shift =
            parts.put_requantisation(index, &quantized.steps, per_one, &units_out, &dense.bias)?;
        parts.put(TensorKind::Weight(index), &quantized.bytes())?;
        let row_bound_bits = bound_bits(bound(input_bits));
        stages.push(StageConfig { input_bits, row_bound_bits, shift, smoothed: false });
        units.set(index, next);
    }

    manifest.stages = stages;
    parts.into_artifact(Manifest::Classifier(manifest))
}

/// Units per one of what each layer is given.
struct Units {
    image: f64,
    /// For each linear layer, whose outputs it is given: the linear layer's, or the image's.
    from: Vec<Option<usize>>,
    /// What each linear layer puts out.
    put_out: Vec<f64>,
    /// Whether tensors meet.
    branches: bool,
    /// Whether values of the image meet those of layers.
    mixed: bool,
}

impl Units {
    fn of(model: &Classifier, image: f64) -> Self {
        // By tensor: the linear layer whose units it has.
        let mut tensors: Vec<Option<usize>> = vec![None];
        let (mut from, mut branches, mut mixed) = (Vec::new(), false, false);
        for layer in &model.layers {
            let current = tensors.last().copied().flatten();
            branches |= layer.earlier().is_some();
            let earlier = layer.earlier().and_then(|i| tensors.get(i).copied().flatten());
            mixed |= matches!(layer, Layer::Add(_) | Layer::Join(_))
                && earlier.is_none() != current.is_none();
            let unit = match layer {
                _ if layer.is_linear() => {
                    from.push(current);
                    Some(from.len() - 1)
                }
                Layer::Take(_) => earlier,
                _ => current,
            };
            tensors.push(unit);
        }
        Self { image, put_out: vec![image; from.len()], from, branches, mixed }
    }

    fn before(&self, linear: usize) -> f64 {
        match self.from.get(linear) {
            Some(Some(of)) => self.put_out.get(*of).copied().unwrap_or(self.image),
            _ => self.image,
        }
    }

    fn set(&mut self, linear: usize, unit: f64) {
        if let Some(slot) = self.put_out.get_mut(linear) {
            *slot = unit;
        }
    }
}

/// Whether samples are images of a model.
pub(super) fn check(model: &Classifier, samples: &Samples, max: u8) -> Result<(), OnnxError> {
    let size: usize = model.image.iter().product();
    let fail = |what: String| Err(OnnxError::Samples(what));
    if samples.is_empty() || samples.size() != size {
        return fail(format!(
            "{} of {} values, expected some of {size} ({:?})",
            samples.len(),
            samples.size(),
            model.image
        ));
    }
    match samples.iter().flatten().max() {
        Some(&got) if got > max => fail(format!("a value of {got}, at most {max} allowed")),
        _ if max == 0 => fail("the greatest value is 0".into()),
        _ => Ok(()),
    }
}

/// An image as the model sees it.
pub(super) fn to_floats(sample: &[u8], max_value: u8) -> Vec<f32> {
    sample.iter().map(|&v| f32::from(v) / f32::from(max_value)).collect()
}
