//! `nesa model`: compiled exact models.

mod accuracy;
mod classifier;
mod decoder;
mod encoder;
mod fetch;
mod image;
mod plan;

pub(crate) use classifier::Pictures;
pub(crate) use decoder::Generation;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use nesa_compiler::bench::stage_times;
use nesa_kernels::Path as Kernels;
use nesa_model::{Artifact, Model as Exact};
use serde_json::{Value, json};

use crate::{
    failure::{Code, Failure},
    node::model,
    output::outln,
};

/// Compile models to the exact integer form, and measure them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa model compile weights/all-MiniLM-L6-v2 --out models/all-minilm-l6-v2.nesa
  nesa model info --json
  nesa model fetch dictionary --out dictionary.nesa
  nesa model plan dictionary.nesa --shards 2 --measure
  nesa model eval models/all-minilm-l6-v2.nesa
  nesa model eval weights/all-MiniLM-L6-v2 --json
  nesa model bench --tokens 256
  nesa model classify models/digits/digits.nesa --image seven.pgm
  nesa model compile checkpoints/my-llama --out my-llama.nesa
  nesa model generate my-llama.nesa --prompt \"A lighthouse is\" --temperature 0.8 --seed 1")]
pub(crate) struct Model {
    #[command(subcommand)]
    action: Action,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Compile safetensors and tokenizer.json, or an ONNX classifier, to the exact form, the same bytes on
    /// every machine; report size, digest and accuracy against the original
    Compile {
        /// Folder with model.safetensors, config.json and tokenizer.json; or an .onnx file.
        #[arg(value_name = "DIR_OR_ONNX")]
        dir: PathBuf,
        /// Where the compiled model goes.
        #[arg(long, short, value_name = "FILE")]
        out: PathBuf,
        /// Longest sequence of a decoder, if shorter than the checkpoint's.
        #[arg(long, value_name = "N")]
        max_tokens: Option<NonZeroUsize>,
        /// Bits of the weights of a decoder's or encoder's layers: 8, or 4 for half the size at some loss.
        #[arg(long, value_name = "BITS", default_value = "8")]
        weights: decoder::Bits,
        /// Do not measure what compiling cost in accuracy. Measuring opens the compiled model whole;
        /// compiling alone holds a layer and the token embedding.
        #[arg(long)]
        no_accuracy: bool,
        #[command(flatten)]
        calibration: classifier::Calibration,
    },
    /// Compare the exact model with the f32 original: cosines and top-1 agreement of an encoder's
    /// embeddings, perplexity and greedy agreement of a decoder, accuracy of a classifier
    Eval {
        /// Folder with the original weights; or a compiled model, which is compared with committed
        /// vectors of the original unless --original is given.
        #[arg(value_name = "DIR_OR_FILE")]
        path: PathBuf,
        /// Folder with the original weights (or .onnx file), when PATH is a compiled model.
        #[arg(long, value_name = "DIR")]
        original: Option<PathBuf>,
        /// Compare only the first N texts of the corpus.
        #[arg(long, value_name = "N")]
        texts: Option<usize>,
        /// Held-out text for a decoder, one passage per line, instead of the built-in corpus.
        #[arg(long, value_name = "FILE")]
        text: Option<PathBuf>,
        /// Bits of the weights when a folder is compiled to be compared.
        #[arg(long, value_name = "BITS", default_value = "8")]
        weights: decoder::Bits,
        #[command(flatten)]
        held_out: classifier::HeldOut,
    },
    /// Name the class of a picture or a text with a compiled classifier, on this machine alone
    Classify {
        /// The compiled classifier.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// A PGM, or rows of numbers as text; larger ones are reduced to the model's size.
        #[arg(
            long,
            value_name = "IMAGE",
            required_unless_present = "text",
            conflicts_with = "text"
        )]
        image: Option<PathBuf>,
        /// A text, for a model that classifies texts.
        #[arg(long, value_name = "TEXT")]
        text: Option<String>,
        /// The other text of a pair, for a model that reads pairs.
        #[arg(long, value_name = "TEXT", requires = "text")]
        pair: Option<String>,
        #[command(flatten)]
        how: Pictures,
    },
    /// Turn a text into a vector with a compiled encoder, on this machine alone
    Embed {
        /// The compiled encoder.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The text.
        #[arg(long, value_name = "TEXT")]
        text: String,
    },
    /// Continue a prompt with a compiled decoder, on this machine alone
    Generate {
        /// The compiled decoder.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        what: decoder::Prompt,
        #[command(flatten)]
        how: decoder::Generation,
        /// Threads that compute; more than one pays for models of about 100 MB and more. The text does
        /// not depend on their number.
        #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN)]
        threads: NonZeroUsize,
    },
    /// Fetch a model of the network into a file: from several peers at once, each piece checked against the
    /// digest that the chain proves; interrupted, it goes on where it stopped
    Fetch(fetch::Fetch),
    /// Show where a decoder is cut into shards, by bytes or by the speeds of machines, and time the shards here
    Plan(plan::Plan),
    /// Show digest, sizes, stages and lanes of a compiled model
    Info {
        /// The compiled model [default: found under models/].
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Time the plain exact engine on this machine, and each of the kernels it could use
    Bench {
        /// The compiled model [default: found under models/].
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// Tokens per text.
        #[arg(long, value_name = "N", default_value_t = 32)]
        tokens: usize,
        /// How many runs; the fastest and the median are printed.
        #[arg(long, value_name = "N", default_value_t = 9)]
        runs: usize,
    },
}

impl Model {
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    pub(crate) fn run(self) -> Result<()> {
        let object = match &self.action {
            Action::Compile { dir, weights, .. }
                if !weights.are_bytes() && classifier::is_onnx(dir) =>
            {
                let message = "an image classifier's weights cannot be kept in 4 bits";
                return Err(Failure::new(Code::Usage, message, "leave --weights out").into());
            }
            Action::Compile { dir, out, calibration, no_accuracy, .. }
                if classifier::is_onnx(dir) =>
            {
                classifier::compile_file(dir, out, calibration, !no_accuracy)?
            }
            Action::Compile { dir, out, max_tokens, weights, no_accuracy, .. }
                if decoder::is_checkpoint(dir) =>
            {
                let max_tokens = max_tokens.map(NonZeroUsize::get);
                decoder::compile_file(dir, out, &weights.options(max_tokens), !no_accuracy)?
            }
            Action::Compile { dir, out, weights, no_accuracy, .. } => {
                encoder::compile_file(dir, out, &weights.encoder(), !no_accuracy)?
            }
            Action::Eval { path, original, texts, text, weights, held_out } => {
                let folder = original.as_deref().unwrap_or(path);
                if classifier::is_onnx(folder) {
                    classifier::evaluate(path, folder, held_out)?
                } else if decoder::is_checkpoint(folder) {
                    let compiled = original.as_ref().map(|_| &**path);
                    let options = weights.options(None);
                    decoder::evaluate(folder, compiled, text.as_deref(), *texts, &options)?
                } else {
                    {
                        let options = weights.encoder();
                        encoder::evaluate(path, original.as_deref(), *texts, &options)?
                    }
                }
            }
            Action::Generate { file, what, how, threads } => {
                let object = decoder::generate(file, what, how, threads.get(), self.json)?;
                if !self.json {
                    return Ok(());
                }
                object
            }
            Action::Classify { file, text: Some(text), pair, .. } => {
                encoder::classify(file, text, pair.as_deref())?
            }
            Action::Classify { file, image, how, .. } => {
                classifier::classify(file, image.as_deref().unwrap_or(Path::new("")), how)?
            }
            Action::Embed { file, text } => encoder::embed(file, text)?,
            Action::Fetch(what) => what.run()?,
            Action::Plan(what) => what.run()?,
            Action::Info { file } => info(&file.clone().map_or_else(model::find, Ok)?)?,
            Action::Bench { file, tokens, runs } => {
                bench(&file.clone().map_or_else(model::find, Ok)?, *tokens, *runs)?
            }
        };
        if self.json {
            outln!("{object}");
        } else {
            print(&object);
        }
        Ok(())
    }
}

/// Prints the fields of an object, one per line.
pub(crate) fn print(object: &Value) {
    for (name, value) in object.as_object().into_iter().flatten() {
        match value {
            Value::String(text) => outln!("{name:18} {text}"),
            Value::Array(items) => {
                outln!("{name}");
                for item in items {
                    outln!("  {item}");
                }
            }
            Value::Object(fields) => {
                outln!("{name}");
                for (name, value) in fields {
                    match value {
                        Value::String(text) => outln!("  {name:24} {text}"),
                        other => outln!("  {name:24} {other}"),
                    }
                }
            }
            other => outln!("{name:18} {other}"),
        }
    }
}

fn advance(bar: &ProgressBar, progress: nesa_compiler::Progress) {
    bar.set_message(progress.step);
    bar.set_length(progress.total as u64);
    bar.set_position(progress.done as u64);
}

fn unusable(error: impl std::error::Error) -> anyhow::Error {
    Failure::new(
        Code::Usage,
        error.to_string(),
        "models/README.md says where the weights come from and what the folder must hold",
    )
    .into()
}

fn info(file: &Path) -> Result<Value> {
    let artifact = model::open(file)?;
    if artifact.header().manifest().decoder().is_some() {
        return decoder::info(file, &artifact);
    }
    if artifact.header().manifest().classifier().is_some() {
        return classifier::info(file, &artifact);
    }
    encoder::info(file, &artifact)
}

fn bench(file: &Path, tokens: usize, runs: usize) -> Result<Value> {
    let artifact: Artifact = model::open(file)?;
    let exact = Exact::open(&artifact)?;
    let range = 2..=exact.max_tokens();
    if !range.contains(&tokens) || runs == 0 {
        return Err(Failure::new(
            Code::Usage,
            format!("{tokens} tokens and {runs} runs cannot be timed"),
            format!("use {} to {} tokens and at least one run", range.start(), range.end()),
        )
        .into());
    }
    let times = stage_times(&exact, tokens, runs).context("no run was timed")?;
    let mut object = serde_json::to_value(&times)?;
    let every = Kernels::available().filter_map(|path| {
        let times = path.during(|| stage_times(&exact, tokens, runs))??;
        Some((path.name().to_owned(), json!(times.fastest_ms)))
    });
    object["fastest_ms_of_each_kernel"] = every.collect::<serde_json::Map<_, _>>().into();
    object["digest"] = json!(artifact.digest());
    object["runs"] = json!(runs);
    object["tokens_per_second"] = json!(times.tokens as f64 / times.median_ms * 1000.0);
    Ok(object)
}
