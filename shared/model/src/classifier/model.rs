//! A classifier ready to run: checked parameters behind a cheap handle.

use bytes::Bytes;
use nesa_kernels::Weight;
use nesa_primitives::Hash;
use std::sync::Arc;

use crate::artifact::{Artifact, Header, LocalPart};
use crate::bounds::check_rows;
use crate::layout::{Shape, TensorKind, classifier_shapes};
use crate::manifest::{ClassifierManifest, ImageConfig, Layer, Manifest};
use crate::parameters::{below_2_31, i32s, u32s};
use crate::{LinearSpec, ModelError, StageId};

/// Requantisation of one stage.
#[derive(Debug)]
pub(super) struct StageParams {
    /// `[n]`, below 2^31.
    pub(super) multiplier: Vec<u32>,
    /// `[n]`
    pub(super) bias: Vec<i32>,
    pub(super) shift: u32,
}

#[derive(Debug)]
struct Inner {
    header: Arc<Header>,
    manifest: ClassifierManifest,
    /// Between layers, the image's first.
    shapes: Vec<Shape>,
    specs: Vec<LinearSpec>,
    stages: Vec<StageParams>,
    weights: Option<Vec<Bytes>>,
}

/// An exact classifier. Cloning shares it.
#[derive(Clone, Debug)]
pub struct ClassifierModel(Arc<Inner>);

/// The class of the greatest logit, the lowest index of equals; `None` of none.
pub fn best(logits: &[i32]) -> Option<usize> {
    logits.iter().enumerate().rev().max_by_key(|(_, l)| **l).map(|(i, _)| i)
}

impl ClassifierModel {
    /// Checks a whole artifact and makes it ready, weights included.
    ///
    /// # Errors
    /// [`ModelError`] naming the first parameter outside the arithmetic's bounds.
    pub fn open(artifact: &Artifact) -> Result<Self, ModelError> {
        Self::build(artifact.header().clone(), artifact.payload(), true)
    }

    /// Checks and opens the local region alone, for runs whose stages are computed elsewhere.
    ///
    /// # Errors
    /// As [`ClassifierModel::open`].
    pub fn open_local(local: &LocalPart) -> Result<Self, ModelError> {
        Self::build(local.header.clone(), &local.payload, false)
    }

    fn build(header: Arc<Header>, payload: &Bytes, weights: bool) -> Result<Self, ModelError> {
        let Manifest::Classifier(manifest) = header.manifest().clone() else {
            let got = header.manifest().family();
            return Err(ModelError::Family { got, expected: "classifier" });
        };
        let bytes = |kind, what| -> Result<Bytes, ModelError> {
            let range = header.layout().tensor(kind).ok_or(ModelError::Absent(what))?.range();
            if range.end > payload.len() {
                return Err(ModelError::Absent(what));
            }
            Ok(payload.slice(range))
        };
        let shapes = classifier_shapes(&manifest).map_err(|_| ModelError::Absent("shapes"))?;
        let (mut specs, mut stages) = (Vec::new(), Vec::new());
        let mut all = Vec::new();
        for (layer, (shape, config)) in shapes.iter().zip(&manifest.layers).enumerate() {
            let Some((k, n)) = shape.stage(config) else { continue };
            let i = specs.len();
            let Some(stage) = manifest.stages.get(i) else {
                return Err(ModelError::Absent("stage"));
            };
            let part = if matches!(config, Layer::Dense { .. }) { "dense" } else { "convolution" };
            let spec = LinearSpec {
                id: StageId(i as u16),
                name: format!("layer{layer}.{part}"),
                k,
                n,
                input_bits: stage.input_bits,
                row_bound_bits: stage.row_bound_bits,
            };
            let multiplier = u32s(&bytes(TensorKind::Multiplier(i), "multiplier")?);
            below_2_31("multiplier", &multiplier)?;
            let bias = i32s(&bytes(TensorKind::Bias(i), "bias")?);
            stages.push(StageParams { multiplier, bias, shift: stage.shift.into() });
            if weights {
                let weight = bytes(TensorKind::Weight(i), "weight")?;
                check_rows(&spec, 0, nesa_kernels::as_i8(&weight))?;
                all.push(weight);
            }
            specs.push(spec);
        }
        let weights = weights.then_some(all);
        Ok(Self(Arc::new(Inner { header, manifest, shapes, specs, stages, weights })))
    }

    /// The model's digest.
    pub fn digest(&self) -> Hash {
        self.0.header.digest()
    }

    /// The header this model was opened from.
    pub fn header(&self) -> &Arc<Header> {
        &self.0.header
    }

    /// Its name, as its maker wrote it.
    pub fn name(&self) -> &str {
        self.0.header.manifest().name()
    }

    /// Shape and range of an image.
    pub fn image(&self) -> &ImageConfig {
        &self.0.manifest.image
    }

    /// Values of an image, `[channels, height, width]`.
    pub fn image_len(&self) -> usize {
        self.0.shapes[0].values()
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.0.manifest.classes()
    }

    /// The linear stages, in order of execution.
    pub fn stages(&self) -> &[LinearSpec] {
        &self.0.specs
    }

    /// The weight `[n, k]` of a stage; empty if the model was opened without weights.
    pub fn weights(&self, stage: StageId) -> Weight<'_> {
        let weights = self.0.weights.as_deref().unwrap_or_default();
        let weight = weights.get(usize::from(stage.0));
        Weight::Bytes(weight.map_or(&[], |w| nesa_kernels::as_i8(w)))
    }

    /// The rows that one image is in each stage: a convolution's windows, one of a dense layer.
    pub fn stage_rows(&self) -> Vec<usize> {
        let layers = self.layers().iter().zip(&self.0.shapes[1..]);
        let rows = layers.filter_map(|(layer, to)| match layer {
            Layer::Convolution { .. } => Some(to.height * to.width),
            Layer::Dense { .. } => Some(1),
            _ => None,
        });
        rows.collect()
    }

    /// The most rows that one image is in a stage.
    pub fn max_rows(&self) -> usize {
        self.stage_rows().into_iter().max().unwrap_or(1)
    }

    /// Whether it was opened with weights.
    pub fn has_weights(&self) -> bool {
        self.0.weights.is_some()
    }

    pub(super) fn layers(&self) -> &[Layer] {
        &self.0.manifest.layers
    }

    /// What a layer is given; the shape at `layers().len()` is what comes out.
    pub(super) fn shape(&self, layer: usize) -> Shape {
        self.0.shapes[layer]
    }

    pub(super) fn stage(&self, stage: usize) -> &StageParams {
        &self.0.stages[stage]
    }
}
