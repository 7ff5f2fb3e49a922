//! A chain of layers from an ONNX graph.

use prost::Message as _;
use std::path::Path;

use nesa_model::manifest::{Layer, Window};

use super::OnnxError;
use super::constants::{Constants, FLOAT, int, unsupported};
use super::proto::{Graph, Model, Node};
use crate::source::Dense;

/// Largest file that is read; the classifiers meant here have some megabytes.
const MAX_FILE_BYTES: u64 = 1 << 26;

/// Most outputs of a layer, as the exact form has them.
const MAX_OUTPUTS: usize = 1 << 16;

/// What is supported, for errors.
const OPERATORS: &str = "Conv, Relu, MaxPool, AveragePool, GlobalAveragePool, Flatten, Reshape, Gemm, MatMul with Add, \
    Identity, Dropout, Constant, and Softmax or LogSoftmax at the end";

/// An image classifier in floating point.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// Its graph's name, or its file's.
    pub name: String,
    /// `[channels, height, width]` of an image.
    pub image: [usize; 3],
    /// What happens to it.
    pub layers: Vec<Layer>,
    /// The weight of each convolution (`k` in order channel, row, column) and dense layer.
    pub linear: Vec<Dense>,
}

impl Classifier {
    /// Reads a file.
    ///
    /// # Errors
    /// [`OnnxError`] naming the node at fault and what is supported.
    pub fn open(path: &Path) -> Result<Self, OnnxError> {
        let io = |error| OnnxError::Io { path: path.into(), error };
        let got = std::fs::metadata(path).map_err(io)?.len();
        if got > MAX_FILE_BYTES {
            return Err(OnnxError::TooLarge { path: path.into(), got, max: MAX_FILE_BYTES });
        }
        let bytes = std::fs::read(path).map_err(io)?;
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("classifier");
        Self::parse(&bytes, stem).map_err(|e| match e {
            OnnxError::Parse { error, .. } => OnnxError::Parse { path: path.into(), error },
            other => other,
        })
    }

    /// Reads the bytes of a file called `name`.
    ///
    /// # Errors
    /// As [`Classifier::open`].
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, OnnxError> {
        let model = Model::decode(bytes).map_err(|e| parse(format!("no ONNX model: {e}")))?;
        let graph = model.graph.ok_or_else(|| parse("no graph".into()))?;
        Reader::new(&graph)?.read(&graph, name)
    }
}

fn parse(error: String) -> OnnxError {
    OnnxError::Parse { path: Default::default(), error }
}

/// The chain so far.
struct Reader<'a> {
    constants: Constants<'a>,
    image: [usize; 3],
    /// `[channels, height, width]` now.
    shape: [usize; 3],
    layers: Vec<Layer>,
    linear: Vec<Dense>,
    /// Where a bias may still be added.
    product: Option<usize>,
    done: bool,
}

impl<'a> Reader<'a> {
    fn new(graph: &'a Graph) -> Result<Self, OnnxError> {
        let constants = Constants::of(graph);
        let inputs: Vec<_> = graph.input.iter().filter(|i| !constants.has(&i.name)).collect();
        let [input] = inputs[..] else {
            return Err(parse(format!("{} inputs, expected one of images", inputs.len())));
        };
        let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let shape = tensor.and_then(|t| t.shape.as_ref());
        let dims: Vec<i64> = shape.into_iter().flat_map(|s| &s.dim).map(|d| d.dim_value).collect();
        let image = match dims.get(1..) {
            Some(&[features]) => [1, 1, features],
            Some(&[channels, height, width]) => [channels, height, width],
            _ => [0; 3],
        };
        let image = image.map(|v| usize::try_from(v).unwrap_or(0));
        if image.iter().any(|&v| v == 0 || v > 1 << 16)
            || tensor.is_some_and(|t| t.elem_type != FLOAT)
        {
            return Err(parse(format!(
                "input {} has shape {dims:?}, expected floats of [batch, channels, height, width] or [batch, values]",
                input.name
            )));
        }
        Ok(Self {
            constants,
            image,
            shape: image,
            layers: Vec::new(),
            linear: Vec::new(),
            product: None,
            done: false,
        })
    }

    fn read(mut self, graph: &'a Graph, name: &str) -> Result<Classifier, OnnxError> {
        let input = graph.input.iter().find(|i| !self.constants.has(&i.name));
        let mut last = input.map(|i| i.name.as_str()).unwrap_or_default();
        for node in graph.node.iter().filter(|n| n.op_type != "Constant") {
            let takes: Vec<&str> = node
                .input
                .iter()
                .map(String::as_str)
                .filter(|i| !i.is_empty() && !self.constants.has(i))
                .collect();
            if takes != [last] {
                return Err(unsupported(
                    node,
                    format!("takes {takes:?}"),
                    "a chain, each node taking what the one before gives",
                ));
            }
            self.node(node)?;
            last = node.output.first().map(String::as_str).unwrap_or_default();
        }
        if graph.output.first().is_none_or(|o| o.name != last) || graph.output.len() != 1 {
            return Err(parse("the output is not that of the last node".into()));
        }
        let name = if graph.name.is_empty() { name } else { &graph.name };
        let name = name.chars().take(32).collect();
        let Self { image, layers, linear, .. } = self;
        Ok(Classifier { name, image, layers, linear })
    }

    fn node(&mut self, node: &'a Node) -> Result<(), OnnxError> {
        if self.done {
            return Err(unsupported(node, "follows a softmax".into(), "a softmax only at the end"));
        }
        if !node.domain.is_empty() && node.domain != "ai.onnx" {
            return Err(unsupported(node, format!("of domain {}", node.domain), OPERATORS));
        }
        let product = self.product.take();
        match node.op_type.as_str() {
            "Conv" => self.convolution(node),
            "Relu" => {
                self.layers.push(Layer::Relu);
                Ok(())
            }
            "MaxPool" => {
                let window = self.window(node, None)?;
                self.pool(node, Layer::MaxPool(window), window)
            }
            "AveragePool" => {
                let window = self.window(node, None)?;
                if [window.top, window.left, window.bottom, window.right] != [0; 4] {
                    return Err(unsupported(node, "pads".into(), "averages without pads"));
                }
                self.pool(node, Layer::AveragePool(window), window)
            }
            "GlobalAveragePool" => {
                let [_, height, width] = self.shape;
                let side = |v: usize| {
                    u16::try_from(v).map_err(|_| {
                        unsupported(node, format!("{v} rows or columns"), "at most 65535")
                    })
                };
                let (height, width) = (side(height)?, side(width)?);
                let (stride_y, stride_x) = (1, 1);
                let window = Window {
                    height,
                    width,
                    stride_y,
                    stride_x,
                    top: 0,
                    left: 0,
                    bottom: 0,
                    right: 0,
                };
                self.pool(node, Layer::AveragePool(window), window)
            }
            "Flatten" => match int(node, "axis", 1) {
                1 => {
                    self.flatten();
                    Ok(())
                }
                axis => Err(unsupported(node, format!("axis {axis}"), "axis 1")),
            },
            "Reshape" => self.reshape(node),
            "Gemm" => self.gemm(node),
            "MatMul" => self.matmul(node),
            "Add" => self.add(node, product),
            "Identity" | "Dropout" => {
                self.product = product;
                Ok(())
            }
            "Softmax" | "LogSoftmax" => {
                self.done = true;
                Ok(())
            }
            _ => Err(unsupported(node, "unknown operator".into(), OPERATORS)),
        }
    }

    fn flatten(&mut self) {
        self.shape = [self.shape.iter().product(), 1, 1];
    }

    fn reshape(&mut self, node: &Node) -> Result<(), OnnxError> {
        let values: usize = self.shape.iter().product();
        let target = self.constants.integers(node, 1)?;
        let mut known = target.iter().skip(1).filter(|&&v| v > 0);
        let known = known.try_fold(1usize, |all, &v| all.checked_mul(usize::try_from(v).ok()?));
        let size = |v: &i64| match *v {
            -1 => known.map_or(0, |known| values / known),
            v => usize::try_from(v).unwrap_or(0),
        };
        let sizes: Vec<usize> = target.iter().skip(1).map(size).collect();
        if sizes.iter().try_fold(1usize, |all, &v| all.checked_mul(v)) == Some(values) {
            if sizes.len() == 1 {
                self.flatten();
                return Ok(());
            }
            // Rows of pixels become an image before anything has happened to them.
            if let ([channels, height, width], true) = (&sizes[..], self.layers.is_empty()) {
                self.shape = [*channels, *height, *width];
                self.image = self.shape;
                return Ok(());
            }
        }
        let got = format!("{:?} to {target:?}", self.shape);
        Err(unsupported(
            node,
            got,
            "[batch, values], and of an input [batch, channels, height, width]",
        ))
    }

    fn pool(&mut self, node: &Node, layer: Layer, window: Window) -> Result<(), OnnxError> {
        if int(node, "ceil_mode", 0) != 0 {
            return Err(unsupported(node, "ceil_mode 1".into(), "ceil_mode 0"));
        }
        let [channels, ..] = self.shape;
        self.shape = self.after(node, &window, channels)?;
        self.layers.push(layer);
        Ok(())
    }

    /// The shape of `channels` channels of windows.
    fn after(&self, node: &Node, w: &Window, channels: usize) -> Result<[usize; 3], OnnxError> {
        let side = |size: usize, before: u16, after: u16, window: u16, stride: u16| {
            let all = size + usize::from(before) + usize::from(after);
            let rest = all.checked_sub(usize::from(window))?;
            Some(rest.checked_div(usize::from(stride))? + 1)
        };
        let height = side(self.shape[1], w.top, w.bottom, w.height, w.stride_y);
        let width = side(self.shape[2], w.left, w.right, w.width, w.stride_x);
        match (height, width) {
            (Some(height), Some(width)) => Ok([channels, height, width]),
            _ => Err(unsupported(
                node,
                format!("{w:?} on {:?}", self.shape),
                "windows within the image",
            )),
        }
    }

    fn window(&self, node: &Node, kernel: Option<[usize; 2]>) -> Result<Window, OnnxError> {
        let list = |name: &str, default: [i64; 2]| -> Vec<i64> {
            let given = node.attribute.iter().find(|a| a.name == name);
            given.map_or(default.to_vec(), |a| a.ints.clone())
        };
        if list("dilations", [1, 1]) != [1, 1] {
            return Err(unsupported(node, "dilations".into(), "none"));
        }
        let text = node.attribute.iter().find(|a| a.name == "auto_pad").map(|a| &a.s[..]);
        if !matches!(text, None | Some(b"NOTSET" | b"VALID" | b"")) {
            return Err(unsupported(node, "auto_pad".into(), "pads given as numbers"));
        }
        let kernel = kernel.map_or([0, 0], |k| k.map(|v| v as i64));
        let kernel = list("kernel_shape", kernel);
        let strides = list("strides", [1, 1]);
        let pads = node.attribute.iter().find(|a| a.name == "pads");
        let pads = pads.map_or(vec![0; 4], |a| a.ints.clone());
        let all: Option<Vec<u16>> =
            [kernel, strides, pads].concat().into_iter().map(|v| u16::try_from(v).ok()).collect();
        match all.as_deref() {
            Some(&[height, width, stride_y, stride_x, top, left, bottom, right]) => {
                Ok(Window { height, width, stride_y, stride_x, top, left, bottom, right })
            }
            _ => {
                Err(unsupported(node, "not two dimensions".into(), "windows over rows and columns"))
            }
        }
    }

    fn convolution(&mut self, node: &'a Node) -> Result<(), OnnxError> {
        let weight = self.constants.get(node, 1)?;
        let [channels, ..] = self.shape;
        let (outputs, height, width) = match weight.dims[..] {
            [n, c, h, w] if c == channels as i64 && int(node, "group", 1) == 1 => (n, h, w),
            _ => {
                let got = format!(
                    "a weight {:?} on {channels} channels, in {} groups",
                    weight.dims,
                    int(node, "group", 1)
                );
                return Err(unsupported(
                    node,
                    got,
                    "[outputs, channels, rows, columns] in one group",
                ));
            }
        };
        let kernel = [height, width].map(|v| usize::try_from(v).unwrap_or(0));
        let window = self.window(node, Some(kernel))?;
        if [usize::from(window.height), usize::from(window.width)] != kernel {
            return Err(unsupported(node, "another kernel_shape".into(), "that of the weight"));
        }
        let n = outputs_of(node, outputs)?;
        // A window's sides have 16 bits.
        let k = channels * kernel[0] * kernel[1];
        let weight = self.constants.floats(node, 1, n.saturating_mul(k))?;
        let bias = self.constants.bias(node, 2, n)?;
        self.shape = self.after(node, &window, n)?;
        self.layers.push(Layer::Convolution { outputs: n as u32, window });
        self.linear.push(Dense { weight, bias, n, k });
        Ok(())
    }

    fn gemm(&mut self, node: &'a Node) -> Result<(), OnnxError> {
        let float =
            |name: &str| node.attribute.iter().find(|a| a.name == name).map_or(1.0, |a| a.f);
        if float("alpha") != 1.0 || float("beta") != 1.0 || int(node, "transA", 0) != 0 {
            return Err(unsupported(node, "alpha, beta or transA".into(), "1, 1 and 0"));
        }
        let n = self.dense(node, int(node, "transB", 0) != 0)?;
        if node.input.len() > 2 {
            let bias = self.constants.bias(node, 2, n)?;
            if let Some(dense) = self.linear.last_mut() {
                dense.bias = bias;
            }
        }
        Ok(())
    }

    fn matmul(&mut self, node: &'a Node) -> Result<(), OnnxError> {
        self.dense(node, false)?;
        self.product = Some(self.linear.len() - 1);
        Ok(())
    }

    /// Takes the weight `[k, n]` (`[n, k]` if transposed); returns `n`.
    fn dense(&mut self, node: &'a Node, transposed: bool) -> Result<usize, OnnxError> {
        let k: usize = self.shape.iter().product();
        let weight = self.constants.get(node, 1)?;
        let n = match (weight.dims[..].as_ref(), transposed) {
            (&[rows, n], false) if rows == k as i64 => n,
            (&[n, columns], true) if columns == k as i64 => n,
            (dims, _) => {
                return Err(unsupported(
                    node,
                    format!("a weight {dims:?} on {k} values"),
                    "one that fits, second",
                ));
            }
        };
        let n = outputs_of(node, n)?;
        let mut weight = self.constants.floats(node, 1, n.saturating_mul(k))?;
        if !transposed {
            weight = (0..n * k).map(|i| weight[i % k * n + i / k]).collect();
        }
        self.layers.push(Layer::Dense { outputs: n as u32 });
        self.linear.push(Dense { weight, bias: vec![0.0; n], n, k });
        self.shape = [n, 1, 1];
        Ok(n)
    }

    fn add(&mut self, node: &'a Node, product: Option<usize>) -> Result<(), OnnxError> {
        let index = node.input.iter().position(|i| self.constants.has(i));
        let (Some(dense), Some(index)) = (product.and_then(|p| self.linear.get(p)), index) else {
            return Err(unsupported(node, "not the bias of a MatMul before it".into(), OPERATORS));
        };
        let bias = self.constants.bias(node, index, dense.n)?;
        if let Some(dense) = self.linear.last_mut() {
            dense.bias = bias;
        }
        Ok(())
    }
}

fn outputs_of(node: &Node, given: i64) -> Result<usize, OnnxError> {
    let count = usize::try_from(given).ok().filter(|n| (1..=MAX_OUTPUTS).contains(n));
    count.ok_or_else(|| unsupported(node, format!("{given} outputs"), "1 to 65536"))
}
