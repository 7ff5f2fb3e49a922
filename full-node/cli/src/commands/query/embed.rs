//! `nesa query embed`: text to unit vectors.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{
    Common,
    session::{self, Session},
};
use crate::{
    failure::{Code, Failure},
    output::outln,
};

/// Embed texts: one unit vector each
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa query embed --text 'a quiet street' --json
  nesa query embed --file letter.txt --open-receipt opened.json
  nesa query embed --rpc http://127.0.0.1:7070 --trust-root 9d1c… --text hello --json

The JSON object holds vector, model, lane, verification, preparation, receipt, timings, bytes, attempts and
rejected; vectors as well when several texts were given.")]
pub(super) struct Embed {
    /// A text; may be given several times.
    #[arg(long, value_name = "TEXT")]
    text: Vec<String>,
    /// A file with one text; may be given several times. Keeps the text out of the process list.
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Embed {
    pub(super) async fn run(self) -> Result<()> {
        let texts = session::texts(&self.text, &self.file)?;
        if texts.is_empty() {
            return Err(Failure::new(
                Code::Usage,
                "there is nothing to embed",
                "give a text with --text or --file",
            )
            .into());
        }
        let session = Session::open(&self.common, "encoder").await?;
        let options = session.options(&self.common);
        let quote = session.queries.quote(&session.prepared, &texts, &options).await;
        session.fund(&quote.map_err(session::failed)?).await?;
        let outcome = session
            .queries
            .embed(&session.prepared, &session.key, &texts, &options)
            .await
            .map_err(session::failed)?;
        session.done();
        let receipts = session::write_receipts(&self.common, &outcome)?;
        let vectors: Vec<Vec<f32>> =
            outcome.answer.vectors().iter().map(nesa_model::Embedding::to_f32).collect();
        if self.common.json {
            let mut object = session::report(&outcome, &receipts);
            object["vector"] = json!(vectors.first());
            if vectors.len() > 1 {
                object["vectors"] = json!(vectors);
            }
            outln!("{object}");
        } else {
            for vector in &vectors {
                outln!("{}", json!(vector));
            }
            session::explain(&outcome, &receipts);
        }
        session.client.stop().await;
        Ok(())
    }
}
