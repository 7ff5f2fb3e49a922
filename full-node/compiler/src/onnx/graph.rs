//! The layers of an ONNX graph, in the order of its nodes.

use prost::Message as _;
use std::collections::BTreeMap;
use std::path::Path;

use nesa_model::manifest::{Layer, MAX_CLASSIFIER_LAYERS};

use super::OnnxError;
use super::constants::{Constants, FLOAT, int, ints, unsupported};
use super::proto::{Graph, Model, Node};
use crate::source::Dense;

/// Largest file that is read; the classifiers meant here have some megabytes.
const MAX_FILE_BYTES: u64 = 1 << 26;

/// Most outputs of a layer, as the exact form has them.
const MAX_OUTPUTS: usize = 1 << 16;

/// What is supported, for errors.
pub(super) const OPERATORS: &str = "Conv, BatchNormalization, Relu, MaxPool, AveragePool, GlobalAveragePool, ReduceMean over rows \
    and columns, Add, Sum, Concat of channels, Flatten, Reshape, Gemm, MatMul with Add, Identity, Dropout, Constant, \
    and Softmax or LogSoftmax at the end";

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

/// What a name of the graph stands for.
#[derive(Clone, Copy)]
pub(super) struct Value {
    /// Which tensor of the exact form: 0 is the image, `i` what layer `i − 1` puts out.
    pub(super) tensor: usize,
    /// `[channels, height, width]`, after `Flatten` all values as channels.
    pub(super) shape: [usize; 3],
    /// Whether `shape` is the tensor's own.
    pub(super) whole: bool,
    /// The convolution or dense layer that puts it out, if one does.
    pub(super) linear: Option<usize>,
    /// Whether that is a product without a bias so far.
    pub(super) product: bool,
    /// Whether it is of a softmax, after which there is nothing.
    pub(super) done: bool,
}

/// The layers so far.
pub(super) struct Reader<'a> {
    pub(super) constants: Constants<'a>,
    image: [usize; 3],
    values: BTreeMap<&'a str, Value>,
    /// How many nodes take a name.
    uses: BTreeMap<&'a str, usize>,
    pub(super) layers: Vec<Layer>,
    pub(super) linear: Vec<Dense>,
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
        let mut uses = BTreeMap::new();
        for name in graph.node.iter().flat_map(|n| &n.input) {
            *uses.entry(name.as_str()).or_insert(0) += 1;
        }
        let value = Value {
            tensor: 0,
            shape: image,
            whole: true,
            linear: None,
            product: false,
            done: false,
        };
        let values = [(input.name.as_str(), value)].into();
        Ok(Self { constants, image, values, uses, layers: Vec::new(), linear: Vec::new() })
    }

    fn read(mut self, graph: &'a Graph, name: &str) -> Result<Classifier, OnnxError> {
        let mut last = Value {
            tensor: 0,
            ..*self.values.values().next().ok_or_else(|| parse("no input".into()))?
        };
        let mut name_of_last = "";
        for node in graph.node.iter().filter(|n| n.op_type != "Constant") {
            last = self.node(node)?;
            if self.layers.len() > MAX_CLASSIFIER_LAYERS {
                let got = format!("layer {}", self.layers.len());
                return Err(unsupported(node, got, "at most 256 layers"));
            }
            name_of_last = node.output.first().map(String::as_str).unwrap_or_default();
            self.values.insert(name_of_last, last);
        }
        let output =
            graph.output.first().filter(|o| graph.output.len() == 1 && o.name == name_of_last);
        if output.is_none() || last.tensor != self.layers.len() {
            return Err(parse("the output is not that of the last node".into()));
        }
        let name = if graph.name.is_empty() { name } else { &graph.name };
        let name = name.chars().take(32).collect();
        let Self { image, layers, linear, .. } = self;
        Ok(Classifier { name, image, layers, linear })
    }

    /// What a node takes that is computed.
    fn takes(&self, node: &'a Node) -> Result<Vec<Value>, OnnxError> {
        let names = node.input.iter().map(String::as_str);
        let computed = names.filter(|name| !name.is_empty() && !self.constants.has(name));
        let value = |name: &str| {
            let value = self.values.get(name).copied();
            value.ok_or_else(|| {
                unsupported(
                    node,
                    format!("takes {name}"),
                    "nodes in order, each taking what others gave before",
                )
            })
        };
        computed.map(value).collect()
    }

    fn node(&mut self, node: &'a Node) -> Result<Value, OnnxError> {
        let takes = self.takes(node)?;
        if takes.iter().any(|v| v.done) {
            return Err(unsupported(node, "follows a softmax".into(), "a softmax only at the end"));
        }
        if !node.domain.is_empty() && node.domain != "ai.onnx" {
            return Err(unsupported(node, format!("of domain {}", node.domain), OPERATORS));
        }
        match (node.op_type.as_str(), &takes[..]) {
            ("Add" | "Sum", [first, rest @ ..]) if !rest.is_empty() => {
                self.combine(node, *first, rest, Layer::Add)
            }
            ("Concat", [first, rest @ ..]) => {
                if int(node, "axis", 1) != 1 || takes.len() != node.input.len() {
                    return Err(unsupported(node, "constants, or another axis".into(), "channels"));
                }
                self.combine(node, *first, rest, Layer::Join)
            }
            (_, [value]) => self.single(node, *value),
            (_, all) => {
                let got = format!("takes {} computed tensors", all.len());
                Err(unsupported(node, got, OPERATORS))
            }
        }
    }

    fn single(&mut self, node: &'a Node, value: Value) -> Result<Value, OnnxError> {
        match node.op_type.as_str() {
            "Conv" => self.convolution(node, value),
            "BatchNormalization" => self.normalisation(node, value),
            "Relu" => {
                self.take(value);
                Ok(self.push(Layer::Relu, Value { linear: None, product: false, ..value }))
            }
            "MaxPool" => {
                let window = self.window(node, value.shape, None)?;
                self.pool(node, value, Layer::MaxPool(window), window)
            }
            "AveragePool" => {
                let window = self.window(node, value.shape, None)?;
                if [window.top, window.left, window.bottom, window.right] != [0; 4] {
                    return Err(unsupported(node, "pads".into(), "averages without pads"));
                }
                self.pool(node, value, Layer::AveragePool(window), window)
            }
            "GlobalAveragePool" => self.mean(node, value),
            "ReduceMean" => {
                let axes = match self.constants.integers(node, 1) {
                    Ok(axes) => axes,
                    Err(_) => ints(node, "axes").unwrap_or_default(),
                };
                if !matches!(axes[..], [2, 3] | [-2, -1]) {
                    return Err(unsupported(node, format!("axes {axes:?}"), "axes 2 and 3"));
                }
                self.mean(node, value)
            }
            "Flatten" => match int(node, "axis", 1) {
                1 => Ok(flat(value)),
                axis => Err(unsupported(node, format!("axis {axis}"), "axis 1")),
            },
            "Reshape" => self.reshape(node, value),
            "Gemm" => self.gemm(node, value),
            "MatMul" => {
                let value = self.dense(node, value, false)?;
                Ok(Value { product: true, ..value })
            }
            "Add" => self.bias(node, value),
            "Identity" | "Dropout" => Ok(value),
            "Softmax" | "LogSoftmax" => Ok(Value { done: true, ..value }),
            _ => Err(unsupported(node, "unknown operator".into(), OPERATORS)),
        }
    }

    /// Makes a tensor the current one.
    pub(super) fn take(&mut self, value: Value) {
        if value.tensor != self.layers.len() {
            // Layers are fewer than 2^16.
            self.layers.push(Layer::Take(value.tensor as u16));
        }
    }

    /// Adds a layer, which puts out `value` (its tensor is filled in).
    pub(super) fn push(&mut self, layer: Layer, value: Value) -> Value {
        self.layers.push(layer);
        Value { tensor: self.layers.len(), ..value }
    }

    /// Whether nobody else looks at what a node takes first.
    pub(super) fn is_alone(&self, node: &Node) -> bool {
        let name = node.input.first().map(String::as_str).unwrap_or_default();
        self.uses.get(name) == Some(&1)
    }

    /// A sum, or channels joined.
    fn combine(
        &mut self,
        node: &Node,
        first: Value,
        rest: &[Value],
        layer: fn(u16) -> Layer,
    ) -> Result<Value, OnnxError> {
        let joins = matches!(layer(0), Layer::Join(_));
        let mut shape = first.shape;
        for value in rest {
            let fits = if joins { value.shape[1..] == shape[1..] } else { value.shape == shape };
            if !(fits && value.whole && first.whole) {
                let got = format!("{shape:?} and {:?}", value.shape);
                return Err(unsupported(node, got, "tensors of one shape, not flattened"));
            }
            if joins {
                shape[0] += value.shape[0];
            }
        }
        if (first.tensor == 0) != rest.iter().all(|v| v.tensor == 0)
            || (first.tensor != 0 && rest.iter().any(|v| v.tensor == 0))
        {
            let got = "the image itself among what layers give".into();
            return Err(unsupported(node, got, "tensors that layers give"));
        }
        self.take(first);
        let mut out = Value { shape, linear: None, product: false, ..first };
        for value in rest {
            out = self.push(layer(value.tensor as u16), out);
        }
        Ok(out)
    }

    fn reshape(&mut self, node: &'a Node, value: Value) -> Result<Value, OnnxError> {
        let shape = value.shape;
        let count: usize = shape.iter().product();
        let target = self.constants.integers(node, 1)?;
        let mut known = target.iter().skip(1).filter(|&&v| v > 0);
        let known = known.try_fold(1usize, |all, &v| all.checked_mul(usize::try_from(v).ok()?));
        let size = |v: &i64| match *v {
            -1 => known.map_or(0, |known| count / known),
            v => usize::try_from(v).unwrap_or(0),
        };
        let sizes: Vec<usize> = target.iter().skip(1).map(size).collect();
        if sizes.iter().try_fold(1usize, |all, &v| all.checked_mul(v)) == Some(count) {
            if sizes.len() == 1 {
                return Ok(flat(value));
            }
            // Rows of pixels become an image before anything has happened to them.
            let untouched = self.layers.is_empty() && self.is_alone(node);
            if let (&[channels, height, width], true) = (&sizes[..], untouched) {
                self.image = [channels, height, width];
                return Ok(Value { shape: self.image, whole: true, ..value });
            }
        }
        let got = format!("{shape:?} to {target:?}");
        Err(unsupported(
            node,
            got,
            "[batch, values], and of an input [batch, channels, height, width]",
        ))
    }

    fn gemm(&mut self, node: &'a Node, value: Value) -> Result<Value, OnnxError> {
        let float =
            |name: &str| node.attribute.iter().find(|a| a.name == name).map_or(1.0, |a| a.f);
        if float("alpha") != 1.0 || float("beta") != 1.0 || int(node, "transA", 0) != 0 {
            return Err(unsupported(node, "alpha, beta or transA".into(), "1, 1 and 0"));
        }
        let value = self.dense(node, value, int(node, "transB", 0) != 0)?;
        if node.input.len() > 2 {
            let bias = self.constants.bias(node, 2, value.shape[0])?;
            if let Some(dense) = self.linear.last_mut() {
                dense.bias = bias;
            }
        }
        Ok(value)
    }

    /// Takes the weight `[k, n]` (`[n, k]` if transposed).
    fn dense(
        &mut self,
        node: &'a Node,
        value: Value,
        transposed: bool,
    ) -> Result<Value, OnnxError> {
        let k: usize = value.shape.iter().product();
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
        self.take(value);
        self.linear.push(Dense { weight, bias: vec![0.0; n], n, k });
        let linear = Some(self.linear.len() - 1);
        let value = Value { shape: [n, 1, 1], whole: true, linear, product: false, ..value };
        Ok(self.push(Layer::Dense { outputs: n as u32 }, value))
    }

    /// A constant added to a product.
    fn bias(&mut self, node: &'a Node, value: Value) -> Result<Value, OnnxError> {
        let index = node.input.iter().position(|i| self.constants.has(i));
        let computed = node.input.iter().find(|i| !self.constants.has(i));
        let alone = computed.is_some_and(|name| self.uses.get(name.as_str()) == Some(&1));
        let linear = value.linear.filter(|_| value.product && alone);
        let (Some(linear), Some(index)) = (linear, index) else {
            return Err(unsupported(node, "not the bias of a MatMul before it".into(), OPERATORS));
        };
        let n = self.linear.get(linear).map_or(0, |d| d.n);
        let bias = self.constants.bias(node, index, n)?;
        if let Some(dense) = self.linear.get_mut(linear) {
            dense.bias = bias;
        }
        Ok(Value { product: false, ..value })
    }
}

/// All values in a row.
fn flat(value: Value) -> Value {
    let [channels, height, width] = value.shape;
    let whole = value.whole && height * width == 1;
    Value { shape: [channels * height * width, 1, 1], whole, ..value }
}

pub(super) fn outputs_of(node: &Node, given: i64) -> Result<usize, OnnxError> {
    let count = usize::try_from(given).ok().filter(|n| (1..=MAX_OUTPUTS).contains(n));
    count.ok_or_else(|| unsupported(node, format!("{given} outputs"), "1 to 65536"))
}
