//! `nesa receipt`: the records a query leaves, checked offline.

use std::{io::Read, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use nesa_chain::trust::TrustRoot;
use nesa_light::{
    query::complete,
    receipt::{OPENED_FORMAT, OpenedReceipt},
};
use nesa_model::ExactModel;
use nesa_verify::receipt::{self, Check, Failure as Refusal, PaymentReceipt};
use serde_json::{Value, json};

use super::Target;
use crate::{
    client::{Client, parse_trust_root},
    failure::{Code, Failure},
    files,
    node::model,
    output::outln,
};

/// Largest receipt read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Check the records that a query leaves
#[derive(Debug, Args)]
pub(crate) struct Receipt {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Verify(Verify),
    Complete(Complete),
}

/// Bring a payment receipt that was written before its deadline to its end
///
/// A query's receipt is written as soon as both nodes are paid. After the deadline this replaces its
/// last part by the settlement: what was burned, and what returned to the payer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa receipt complete receipt.json
  nesa receipt complete receipt.json --json")]
struct Complete {
    /// The receipt; it is replaced.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    target: Target,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Check a payment receipt or an opened receipt, offline
///
/// A payment receipt is public: it shows who was drawn, what they committed to and who was paid,
/// against the trust root alone. It does not show that the answer was right. An opened receipt
/// contains the prompt: every layer is computed and checked again, with a fresh random vector, for
/// which the model file is needed.
///
/// Exits 0 and says what was checked, or 1 and names the first thing that does not hold.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa receipt verify receipt.json
  nesa receipt verify receipt.json --trust-root 9d1c… --json
  nesa receipt verify opened.json --model models/minilm.nesa")]
struct Verify {
    /// The receipt; `-` reads standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    target: Target,
    /// The compiled model, for an opened receipt [default: found under models/].
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What a check found, whichever receipt it was of.
struct Found {
    kind: &'static str,
    checks: Vec<Check>,
    summary: Value,
    does_not_show: Vec<String>,
}

impl Receipt {
    pub(crate) fn json(&self) -> bool {
        match &self.action {
            Action::Verify(verify) => verify.json,
            Action::Complete(complete) => complete.json,
        }
    }

    pub(crate) fn run(self) -> Result<()> {
        match self.action {
            Action::Verify(verify) => verify.run(),
            Action::Complete(complete) => complete.run(),
        }
    }
}

impl Complete {
    fn run(self) -> Result<()> {
        let named = || format!("cannot read {}", self.file.display());
        let file = std::fs::File::open(&self.file).with_context(named)?;
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).with_context(named)?;
        let draft = PaymentReceipt::from_json(&text).map_err(|error| {
            Failure::new(Code::Failed, error.to_string(), "give a payment receipt")
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (receipt, record) = runtime.block_on(async {
            let client = Client::connect(&self.target).await?;
            let completed = complete(&client.light, draft).await;
            client.stop().await;
            completed?.ok_or_else(|| {
                anyhow::Error::from(Failure::new(
                    Code::Failed,
                    "the chain has not settled this query, or has forgotten it",
                    "try again after its deadline, which `nesa receipt verify` tells",
                ))
            })
        })?;
        let trust = parse_trust_root(&self.target.trust_root_hex()?)?;
        receipt::verify(&receipt, &trust, &mut nesa_platform::random::rng()).map_err(
            |refusal| {
                Failure::new(Code::Failed, refusal.to_string(), "the file was left as it was")
            },
        )?;
        files::write(&self.file, receipt.to_json()?.as_bytes())?;
        let settlement = record.status.settlement().copied().unwrap_or_default();
        if self.json {
            outln!("{}", json!({ "receipt": self.file, "settlement": settlement }));
        } else {
            outln!(
                "settled in block {}: {} unes burned, {} returned",
                settlement.height,
                settlement.burned,
                settlement.returned
            );
        }
        Ok(())
    }
}

impl Verify {
    fn run(self) -> Result<()> {
        let trust = parse_trust_root(&self.target.trust_root_hex()?)?;
        let text = self.read()?;
        let outcome = match kind(&text).as_deref() {
            Some(OPENED_FORMAT) => self.opened(&trust, &text)?,
            _ => payment(&trust, &text)?,
        };
        match outcome {
            Ok(found) => {
                self.print(&found);
                Ok(())
            }
            Err(Refusal { what, got, expected }) => {
                if self.json {
                    let object = json!({
                        "valid": false, "failed": what, "got": got, "expected": expected,
                    });
                    outln!("{object}");
                }
                Err(Failure::new(
                    Code::Failed,
                    format!("the receipt fails at: {what}: got {got}, expected {expected}"),
                    "do not rely on it; check --trust-root, and ask whoever gave it to you",
                )
                .into())
            }
        }
    }

    fn read(&self) -> Result<String> {
        let named = || format!("cannot read {}", self.file.display());
        let mut text = String::new();
        if self.file.as_os_str() == "-" {
            std::io::stdin().take(MAX_BYTES).read_to_string(&mut text).with_context(named)?;
        } else {
            let file = std::fs::File::open(&self.file).with_context(named)?;
            file.take(MAX_BYTES).read_to_string(&mut text).with_context(named)?;
        }
        Ok(text)
    }

    fn opened(&self, trust: &TrustRoot, text: &str) -> Result<std::result::Result<Found, Refusal>> {
        let receipt = match OpenedReceipt::from_json(text) {
            Ok(receipt) => receipt,
            Err(error) => {
                return Ok(Err(Refusal {
                    what: "format".into(),
                    got: error.to_string(),
                    expected: OPENED_FORMAT.into(),
                }));
            }
        };
        let file = match &self.model {
            Some(file) => file.clone(),
            None => match receipt.model() {
                Some(digest) => model::find_digest(&digest)?,
                // The check will say what is wrong with its payment.
                None => model::find()?,
            },
        };
        let model = ExactModel::open(&model::open(&file)?)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = runtime.block_on(receipt.verify(&trust.digest(), &model));
        Ok(report.and_then(|report| found("opened", report)))
    }

    fn print(&self, found: &Found) {
        if self.json {
            let object = json!({
                "valid": true,
                "kind": found.kind,
                "checked": found.checks.iter().map(|check| &check.what).collect::<Vec<_>>(),
                "summary": found.summary,
                "does_not_show": found.does_not_show,
            });
            outln!("{object}");
            return;
        }
        outln!("{} receipt: valid", found.kind);
        for check in &found.checks {
            outln!("  checked: {}", check.what);
        }
        for line in &found.does_not_show {
            outln!("  it does not show: {line}");
        }
    }
}

fn payment(trust: &TrustRoot, text: &str) -> Result<std::result::Result<Found, Refusal>> {
    let receipt = match PaymentReceipt::from_json(text) {
        Ok(receipt) => receipt,
        Err(error) => {
            return Ok(Err(Refusal {
                what: "format".into(),
                got: error.to_string(),
                expected: "a payment receipt or an opened receipt".into(),
            }));
        }
    };
    let report = receipt::verify(&receipt, trust, &mut nesa_platform::random::rng());
    Ok(report.and_then(|report| found("payment", report)))
}

fn found<S: serde::Serialize>(
    kind: &'static str,
    report: receipt::Report<S>,
) -> std::result::Result<Found, Refusal> {
    let summary = serde_json::to_value(&report.summary).map_err(|error| Refusal {
        what: "summary".into(),
        got: error.to_string(),
        expected: "JSON".into(),
    })?;
    Ok(Found {
        kind,
        checks: report.checks,
        summary,
        does_not_show: report.does_not_show.iter().map(ToString::to_string).collect(),
    })
}

/// The `format` a file claims, before anything in it is believed.
fn kind(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    value.get("format")?.as_str().map(str::to_owned)
}
