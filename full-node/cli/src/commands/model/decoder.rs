//! Decoders: compile, measure, and write text on this machine.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};
use nesa_compiler::decoder::{
    DecoderOptions, Llama, TextFiles, compile_decoder, compile_decoder_file, evaluate_decoder,
};
use nesa_compiler::eval::CORPUS;
use nesa_compiler::{Options as EncoderOptions, calibration_texts};
use nesa_kernels::sample::Sampling;
use nesa_model::decoder::{DecoderModel, SAMPLING_SEED_BYTES, WriteRequest, Writing, Written};
use nesa_model::manifest::WeightForm;
use nesa_model::{Artifact, PlainDecoder, ThreadedDecoder};
use nesa_tokenizer::chat::{Message, Role};
use nesa_tokenizer::{Limits, ModelText, TextTokenizer};
use serde_json::{Value, json};

use super::{accuracy, advance, unusable};
use crate::{
    failure::{Code, Failure},
    node::model,
    output,
};

/// Tokens of a calibration sequence, and of one that is measured.
const SEQUENCE: usize = 256;

/// Tokens of a prompt read at once.
const PIECE: usize = 256;

/// What to continue
#[derive(Debug, Args)]
pub(super) struct Prompt {
    /// The text to continue.
    #[arg(long, value_name = "TEXT", required_unless_present = "chat", conflicts_with = "chat")]
    prompt: Option<String>,
    /// What to say to a model that chats: its own template makes the prompt. A model without one
    /// reads this and a line feed.
    #[arg(long, value_name = "TEXT")]
    chat: Option<String>,
    /// Instructions that precede the chat.
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,
}

/// How to continue a prompt
#[derive(Debug, Args)]
pub(crate) struct Generation {
    /// Most tokens to write.
    #[arg(long, value_name = "N", default_value_t = 128)]
    tokens: usize,
    /// Randomness; 0 always takes the likeliest token.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Choose among the K likeliest; 0 for all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,
    /// Choose among the likeliest that together reach this share.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// The same seed, prompt and model give the same text on every machine.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl Generation {
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// The seed as a number.
    pub(crate) fn number(&self) -> u64 {
        self.seed
    }

    pub(crate) fn seed(&self) -> [u8; SAMPLING_SEED_BYTES] {
        nesa_light::query::seed(self.seed)
    }

    /// The parameters in the fixed-point form of the exact arithmetic.
    pub(crate) fn sampling(&self) -> Result<Sampling> {
        let sampling = nesa_light::query::sampling(self.temperature, self.top_k, self.top_p);
        Ok(sampling.map_err(|error| {
            let next = "try --temperature 0.8 --top-p 0.95";
            Failure::new(Code::Usage, format!("--{error}"), next)
        })?)
    }
}

/// Whether a folder holds a decoder's checkpoint.
pub(super) fn is_checkpoint(dir: &Path) -> bool {
    let config = std::fs::read(dir.join("config.json")).unwrap_or_default();
    let config: Value = serde_json::from_slice(&config).unwrap_or_default();
    config["model_type"].as_str().is_some_and(nesa_compiler::decoder::LlamaConfig::knows)
}

/// A decoder's folder.
pub(super) struct Checkpoint {
    pub(super) llama: Llama,
    text: TextFiles,
    pub(super) tokenizer: TextTokenizer,
}

pub(super) fn open(dir: &Path) -> Result<Checkpoint> {
    let llama = Llama::open(dir).map_err(unusable)?;
    let text = TextFiles::read(dir).map_err(unusable)?;
    let vocab = llama.config.vocab_size as u32;
    let tokenizer = TextTokenizer::from_json(&text.tokenizer, vocab, Limits::default());
    Ok(Checkpoint { llama, text, tokenizer: tokenizer.map_err(unusable)? })
}

/// Texts as sequences of at most [`SEQUENCE`] tokens, or `most` if that is less, several texts to a sequence.
pub(super) fn sequences<'a>(
    tokenizer: &TextTokenizer,
    texts: impl Iterator<Item = &'a str>,
    most: u32,
) -> Result<Vec<Vec<u32>>> {
    let most = SEQUENCE.min(most as usize);
    let mut sequences: Vec<Vec<u32>> = Vec::new();
    for text in texts {
        let mut tokens = tokenizer.encode(text, true).map_err(unusable)?;
        tokens.truncate(most);
        match sequences.last_mut() {
            Some(last) if last.len() + tokens.len() <= most => last.extend(tokens),
            _ => sequences.push(tokens),
        }
    }
    sequences.retain(|s| s.len() > 1);
    Ok(sequences)
}

/// How many sequences a model of so many parameters is calibrated with: all for small ones, fewer for
/// large ones, whose statistics settle sooner and whose passes take longer.
fn calibration_sequences(parameters: usize) -> usize {
    const WORK: usize = 400_000_000_000;
    (WORK / parameters.max(1) / SEQUENCE).max(8)
}

/// Bits of the weights of a model's layers.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Bits {
    /// A byte each.
    #[value(name = "8")]
    Eight,
    /// Four bits each, and four more for every 32.
    #[value(name = "4")]
    Four,
}

impl Bits {
    pub(super) fn are_bytes(self) -> bool {
        matches!(self, Self::Eight)
    }

    fn form(self) -> WeightForm {
        match self {
            Self::Eight => WeightForm::Bytes,
            Self::Four => WeightForm::Nibbles,
        }
    }

    pub(super) fn options(self, max_tokens: Option<usize>) -> DecoderOptions {
        DecoderOptions { max_tokens, weights: self.form(), ..DecoderOptions::default() }
    }

    pub(super) fn encoder(self) -> EncoderOptions {
        EncoderOptions { weights: self.form(), ..EncoderOptions::default() }
    }
}

fn calibration(checkpoint: &Checkpoint) -> Result<Vec<Vec<u32>>> {
    let mut calibration = sequences(&checkpoint.tokenizer, calibration_texts(), u32::MAX)?;
    calibration.truncate(calibration_sequences(checkpoint.llama.config.parameters()));
    Ok(calibration)
}

/// Compiles a checkpoint to a file, a layer at a time, and measures what it cost if `measured`.
pub(super) fn compile_file(
    dir: &Path,
    out: &Path,
    options: &DecoderOptions,
    measured: bool,
) -> Result<Value> {
    let checkpoint = open(dir)?;
    let calibration = calibration(&checkpoint)?;
    // The tokenizer, which can be larger than a layer, has done its work.
    let Checkpoint { llama, text, .. } = checkpoint;
    let bar = output::progress(Some(1), "compiling");
    let summary = compile_decoder_file(&llama, &text, &calibration, options, out, &mut |p| {
        advance(&bar, p);
    });
    bar.finish_and_clear();
    let summary = summary.map_err(unusable)?;
    drop((llama, text));
    let mut object = json!({
        "file": out,
        "digest": summary.digest,
        "bytes": summary.bytes,
        "stages": summary.stages,
        "chunks": summary.chunks,
    });
    if measured {
        object["accuracy"] = accuracy::told(accuracy::of_decoder(dir, out));
    }
    Ok(object)
}

/// Perplexity and greedy agreement with the original, over the corpus or a text file of one text
/// per line.
pub(super) fn evaluate(
    dir: &Path,
    compiled: Option<&Path>,
    text: Option<&Path>,
    texts: Option<usize>,
    options: &DecoderOptions,
) -> Result<Value> {
    let checkpoint = open(dir)?;
    let artifact = match compiled {
        Some(file) => model::open(file)?,
        None => {
            let bar = output::progress(Some(1), "compiling");
            let calibration = calibration(&checkpoint)?;
            let Checkpoint { llama, text, .. } = &checkpoint;
            let artifact = compile_decoder(llama, text, &calibration, options, &mut |p| {
                advance(&bar, p);
            });
            bar.finish_and_clear();
            artifact.map_err(unusable)?
        }
    };
    let exact = DecoderModel::open(&artifact)?;
    let own = text.map(std::fs::read_to_string).transpose()?;
    let corpus = own.as_deref().unwrap_or(CORPUS);
    let lines = corpus.lines().filter(|l| !l.is_empty()).take(texts.unwrap_or(usize::MAX));
    let sequences = sequences(&checkpoint.tokenizer, lines, exact.config().max_tokens)?;
    let bar = output::progress(Some(sequences.len() as u64), "comparing");
    let accuracy = evaluate_decoder(&checkpoint.llama, &exact, &sequences, |done| {
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let mut object = serde_json::to_value(accuracy.map_err(unusable)?)?;
    object["digest"] = json!(artifact.digest());
    object["bytes"] = json!(artifact.file_len());
    object["weight_bits"] = json!(weight_bits(&artifact));
    Ok(object)
}

/// Bits of the layers' weights in a file.
pub(super) fn weight_bits(artifact: &Artifact) -> u8 {
    match artifact.header().layout().weight_form(0) {
        WeightForm::Bytes => 8,
        WeightForm::Nibbles => 4,
    }
}

/// What there is to know of a compiled decoder.
pub(super) fn info(file: &Path, artifact: &Artifact) -> Result<Value> {
    let exact = DecoderModel::open(artifact)?;
    let (config, layout) = (exact.config(), artifact.header().layout());
    Ok(json!({
        "file": file,
        "family": "decoder",
        "digest": artifact.digest(),
        "name": exact.name(),
        "bytes": artifact.file_len(),
        "pieces": artifact.header().piece_count(),
        "local_bytes": layout.local_bytes,
        "weight_bytes": layout.total_bytes - layout.local_bytes,
        "weight_bits": weight_bits(artifact),
        "layers": config.layers,
        "d_model": config.d_model,
        "d_ff": config.d_ff,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "vocabulary": config.vocab,
        "max_tokens": config.max_tokens,
        "chat_template": exact.template().is_some(),
    }))
}

/// Continues a prompt on this machine with so many threads, printing as it goes unless `json`. The text is
/// the same whatever their number.
pub(super) fn generate(
    file: &Path,
    what: &Prompt,
    how: &Generation,
    threads: usize,
    json: bool,
) -> Result<Value> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let artifact = model::open(file)?;
    let exact = DecoderModel::open(&artifact)?;
    let config = *exact.config();
    let description = exact.tokenizer().map(|t| t.to_vec()).unwrap_or_default();
    let (template, special) = (exact.template().map(|t| &t[..]), exact.special());
    let opened =
        ModelText::open(&description, template, config.vocab, special.start, &special.ends);
    let opened = opened.map_err(unusable)?;
    let prompt = prompt(&opened, what)?;
    let room = (config.max_tokens as usize).saturating_sub(prompt.len());
    if prompt.is_empty() || room == 0 {
        return Err(Failure::new(
            Code::Usage,
            format!("a prompt of {} tokens, allowed 1 to {}", prompt.len(), config.max_tokens - 1),
            "shorten the prompt, or write one",
        )
        .into());
    }
    let request = WriteRequest {
        prompt: prompt.clone(),
        tokens: how.tokens.min(room),
        sampling: how.sampling()?,
        seed: how.seed(),
        pad_to: 1,
        piece: PIECE,
        draft: 0,
    };
    let start = Instant::now();
    let mut stream = opened.stream(&prompt);
    let mut writing = Writing::start(&exact, request).map_err(unusable)?;
    let (mut first, mut written, mut text) = (None, 0usize, String::new());
    let mut stdout = std::io::stdout().lock();
    loop {
        let step = if threads == 1 {
            writing.run(&PlainDecoder(&exact))?
        } else {
            pool.install(|| writing.run(&ThreadedDecoder(&exact)))?
        };
        // Without a draft, a pass gives one thing.
        if let Some([Written::Token(token)]) = step {
            first.get_or_insert_with(|| start.elapsed());
            written += 1;
            let piece = stream.push(*token).map_err(unusable)?;
            if !json && (write!(stdout, "{piece}").is_err() || stdout.flush().is_err()) {
                // Nobody reads any more.
                break;
            }
            text.push_str(&piece);
        }
        if !writing.goes_on() {
            break;
        }
        writing.advance().map_err(unusable)?;
    }
    text.push_str(&stream.finish().map_err(unusable)?);
    drop(stdout);
    if !json {
        output::outln!("");
    }
    let first = first.unwrap_or_default();
    let rest = start.elapsed().saturating_sub(first).as_secs_f64();
    Ok(json!({
        "text": text,
        "digest": artifact.digest(),
        "prompt_tokens": prompt.len(),
        "tokens": written,
        "threads": threads,
        "first_token_ms": first.as_secs_f64() * 1000.0,
        "tokens_per_second": written.saturating_sub(1) as f64 / rest.max(1e-9),
    }))
}

/// The tokens to continue: a text's, or a chat's as the model's own template writes it.
fn prompt(opened: &ModelText, what: &Prompt) -> Result<Vec<u32>> {
    let Some(said) = &what.chat else {
        return opened.text(what.prompt.as_deref().unwrap_or_default()).map_err(unusable);
    };
    let system = what.system.iter().map(|text| Message::new(Role::System, text.as_str()));
    let messages: Vec<Message> = system.chain([Message::new(Role::User, said.as_str())]).collect();
    opened.chat(&messages).map_err(unusable)
}
