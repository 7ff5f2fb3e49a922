//! The plain reference interpreter of classifiers, written from `docs/exact-arithmetic.md` alone: one
//! image, nested loops over places, 128-bit integers, no kernels.

use super::ClassifierModel;
use crate::StageId;
use crate::interpreter::{clamp, round_shift};
use crate::layout::Shape;
use crate::manifest::{Layer, Window};

/// A tensor by channel, row, column.
type Tensor = Vec<Vec<Vec<i128>>>;

const LIMIT: i128 = (1 << 25) - 1;

/// One row through a linear stage.
fn linear(model: &ClassifierModel, stage: usize, h: &[i128]) -> Vec<i128> {
    let spec = &model.stages()[stage];
    let p = model.stage(stage);
    let mut mantissa = h.iter().map(|v| v.abs()).max().unwrap_or(0).max(1);
    let mut exponent = 0;
    while mantissa < 1 << 30 {
        mantissa <<= 1;
        exponent += 1;
    }
    let r = (i128::from(spec.input_max()) << 46) / mantissa;
    let x: Vec<i128> = h.iter().map(|h| round_shift(h * r, 46 - exponent)).collect();
    let weights = model.weights(StageId(stage as u16)).bytes(spec.k);
    let channel = |j: usize| {
        let row = &weights[j * spec.k..(j + 1) * spec.k];
        let y: i128 = row.iter().zip(&x).map(|(&w, x)| i128::from(w) * x).sum();
        let c = (mantissa * i128::from(p.multiplier[j])) >> 31;
        clamp(round_shift(y * c, p.shift + exponent - 31) + i128::from(p.bias[j]), LIMIT)
    };
    (0..spec.n).map(channel).collect()
}

/// What a window at `(y, x)` covers of a channel; `None` outside.
fn window(channel: &[Vec<i128>], w: &Window, y: usize, x: usize) -> Vec<Option<i128>> {
    let mut values = Vec::new();
    for dy in 0..i64::from(w.height) {
        for dx in 0..i64::from(w.width) {
            let row = y as i64 * i64::from(w.stride_y) + dy - i64::from(w.top);
            let column = x as i64 * i64::from(w.stride_x) + dx - i64::from(w.left);
            let row = usize::try_from(row).ok().and_then(|r| channel.get(r));
            let column = usize::try_from(column).ok();
            values.push(row.zip(column).and_then(|(r, c)| r.get(c)).copied());
        }
    }
    values
}

fn each(to: Shape, mut value: impl FnMut(usize, usize, usize) -> i128) -> Tensor {
    (0..to.channels)
        .map(|c| (0..to.height).map(|y| (0..to.width).map(|x| value(c, y, x)).collect()).collect())
        .collect()
}

/// The logits of one image, `[classes]`; `None` for an image that does not fit, or a model opened
/// without weights.
pub fn logits(model: &ClassifierModel, image: &[u8]) -> Option<Vec<i32>> {
    if image.len() != model.image_len()
        || image.iter().any(|&v| v > model.image().max_value)
        || !model.has_weights()
    {
        return None;
    }
    let shape = model.shape(0);
    let mut h = each(shape, |c, y, x| image[(c * shape.height + y) * shape.width + x].into());
    let mut stage = 0;
    let mut before: Vec<Tensor> = Vec::new();
    for (i, layer) in model.layers().iter().enumerate() {
        let to = model.shape(i + 1);
        before.push(h.clone());
        h = match layer {
            Layer::Convolution { window: w, .. } => {
                let place = |y, x| {
                    let under = h.iter().flat_map(|c| window(c, w, y, x));
                    let row: Vec<i128> = under.map(|v| v.unwrap_or(0)).collect();
                    linear(model, stage, &row)
                };
                let places: Tensor =
                    (0..to.height).map(|y| (0..to.width).map(|x| place(y, x)).collect()).collect();
                let out = each(to, |c, y, x| places[y][x][c]);
                stage += 1;
                out
            }
            Layer::Dense { .. } => {
                let row: Vec<i128> = h.into_iter().flatten().flatten().collect();
                stage += 1;
                linear(model, stage - 1, &row).into_iter().map(|v| vec![vec![v]]).collect()
            }
            Layer::Take(of) => before[usize::from(*of)].clone(),
            Layer::Add(of) => {
                let other = &before[usize::from(*of)];
                each(to, |c, y, x| clamp(h[c][y][x] + other[c][y][x], LIMIT))
            }
            Layer::Join(of) => h.into_iter().chain(before[usize::from(*of)].clone()).collect(),
            Layer::Relu => each(to, |c, y, x| h[c][y][x].max(0)),
            Layer::MaxPool(w) => {
                each(to, |c, y, x| window(&h[c], w, y, x).into_iter().flatten().max().unwrap_or(0))
            }
            Layer::AveragePool(w) => each(to, |c, y, x| {
                let values: Vec<i128> = window(&h[c], w, y, x).into_iter().flatten().collect();
                let n = values.len() as i128;
                (values.iter().sum::<i128>() + n / 2).div_euclid(n)
            }),
        };
    }
    Some(h.into_iter().flatten().flatten().map(|v| v as i32).collect())
}
