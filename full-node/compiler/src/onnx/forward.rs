//! The f32 original of a classifier, and what is seen on its way.

use nesa_model::manifest::{Layer, Window};

use super::graph::Classifier;
use crate::source::Dense;

/// Sees what goes into linear layers and what comes out.
pub(super) trait Watch {
    /// A row of `[k]`, before linear layer `index`.
    fn input(&mut self, _index: usize, _row: &[f32]) {}
    /// Its outputs `[n]`.
    fn output(&mut self, _index: usize, _row: &[f32]) {}
}

impl Watch for () {}

impl Classifier {
    /// The logits of one image `[channels, height, width]`, as floats of the model's own scale.
    pub fn logits(&self, image: &[f32]) -> Vec<f32> {
        self.run(image, &mut ())
    }

    pub(super) fn run(&self, image: &[f32], watch: &mut impl Watch) -> Vec<f32> {
        let mut h = image.to_vec();
        let [mut channels, mut height, mut width] = self.image;
        let mut linear = self.linear.iter().enumerate();
        // What later layers look at again, by its index.
        let mut kept: Vec<Option<(Vec<f32>, [usize; 3])>> = Vec::new();
        for layer in &self.layers {
            let shape = [channels, height, width];
            let again = self.layers.iter().any(|l| l.earlier() == Some(kept.len()));
            kept.push(again.then(|| (h.clone(), shape)));
            let earlier = layer.earlier().and_then(|i| kept.get(i)?.as_ref());
            match layer {
                Layer::Take(_) | Layer::Add(_) | Layer::Join(_) => {
                    let Some((values, from)) = earlier else { break };
                    match layer {
                        Layer::Add(_) => h.iter_mut().zip(values).for_each(|(h, v)| *h += v),
                        Layer::Join(_) => {
                            h.extend(values);
                            channels += from[0];
                        }
                        _ => {
                            h.clone_from(values);
                            [channels, height, width] = *from;
                        }
                    }
                }
                Layer::Relu => h.iter_mut().for_each(|v| *v = v.max(0.0)),
                Layer::Dense { .. } => {
                    let Some((index, dense)) = linear.next() else { break };
                    h = product(dense, &h, index, watch);
                    [channels, height, width] = [h.len(), 1, 1];
                }
                Layer::Convolution { outputs, window } => {
                    let Some((index, dense)) = linear.next() else { break };
                    let places = places(shape, window);
                    let all = places[0] * places[1];
                    let mut out = vec![0.0; dense.n * all];
                    for place in 0..all {
                        let at = [place / places[1], place % places[1]];
                        let under = (0..channels).flat_map(|c| under(&h, shape, c, window, at));
                        let row: Vec<f32> = under.map(|v| v.unwrap_or(0.0)).collect();
                        for (c, v) in product(dense, &row, index, watch).into_iter().enumerate() {
                            out[c * all + place] = v;
                        }
                    }
                    h = out;
                    [channels, height, width] = [*outputs as usize, places[0], places[1]];
                }
                Layer::MaxPool(window) | Layer::AveragePool(window) => {
                    let places = places(shape, window);
                    let greatest = matches!(layer, Layer::MaxPool(_));
                    let mut out = Vec::new();
                    for c in 0..channels {
                        for place in 0..places[0] * places[1] {
                            let at = [place / places[1], place % places[1]];
                            let values: Vec<f32> =
                                under(&h, shape, c, window, at).into_iter().flatten().collect();
                            out.push(if greatest {
                                values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
                            } else {
                                values.iter().sum::<f32>() / values.len() as f32
                            });
                        }
                    }
                    h = out;
                    [height, width] = places;
                }
            }
        }
        h
    }
}

fn product(dense: &Dense, row: &[f32], index: usize, watch: &mut impl Watch) -> Vec<f32> {
    watch.input(index, row);
    let out: Vec<f32> = dense
        .weight
        .chunks_exact(dense.k)
        .zip(&dense.bias)
        .map(|(w, b)| {
            let sum: f64 = w.iter().zip(row).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            sum as f32 + b
        })
        .collect();
    watch.output(index, &out);
    out
}

fn places([_, height, width]: [usize; 3], w: &Window) -> [usize; 2] {
    let side = |size: usize, before: u16, after: u16, window: u16, stride: u16| {
        (size + usize::from(before) + usize::from(after) - usize::from(window))
            / usize::from(stride)
            + 1
    };
    [
        side(height, w.top, w.bottom, w.height, w.stride_y),
        side(width, w.left, w.right, w.width, w.stride_x),
    ]
}

/// The values of channel `c` under a window, row by row; `None` for those outside.
fn under(h: &[f32], shape: [usize; 3], c: usize, w: &Window, at: [usize; 2]) -> Vec<Option<f32>> {
    let [_, height, width] = shape;
    let mut values = Vec::new();
    for dy in 0..usize::from(w.height) {
        for dx in 0..usize::from(w.width) {
            let y = (at[0] * usize::from(w.stride_y) + dy).checked_sub(w.top.into());
            let x = (at[1] * usize::from(w.stride_x) + dx).checked_sub(w.left.into());
            values.push(match (y, x) {
                (Some(y), Some(x)) if y < height && x < width => {
                    Some(h[(c * height + y) * width + x])
                }
                _ => None,
            });
        }
    }
    values
}
