//! Convolutions, normalisations and pools of an ONNX graph.
//!
//! Groups and dilations become zeros of a dense window, and a normalisation part of the layer before it:
//! the exact form knows none of them.

use nesa_model::manifest::{Layer, Window};

use super::OnnxError;
use super::constants::{int, ints, unsupported};
use super::graph::{Reader, Value, outputs_of};
use super::proto::Node;
use crate::source::Dense;

/// Most weights of a convolution once groups and dilations are filled with zeros.
const MAX_WEIGHTS: usize = 1 << 26;

impl<'a> Reader<'a> {
    pub(super) fn pool(
        &mut self,
        node: &Node,
        value: Value,
        layer: Layer,
        window: Window,
    ) -> Result<Value, OnnxError> {
        if int(node, "ceil_mode", 0) != 0 {
            return Err(unsupported(node, "ceil_mode 1".into(), "ceil_mode 0"));
        }
        if ints(node, "dilations").is_some_and(|d| d != [1, 1]) {
            return Err(unsupported(node, "dilations".into(), "pools without dilations"));
        }
        image(node, value)?;
        let [channels, ..] = value.shape;
        let shape = after(node, value.shape, &window, channels)?;
        self.take(value);
        Ok(self.push(layer, Value { shape, linear: None, product: false, ..value }))
    }

    /// The mean of each channel.
    pub(super) fn mean(&mut self, node: &Node, value: Value) -> Result<Value, OnnxError> {
        let [_, height, width] = value.shape;
        let side = |v: usize| {
            let side = u16::try_from(v);
            side.map_err(|_| unsupported(node, format!("{v} rows or columns"), "at most 65535"))
        };
        let (height, width) = (side(height)?, side(width)?);
        let (stride_y, stride_x) = (1, 1);
        let (top, left, bottom, right) = (0, 0, 0, 0);
        let window = Window { height, width, stride_y, stride_x, top, left, bottom, right };
        self.pool(node, value, Layer::AveragePool(window), window)
    }

    /// The window of a node; a convolution's weight has the sides `kernel`. Dilations are part of them.
    pub(super) fn window(
        &self,
        node: &Node,
        [_, rows, columns]: [usize; 3],
        kernel: Option<[usize; 2]>,
    ) -> Result<Window, OnnxError> {
        let list = |name: &str, default: [i64; 2]| ints(node, name).unwrap_or(default.to_vec());
        let wrong =
            || unsupported(node, "not two dimensions".into(), "windows over rows and columns");
        let two = |list: Vec<i64>| match list[..] {
            [y, x] if u16::try_from(y).is_ok() && u16::try_from(x).is_ok() => Ok([y, x]),
            _ => Err(wrong()),
        };
        let sides = two(list("kernel_shape", kernel.map_or([0, 0], |k| k.map(|v| v as i64))))?;
        let dilations = two(list("dilations", [1, 1]))?;
        let wide = |i: usize| (sides[i] - 1).max(0) * dilations[i] + sides[i].min(1);
        let [height, width] = [wide(0), wide(1)];
        let [stride_y, stride_x] = two(list("strides", [1, 1]))?;
        let same = |size: usize, window: i64, stride: i64| -> (i64, i64) {
            let places = (size as i64).checked_add(stride - 1).map_or(0, |v| v / stride.max(1));
            let pads = ((places - 1).max(0) * stride + window - size as i64).max(0);
            (pads / 2, pads - pads / 2)
        };
        let text = node.attribute.iter().find(|a| a.name == "auto_pad").map(|a| &a.s[..]);
        let pads = match text {
            None | Some(b"NOTSET" | b"VALID" | b"") => ints(node, "pads").unwrap_or(vec![0; 4]),
            Some(kind @ (b"SAME_UPPER" | b"SAME_LOWER")) => {
                let (y, x) = (same(rows, height, stride_y), same(columns, width, stride_x));
                match kind {
                    b"SAME_UPPER" => vec![y.0, x.0, y.1, x.1],
                    _ => vec![y.1, x.1, y.0, x.0],
                }
            }
            Some(_) => {
                let supported = "NOTSET, VALID, SAME_UPPER and SAME_LOWER";
                return Err(unsupported(node, "auto_pad".into(), supported));
            }
        };
        let all = [vec![height, width, stride_y, stride_x], pads].concat();
        let all: Option<Vec<u16>> = all.into_iter().map(|v| u16::try_from(v).ok()).collect();
        match all.as_deref() {
            Some(&[height, width, stride_y, stride_x, top, left, bottom, right]) => {
                Ok(Window { height, width, stride_y, stride_x, top, left, bottom, right })
            }
            _ => Err(wrong()),
        }
    }

    pub(super) fn convolution(&mut self, node: &'a Node, value: Value) -> Result<Value, OnnxError> {
        image(node, value)?;
        let weight = self.constants.get(node, 1)?;
        let [channels, ..] = value.shape;
        let groups = usize::try_from(int(node, "group", 1)).unwrap_or(0);
        let fits = |c: i64| groups > 0 && c.checked_mul(groups as i64) == Some(channels as i64);
        let (n, height, width) = match weight.dims[..] {
            [n, c, h, w] if fits(c) && n % groups as i64 == 0 => (n, h, w),
            _ => {
                let got = format!(
                    "a weight {:?} on {channels} channels, in {groups} groups",
                    weight.dims
                );
                let supported = "[outputs, channels of a group, rows, columns]";
                return Err(unsupported(node, got, supported));
            }
        };
        let kernel = [height, width].map(|v| usize::try_from(v).unwrap_or(0));
        if ints(node, "kernel_shape").is_some_and(|k| k != [height, width]) {
            return Err(unsupported(node, "another kernel_shape".into(), "that of the weight"));
        }
        let window = self.window(node, value.shape, Some(kernel))?;
        let n = outputs_of(node, n)?;
        // A window's sides have 16 bits.
        let inputs = channels / groups * kernel[0] * kernel[1];
        let weight = self.constants.floats(node, 1, n.saturating_mul(inputs))?;
        let bias = self.constants.bias(node, 2, n)?;
        let shape = after(node, value.shape, &window, n)?;
        let k = channels * usize::from(window.height) * usize::from(window.width);
        if n.saturating_mul(k) > MAX_WEIGHTS {
            let got = format!("{n} outputs of windows of {k} values");
            return Err(unsupported(node, got, "at most 2^26 weights, zeros of groups included"));
        }
        let spread = Spread { channels, groups, kernel, window };
        let weight = spread.of(&weight, n);
        self.take(value);
        self.linear.push(Dense { weight, bias, n, k });
        let linear = Some(self.linear.len() - 1);
        let layer = Layer::Convolution { outputs: n as u32, window };
        Ok(self.push(layer, Value { shape, linear, product: false, ..value }))
    }

    /// A batch normalisation, as it is when nothing is learnt: a factor and a term for each channel.
    pub(super) fn normalisation(
        &mut self,
        node: &'a Node,
        value: Value,
    ) -> Result<Value, OnnxError> {
        if int(node, "training_mode", 0) != 0 {
            return Err(unsupported(node, "training_mode 1".into(), "0"));
        }
        image(node, value)?;
        let [channels, ..] = value.shape;
        let floats = |input: usize| self.constants.floats(node, input, channels);
        let (scale, shift, mean, variance) = (floats(1)?, floats(2)?, floats(3)?, floats(4)?);
        let epsilon = node.attribute.iter().find(|a| a.name == "epsilon").map_or(1e-5, |a| a.f);
        let factor: Vec<f64> = scale
            .iter()
            .zip(&variance)
            .map(|(&s, &v)| f64::from(s) / (f64::from(v) + f64::from(epsilon)).sqrt())
            .collect();
        if factor.iter().any(|f| !f.is_finite()) {
            return Err(unsupported(node, "a variance below 0".into(), "variances"));
        }
        let term = |c: usize, bias: f32| {
            ((f64::from(bias) - f64::from(mean[c])) * factor[c] + f64::from(shift[c])) as f32
        };
        let alone = self.is_alone(node);
        if let Some(dense) = value.linear.filter(|_| alone).and_then(|l| self.linear.get_mut(l)) {
            for (c, row) in dense.weight.chunks_exact_mut(dense.k).enumerate() {
                row.iter_mut().for_each(|w| *w = (f64::from(*w) * factor[c]) as f32);
            }
            for (c, bias) in dense.bias.iter_mut().enumerate() {
                *bias = term(c, *bias);
            }
            return Ok(Value { product: false, ..value });
        }
        // By itself: a window of one, each channel from its own.
        let mut weight = vec![0.0; channels * channels];
        for (c, &f) in factor.iter().enumerate() {
            weight[c * channels + c] = f as f32;
        }
        let bias = (0..channels).map(|c| term(c, 0.0)).collect();
        self.take(value);
        self.linear.push(Dense { weight, bias, n: channels, k: channels });
        let (height, width, stride_y, stride_x) = (1, 1, 1, 1);
        let (top, left, bottom, right) = (0, 0, 0, 0);
        let window = Window { height, width, stride_y, stride_x, top, left, bottom, right };
        let linear = Some(self.linear.len() - 1);
        let layer = Layer::Convolution { outputs: channels as u32, window };
        Ok(self.push(layer, Value { linear, product: false, ..value }))
    }
}

/// A weight with groups and dilations as the dense one it stands for.
struct Spread {
    channels: usize,
    groups: usize,
    kernel: [usize; 2],
    window: Window,
}

impl Spread {
    fn of(&self, weight: &[f32], n: usize) -> Vec<f32> {
        let Self { channels, groups, kernel: [rows, columns], window } = *self;
        let [height, width] = [window.height, window.width].map(usize::from);
        if groups == 1 && [height, width] == [rows, columns] {
            return weight.to_vec();
        }
        // How far apart a weight's neighbours are in the window.
        let apart = |wide: usize, side: usize| if side > 1 { (wide - 1) / (side - 1) } else { 1 };
        let (down, across) = (apart(height, rows), apart(width, columns));
        let inputs = channels / groups;
        let mut spread = vec![0.0; n * channels * height * width];
        for (i, &w) in weight.iter().enumerate() {
            let (column, rest) = (i % columns, i / columns);
            let (row, rest) = (rest % rows, rest / rows);
            let (input, output) = (rest % inputs, rest / inputs);
            let channel = output / (n / groups) * inputs + input;
            let at = (output * channels + channel) * height + row * down;
            spread[at * width + column * across] = w;
        }
        spread
    }
}

/// Whether a tensor still has rows and columns.
fn image(node: &Node, value: Value) -> Result<(), OnnxError> {
    match value.whole {
        true => Ok(()),
        false => Err(unsupported(node, "flattened values".into(), "channels, rows and columns")),
    }
}

/// The shape of `channels` channels of windows.
fn after(
    node: &Node,
    shape: [usize; 3],
    w: &Window,
    channels: usize,
) -> Result<[usize; 3], OnnxError> {
    let side = |size: usize, before: u16, after: u16, window: u16, stride: u16| {
        let all = size + usize::from(before) + usize::from(after);
        let rest = all.checked_sub(usize::from(window))?;
        Some(rest.checked_div(usize::from(stride))? + 1)
    };
    let height = side(shape[1], w.top, w.bottom, w.height, w.stride_y);
    let width = side(shape[2], w.left, w.right, w.width, w.stride_x);
    match (height, width) {
        (Some(height), Some(width)) => Ok([channels, height, width]),
        _ => {
            let got = format!("{w:?} on {shape:?}");
            Err(unsupported(node, got, "windows within the image"))
        }
    }
}
