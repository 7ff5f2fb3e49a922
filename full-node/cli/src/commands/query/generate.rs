//! `nesa query generate`: a prompt or a chat continued by a network that cannot read it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use nesa_light::query::{
    MAX_DRAFT, Message, Prompt, QueryOptions, Role, Said,
    report::{Listener, Progress},
};
use nesa_model::decoder::DecoderModel;
use serde_json::json;

use super::{
    Common,
    sealed::{self, Lane, SealedArgs},
    session::{self, Session},
};
use crate::{
    commands::model::Generation,
    failure::{Code, Failure},
    node::model,
    output::outln,
};

/// Largest file of messages that is read, in bytes.
const MAX_MESSAGES_BYTES: u64 = 1 << 20;

/// Continue a prompt or a chat, token by token; each token appears once all its layers are checked
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa query generate --prompt 'Once upon a time' --temperature 0.8 --seed 7 --json
  nesa query generate --chat --prompt 'What is a lighthouse?' --tokens 64
  nesa query generate --chat --system 'Be brief.' --prompt 'Why is the sky blue?'
  nesa query generate --messages chat.json
  nesa query generate --prompt 'What is a lighthouse?' --lane sealed --replicas 3 --shards 2
  nesa query generate --prompt 'Once upon a time' --draft-model small.nesa --draft 4
where chat.json holds [{\"role\": \"user\", \"content\": \"…\"}, …], the last turn the user's.

A chat is written as the model's own template has it; a model without one reads the last question
and a line feed. If the context is too small for the tokens asked for, fewer are written.

The JSON object holds text, tokens, prompt_tokens, max_tokens, ended, seed, first_token_ms,
tokens_per_second, ms_per_token, model, lane, verification, preparation, receipt,
timings, bytes, attempts and rejected. The nodes learn how many tokens were written, to a multiple of 16.")]
pub(super) struct Generate {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: Generation,
    /// Guess so many tokens in each pass from what was written before, and check them with it: fewer
    /// round trips where guesses come true, for more bytes. The text is the same. 0 unless given, with
    /// --draft-model 4.
    #[arg(long, value_name = "N",
        value_parser = clap::value_parser!(u8).range(..=i64::try_from(MAX_DRAFT).unwrap_or(15)))]
    draft: Option<u8>,
    /// Guess with this compiled model instead: a smaller one with the same tokenizer, run on this
    /// machine.
    #[arg(long, value_name = "FILE")]
    draft_model: Option<PathBuf>,
    #[command(flatten)]
    sealed: SealedArgs,
    #[command(flatten)]
    pub(super) common: Common,
}

/// What to continue
#[derive(Debug, Args)]
struct What {
    /// The text to continue, or with --chat what to say.
    #[arg(long, value_name = "TEXT", required_unless_present = "messages")]
    prompt: Option<String>,
    /// Have it answered as a chat, instead of continued.
    #[arg(long)]
    chat: bool,
    /// Instructions that precede the chat.
    #[arg(long, value_name = "TEXT", requires = "chat", conflicts_with = "messages")]
    system: Option<String>,
    /// A whole chat: a JSON list of turns, each with role (system, user, assistant) and content.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    messages: Option<PathBuf>,
}

impl What {
    fn said(&self) -> Result<Said> {
        if let Some(file) = &self.messages {
            return Ok(Said::Chat(messages(file)?));
        }
        let prompt = self.prompt.clone().unwrap_or_default();
        if !self.chat {
            return Ok(Said::Text(prompt));
        }
        let system = self.system.iter().map(|text| Message::new(Role::System, text.as_str()));
        Ok(Said::Chat(system.chain([Message::new(Role::User, prompt)]).collect()))
    }
}

/// The turns that a file holds.
fn messages(file: &Path) -> Result<Vec<Message>> {
    let next = "give a JSON list of objects with role and content";
    let usage = |what: String| Failure::new(Code::Usage, what, next);
    let size =
        std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
    if size.len() > MAX_MESSAGES_BYTES {
        let (name, got) = (file.display(), size.len());
        return Err(usage(format!("{name} has {got} bytes, allowed {MAX_MESSAGES_BYTES}")).into());
    }
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let turns = serde_json::from_slice(&text);
    Ok(turns.map_err(|error| usage(format!("{}: {error}", file.display())))?)
}

/// Tokens guessed in a pass where a model guesses and nobody says how many.
const MODEL_DRAFT: u8 = 4;

/// When tokens came.
#[derive(Debug, Default)]
struct Pace {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Pace {
    /// Tokens a second between the first and the last.
    fn rate(&self, tokens: usize) -> Option<f64> {
        let spent = self.last?.duration_since(self.first?);
        let gaps = tokens.checked_sub(1).filter(|gaps| *gaps > 0 && spent > Duration::ZERO)?;
        Some(gaps as f64 / spent.as_secs_f64())
    }
}

impl Generate {
    /// The model that guesses.
    fn draft_model(&self) -> Result<Option<DecoderModel>> {
        let Some(file) = &self.draft_model else { return Ok(None) };
        let unusable = |error: String| {
            Failure::new(
                Code::Usage,
                format!("{} cannot guess: {error}", file.display()),
                "give a decoder that `nesa model compile` made, with the tokenizer of the model asked",
            )
        };
        let artifact = model::open(file)?;
        Ok(Some(DecoderModel::open(&artifact).map_err(|error| unusable(error.to_string()))?))
    }

    fn check(&self) -> Result<()> {
        self.sealed.check(&self.common)?;
        let problem = match (self.sealed.lane, self.draft, &self.draft_model) {
            (Lane::Sealed, Some(1..), _) | (Lane::Sealed, _, Some(_)) => {
                "--draft and --draft-model are for --lane masked: a sealed text has no round trips to save"
            }
            (_, Some(0), Some(_)) => "--draft 0 leaves --draft-model nothing to guess",
            _ => return Ok(()),
        };
        let next = "see `nesa query generate --help`";
        Err(Failure::new(Code::Usage, problem.to_owned(), next).into())
    }

    pub(super) async fn run(self) -> Result<()> {
        self.check()?;
        let draft_model = self.draft_model()?;
        let said = self.what.said()?;
        let prompt = Prompt {
            said,
            tokens: self.how.tokens(),
            sampling: self.how.sampling()?,
            seed: self.how.seed(),
            draft: self.draft.unwrap_or(draft_model.as_ref().map_or(0, |_| MODEL_DRAFT)).into(),
        };
        if self.sealed.lane == Lane::Sealed {
            return sealed::run(&self.sealed, &self.common, prompt).await;
        }
        let session = Session::open(&self.common, "decoder").await?;
        let mut options = QueryOptions { draft_model, ..session.options(&self.common) };
        let pace = Arc::new(Mutex::new(Pace::default()));
        let (bar, times, quiet) = (options.listener.clone(), pace.clone(), self.common.json);
        options.listener = Listener::new(move |progress: Progress| {
            if let Progress::Text { piece, .. } = &progress {
                let now = Instant::now();
                let mut pace = times.lock().unwrap_or_else(PoisonError::into_inner);
                pace.first.get_or_insert(now);
                pace.last = Some(now);
                drop(pace);
                if !quiet {
                    let mut stdout = std::io::stdout().lock();
                    // Nobody may be reading any more; the query goes on to its receipt.
                    let _ = write!(stdout, "{piece}").and_then(|()| stdout.flush());
                }
            }
            bar.say(progress);
        });
        let fitted = session.queries.fit(&session.prepared, prompt).await;
        let fitted = fitted.map_err(session::failed)?;
        let prompt = fitted.prompt;
        let quote = session.queries.write_quote(&session.prepared, &prompt, &options).await;
        session.fund(&quote.map_err(session::failed)?).await?;
        if !self.common.json {
            session.done();
        }
        let start = Instant::now();
        let outcome = session
            .queries
            .write(&session.prepared, &session.key, &prompt, &options)
            .await
            .map_err(session::failed)?;
        session.done();
        let receipts = session::write_receipts(&self.common, &outcome)?;
        let text = outcome.answer.text();
        if self.common.json {
            let pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
            let tokens = text.map_or(0, |t| t.tokens.len());
            let first = pace.first.map(|first| first.duration_since(start).as_secs_f64() * 1000.0);
            let mut object = session::report(&outcome, &receipts);
            object["text"] = json!(text.map(|t| &t.text));
            object["tokens"] = json!(tokens);
            object["prompt_tokens"] = json!(fitted.prompt_tokens);
            object["max_tokens"] = json!(prompt.tokens);
            object["ended"] = json!(text.map(|t| t.ended));
            object["seed"] = json!(self.how.number());
            object["first_token_ms"] = json!(first);
            object["tokens_per_second"] = json!(pace.rate(tokens));
            object["ms_per_token"] = json!(pace.rate(tokens).map(|rate| 1000.0 / rate));
            object["digest"] = json!(outcome.answer.digest);
            outln!("{object}");
        } else {
            outln!("");
            session::explain(&outcome, &receipts);
        }
        session.client.stop().await;
        Ok(())
    }
}
