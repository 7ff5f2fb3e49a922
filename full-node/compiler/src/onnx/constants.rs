//! The constants of an ONNX graph, and what a node says about itself.

use std::collections::BTreeMap;

use super::OnnxError;
use super::proto::{Graph, Node, Tensor};

/// Tensors of 32-bit floats, and of 64-bit integers.
pub(super) const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Initialisers and the values of `Constant` nodes, by name.
pub(super) struct Constants<'a>(BTreeMap<&'a str, &'a Tensor>);

impl<'a> Constants<'a> {
    pub(super) fn of(graph: &'a Graph) -> Self {
        let mut constants: BTreeMap<&str, &Tensor> =
            graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        for node in graph.node.iter().filter(|n| n.op_type == "Constant") {
            let value = node.attribute.iter().find(|a| a.name == "value");
            if let (Some(output), Some(value)) =
                (node.output.first(), value.and_then(|v| v.t.as_ref()))
            {
                constants.insert(output, value);
            }
        }
        Self(constants)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn bias(&self, node: &Node, input: usize, n: usize) -> Result<Vec<f32>, OnnxError> {
        match node.input.get(input).map(String::as_str) {
            None | Some("") => Ok(vec![0.0; n]),
            Some(_) => self.floats(node, input, n),
        }
    }

    pub(super) fn get(&self, node: &Node, input: usize) -> Result<&'a Tensor, OnnxError> {
        let name = node.input.get(input).map(String::as_str).unwrap_or_default();
        let tensor = self.0.get(name).copied();
        tensor.ok_or_else(|| unsupported(node, format!("input {input} is computed"), "constants"))
    }

    pub(super) fn floats(
        &self,
        node: &Node,
        input: usize,
        count: usize,
    ) -> Result<Vec<f32>, OnnxError> {
        let tensor = self.get(node, input)?;
        let values: Vec<f32> = match tensor.raw_data.len() {
            0 => tensor.float_data.clone(),
            _ => {
                tensor.raw_data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
            }
        };
        let fits = tensor.data_type == FLOAT && tensor.data_location == 0 && values.len() == count;
        if !fits || count == 0 {
            let got =
                format!("tensor {} of {} values, expected {count}", tensor.name, values.len());
            return Err(unsupported(node, got, "32-bit floats inside the file"));
        }
        if values.iter().any(|v| !v.is_finite()) {
            let got = format!("tensor {} holds a value that is not finite", tensor.name);
            return Err(unsupported(node, got, "finite values"));
        }
        Ok(values)
    }

    pub(super) fn integers(&self, node: &Node, input: usize) -> Result<Vec<i64>, OnnxError> {
        let tensor = self.get(node, input)?;
        if tensor.data_type != INT64 {
            return Err(unsupported(node, format!("tensor {}", tensor.name), "64-bit integers"));
        }
        Ok(match tensor.raw_data.len() {
            0 => tensor.int64_data.clone(),
            _ => {
                tensor.raw_data.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect()
            }
        })
    }
}

pub(super) fn int(node: &Node, name: &str, default: i64) -> i64 {
    node.attribute.iter().find(|a| a.name == name).map_or(default, |a| a.i)
}

/// A list of integers, if the node has one of this name.
pub(super) fn ints(node: &Node, name: &str) -> Option<Vec<i64>> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.ints.clone())
}

pub(super) fn unsupported(node: &Node, got: String, supported: &'static str) -> OnnxError {
    let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
    OnnxError::Unsupported {
        node: name.cloned().unwrap_or_default(),
        operator: node.op_type.clone(),
        got,
        supported,
    }
}
