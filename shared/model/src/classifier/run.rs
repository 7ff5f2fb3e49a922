//! A classifier as a state machine: everything but the linear stages, which it hands out.

use nesa_kernels::ops::{self, Requantize, RowScale, quantize_row, requantize_row};
use std::collections::BTreeMap;
use thiserror::Error;

use super::ClassifierModel;
use crate::layout::Shape;
use crate::manifest::{Layer, Window};
use crate::{LinearSpec, ResumeError, StageId};

/// A linear stage a run waits for.
#[derive(Clone, Copy)]
pub struct Pending<'a> {
    /// Which stage.
    pub stage: StageId,
    /// Rows of `x`: for each image, one of a dense layer, one for each window of a convolution.
    pub rows: usize,
    /// `[rows, k]`, each value within the stage's `input_bits`.
    pub x: &'a [i32],
}

/// An image that does not fit the model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImageError {
    /// The wrong number of values.
    #[error("image {index} has {got} values, expected {expected}")]
    Length {
        /// Which image.
        index: usize,
        /// Its values.
        got: usize,
        /// The model's.
        expected: usize,
    },
    /// A value over the greatest.
    #[error("image {index} holds {got}, at most {max} allowed")]
    Value {
        /// Which image.
        index: usize,
        /// The value.
        got: u8,
        /// The model's greatest.
        max: u8,
    },
}

impl ImageError {
    /// The same of images behind `first` others.
    pub fn after(self, first: usize) -> Self {
        let index = match &self {
            Self::Length { index, .. } | Self::Value { index, .. } => *index,
        };
        self.at(first + index)
    }

    /// The same of another place: for whoever looks at images one by one.
    pub fn at(self, place: usize) -> Self {
        match self {
            Self::Length { got, expected, .. } => Self::Length { index: place, got, expected },
            Self::Value { got, max, .. } => Self::Value { index: place, got, max },
        }
    }
}

/// A run over a batch of images; it never fails once started. How many there are shows in the rows;
/// to hide it, add images and ignore their answers.
pub struct ClassifierRun {
    model: ClassifierModel,
    images: usize,
    layer: usize,
    stage: usize,
    /// `[images, channels, height, width]`
    hidden: Vec<i32>,
    /// The tensors that a layer from here on looks at again, by their index.
    kept: BTreeMap<usize, Vec<i32>>,
    x: Vec<i32>,
    scales: Vec<RowScale>,
}

impl ClassifierRun {
    /// Begins a run over images of `[channels, height, width]` values.
    ///
    /// # Errors
    /// [`ImageError`] naming the first image that does not fit.
    pub fn start(model: &ClassifierModel, images: &[&[u8]]) -> Result<Self, ImageError> {
        let (expected, max) = (model.image_len(), model.image().max_value);
        let mut hidden = Vec::with_capacity(images.len() * expected);
        for (index, image) in images.iter().enumerate() {
            if image.len() != expected {
                return Err(ImageError::Length { index, got: image.len(), expected });
            }
            if let Some(&got) = image.iter().find(|&&v| v > max) {
                return Err(ImageError::Value { index, got, max });
            }
            hidden.extend(image.iter().map(|&v| i32::from(v)));
        }
        let mut run = Self {
            model: model.clone(),
            images: images.len(),
            layer: 0,
            stage: 0,
            hidden,
            kept: BTreeMap::new(),
            x: Vec::new(),
            scales: Vec::new(),
        };
        run.advance();
        Ok(run)
    }

    /// The stage the run waits for; `None` when it is finished.
    pub fn pending(&self) -> Option<Pending<'_>> {
        if self.finished() {
            return None;
        }
        Some(Pending { stage: StageId(self.stage as u16), rows: self.scales.len(), x: &self.x })
    }

    /// Gives the product `[rows, n]` of the stage [`ClassifierRun::pending`] names, and advances to the
    /// next. Any values are safe to give; only right ones give the model's answer.
    ///
    /// # Errors
    /// [`ResumeError`] when the length is wrong or the run is finished; the run is unchanged.
    pub fn resume(&mut self, y: &[i32]) -> Result<(), ResumeError> {
        let Some(pending) = self.pending() else { return Err(ResumeError::Finished) };
        let n = self.spec().n;
        let expected = pending.rows * n;
        if y.len() != expected {
            return Err(ResumeError::Length { stage: pending.stage, got: y.len(), expected });
        }
        let params = self.model.stage(self.stage);
        let to = Requantize {
            multiplier: &params.multiplier,
            shift: params.shift,
            bias: &params.bias,
            limit: ops::RESIDUAL_LIMIT,
        };
        let places = self.scales.len() / self.images;
        let mut hidden = vec![0; expected];
        let mut row = vec![0; n];
        for (i, (y, &scale)) in y.chunks_exact(n).zip(&self.scales).enumerate() {
            requantize_row(y, scale, to, &mut row);
            // Rows are places; the next layer wants channels first.
            let image = &mut hidden[i / places * places * n..][..places * n];
            for (channel, &value) in image.chunks_exact_mut(places).zip(&row) {
                channel[i % places] = value;
            }
        }
        self.hidden = hidden;
        self.layer += 1;
        self.stage += 1;
        self.advance();
        Ok(())
    }

    /// The logits of each image, `[classes]`, in the order given; `None` until the run is finished.
    pub fn output(&self) -> Option<Vec<Vec<i32>>> {
        if !self.finished() {
            return None;
        }
        let classes = self.model.classes();
        Some(self.hidden.chunks_exact(classes).map(<[i32]>::to_vec).collect())
    }

    /// Runs to the end with one engine for every stage.
    pub fn run(mut self, engine: &impl crate::Linear) -> Result<Vec<Vec<i32>>, ResumeError> {
        while let Some(Pending { stage, rows, x }) = self.pending() {
            let y = engine.apply(stage, x, rows);
            self.resume(&y)?;
        }
        Ok(self.output().unwrap_or_default())
    }

    fn finished(&self) -> bool {
        self.images == 0 || self.layer == self.model.layers().len()
    }

    fn spec(&self) -> &LinearSpec {
        &self.model.stages()[self.stage]
    }

    /// Computes layers up to the next linear one, and offers that.
    fn advance(&mut self) {
        let model = self.model.clone();
        while let Some(layer) = model.layers().get(self.layer) {
            let (from, to) = (model.shape(self.layer), model.shape(self.layer + 1));
            self.keep();
            match layer {
                Layer::Convolution { window, .. } => return self.offer(from, to, Some(window)),
                Layer::Dense { .. } => return self.offer(from, to, None),
                Layer::Relu => self.hidden.iter_mut().for_each(|h| *h = (*h).max(0)),
                Layer::MaxPool(window) => self.pool(from, to, window, greatest),
                Layer::AveragePool(window) => self.pool(from, to, window, mean),
                Layer::Take(_) => self.hidden = self.earlier(),
                Layer::Add(_) => {
                    let earlier = self.earlier();
                    ops::add_residual(&mut self.hidden, &earlier);
                }
                Layer::Join(of) => self.join(from, model.shape(usize::from(*of))),
            }
            self.layer += 1;
        }
        self.x = Vec::new();
    }

    /// Keeps the current tensor if a layer from here on looks at it, and none that no layer does.
    fn keep(&mut self) {
        let layers = &self.model.layers()[self.layer..];
        if layers.iter().any(|l| l.earlier() == Some(self.layer)) {
            self.kept.insert(self.layer, self.hidden.clone());
        }
        self.kept.retain(|index, _| layers.iter().any(|l| l.earlier() == Some(*index)));
    }

    /// The earlier tensor that the current layer looks at.
    fn earlier(&self) -> Vec<i32> {
        let index = self.model.layers()[self.layer].earlier();
        index.and_then(|index| self.kept.get(&index)).cloned().unwrap_or_default()
    }

    /// Appends an earlier tensor's channels to each image's.
    fn join(&mut self, from: Shape, other: Shape) {
        let earlier = self.earlier();
        let images = self.hidden.chunks_exact(from.values());
        let pairs = images.zip(earlier.chunks_exact(other.values()));
        self.hidden = pairs.flat_map(|(a, b)| a.iter().chain(b)).copied().collect();
    }

    /// Quantises the rows of the current stage: all of an image, or each of its windows.
    fn offer(&mut self, from: Shape, to: Shape, window: Option<&Window>) {
        let (k, q_max) = (self.spec().k, self.spec().input_max() as u32);
        let places = if window.is_some() { to.height * to.width } else { 1 };
        self.x.clear();
        self.x.resize(self.images * places * k, 0);
        self.scales.clear();
        let mut rows = self.x.chunks_exact_mut(k);
        let mut row = Vec::with_capacity(k);
        for image in self.hidden.chunks_exact(from.values()) {
            for place in 0..places {
                let Some(x) = rows.next() else { return };
                row.clear();
                match window {
                    None => row.extend_from_slice(image),
                    Some(w) => {
                        for channel in image.chunks_exact(from.height * from.width) {
                            let at = (place / to.width, place % to.width);
                            row.extend(under(channel, from, w, at).map(|v| v.unwrap_or(0)));
                        }
                    }
                }
                self.scales.push(quantize_row(&row, q_max, x));
            }
        }
    }

    fn pool(&mut self, from: Shape, to: Shape, window: &Window, of: fn(&[i32]) -> i32) {
        let mut pooled = Vec::with_capacity(self.images * to.values());
        let mut values = Vec::new();
        for channel in self.hidden.chunks_exact(from.height * from.width) {
            for place in 0..to.height * to.width {
                values.clear();
                let at = (place / to.width, place % to.width);
                values.extend(under(channel, from, window, at).flatten());
                pooled.push(of(&values));
            }
        }
        self.hidden = pooled;
    }
}

/// The values of one channel under a window, row by row; `None` for those outside.
fn under<'a>(
    channel: &'a [i32],
    shape: Shape,
    w: &Window,
    at: (usize, usize),
) -> impl Iterator<Item = Option<i32>> + 'a {
    let (top, left) = (at.0 * usize::from(w.stride_y), at.1 * usize::from(w.stride_x));
    let (above, before) = (usize::from(w.top), usize::from(w.left));
    let columns = usize::from(w.width);
    (0..usize::from(w.height) * columns).map(move |i| {
        let y = (top + i / columns).checked_sub(above).filter(|&y| y < shape.height)?;
        let x = (left + i % columns).checked_sub(before).filter(|&x| x < shape.width)?;
        channel.get(y * shape.width + x).copied()
    })
}

fn greatest(values: &[i32]) -> i32 {
    values.iter().copied().max().unwrap_or(0)
}

/// Rounded to the nearest, ties towards +∞.
fn mean(values: &[i32]) -> i32 {
    let n = values.len().max(1) as i64;
    let sum: i64 = values.iter().map(|&v| i64::from(v)).sum();
    (sum + n / 2).div_euclid(n) as i32
}
