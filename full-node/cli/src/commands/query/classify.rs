//! `nesa query classify`: pictures and texts named by a network that cannot see them.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use nesa_light::{
    QueryOutcome,
    query::{TextInput, report::Classified},
};
use nesa_model::{EMBEDDING_FRACTION_BITS, probabilities};
use serde_json::{Value, json};

use super::{
    Common,
    session::{self, Session},
};
use crate::{
    commands::model::Pictures,
    failure::{Code, Failure},
    output::outln,
};

/// Name the class of pictures or texts; every layer's product is checked before a class is believed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa query classify seven.pgm
  nesa query classify one.txt two.txt --json --open-receipt opened.json
  nesa query classify --text 'what a fine day' --json
  nesa query classify --file letter.txt --open-receipt opened.json
  nesa query classify --text 'a dog runs' --pair 'an animal moves'

A picture is a PGM (P2 or P5), or rows of numbers as text up to the model's greatest value; larger
ones are reduced to the model's size. The JSON object holds class, logits, digest, model, lane,
verification, receipt, timings, bytes, attempts and rejected; classes as well when several inputs
were given. Of a text it also holds label, labels and probabilities (the softmax of the logits, which
says how sure the model is, not whether it is right). The nodes learn the model, and how many pictures
or how many padded tokens there are.")]
pub(super) struct Classify {
    /// The pictures.
    #[arg(
        value_name = "IMAGE",
        required_unless_present_any = ["text", "file"],
        conflicts_with_all = ["text", "file"]
    )]
    images: Vec<PathBuf>,
    /// A text, for a model that classifies texts; may be given several times.
    #[arg(long, value_name = "TEXT")]
    text: Vec<String>,
    /// A file with one text; may be given several times. Keeps the text out of the process list.
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// The other text of a pair, for a model that reads pairs; as often as there are texts.
    #[arg(long, value_name = "TEXT", conflicts_with = "images")]
    pair: Vec<String>,
    #[command(flatten)]
    how: Pictures,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Classify {
    pub(super) async fn run(self) -> Result<()> {
        if self.images.is_empty() { self.texts().await } else { self.pictures().await }
    }

    async fn pictures(self) -> Result<()> {
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
        let classes: Vec<Value> = outcome.answer.classes().iter().map(|one| json!(one)).collect();
        let lines = self.images.iter().zip(outcome.answer.classes());
        let lines = lines.map(|(path, one)| format!("{} {}", path.display(), one.class)).collect();
        self.tell(session, &outcome, classes, lines).await
    }

    async fn texts(self) -> Result<()> {
        let texts = inputs(session::texts(&self.text, &self.file)?, &self.pair)?;
        let session = Session::open(&self.common, "text classifier").await?;
        let labels = session.prepared.text_classifier()?.labels().to_vec();
        let options = session.options(&self.common);
        let quote = session.queries.classify_texts_quote(&session.prepared, &texts, &options).await;
        session.fund(&quote.map_err(session::failed)?).await?;
        let outcome = session
            .queries
            .classify_texts(&session.prepared, &session.key, &texts, &options)
            .await
            .map_err(session::failed)?;
        let classes = outcome.answer.classes();
        let objects = classes.iter().map(|one| text_object(one, &labels)).collect();
        let lines = classes.iter().map(|one| text_line(one, &labels)).collect();
        self.tell(session, &outcome, objects, lines).await
    }

    /// Prints the classes: as fields of the one JSON object, the first's in it by themselves, or as lines.
    async fn tell(
        &self,
        session: Session,
        outcome: &QueryOutcome,
        classes: Vec<Value>,
        lines: Vec<String>,
    ) -> Result<()> {
        session.done();
        let receipts = session::write_receipts(&self.common, outcome)?;
        if self.common.json {
            let mut object = session::report(outcome, &receipts);
            for (name, value) in classes.first().and_then(Value::as_object).into_iter().flatten() {
                object[name] = value.clone();
            }
            if classes.len() > 1 {
                object["classes"] = json!(classes);
            }
            object["digest"] = json!(outcome.answer.digest);
            outln!("{object}");
        } else {
            for line in lines {
                outln!("{line}");
            }
            session::explain(outcome, &receipts);
        }
        session.client.stop().await;
        Ok(())
    }
}

/// Each text with its pair, if there are pairs.
fn inputs(texts: Vec<String>, pairs: &[String]) -> Result<Vec<TextInput>> {
    if !pairs.is_empty() && pairs.len() != texts.len() {
        let message = format!("{} texts and {} other texts of pairs", texts.len(), pairs.len());
        return Err(Failure::new(Code::Usage, message, "give one --pair for each text").into());
    }
    let pairs = pairs.iter().cloned().map(Some).chain(std::iter::repeat(None));
    Ok(texts.into_iter().zip(pairs).map(|(text, pair)| TextInput { text, pair }).collect())
}

/// What `nesa model classify --text` says of a text too.
fn text_object(one: &Classified, labels: &[String]) -> Value {
    let unit = f64::from(1u32 << EMBEDDING_FRACTION_BITS);
    json!({
        "class": one.class,
        "label": one.label,
        "labels": labels,
        "logits": one.logits.iter().map(|&logit| (f64::from(logit) / unit) as f32).collect::<Vec<_>>(),
        "probabilities": probabilities(&one.logits),
    })
}

/// The label, and how sure the model is of each.
fn text_line(one: &Classified, labels: &[String]) -> String {
    let shares = probabilities(&one.logits);
    let shares = labels.iter().zip(shares).map(|(l, share)| format!("{l} {:.1} %", share * 100.0));
    let shares: Vec<_> = shares.collect();
    format!("{}  ({})", one.label.as_deref().unwrap_or_default(), shares.join(", "))
}
