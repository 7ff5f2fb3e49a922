//! Inputs of a model as JSON.

use std::path::Path;

use anyhow::{Context as _, Result};
use nesa_float::{Data, Graph, InputInfo, Kind, Tensor};
use serde_json::Value;

use super::unusable;
use crate::failure::{Code, Failure};

/// Longest file that is read.
const MAX_BYTES: u64 = 1 << 28;

/// Reads `{"name": [[…]], …}`: nested arrays of numbers whose nesting is the shape.
pub(crate) fn read(path: &Path, graph: &Graph) -> Result<Vec<Tensor>> {
    let size =
        std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if size.len() > MAX_BYTES {
        return Err(wrong(format!("{} bytes of input, at most {MAX_BYTES}", size.len())));
    }
    let text = std::fs::read_to_string(path)?;
    parse(&text, graph)
}

/// The same from text.
pub(crate) fn parse(text: &str, graph: &Graph) -> Result<Vec<Tensor>> {
    let value: Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let Value::Object(given) = value else {
        return Err(wrong("an input file holds one object".to_owned()));
    };
    let tensor = |(name, value): (&String, &Value)| {
        let found = graph.inputs().iter().find(|input| input.name == *name);
        let input = found.ok_or_else(|| {
            let names: Vec<&str> = graph.inputs().iter().map(|i| i.name.as_str()).collect();
            wrong(format!("no input {name:?}; the model has {}", names.join(", ")))
        })?;
        one(input, value)
    };
    given.iter().map(tensor).collect()
}

fn one(input: &InputInfo, value: &Value) -> Result<Tensor> {
    let (mut shape, mut inner) = (Vec::new(), value);
    while let Value::Array(items) = inner {
        shape.push(u32::try_from(items.len()).unwrap_or(u32::MAX));
        match items.first() {
            Some(first) => inner = first,
            None => break,
        }
    }
    let mut numbers = Vec::new();
    flatten(value, &shape, &input.name, &mut numbers)?;
    let not = |what: &str| wrong(format!("input {:?} takes {what}", input.name));
    let data = match input.kind {
        Kind::F32 => {
            let all = numbers.iter().map(|v| v.as_f64().map(|v| v as f32));
            Data::F32(all.collect::<Option<_>>().ok_or_else(|| not("numbers"))?)
        }
        Kind::I64 => {
            let all = numbers.iter().map(|v| v.as_i64());
            Data::I64(all.collect::<Option<_>>().ok_or_else(|| not("whole numbers"))?)
        }
        Kind::Bool => {
            let all = numbers.iter().map(|v| v.as_bool());
            Data::Bool(all.collect::<Option<_>>().ok_or_else(|| not("true and false"))?)
        }
    };
    Tensor::new(&input.name, &shape, data).map_err(|error| unusable(error.into()))
}

fn flatten<'a>(
    value: &'a Value,
    shape: &[u32],
    name: &str,
    out: &mut Vec<&'a Value>,
) -> Result<()> {
    match (value, shape.split_first()) {
        (Value::Array(items), Some((&size, rest))) if items.len() == size as usize => {
            items.iter().try_for_each(|item| flatten(item, rest, name, out))
        }
        (Value::Array(_), _) | (_, Some(_)) => {
            Err(wrong(format!("input {name:?}: arrays of different lengths")))
        }
        (value, None) => {
            out.push(value);
            Ok(())
        }
    }
}

fn wrong(what: String) -> anyhow::Error {
    Failure::new(Code::Usage, what, "`nesa float info MODEL.onnx` shows the inputs").into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use nesa_float::{Data, Limits};

    use super::*;

    fn graph() -> Graph {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/float/encoder.onnx");
        Graph::open(&std::fs::read(file).unwrap(), Limits::default()).unwrap()
    }

    #[test]
    fn nesting_is_the_shape() {
        let text = r#"{"attention_mask": [[1, 1, 0]], "input_ids": [[5, 6, 7]]}"#;
        let inputs = parse(text, &graph()).unwrap();
        assert_eq!(inputs.len(), 2);
        let ids = inputs.iter().find(|t| t.name.as_str() == "input_ids").unwrap();
        assert_eq!((&ids.shape[..], &ids.data), (&[1, 3][..], &Data::I64(vec![5, 6, 7])));
        let empty = parse(r#"{"input_ids": [[]]}"#, &graph()).unwrap();
        assert_eq!(empty[0].shape, [1, 0]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("[1]", "one object"),
            ("{", "EOF"),
            (r#"{"ids": [[1]]}"#, "no input \"ids\"; the model has input_ids, attention_mask"),
            (r#"{"input_ids": [[1, 2], [3]]}"#, "different lengths"),
            (r#"{"input_ids": [1, [3]]}"#, "different lengths"),
            (r#"{"input_ids": [[1.5]]}"#, "whole numbers"),
            (r#"{"input_ids": [["1"]]}"#, "whole numbers"),
        ] {
            let error = parse(text, &graph()).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
