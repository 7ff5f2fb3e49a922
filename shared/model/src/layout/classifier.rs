//! Shapes and tensors of a classifier.

use super::{LayoutError, Plan, TensorKind, within};
use crate::manifest::{ClassifierManifest, ImageConfig, Layer, Window};

/// Values of a tensor between two layers.
const MAX_VALUES: u64 = 1 << 22;

/// Values of all tensors that later layers look at again.
const MAX_KEPT_VALUES: u64 = 1 << 24;

/// Values of all windows of a convolution together, which a run holds at once.
const MAX_WINDOW_VALUES: u64 = 1 << 24;

/// `[channels, height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Shape {
    /// Values in all.
    pub(crate) fn values(&self) -> usize {
        self.channels * self.height * self.width
    }

    pub(crate) fn of_image(image: &ImageConfig) -> Self {
        Self {
            channels: image.channels.into(),
            height: image.height.into(),
            width: image.width.into(),
        }
    }

    /// What a layer makes of it; `before` are the tensors so far, itself the last.
    ///
    /// # Errors
    /// [`LayoutError`] naming the first size that makes no sense.
    pub(crate) fn after(&self, layer: &Layer, before: &[Self]) -> Result<Self, LayoutError> {
        let earlier = |of: u16| {
            let index =
                within("earlier tensor", of.into(), 0..=before.len() as u64 - 1, "one so far");
            index.map(|i| before[i])
        };
        let shape = match *layer {
            Layer::Take(of) => return earlier(of),
            Layer::Add(of) => {
                let other = earlier(of)?;
                if other != *self {
                    let got = other.values() as u64;
                    let allowed = "a tensor of the same shape";
                    return Err(LayoutError::Size { what: "values that are added", got, allowed });
                }
                return Ok(*self);
            }
            Layer::Join(of) => {
                let other = earlier(of)?;
                if (other.height, other.width) != (self.height, self.width) {
                    let got = other.values() as u64;
                    let allowed = "a tensor of as many rows and columns";
                    return Err(LayoutError::Size { what: "values that are joined", got, allowed });
                }
                Self { channels: self.channels + other.channels, ..*self }
            }
            Layer::Relu => return Ok(*self),
            Layer::Dense { outputs } => {
                within("inputs", self.values() as u64, 1..=1 << 16, "1 to 2^16")?;
                let channels = within("outputs", outputs.into(), 1..=1 << 16, "1 to 2^16")?;
                return Ok(Self { channels, height: 1, width: 1 });
            }
            Layer::Convolution { outputs, window } => {
                let channels = within("outputs", outputs.into(), 1..=1 << 16, "1 to 2^16")?;
                let shape = Self { channels, ..self.windows(&window)? };
                // Products in 64 bits: a browser's sizes have 32.
                let inputs = [window.height, window.width].map(u64::from);
                let k = self.channels as u64 * inputs[0] * inputs[1];
                within("inputs of a window", k, 1..=1 << 16, "1 to 2^16")?;
                let all = shape.height as u64 * shape.width as u64 * k;
                within("values of all windows", all, 1..=MAX_WINDOW_VALUES, "1 to 2^24")?;
                shape
            }
            Layer::MaxPool(window) => self.windows(&window)?,
            Layer::AveragePool(window) => {
                let outside = [window.top, window.left, window.bottom, window.right];
                let outside = outside.into_iter().max().unwrap_or(0);
                within("rim of an average", outside.into(), 0..=0, "0")?;
                self.windows(&window)?
            }
        };
        shape.bounded()
    }

    /// Itself, unless it has too many values.
    fn bounded(self) -> Result<Self, LayoutError> {
        let all = [self.channels, self.height, self.width].iter().map(|&v| v as u64).product();
        within("values of a tensor", all, 1..=MAX_VALUES, "1 to 2^22")?;
        Ok(self)
    }

    /// `(k, n)` of the linear stage that a layer is.
    pub(crate) fn stage(&self, layer: &Layer) -> Option<(usize, usize)> {
        match layer {
            Layer::Convolution { outputs, window } => {
                Some((self.inputs(window), *outputs as usize))
            }
            Layer::Dense { outputs } => Some((self.values(), *outputs as usize)),
            _ => None,
        }
    }

    /// Values under one window.
    fn inputs(&self, window: &Window) -> usize {
        self.channels * usize::from(window.height) * usize::from(window.width)
    }

    /// One channel of windows for each channel.
    fn windows(&self, w: &Window) -> Result<Self, LayoutError> {
        let count = |size: usize, window: u16, stride: u16, before: u16, after: u16| {
            let side = size as u64 + u64::from(before) + u64::from(after);
            within("stride", stride.into(), 1..=1 << 10, "1 to 2^10")?;
            within("window", window.into(), 1..=side.min(1 << 10), "1 to the image's side, 2^10")?;
            // So every window holds something of the image.
            let rim = before.max(after);
            within("rim", rim.into(), 0..=u64::from(window) - 1, "less than the window")?;
            Ok((side as usize - usize::from(window)) / usize::from(stride) + 1)
        };
        Ok(Self {
            channels: self.channels,
            height: count(self.height, w.height, w.stride_y, w.top, w.bottom)?,
            width: count(self.width, w.width, w.stride_x, w.left, w.right)?,
        })
    }
}

/// The shapes between layers, the image's first; one more than layers.
pub(crate) fn shapes(manifest: &ClassifierManifest) -> Result<Vec<Shape>, LayoutError> {
    let image = &manifest.image;
    within("channels", image.channels.into(), 1..=1 << 10, "1 to 2^10")?;
    within("height", image.height.into(), 1..=1 << 10, "1 to 2^10")?;
    within("width", image.width.into(), 1..=1 << 10, "1 to 2^10")?;
    within("greatest value", image.max_value.into(), 1..=255, "1 to 255")?;
    let mut shape = Shape::of_image(image).bounded()?;
    let mut shapes = vec![shape];
    for layer in &manifest.layers {
        shape = shape.after(layer, &shapes)?;
        shapes.push(shape);
    }
    // A run holds those that are looked at again.
    let mut kept: Vec<usize> = manifest.layers.iter().filter_map(Layer::earlier).collect();
    kept.sort_unstable();
    kept.dedup();
    let kept = kept.into_iter().map(|i| shapes[i].values() as u64).sum();
    within("values of earlier tensors", kept, 0..=MAX_KEPT_VALUES, "at most 2^24")?;
    Ok(shapes)
}

/// Plans every tensor; returns how many belong to the local region.
pub(super) fn plan(manifest: &ClassifierManifest, plan: &mut Plan) -> Result<usize, LayoutError> {
    let shapes = shapes(manifest)?;
    within("classes", manifest.classes() as u64, 2..=1 << 16, "2 to 2^16, of a dense layer")?;
    let linear: Vec<(usize, usize)> =
        shapes.iter().zip(&manifest.layers).filter_map(|(s, l)| s.stage(l)).collect();
    for (index, (&shape, stage)) in linear.iter().zip(&manifest.stages).enumerate() {
        within("smoothed", stage.smoothed.into(), 0..=0, "0")?;
        plan.push_stage(index, shape, stage);
    }
    let local = plan.tensors.len();
    for (index, &(k, n)) in linear.iter().enumerate() {
        plan.push(TensorKind::Weight(index), n, k);
    }
    Ok(local)
}
