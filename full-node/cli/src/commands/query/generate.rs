//! `nesa query generate`: a prompt continued by a network that cannot read it.

use std::{
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::Result;
use clap::Args;
use nesa_light::query::{
    MAX_DRAFT, Prompt,
    report::{Listener, Progress},
};
use serde_json::json;

use super::{
    Common,
    session::{self, Session},
};
use crate::{commands::model::Generation, output::outln};

/// Continue a prompt, token by token; each token appears once all its layers are checked
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa query generate --prompt 'What is a lighthouse?' --tokens 64
  nesa query generate --prompt 'Once upon a time' --temperature 0.8 --seed 7 --json

The JSON object holds text, tokens, ended, model, lane, verification, receipt, timings, bytes,
attempts and rejected, and first_token_ms and ms_per_token as they appeared. The nodes learn how many
tokens were written, to a multiple of 16.")]
pub(super) struct Generate {
    /// The text to continue.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    #[command(flatten)]
    how: Generation,
    /// Guess so many tokens in each pass from what was written before, and check them with it: fewer
    /// round trips where guesses come true, for more bytes. The text is the same.
    #[arg(long, value_name = "N", default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(..=i64::try_from(MAX_DRAFT).unwrap_or(15)))]
    draft: u8,
    #[command(flatten)]
    pub(super) common: Common,
}

/// When tokens appeared.
#[derive(Default)]
struct Clock {
    /// The first token, the last, and how many there were at it.
    seen: Option<(Instant, Instant, usize)>,
}

impl Clock {
    fn token(&mut self, tokens: usize) {
        let now = Instant::now();
        self.seen = Some((self.seen.map_or(now, |(first, ..)| first), now, tokens));
    }

    /// From the question, escrow and draw included, to the first token.
    fn first_ms(&self, asked: Instant) -> Option<f64> {
        self.seen.map(|(first, ..)| first.duration_since(asked).as_secs_f64() * 1e3)
    }

    /// From the first token to the last, for each token after the first.
    fn ms_per_token(&self) -> Option<f64> {
        let (first, last, tokens) = self.seen.filter(|(.., tokens)| *tokens > 1)?;
        Some(last.duration_since(first).as_secs_f64() * 1e3 / (tokens - 1) as f64)
    }
}

impl Generate {
    pub(super) async fn run(self) -> Result<()> {
        let session = Session::open(&self.common, "decoder").await?;
        let mut options = session.options(&self.common);
        let (bar, shown, clock) =
            (options.listener.clone(), !self.common.json, Arc::<Mutex<Clock>>::default());
        let heard = clock.clone();
        options.listener = Listener::new(move |progress: Progress| {
            if let Progress::Text { piece, tokens } = &progress {
                heard.lock().unwrap_or_else(PoisonError::into_inner).token(*tokens);
                let mut stdout = std::io::stdout().lock();
                // Nobody may be reading any more; the query goes on to its receipt.
                let _ = shown.then(|| write!(stdout, "{piece}").and_then(|()| stdout.flush()));
            }
            bar.say(progress);
        });
        let prompt = Prompt {
            text: self.prompt.clone(),
            tokens: self.how.tokens(),
            sampling: self.how.sampling()?,
            seed: self.how.seed(),
            draft: self.draft.into(),
        };
        let quote = session.queries.write_quote(&session.prepared, &prompt, &options).await;
        session.fund(&quote.map_err(session::failed)?).await?;
        if !self.common.json {
            session.done();
        }
        let asked = Instant::now();
        let outcome = session
            .queries
            .write(&session.prepared, &session.key, &prompt, &options)
            .await
            .map_err(session::failed)?;
        session.done();
        let receipts = session::write_receipts(&self.common, &outcome)?;
        let text = outcome.answer.text();
        if self.common.json {
            let mut object = session::report(&outcome, &receipts);
            object["text"] = json!(text.map(|t| &t.text));
            object["tokens"] = json!(text.map(|t| t.tokens.len()));
            object["ended"] = json!(text.map(|t| t.ended));
            object["digest"] = json!(outcome.answer.digest);
            let clock = clock.lock().unwrap_or_else(PoisonError::into_inner);
            object["first_token_ms"] = json!(clock.first_ms(asked));
            object["ms_per_token"] = json!(clock.ms_per_token());
            outln!("{object}");
        } else {
            outln!("");
            session::explain(&outcome, &receipts);
        }
        session.client.stop().await;
        Ok(())
    }
}
