//! A graph that was checked, and its runs.

use crate::{check, error::FloatError, limits::Limits, plan};
use nesa_fingerprint::{
    Answer, Calibration, Card, Data, Dimension, Fingerprint, InputInfo, Kind, Plan, SKETCH_ENTRIES,
    Sketch, Tensor,
};
use nesa_primitives::Hash;
use std::{
    collections::HashSet,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use tract_onnx::{
    Onnx,
    pb::{GraphProto, ModelProto, ValueInfoProto, tensor_shape_proto::dimension, type_proto},
    prelude::*,
    tract_core::internal::TypedSimplePlan,
    tract_hir::infer::InferenceFact,
};

/// An input as the file declares it, and tract's type of it.
fn input_of(value: &ValueInfoProto) -> Result<(InputInfo, DatumType), FloatError> {
    let name = value.name.clone();
    let refused = |got: &str| FloatError::Type { name: name.clone(), got: got.to_owned() };
    let tensor = match value.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor,
        None => return Err(refused("none")),
    };
    let datum = tract_onnx::pb::tensor_proto::DataType::try_from(tensor.elem_type)
        .ok()
        .and_then(|t| DatumType::try_from(t).ok())
        .ok_or_else(|| refused(&format!("number {}", tensor.elem_type)))?;
    let kind = kind_of(datum).ok_or_else(|| refused(&format!("{datum:?}")))?;
    let dims = tensor.shape.as_ref().map(|shape| shape.dim.as_slice()).unwrap_or_default();
    let size = |(place, dim): (usize, &tract_onnx::pb::tensor_shape_proto::Dimension)| {
        let open = || Dimension::Open(format!("{name}.{place}"));
        match &dim.value {
            Some(dimension::Value::DimValue(size)) => {
                u32::try_from(*size).map_or_else(|_| open(), Dimension::Fixed)
            }
            Some(dimension::Value::DimParam(name)) if !name.is_empty() => {
                Dimension::Open(name.clone())
            }
            _ => open(),
        }
    };
    let shape = dims.iter().enumerate().map(size).collect();
    Ok((InputInfo { name: name.clone(), kind, shape }, datum))
}

fn kind_of(datum: DatumType) -> Option<Kind> {
    if datum == DatumType::Bool {
        Some(Kind::Bool)
    } else if datum.is_float() {
        Some(Kind::F32)
    } else if datum.is_integer() {
        Some(Kind::I64)
    } else {
        None
    }
}

type Shapes = Vec<Vec<u32>>;

/// A checked model. What it prepared for the last shapes is kept.
pub struct Graph {
    limits: Limits,
    onnx: Onnx,
    proto: ModelProto,
    inputs: Vec<InputInfo>,
    /// tract's types of the inputs.
    datums: Vec<DatumType>,
    plan: Plan,
    digest: Hash,
    prepared: Option<(Shapes, Arc<TypedSimplePlan>)>,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graph({}, {} inputs)", self.plan.model, self.inputs.len())
    }
}

impl Graph {
    /// Reads and checks a model.
    ///
    /// # Errors
    /// [`FloatError`] for what is no model, exceeds a limit, lies in other files, is random, or needs an
    /// operator or a type that the engine does not have.
    pub fn open(bytes: &[u8], limits: Limits) -> Result<Self, FloatError> {
        let onnx = tract_onnx::onnx().with_ignore_value_info(true);
        let proto = check::read(bytes, &limits, &onnx)?;
        let plan = plan::of(bytes, &proto);
        let digest = plan.digest();
        let inputs = inputs(&proto).map(input_of).collect::<Result<Vec<_>, _>>()?;
        let (inputs, datums) = inputs.into_iter().unzip();
        Ok(Self { limits, onnx, proto, inputs, datums, plan, digest, prepared: None })
    }

    /// Reads a model that is tapped where another one is: what a replica runs that pretends to run the
    /// other, and what a calibration compares. Its fingerprints name the other's plan.
    ///
    /// # Errors
    /// As [`Graph::open`].
    pub fn open_as(bytes: &[u8], limits: Limits, plan: &Plan) -> Result<Self, FloatError> {
        let own = Self::open(bytes, limits)?;
        Ok(Self { plan: plan.clone(), digest: plan.digest(), ..own })
    }

    /// The inputs, in the model's order.
    pub fn inputs(&self) -> &[InputInfo] {
        &self.inputs
    }

    /// Where the model is tapped.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What somebody must know who asks for runs without having the model.
    pub fn card(&self, calibration: Option<Calibration>) -> Card {
        Card { plan: self.plan.clone(), inputs: self.inputs.clone(), calibration }
    }

    /// Digest of the plan.
    pub const fn plan_digest(&self) -> Hash {
        self.digest
    }

    /// Nodes of the graph, those inside others left out.
    pub fn nodes(&self) -> usize {
        self.proto.graph.as_ref().map_or(0, |graph| graph.node.len())
    }

    /// Runs the model: outputs, and the fingerprint of the run.
    ///
    /// # Errors
    /// [`FloatError`] for inputs that are missing, unknown or of another shape, for values that are too
    /// large, and for what tract refuses.
    pub fn run(&mut self, given: &[Tensor]) -> Result<Answer, FloatError> {
        let given = self.ordered(given)?;
        let shapes: Shapes = given.iter().map(|tensor| tensor.shape.clone()).collect();
        let runnable = match &self.prepared {
            Some((of, runnable)) if *of == shapes => runnable.clone(),
            _ => {
                let runnable = self.prepare(&shapes)?;
                self.prepared = Some((shapes, runnable.clone()));
                runnable
            }
        };
        let values = given
            .iter()
            .zip(self.inputs.iter().zip(&self.datums))
            .map(|(tensor, (info, datum))| Ok(to_tract(tensor, info, *datum)?.into()))
            .collect::<Result<TVec<TValue>, FloatError>>()?;
        let values = guarded("running the model", || runnable.run(values))?;
        let names = self.plan.taps.iter().chain(&self.plan.outputs);
        let (mut sketches, mut outputs) = (Vec::new(), Vec::new());
        for (place, (name, value)) in names.zip(&values).enumerate() {
            let tensor = from_tract(name, value)?;
            // A tap of whole numbers is sketched as floats; an output of them is compared exactly.
            let tapped = place < self.plan.taps.len();
            let floats: Option<std::borrow::Cow<'_, [f32]>> = match &tensor.data {
                Data::F32(values) => Some(values.into()),
                Data::I64(values) if tapped => Some(values.iter().map(|&v| v as f32).collect()),
                Data::Bool(values) if tapped => {
                    Some(values.iter().map(|&v| f32::from(u8::from(v))).collect())
                }
                _ => None,
            };
            if let Some(floats) = floats {
                let sketch = Sketch::of(&floats, SKETCH_ENTRIES)
                    .map_err(|error| FloatError::Sketch { name: name.clone(), error })?;
                sketches.push(sketch);
            }
            if !tapped {
                outputs.push(tensor);
            }
        }
        Ok(Answer { outputs, fingerprint: Fingerprint { plan: self.digest, sketches } })
    }

    /// The given inputs in the model's order.
    fn ordered<'a>(&self, given: &'a [Tensor]) -> Result<Vec<&'a Tensor>, FloatError> {
        let mut seen = HashSet::new();
        for tensor in given {
            let name = tensor.name.as_str();
            if !self.inputs.iter().any(|input| input.name == name) {
                let expected = self.inputs.iter().map(|input| input.name.clone()).collect();
                return Err(FloatError::UnknownInput { got: name.to_owned(), expected });
            }
            if !seen.insert(name) {
                return Err(FloatError::TwoInputs { name: name.to_owned() });
            }
        }
        let find = |input: &InputInfo| {
            let tensor = given.iter().find(|tensor| tensor.name.as_str() == input.name);
            let tensor =
                tensor.ok_or_else(|| FloatError::MissingInput { name: input.name.clone() })?;
            if !input.fits(&tensor.shape) {
                return Err(FloatError::Shape {
                    name: input.name.clone(),
                    got: tensor.shape.clone(),
                    expected: input.shape_text(),
                });
            }
            let max = self.limits.tensor;
            if tensor.data.len() > max {
                let shape = tensor.shape.iter().map(|&v| v.into()).collect();
                return Err(FloatError::Tensor { name: input.name.clone(), shape, max });
            }
            Ok(tensor)
        };
        self.inputs.iter().map(find).collect()
    }

    /// Fixes the shapes of the inputs, checks the sizes of all values, and lets tract optimise.
    fn prepare(&self, shapes: &Shapes) -> Result<Arc<TypedSimplePlan>, FloatError> {
        let model = guarded("reading the graph", || {
            let mut model = self.onnx.model_for_proto_model(&self.proto)?;
            for (place, (datum, shape)) in self.datums.iter().zip(shapes).enumerate() {
                let shape: TVec<usize> = shape.iter().map(|&v| v as usize).collect();
                model.set_input_fact(place, InferenceFact::dt_shape(*datum, shape))?;
            }
            let outlet = |name: &String| {
                let found = model.find_outlet_label(name);
                found.ok_or_else(|| TractError::msg(format!("no tensor {name:?}")))
            };
            let names = self.plan.taps.iter().chain(&self.plan.outputs);
            let outlets = names.map(outlet).collect::<TractResult<Vec<_>>>()?;
            model.select_output_outlets(&outlets)?;
            model.analyse(false)?;
            Ok(model)
        })?;
        // Before anything of these sizes is set aside.
        let mut held = 0usize;
        for node in model.nodes() {
            for output in &node.outputs {
                let Some(shape) = output.fact.shape.as_concrete_finite().ok().flatten() else {
                    continue;
                };
                held = self.hold(&node.name, held, &shape)?;
            }
        }
        let model = guarded("reading the graph", || model.into_typed())?;
        self.price(&model)?;
        let model = guarded("optimising the graph", || model.into_optimized())?;
        let mut held = 0usize;
        for node in model.nodes() {
            for output in &node.outputs {
                // What depends on the values themselves has no size yet.
                if let Some(shape) = output.fact.shape.as_concrete() {
                    held = self.hold(&node.name, held, shape)?;
                }
            }
        }
        guarded("preparing the graph", || model.into_runnable())
    }

    /// Counts what a run computes, from shapes alone. What depends on values, and bodies of loops, are not
    /// seen here; a deadline bounds those.
    fn price(&self, model: &TypedModel) -> Result<(), FloatError> {
        let (mut got, max) = (0u64, self.limits.operations);
        for node in model.nodes() {
            // What cannot be counted is left to the deadline too.
            let costs = guarded("counting operations", || {
                let facts = model.node_input_facts(node.id)?;
                node.op.cost(&facts)
            });
            for (cost, count) in costs.unwrap_or_default() {
                let count = if cost.is_compute() { count.to_i64().unwrap_or_default() } else { 0 };
                got = got.saturating_add(u64::try_from(count).unwrap_or_default());
            }
            if got > max {
                return Err(FloatError::Operations { name: node.name.clone(), got, max });
            }
        }
        Ok(())
    }

    /// Counts a value of this shape to those held.
    fn hold(&self, name: &str, held: usize, shape: &[usize]) -> Result<usize, FloatError> {
        let volume = shape.iter().try_fold(1usize, |all, &v| all.checked_mul(v));
        let max = self.limits.tensor;
        let volume = volume.filter(|&volume| volume <= max).ok_or_else(|| FloatError::Tensor {
            name: name.to_owned(),
            shape: shape.iter().map(|&v| i64::try_from(v).unwrap_or(i64::MAX)).collect(),
            max,
        })?;
        let (got, max) = (held.saturating_add(volume), self.limits.values);
        if got > max {
            return Err(FloatError::Values { name: name.to_owned(), got, max });
        }
        Ok(got)
    }
}

/// The graph's inputs that no initializer fills.
fn inputs(model: &ModelProto) -> impl Iterator<Item = &ValueInfoProto> {
    let filled = |graph: &GraphProto, value: &ValueInfoProto| {
        graph.initializer.iter().any(|tensor| tensor.name == value.name)
    };
    model
        .graph
        .iter()
        .flat_map(move |graph| graph.input.iter().filter(move |value| !filled(graph, value)))
}

/// Calls tract, and keeps what it says in words. A graph from a stranger may make it panic; natively
/// that ends the run, not the node. In the browser it ends the module's worker.
fn guarded<T>(step: &'static str, f: impl FnOnce() -> TractResult<T>) -> Result<T, FloatError> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(|error| {
            let message = format!("{error:#}").chars().take(400).collect();
            FloatError::Engine { step, message }
        }),
        Err(_) => Err(FloatError::Broke { step }),
    }
}

fn to_tract(
    tensor: &Tensor,
    info: &InputInfo,
    datum: DatumType,
) -> Result<tract_onnx::prelude::Tensor, FloatError> {
    let shape: Vec<usize> = tensor.shape.iter().map(|&v| v as usize).collect();
    if tensor.data.kind() != info.kind {
        let (name, got) = (info.name.clone(), format!("{:?}", tensor.data.kind()));
        return Err(FloatError::Engine {
            step: "reading the inputs",
            message: format!("input {name:?} is {got}, expected {:?}", info.kind),
        });
    }
    guarded("reading the inputs", || {
        let tensor = match &tensor.data {
            Data::F32(values) => tract_onnx::prelude::Tensor::from_shape(&shape, values)?,
            Data::I64(values) => tract_onnx::prelude::Tensor::from_shape(&shape, values)?,
            Data::Bool(values) => tract_onnx::prelude::Tensor::from_shape(&shape, values)?,
        };
        Ok(tensor.cast_to_dt(datum)?.into_owned())
    })
}

fn from_tract(name: &str, value: &TValue) -> Result<Tensor, FloatError> {
    let datum = value.datum_type();
    let refused = || FloatError::Type { name: name.to_owned(), got: format!("{datum:?}") };
    let kind = kind_of(datum).ok_or_else(refused)?;
    let data = guarded("reading the outputs", || {
        Ok(match kind {
            Kind::F32 => {
                let cast = value.cast_to::<f32>()?;
                Data::F32(cast.to_plain_array_view::<f32>()?.iter().copied().collect())
            }
            Kind::I64 => {
                let cast = value.cast_to::<i64>()?;
                Data::I64(cast.to_plain_array_view::<i64>()?.iter().copied().collect())
            }
            Kind::Bool => {
                Data::Bool(value.to_plain_array_view::<bool>()?.iter().copied().collect())
            }
        })
    })?;
    let shape = value.shape().iter().map(|&v| u32::try_from(v).map_err(|_| refused()));
    let shape = shape.collect::<Result<Vec<u32>, _>>()?;
    Ok(Tensor::new(name, &shape, data)?)
}
