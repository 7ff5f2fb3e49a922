//! Small classifiers with made-up weights, for tests of the lanes and the format.

use bytes::Bytes;
use nesa_primitives::Text;

use crate::artifact::{Artifact, ArtifactError, HeaderError};
use crate::bounds::row_bound;
use crate::layout::{Layout, ModelLimits, TensorKind};
use crate::manifest::{ClassifierManifest, ImageConfig, Layer, Manifest, StageConfig, Window};
use crate::toy::SplitMix;

/// Shape of a made-up classifier.
#[derive(Clone, Debug)]
pub struct ToyClassifier {
    /// Its images.
    pub image: ImageConfig,
    /// Its layers.
    pub layers: Vec<Layer>,
    /// Bits of every stage's input.
    pub input_bits: u8,
    /// Seed of the weights.
    pub seed: u64,
}

/// A square window with this stride and rim.
pub fn square(side: u16, stride: u16, rim: u16) -> Window {
    Window {
        height: side,
        width: side,
        stride_y: stride,
        stride_x: stride,
        top: rim,
        left: rim,
        bottom: rim,
        right: rim,
    }
}

impl Default for ToyClassifier {
    /// Every kind of layer once.
    fn default() -> Self {
        Self {
            image: ImageConfig { channels: 2, height: 9, width: 7, max_value: 200 },
            layers: vec![
                Layer::Convolution { outputs: 3, window: square(3, 1, 1) },
                Layer::Relu,
                Layer::MaxPool(square(3, 2, 1)),
                Layer::Convolution { outputs: 4, window: Window { left: 0, ..square(2, 1, 1) } },
                Layer::AveragePool(square(2, 1, 0)),
                Layer::Dense { outputs: 6 },
                Layer::Relu,
                Layer::Dense { outputs: 5 },
            ],
            input_bits: 12,
            seed: 1,
        }
    }
}

/// Builds a model with random weights.
///
/// # Errors
/// [`ArtifactError`] when the shape is not a possible one.
pub fn artifact(config: &ToyClassifier) -> Result<Artifact, ArtifactError> {
    let stage = StageConfig {
        input_bits: config.input_bits,
        row_bound_bits: 31,
        shift: 38,
        smoothed: false,
    };
    let linear = config.layers.iter().filter(|l| l.is_linear()).count();
    let mut manifest = ClassifierManifest {
        name: Text::new("toy").unwrap_or_default(),
        image: config.image,
        layers: config.layers.clone(),
        stages: vec![stage; linear],
    };
    let limits = ModelLimits::default();
    let layout = Layout::of(&Manifest::Classifier(manifest.clone()), &limits);
    let layout = layout.map_err(HeaderError::from)?;
    let mut payload = vec![0u8; layout.total_bytes];
    let mut random = SplitMix(config.seed);
    for tensor in &layout.tensors {
        let bytes = &mut payload[tensor.range()];
        match tensor.kind {
            TensorKind::Weight(_) => {
                bytes.iter_mut().for_each(|b| *b = (random.next() % 255) as u8 ^ 0x80);
            }
            TensorKind::Multiplier(_) => {
                for word in bytes.chunks_exact_mut(4) {
                    let value = (1 << 20) + (random.next() % (1 << 18)) as u32;
                    word.copy_from_slice(&value.to_le_bytes());
                }
            }
            _ => {
                for word in bytes.chunks_exact_mut(4) {
                    word.copy_from_slice(&((random.next() as i32) >> 22).to_le_bytes());
                }
            }
        }
    }
    for (i, stage) in manifest.stages.iter_mut().enumerate() {
        if let Some(tensor) = layout.tensor(TensorKind::Weight(i)) {
            let rows = nesa_kernels::as_i8(&payload[tensor.range()]);
            let max = (1 << (config.input_bits - 1)) - 1;
            let bound = rows.chunks_exact(tensor.row_bytes).map(|r| row_bound(r, max)).max();
            stage.row_bound_bits = (64 - bound.unwrap_or(1).leading_zeros()) as u8;
        }
    }
    Artifact::build(Manifest::Classifier(manifest), Bytes::from(payload))
}
