//! `nesa query generate`: a prompt continued by a network that cannot read it.

use std::io::Write as _;

use anyhow::Result;
use clap::Args;
use nesa_light::query::{
    Prompt,
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

The JSON object holds text, tokens, ended, model, lane, verification, preparation, receipt, timings, bytes,
attempts and rejected. The nodes learn how many tokens were written, to a multiple of 16.")]
pub(super) struct Generate {
    /// The text to continue.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    #[command(flatten)]
    how: Generation,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Generate {
    pub(super) async fn run(self) -> Result<()> {
        let session = Session::open(&self.common, "decoder").await?;
        let mut options = session.options(&self.common);
        if !self.common.json {
            let bar = options.listener.clone();
            options.listener = Listener::new(move |progress: Progress| {
                if let Progress::Text { piece, .. } = &progress {
                    let mut stdout = std::io::stdout().lock();
                    // Nobody may be reading any more; the query goes on to its receipt.
                    let _ = write!(stdout, "{piece}").and_then(|()| stdout.flush());
                }
                bar.say(progress);
            });
        }
        let prompt = Prompt {
            text: self.prompt.clone(),
            tokens: self.how.tokens(),
            sampling: self.how.sampling()?,
            seed: self.how.seed(),
        };
        let quote = session.queries.write_quote(&session.prepared, &prompt, &options).await;
        session.fund(&quote.map_err(session::failed)?).await?;
        if !self.common.json {
            session.done();
        }
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
            outln!("{object}");
        } else {
            outln!("");
            session::explain(&outcome, &receipts);
        }
        session.client.stop().await;
        Ok(())
    }
}
