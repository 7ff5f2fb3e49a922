//! What is looked at before tract sees a stranger's graph.

use crate::{error::FloatError, limits::Limits};
use prost::Message as _;
use tract_onnx::{
    Onnx,
    pb::{
        AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto,
        tensor_proto::{DataLocation, DataType},
    },
};

/// Operators whose results are drawn.
const RANDOM: [&str; 6] = [
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
];
/// Graphs inside graphs.
const MAX_DEPTH: usize = 8;

/// Reads a model and checks it against the limits.
pub(crate) fn read(bytes: &[u8], limits: &Limits, onnx: &Onnx) -> Result<ModelProto, FloatError> {
    let (got, max) = (bytes.len(), limits.bytes);
    if got > max {
        return Err(FloatError::Bytes { got, max });
    }
    let model =
        ModelProto::decode(bytes).map_err(|error| FloatError::Malformed(error.to_string()))?;
    let graph = model.graph.as_ref().ok_or(FloatError::Malformed("no graph".into()))?;
    if let Some(function) = model.functions.first() {
        let name = function.name.clone().unwrap_or_default();
        return Err(FloatError::Malformed(format!("function {name:?}: inline functions first")));
    }
    let mut check = Check { limits, onnx, nodes: 0 };
    check.graph(graph, 0)?;
    if graph.output.is_empty() {
        return Err(FloatError::Malformed("no outputs".into()));
    }
    Ok(model)
}

/// What a node is called in messages.
pub(crate) fn name_of(node: &NodeProto) -> String {
    let output = node.output.first().cloned().unwrap_or_default();
    if node.name.is_empty() { output } else { node.name.clone() }
}

struct Check<'a> {
    limits: &'a Limits,
    onnx: &'a Onnx,
    nodes: usize,
}

impl Check<'_> {
    fn graph(&mut self, graph: &GraphProto, depth: usize) -> Result<(), FloatError> {
        if depth > MAX_DEPTH {
            return Err(FloatError::Malformed(format!("graphs nested more than {MAX_DEPTH} deep")));
        }
        if let Some(sparse) = graph.sparse_initializer.first() {
            return Err(self.sparse(sparse));
        }
        graph.initializer.iter().try_for_each(|tensor| self.tensor(tensor))?;
        self.sizes(graph)?;
        let names = graph.input.iter().chain(&graph.output).map(|value| value.name.as_str());
        for name in names {
            if name.is_empty() || name.len() > 256 {
                let name = name.chars().take(40).collect::<String>();
                return Err(FloatError::Malformed(format!(
                    "an input or output is named {name:?}…, expected 1 to 256 bytes"
                )));
            }
        }
        for node in &graph.node {
            self.nodes += 1;
            if self.nodes > self.limits.nodes {
                return Err(FloatError::Nodes { max: self.limits.nodes });
            }
            self.node(node, depth)?;
        }
        Ok(())
    }

    /// Shapes that stand in the file as numbers: tract sets such tensors aside while it reads the graph.
    fn sizes(&self, graph: &GraphProto) -> Result<(), FloatError> {
        let constant = |name: &str| -> Option<Vec<i64>> {
            let tensor =
                graph.initializer.iter().find(|tensor| tensor.name == name).or_else(|| {
                    let node = graph.node.iter().find(|node| {
                        node.op_type == "Constant"
                            && node.output.iter().any(|output| output == name)
                    })?;
                    node.attribute.iter().find_map(|attribute| attribute.t.as_ref())
                })?;
            let raw = tensor.raw_data.chunks_exact(8);
            let raw =
                raw.map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]));
            let listed = tensor.int64_data.iter().copied();
            (tensor.data_type == DataType::Int64 as i32).then(|| raw.chain(listed).collect())
        };
        for node in &graph.node {
            let place = match node.op_type.as_str() {
                "ConstantOfShape" => 0,
                "Expand" | "Tile" => 1,
                _ => continue,
            };
            let Some(shape) = node.input.get(place).and_then(|name| constant(name)) else {
                continue;
            };
            let size = |all: usize, &v: &i64| all.checked_mul(usize::try_from(v.max(1)).ok()?);
            let volume = shape.iter().try_fold(1usize, size);
            let max = self.limits.tensor;
            if volume.is_none_or(|volume| volume > max) {
                return Err(FloatError::Tensor { name: name_of(node), shape, max });
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &NodeProto, depth: usize) -> Result<(), FloatError> {
        let operator = node.op_type.clone();
        if RANDOM.contains(&operator.as_str()) {
            return Err(FloatError::Random { node: name_of(node), operator });
        }
        if !self.onnx.op_register.0.contains_key(&operator) {
            let domain = node.domain.clone();
            return Err(FloatError::Operator { node: name_of(node), operator, domain });
        }
        node.attribute.iter().try_for_each(|attribute| self.attribute(attribute, depth))
    }

    fn attribute(&mut self, attribute: &AttributeProto, depth: usize) -> Result<(), FloatError> {
        let sparse = attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).next();
        if let Some(sparse) = sparse {
            return Err(self.sparse(sparse));
        }
        let mut tensors = attribute.t.iter().chain(&attribute.tensors);
        tensors.try_for_each(|tensor| self.tensor(tensor))?;
        let mut graphs = attribute.g.iter().chain(&attribute.graphs);
        graphs.try_for_each(|graph| self.graph(graph, depth + 1))
    }

    fn tensor(&self, tensor: &TensorProto) -> Result<(), FloatError> {
        let name = || tensor.name.clone();
        if tensor.data_location == Some(DataLocation::External as i32)
            || !tensor.external_data.is_empty()
        {
            return Err(FloatError::External { name: name() });
        }
        let size = |all: usize, &v: &i64| all.checked_mul(usize::try_from(v).ok()?);
        let volume = tensor.dims.iter().try_fold(1usize, size);
        if volume.is_none_or(|volume| volume > self.limits.tensor) {
            let (shape, max) = (tensor.dims.clone(), self.limits.tensor);
            return Err(FloatError::Tensor { name: name(), shape, max });
        }
        Ok(())
    }

    fn sparse(&self, sparse: &SparseTensorProto) -> FloatError {
        let name = sparse.values.as_ref().map(|values| values.name.clone()).unwrap_or_default();
        FloatError::Malformed(format!("tensor {name:?} is sparse: save it as a plain one"))
    }
}
