//! `nesa float`: ONNX graphs that run in floats, and what agreement of replicas says about them.

pub(crate) mod calibrate;
pub(crate) mod input;
mod module;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use nesa_float::{Data, FloatError, Graph, Kind, Limits, Tensor};
use serde_json::{Value, json};

use crate::{
    failure::{Code, Failure},
    output::outln,
};

/// Run ONNX models in floats, and measure how well agreement tells deviating ones apart
///
/// Floats differ between machines in their last bits, so replicas cannot be compared by equality.
/// What they agree on is statistical evidence, with the error rates that `calibrate` measures.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa float info models/float/encoder.onnx
  nesa float run models/float/mlp.onnx --input x.json
  nesa float calibrate models/float/encoder.onnx --dim tokens=16 --below 97")]
pub(crate) struct Float {
    #[command(subcommand)]
    action: Action,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show digest, inputs, outputs and taps of a model
    Info {
        /// The model.
        #[arg(value_name = "MODEL.onnx")]
        model: PathBuf,
    },
    /// Run a model on this machine alone
    Run {
        /// The model.
        #[arg(value_name = "MODEL.onnx")]
        model: PathBuf,
        /// JSON: an object with an array (of arrays …) of numbers for each input.
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
    },
    Calibrate(calibrate::Calibrate),
}

impl Float {
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    pub(crate) fn run(self) -> Result<()> {
        let object = match self.action {
            Action::Info { model } => info(&open(&model)?.1),
            Action::Run { model, input } => {
                let (_, mut graph) = open(&model)?;
                let inputs = input::read(&input, &graph)?;
                run(&mut graph, &inputs)?
            }
            Action::Calibrate(calibrate) => calibrate.run(self.json)?,
        };
        if self.json {
            outln!("{object}");
        } else {
            super::model::print(&object);
        }
        Ok(())
    }
}

/// Opens a model: its bytes, and the graph.
pub(crate) fn open(path: &Path) -> Result<(Vec<u8>, Graph)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let graph = Graph::open(&bytes, Limits::default()).map_err(unusable)?;
    Ok((bytes, graph))
}

pub(crate) fn unusable(error: FloatError) -> anyhow::Error {
    Failure::new(Code::Usage, error.to_string(), "docs/float-lane.md says which graphs run").into()
}

fn info(graph: &Graph) -> Value {
    let plan = graph.plan();
    let inputs = graph.inputs().iter().map(|input| {
        let kind = match input.kind {
            Kind::F32 => "floats",
            Kind::I64 => "integers",
            Kind::Bool => "booleans",
        };
        json!(format!("{} {} {kind}", input.name, input.shape_text()))
    });
    json!({
        "digest": plan.model,
        "plan": graph.plan_digest(),
        "engine": nesa_float::ENGINE,
        "nodes": graph.nodes(),
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": plan.outputs,
        "taps": plan.taps,
        "lanes": ["float"],
    })
}

fn run(graph: &mut Graph, inputs: &[Tensor]) -> Result<Value> {
    let answer = graph.run(inputs).map_err(unusable)?;
    let bytes = commonware_codec::EncodeSize::encode_size(&answer.fingerprint);
    Ok(json!({
        "digest": graph.plan().model,
        "outputs": outputs(&answer.outputs),
        "fingerprint_bytes": bytes,
        "verification": "none: one machine",
    }))
}

/// Outputs as JSON: name → shape and values.
pub(crate) fn outputs(tensors: &[Tensor]) -> Value {
    let one = |tensor: &Tensor| {
        let data = match &tensor.data {
            // Numbers that JSON does not have become null.
            Data::F32(values) => json!(values),
            Data::I64(values) => json!(values),
            Data::Bool(values) => json!(values),
        };
        (tensor.name.to_string(), json!({ "shape": tensor.shape, "data": data }))
    };
    Value::Object(tensors.iter().map(one).collect())
}
