//! `nesa float calibrate`: thresholds and error rates of one model.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use nesa_fingerprint::{Calibration, Demand, Rate, Statistics};
use nesa_float::{
    Limits,
    calibrate::{Machine, Native, Settings, calibrate},
    inputs::Recipe,
    perturb::Deviation,
};
use serde_json::{Value, json};

use super::{module, open};
use crate::{
    failure::{Code, Failure},
    output,
};

/// Measure how far honest machines are apart, and how often deviating models pass as honest
///
/// Runs the model on made-up inputs natively and in its wasm module with and without vectors (in
/// Node.js), and models with other weights natively. Half of the inputs give the thresholds, the other
/// half the rates of false positives and false negatives, with 95 % confidence intervals.
#[derive(Debug, Args)]
pub(super) struct Calibrate {
    /// The model.
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Where the calibration goes [default: MODEL.calibration.json].
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Inputs that are tried; half of them for the rates. 144 are the fewest that can show rates
    /// below 5 %.
    #[arg(long, value_name = "N", default_value_t = 200)]
    inputs: u32,
    /// How far the thresholds are beyond what honest machines differ by, in percent of that.
    #[arg(long, value_name = "PERCENT", default_value_t = 300, value_parser = clap::value_parser!(u32).range(100..=10_000))]
    margin: u32,
    /// Size of an open dimension; may be given several times.
    #[arg(long = "dim", value_name = "NAME=SIZE", value_parser = dimension)]
    dims: Vec<(String, u32)>,
    /// Integers in the inputs are drawn below this (the size of a vocabulary).
    #[arg(long, value_name = "N", default_value_t = 2)]
    below: u32,
    /// Another model of the same graph that must be told apart; may be given several times.
    #[arg(long, value_name = "MODEL.onnx")]
    swap: Vec<PathBuf>,
    /// Folder with the wasm modules [default: target/float, where `cargo xtask float` puts them].
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
}

fn dimension(text: &str) -> Result<(String, u32), String> {
    let (name, size) = text.rsplit_once('=').ok_or("expected NAME=SIZE")?;
    let size = size.parse().map_err(|_| format!("{size:?} is no size"))?;
    Ok((name.to_owned(), size))
}

impl Calibrate {
    pub(super) fn run(self, whole: bool) -> Result<Value> {
        let (bytes, graph) = open(&self.model)?;
        let folders = module::folders(self.modules.as_deref())?;
        let mut machines: Vec<Box<dyn Machine>> = vec![Box::new(Native(graph))];
        for folder in &folders {
            machines.push(Box::new(module::Module::start(folder, &bytes)?));
        }
        let mut others = Vec::new();
        for path in &self.swap {
            let file = std::fs::read(path).with_context(|| path.display().to_string())?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            others.push((format!("model {}", name.chars().take(40).collect::<String>()), file));
        }
        let settings = Settings {
            recipe: Recipe { dimensions: self.dims.into_iter().collect(), below: self.below },
            inputs: self.inputs,
            margin_percent: self.margin,
            deviations: Deviation::USUAL.to_vec(),
            others,
            limits: Limits::default(),
        };
        let bar = output::progress(Some(self.inputs.into()), "comparing machines");
        let calibration =
            calibrate(&bytes, &settings, &mut machines, |done| bar.set_position(done.into()));
        bar.finish_and_clear();
        let calibration = calibration.map_err(|error| {
            Failure::new(Code::Usage, error.to_string(), "`nesa float calibrate --help`")
        })?;
        let out = self.out.unwrap_or_else(|| beside(&self.model));
        let text = serde_json::to_string_pretty(&calibration)?;
        crate::files::write(&out, text.as_bytes())?;
        let mut object = summary(&calibration);
        object["file"] = json!(out);
        if whole {
            object["calibration"] = serde_json::to_value(&calibration)?;
        }
        Ok(object)
    }
}

/// Where a model's calibration is looked for.
pub(crate) fn beside(model: &std::path::Path) -> PathBuf {
    model.with_extension("calibration.json")
}

/// What a calibration says, in a few lines.
pub(crate) fn summary(calibration: &Calibration) -> Value {
    let platforms: Vec<&str> = calibration.platforms.iter().map(|p| p.as_str()).collect();
    let mut rates = BTreeMap::new();
    for class in &calibration.classes {
        rates.insert(class.name.as_str(), rate(&class.false_negative));
    }
    json!({
        "model": calibration.model,
        "digest": calibration.digest(),
        "machines": platforms.join(", "),
        "inputs": calibration.inputs,
        "honest at most": statistics(&calibration.honest),
        "thresholds": statistics(&calibration.thresholds),
        "false positives": rate(&calibration.false_positive),
        "false negatives": rates.iter().map(|(name, rate)| format!("{name}: {rate}")).collect::<Vec<_>>(),
        "nearest": calibration.classes.iter().map(|c| format!("{}: {}", c.name, statistics(&c.nearest))).collect::<Vec<_>>(),
        "decides": match calibration.meets(&Demand::default()) {
            Ok(()) => "yes: 8-bit weights and a swapped model, both rates below 5 %".to_owned(),
            Err(weakness) => format!("no: {weakness}"),
        },
    })
}

/// A rate in words.
pub(crate) fn rate(rate: &Rate) -> String {
    let (low, high) = rate.interval();
    format!(
        "{} of {} ({:.1} %; 95 % interval {:.1} to {:.1} %)",
        rate.errors,
        rate.trials,
        rate.observed() * 100.0,
        low * 100.0,
        high * 100.0
    )
}

fn statistics(s: &Statistics) -> String {
    format!(
        "places {:.2} %, exponents {:.2} %, mantissas {:.3} mean {:.0} median of 2^-15, output {:.1e}",
        f64::from(s.missing_ppm) / 1e4,
        f64::from(s.exponent_ppm) / 1e4,
        f64::from(s.mean_milli) / 1e3,
        f64::from(s.median_milli) / 1e3,
        f64::from(s.output_ppb) / 1e9,
    )
}
