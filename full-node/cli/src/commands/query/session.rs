//! Everything between the command line and an answer: network, key, money, model, progress, files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use nesa_chain::action::Lane;
use nesa_crypto::SecretKey;
use nesa_light::{
    QueryClient, QueryError, QueryOptions, QueryOutcome,
    accounts::Accounts,
    ladder::{LadderStep, StepId, StepState},
    models::{LoadProgress, NetworkSource, Prepared},
    query::Until,
    query::report::{Listener, Phase, PreparationUsed, Progress, Quote},
    receipt::PaymentReceipt,
};
use nesa_model::decoder::WriteError;
use nesa_primitives::{Address, Amount, Denom, Hash, domain};
use serde_json::{Value, json};

use super::{Common, PreparationChoice};
use crate::{
    client::Client,
    failure::{Code, Failure},
    files, keyfile, output,
};

/// Network and paying key, before a model is chosen.
pub(super) struct Asker {
    pub(super) client: Client,
    pub(super) queries: QueryClient,
    pub(super) key: SecretKey,
}

impl Asker {
    /// Opens the paying key, making it if there is none, and connects.
    pub(super) async fn open(common: &Common) -> Result<Self> {
        let (key, made) = keyfile::load_or_create(&common.key)?;
        if made {
            eprintln!("Made the key {} ({}).", common.key, key.public());
        }
        let client = Client::connect(&common.target).await?;
        let sources = client
            .peers
            .iter()
            .map(|peer| Arc::new(NetworkSource::new(client.network.clone(), peer.clone())) as _)
            .collect();
        let queries = QueryClient::new(
            client.light.clone(),
            client.network.clone(),
            Accounts::new(client.light.clone()),
            client.store.clone(),
            sources,
        );
        Ok(Self { client, queries, key })
    }
}

/// Makes sure that `address` holds `needed`, asking the faucet of a local network if need be.
pub(super) async fn fund(queries: &QueryClient, address: Address, needed: Amount) -> Result<()> {
    let accounts = queries.accounts();
    let balance = accounts.account(&address).await?.account.balance(Denom::NES);
    if balance >= needed {
        return Ok(());
    }
    accounts.fund(address, Denom::NES).await.map_err(|error| {
        Failure::new(
            Code::Failed,
            format!("{address} holds {balance} unes, the query needs {needed}: {error}"),
            "send it NES, or use `nesa up`, whose network has a faucet",
        )
    })?;
    Ok(())
}

/// A client that can ask.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) queries: QueryClient,
    pub(super) prepared: Prepared,
    pub(super) key: SecretKey,
    bar: ProgressBar,
}

impl Session {
    /// Connects, makes the model ready, and opens the paying key.
    /// `family` is what the model must be, when none is named.
    pub(super) async fn open(common: &Common, family: &'static str) -> Result<Self> {
        let Asker { client, queries, key } = Asker::open(common).await?;
        let model = choose_model(common.model, &client.models, family, &queries).await?;
        let bar = output::progress(Some(100), "fetching the model");
        let shown = bar.clone();
        let listener = move |progress: LoadProgress| match progress {
            LoadProgress::Downloading { done, total } => {
                shown.set_length(total >> 10);
                shown.set_position(done >> 10);
            }
            LoadProgress::Preparing { done, total } => {
                shown.set_message("preparing checks");
                shown.set_length(total as u64);
                shown.set_position(done as u64);
            }
        };
        let prepared = match common.preparation {
            PreparationChoice::Local => {
                let ready = queries.models().prepare(&model, queries.sources(), &listener).await;
                ready.context("the model could not be made ready")?
            }
            PreparationChoice::Thin => {
                queries.prepare_thin(&model, &listener).await.map_err(failed)?
            }
        };
        bar.finish_and_clear();
        Ok(Self { client, queries, prepared, key, bar: output::progress(Some(1), "asking") })
    }

    /// The options of a query, with progress shown while someone watches.
    pub(super) fn options(&self, common: &Common) -> QueryOptions {
        let bar = self.bar.clone();
        QueryOptions {
            named: common.named(),
            open_receipt: common.open_receipt.is_some(),
            max_fee: common.max_fee,
            deadline: common.deadline(),
            listener: Listener::new(move |progress: Progress| show(&bar, progress)),
            draft_model: None,
            answer_only: false,
            until: if common.until_settled { Until::Settled } else { Until::Paid },
        }
    }

    /// Makes sure that the key can pay `quote`, asking the faucet of a local network if need be.
    pub(super) async fn fund(&self, quote: &Quote) -> Result<()> {
        let needed = [quote.max_fee, quote.draw_fee, quote.tx_fee]
            .into_iter()
            .try_fold(Amount::ZERO, Amount::checked_add)
            .context("the price overflows")?;
        self.bar.set_message("funding");
        fund(&self.queries, self.key.public(), needed).await
    }

    /// Removes the progress bar.
    pub(super) fn done(&self) {
        self.bar.finish_and_clear();
    }
}

/// The model named, or the only one of `family` among those offered.
pub(super) async fn choose_model(
    asked: Option<Hash>,
    offered: &[(Hash, String)],
    family: &'static str,
    queries: &QueryClient,
) -> Result<Hash> {
    if let Some(digest) = asked {
        return Ok(digest);
    }
    let mut fitting = Vec::new();
    for (digest, name) in offered {
        // Models of the float lane have no header, and commands of their own.
        if queries.model_lanes(digest).await? == Lane::Float.bit() {
            continue;
        }
        let header = queries.models().header(digest, queries.sources()).await;
        let header = header.with_context(|| format!("cannot fetch the header of {name}"))?;
        if header.manifest().family() == family {
            fitting.push((*digest, name));
        }
    }
    match &fitting[..] {
        [(digest, _)] => Ok(*digest),
        [] => Err(Failure::new(
            Code::Failed,
            format!("the network offers {} models, no {family}", offered.len()),
            "name one with --model, or ask another network",
        )
        .into()),
        several => {
            let list: Vec<_> = several.iter().map(|(d, name)| format!("{d} {name}")).collect();
            Err(Failure::new(
                Code::Usage,
                format!("the network offers several models of the family: {}", list.join(", ")),
                "choose one with --model",
            )
            .into())
        }
    }
}

fn show(bar: &ProgressBar, progress: Progress) {
    match progress {
        Progress::Phase(phase) => bar.set_message(match phase {
            Phase::Tokenizing => "tokenising",
            Phase::Escrowing => "paying into escrow",
            Phase::Drawing => "drawing two nodes",
            Phase::Connecting => "connecting",
            Phase::Computing => "computing, checking",
            Phase::Binding => "binding the answer",
            Phase::Settling => "waiting for the payment",
            Phase::Finished => "done",
        }),
        Progress::Stage(stage) => {
            bar.set_length((stage.passes * stage.stages) as u64);
            bar.set_position((stage.pass * stage.stages + stage.stage) as u64);
        }
        _ => {}
    }
}

/// The texts given, and then those of `files`.
pub(super) fn texts(given: &[String], files: &[PathBuf]) -> Result<Vec<String>> {
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
    };
    let given = given.iter().cloned().map(Ok);
    given.chain(files.iter().map(read)).collect()
}

/// What to do about a prompt of which a model's tokenizer makes nothing.
pub(super) const EMPTY_PROMPT: &str =
    "this model needs something to continue: give --prompt a text that is not empty";

/// What to do about a prompt that leaves no room to write.
pub(super) const LONG_PROMPT: &str = "give a shorter prompt, or ask for fewer --tokens";

/// What to say about a query that gave no answer.
pub(super) fn failed(error: QueryError) -> anyhow::Error {
    let next = match &error {
        QueryError::TooDear { .. } => "allow more with --max-fee, or ask for less",
        QueryError::Funds { .. } => "fund the key, for example with `nesa faucet`",
        QueryError::Model { .. } => "see `nesa status` for the models of this network",
        QueryError::Deadline { .. } | QueryError::Session { .. } => {
            "what was not spent returns at the deadline; ask again"
        }
        QueryError::Thin(_) => "ask again, or let this machine prepare: --preparation local",
        QueryError::Draft(_) => {
            "give a smaller model with the same tokenizer.json, or guess without one"
        }
        QueryError::Write(WriteError::Empty) => EMPTY_PROMPT,
        QueryError::Write(WriteError::Length { .. }) => LONG_PROMPT,
        QueryError::Committee(_) => "see `nesa status` for the nodes that serve the model",
        _ => "try again; `nesa status` tells how the network is doing",
    };
    Failure::new(Code::Failed, error.to_string(), next).into()
}

/// Where the receipts of a query were written.
pub(super) struct Receipts {
    pub(super) payment: Option<PathBuf>,
    pub(super) opened: Option<PathBuf>,
}

/// Writes the receipts of `outcome`; the opened one, which contains the text, readable by its owner
/// only.
pub(super) fn write_receipts(common: &Common, outcome: &QueryOutcome) -> Result<Receipts> {
    let mut written = Receipts { payment: None, opened: None };
    if let Some(receipt) = &outcome.receipt {
        written.payment = Some(write_payment(common, &outcome.query, receipt)?);
    }
    if let (Some(path), Some(opened)) = (&common.open_receipt, &outcome.opened) {
        files::write_secret(path, opened.to_json()?.as_bytes())?;
        written.opened = Some(absolute(path.clone())?);
    }
    Ok(written)
}

/// Writes the payment receipt of `query` where the user wants it, or under `$NESA_HOME`; its path.
pub(super) fn write_payment(
    common: &Common,
    query: &Hash,
    receipt: &PaymentReceipt,
) -> Result<PathBuf> {
    let path = match &common.receipt {
        Some(path) => path.clone(),
        None => {
            let folder = files::home()?.join("receipts");
            files::private_dir(&folder)?;
            folder.join(format!("{query}.json"))
        }
    };
    files::write(&path, receipt.to_json()?.as_bytes())?;
    absolute(path)
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).with_context(|| format!("cannot name {}", path.display()))
}

/// Hash of a file that may be larger than what else this program needs.
fn file_digest(path: &Path) -> std::io::Result<Hash> {
    let mut hasher = domain("program", &Hash::ZERO);
    std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().into())
}

/// The ladder with its bottom rung: what program did the checking. It cannot check itself, so the
/// rung is never more than "not checked".
pub(super) fn ladder(outcome: &QueryOutcome) -> Vec<LadderStep> {
    let mut steps = outcome.ladder.clone();
    let program = std::env::current_exe().ok();
    let digest = program.as_ref().and_then(|path| file_digest(path).ok());
    for step in steps.iter_mut().filter(|step| step.id == StepId::PageCode) {
        *step = LadderStep::not_checked(
            StepId::PageCode,
            "this device",
            concat!("checked by nesa ", env!("CARGO_PKG_VERSION"), ", which cannot check itself"),
            json!({ "program": program, "digest": digest }),
        );
    }
    steps
}

/// The part of the JSON answer that every query has.
pub(super) fn report(outcome: &QueryOutcome, receipts: &Receipts) -> Value {
    json!({
        "query": outcome.query,
        "model": outcome.model,
        "lane": "masked",
        "verification": "freivalds",
        "preparation": outcome.preparation,
        "receipt": receipts.payment,
        "opened_receipt": receipts.opened,
        "timings": outcome.timings,
        "bytes": {
            "up": outcome.bytes.up(),
            "down": outcome.bytes.down(),
            "a_up": outcome.bytes.a_up,
            "a_down": outcome.bytes.a_down,
            "b_up": outcome.bytes.b_up,
            "b_down": outcome.bytes.b_down,
        },
        "attempts": outcome.attempts,
        "rejected": outcome.rejected,
        "nodes": outcome.nodes,
        "cost": outcome.cost,
        "truncated": outcome.truncated,
        "ladder": ladder(outcome),
    })
}

/// A few lines about how the answer came to be, for people.
pub(super) fn explain(outcome: &QueryOutcome, receipts: &Receipts) {
    eprintln!();
    for step in &ladder(outcome) {
        let mark = match step.state {
            StepState::Verified => "✓",
            StepState::Failed => "✗",
            StepState::Pending => "…",
            StepState::NotChecked => "–",
        };
        eprintln!("  {mark} {}", step.detail);
    }
    if let PreparationUsed::Thin { preparers } = &outcome.preparation {
        let names: Vec<_> = preparers.iter().map(|p| p.operator.to_string()).collect();
        eprintln!("  prepared by {}: {}", names.join(" and "), outcome.preparation.words());
    }
    for rejected in &outcome.rejected {
        eprintln!("  replaced node {}: {}", rejected.node, rejected.reason);
    }
    eprintln!(
        "  {:.1} s in all, {} KiB moved",
        outcome.timings.total_ms / 1000.0,
        (outcome.bytes.up() + outcome.bytes.down()) >> 10,
    );
    if let Some(path) = &receipts.payment {
        eprintln!("  receipt: {}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_that_cannot_be_continued_say_what_to_do() {
        let said = |error: WriteError| {
            let error = failed(error.into());
            (error.to_string(), format!("{:?}", error.downcast_ref::<Failure>().unwrap()))
        };
        let (what, next) = said(WriteError::Empty);
        assert_eq!(what, "the prompt is empty");
        assert!(next.contains("--prompt"), "{next}");
        let (what, next) = said(WriteError::Length { prompt: 70, tokens: 8, max: 64 });
        assert!(what.contains("70") && what.contains("64"), "{what}");
        assert!(next.contains("--tokens"), "{next}");
    }
}
