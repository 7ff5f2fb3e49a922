//! Measures how far honest machines are apart, and how far deviating models are from them.
//!
//! Inputs are cut in two halves. The first gives the thresholds: what honest machines differed by at
//! most, times a margin. The second, which the thresholds have not seen, gives the rates. One input is
//! one trial, however many pairs of machines it has, since those pairs are not independent.

use crate::{
    Answer, FloatError, Graph, Limits, Tensor,
    inputs::{Recipe, make},
    perturb::{Deviation, deviate},
    plan::ENGINE,
};
use nesa_fingerprint::{Calibration, Class, Rate, Run, Statistics};
use nesa_primitives::Text;
use thiserror::Error as ThisError;

/// Something that runs the model as it is.
pub trait Machine {
    /// What it is: `native x86_64`, `wasm simd128`.
    fn name(&self) -> String;
    /// Runs it once.
    ///
    /// # Errors
    /// In words.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Answer, String>;
}

/// This process.
#[derive(Debug)]
pub struct Native(pub Graph);

impl Machine for Native {
    fn name(&self) -> String {
        format!("native {}", std::env::consts::ARCH)
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Answer, String> {
        self.0.run(inputs).map_err(|error| error.to_string())
    }
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How inputs are made.
    pub recipe: Recipe,
    /// How many: half for the thresholds, half for the rates.
    pub inputs: u32,
    /// How far thresholds are beyond what honest machines differ by, in percent of it.
    pub margin_percent: u32,
    /// Deviations to try.
    pub deviations: Vec<Deviation>,
    /// Other models of the same graph, by name: `(name, file)`.
    pub others: Vec<(String, Vec<u8>)>,
    /// Limits of every graph.
    pub limits: Limits,
}

/// Why there is no calibration.
#[derive(Debug, ThisError)]
pub enum CalibrateError {
    /// Nothing to compare.
    #[error("{got} machines, at least two are compared")]
    Machines {
        /// Machines given.
        got: usize,
    },
    /// Too few inputs.
    #[error("{got} inputs, at least 4 are needed")]
    Inputs {
        /// Inputs asked for.
        got: u32,
    },
    /// A machine failed.
    #[error("{machine}: {message}")]
    Machine {
        /// Its name.
        machine: String,
        /// What it said.
        message: String,
    },
    /// A machine taps other values.
    #[error("{machine} has another plan: it is of another version")]
    Plan {
        /// Its name.
        machine: String,
    },
    /// A name is too long for a calibration.
    #[error("the name {0:?} is longer than 48 bytes")]
    Name(String),
    /// A model does not load or run.
    #[error(transparent)]
    Float(#[from] FloatError),
}

/// Measures; `done` hears how many of `settings.inputs` are through.
///
/// # Errors
/// [`CalibrateError`].
pub fn calibrate(
    onnx: &[u8],
    settings: &Settings,
    machines: &mut [Box<dyn Machine>],
    mut done: impl FnMut(u32),
) -> Result<Calibration, CalibrateError> {
    if machines.len() < 2 {
        return Err(CalibrateError::Machines { got: machines.len() });
    }
    if settings.inputs < 4 {
        return Err(CalibrateError::Inputs { got: settings.inputs });
    }
    let graph = Graph::open(onnx, settings.limits)?;
    let mut liars = liars(onnx, settings, &graph)?;
    let fitted = settings.inputs / 2;
    let mut honest = Statistics::default();
    for seed in 0..fitted {
        let runs = all(&graph, settings, machines, seed)?;
        honest = honest.max(farthest(&runs));
        done(seed + 1);
    }
    let thresholds = Calibration::fit(honest, settings.margin_percent);
    let mut false_positive = Rate::default();
    // The first machine's run on the input before: a fingerprint that belongs to other data.
    let mut borrowed = Trial::new("another input")?;
    let mut before: Option<Values> = None;
    for seed in fitted..settings.inputs {
        let runs = all(&graph, settings, machines, seed)?;
        false_positive.count(!farthest(&runs).within(&thresholds));
        let inputs = make(&graph, &settings.recipe, u64::from(seed))?;
        for liar in &mut liars {
            let run = Values::of(liar.graph.run(&inputs)?);
            liar.trial.count(&runs, &run, &thresholds);
        }
        if let Some(run) = &before {
            borrowed.count(&runs, run, &thresholds);
        }
        before = runs.into_iter().next();
        done(seed + 1);
    }
    let names = machines.iter().map(|machine| text(&machine.name()));
    Ok(Calibration {
        model: graph.plan().model,
        plan: graph.plan_digest(),
        engine: text(ENGINE)?,
        platforms: names.collect::<Result<_, _>>()?,
        inputs: Text::new(settings.recipe.words()).unwrap_or_default(),
        fitted,
        honest,
        margin_percent: settings.margin_percent,
        thresholds,
        false_positive,
        classes: liars.into_iter().map(|liar| liar.trial.0).chain([borrowed.0]).collect(),
    })
}

/// How a deviation fares.
struct Trial(Class);

impl Trial {
    fn new(name: &str) -> Result<Self, CalibrateError> {
        let (nearest, false_negative) = (Statistics::APART, Rate::default());
        Ok(Self(Class { name: text(name)?, nearest, false_negative }))
    }

    /// One trial: an error if the run passes beside any honest one.
    fn count(&mut self, honest: &[Values], run: &Values, thresholds: &Statistics) {
        let mut passes = false;
        for honest in honest {
            let distance = honest.as_run().distance(&run.as_run());
            self.0.nearest = self.0.nearest.min(distance);
            passes |= distance.within(thresholds);
        }
        self.0.false_negative.count(passes);
    }
}

/// A deviating model, and how it fares.
struct Liar {
    graph: Graph,
    trial: Trial,
}

fn liars(onnx: &[u8], settings: &Settings, graph: &Graph) -> Result<Vec<Liar>, CalibrateError> {
    let deviating = settings.deviations.iter().map(|deviation| {
        let file = deviate(onnx, *deviation, 1, &settings.limits)?;
        Ok((deviation.name(), file))
    });
    let deviating = deviating.collect::<Result<Vec<_>, FloatError>>()?;
    let all = deviating.iter().chain(&settings.others);
    all.map(|(name, file)| {
        let graph = Graph::open_as(file, settings.limits, graph.plan())?;
        Ok(Liar { graph, trial: Trial::new(name)? })
    })
    .collect()
}

/// A run with the values that it is compared by.
struct Values {
    answer: Answer,
    values: Vec<f32>,
}

impl Values {
    fn of(answer: Answer) -> Self {
        Self { values: answer.values(), answer }
    }

    fn as_run(&self) -> Run<'_> {
        self.answer.as_run(&self.values)
    }
}

fn all(
    graph: &Graph,
    settings: &Settings,
    machines: &mut [Box<dyn Machine>],
    seed: u32,
) -> Result<Vec<Values>, CalibrateError> {
    let inputs = make(graph, &settings.recipe, seed.into())?;
    let mut runs = Vec::with_capacity(machines.len());
    for machine in machines {
        let answer = machine
            .run(&inputs)
            .map_err(|message| CalibrateError::Machine { machine: machine.name(), message })?;
        if answer.fingerprint.plan != graph.plan_digest() {
            return Err(CalibrateError::Plan { machine: machine.name() });
        }
        runs.push(Values::of(answer));
    }
    Ok(runs)
}

/// The worst of all pairs.
fn farthest(runs: &[Values]) -> Statistics {
    let mut worst = Statistics::default();
    for (place, a) in runs.iter().enumerate() {
        for b in &runs[place + 1..] {
            worst = worst.max(a.as_run().distance(&b.as_run()));
        }
    }
    worst
}

fn text(name: &str) -> Result<Text<48>, CalibrateError> {
    Text::new(name).map_err(|_| CalibrateError::Name(name.to_owned()))
}
