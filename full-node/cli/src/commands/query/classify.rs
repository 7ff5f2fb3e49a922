//! `nesa query classify`: pictures named by a network that cannot see them.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{
    Common,
    session::{self, Session},
};
use crate::{commands::model::Pictures, output::outln};

/// Name the class of pictures; every layer's product is checked before a class is believed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa query classify seven.pgm
  nesa query classify one.txt two.txt --json --open-receipt opened.json

A picture is a PGM (P2 or P5), or rows of numbers as text up to the model's greatest value; larger
ones are reduced to the model's size. The JSON object holds class, logits, digest, model, lane,
verification, receipt, timings, bytes, attempts and rejected; classes as well when several pictures
were given. The nodes learn the model and how many pictures there are.")]
pub(super) struct Classify {
    /// The pictures.
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    how: Pictures,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Classify {
    pub(super) async fn run(self) -> Result<()> {
        let session = Session::open(&self.common, "classifier").await?;
        let model = session.prepared.classifier()?;
        let images = self.images.iter().map(|path| self.how.read(path, model));
        let images = images.collect::<Result<Vec<_>>>()?;
        let options = session.options(&self.common);
        let quote = session.queries.classify_quote(&session.prepared, &images, &options).await;
        session.fund(&quote.map_err(session::failed)?).await?;
        let outcome = session
            .queries
            .classify(&session.prepared, &session.key, &images, &options)
            .await
            .map_err(session::failed)?;
        session.done();
        let receipts = session::write_receipts(&self.common, &outcome)?;
        let classes = outcome.answer.classes();
        if self.common.json {
            let mut object = session::report(&outcome, &receipts);
            object["class"] = json!(classes.first().map(|first| first.class));
            object["logits"] = json!(classes.first().map(|first| &first.logits));
            if classes.len() > 1 {
                object["classes"] = json!(classes);
            }
            object["digest"] = json!(outcome.answer.digest);
            outln!("{object}");
        } else {
            for (path, classified) in self.images.iter().zip(classes) {
                outln!("{} {}", path.display(), classified.class);
            }
            session::explain(&outcome, &receipts);
        }
        session.client.stop().await;
        Ok(())
    }
}
