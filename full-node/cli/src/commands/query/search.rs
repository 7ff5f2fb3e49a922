//! `nesa query search`: the passages of a folder's documents that answer a question best.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use nesa_light::search::{SearchPlan, VectorCache};

use super::{
    Common, documents,
    session::{self, Session},
};
use crate::output::outln;

/// Search text and markdown files: passages ranked by how well they answer a question
///
/// Passages that this machine has embedded before are taken from its cache; only new ones and the
/// question are computed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa query search --docs notes --question 'when does the lease end?'
  nesa query search --docs notes --question 'who signs?' --top 3 --json")]
pub(super) struct Search {
    /// Folder with .txt and .md files, or one file.
    #[arg(long, value_name = "DIR")]
    docs: PathBuf,
    /// The question, in plain words.
    #[arg(long, value_name = "TEXT")]
    question: String,
    /// How many passages to print.
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Search {
    pub(super) async fn run(self) -> Result<()> {
        let documents = documents::read(&self.docs)?;
        let session = Session::open(&self.common, "encoder").await?;
        let options = session.options(&self.common);
        let cache = VectorCache::new(session.client.store.clone());
        let plan = SearchPlan::new(&session.prepared, &cache, &documents, &self.question)
            .await
            .map_err(session::failed)?;
        let quote = session.queries.search_quote(&session.prepared, &plan, &options).await;
        session.fund(&quote.map_err(session::failed)?).await?;
        let outcome = session
            .queries
            .search(&session.prepared, &session.key, &cache, plan, &options)
            .await
            .map_err(session::failed)?;
        session.done();
        let receipts = session::write_receipts(&self.common, &outcome.query)?;
        let best = &outcome.ranked[..outcome.ranked.len().min(self.top)];
        if self.common.json {
            let mut object = session::report(&outcome.query, &receipts);
            object["results"] = serde_json::to_value(best)?;
            object["cached"] = outcome.cached.into();
            outln!("{object}");
        } else {
            for passage in best {
                outln!("{:2}. {:.3}  {}", passage.rank, passage.score, passage.title);
                outln!("    {}\n", passage.text.trim().replace('\n', "\n    "));
            }
            session::explain(&outcome.query, &receipts);
        }
        session.client.stop().await;
        Ok(())
    }
}
