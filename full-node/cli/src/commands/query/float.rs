//! `nesa query float`: an ONNX model run by several nodes, whose agreement is statistical evidence.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Args;
use nesa_fingerprint::{Answer, Calibration, Decision, Demand, decide};
use nesa_float::{Limits, web::encode_inputs};
use nesa_light::float::{FloatEvent, FloatOptions, FloatOutcome};
use nesa_primitives::Amount;
use serde_json::{Value, json};

use super::{
    Common,
    session::{self, Asker},
};
use crate::{
    commands::float::{self, calibrate, input},
    failure::{Code, Failure},
    output::{self, outln},
};

/// Run an ONNX model on several nodes; what they agree on is statistical evidence
///
/// The nodes read the inputs. Their outputs and fingerprints are compared by the model's calibration
/// (`nesa float calibrate`), whose error rates are shown with the answer; those that agree are paid. An
/// adversary who knows the thresholds can stay within them: docs/float-lane.md.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa up --model models/float/mlp.onnx
  nesa query float models/float/mlp.onnx --input x.json --json")]
pub(super) struct Float {
    /// The model's file, which the network must offer.
    #[arg(value_name = "MODEL.onnx")]
    file: PathBuf,
    /// JSON: an object with an array (of arrays …) of numbers for each input.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The calibration [default: MODEL.calibration.json].
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Nodes that run the model; a strict majority must agree.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=7))]
    replicas: u8,
    /// Refuse a calibration whose rates may be worse than this, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    error_rate: f64,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Float {
    fn check(&self) -> Result<()> {
        let common = &self.common;
        let masked = common.node_a.is_some() || common.node_b.is_some();
        if masked || common.open_receipt.is_some() || common.receipt.is_some() {
            let what = "--node-a, --node-b, --receipt and --open-receipt are for the masked lane";
            return Err(Failure::new(Code::Usage, what, "see `nesa query float --help`").into());
        }
        Ok(())
    }

    pub(super) async fn run(self) -> Result<()> {
        self.check()?;
        let (_, graph) = float::open(&self.file)?;
        let model = graph.plan().model;
        if let Some(asked) = self.common.model
            && asked != model
        {
            let what = format!("{} has digest {model}, not {asked}", self.file.display());
            return Err(Failure::new(Code::Usage, what, "leave out --model").into());
        }
        let inputs = input::read(&self.input, &graph)?;
        let calibration = self.calibration()?;
        let demand = self.demand();
        if calibration.plan != graph.plan_digest() {
            let what = "the calibration is of another model, or of another version of the engine";
            return Err(
                Failure::new(Code::Usage, what, "make it again: `nesa float calibrate`").into()
            );
        }
        if let Err(weakness) = calibration.meets(&demand) {
            let next =
                "calibrate with more --inputs or another --margin, or allow a higher --error-rate";
            return Err(Failure::new(Code::Usage, weakness.to_string(), next).into());
        }

        let Asker { client, queries, key } = Asker::open(&self.common).await?;
        let options = FloatOptions {
            replicas: self.replicas,
            max_fee: self.common.max_fee,
            deadline: self.common.deadline(),
            listener: Arc::new(|_: FloatEvent| {}),
        };
        let quote = queries.float_quote(&model, &options).await.map_err(session::failed)?;
        let needed = [quote.escrow, quote.draw_fee, quote.tx_fee];
        let needed = needed.into_iter().try_fold(Amount::ZERO, Amount::checked_add);
        let needed = needed.context("the price is beyond all money")?;
        session::fund(&queries, key.public(), needed).await?;
        let bar = output::progress(None, "asking");
        let mut decided = None;
        let bytes = Bytes::from(encode_inputs(&inputs));
        let asked = queries.ask_float(&model, &key, bytes, &options, |answers| {
            let limits = Limits::default().tensors();
            let (decision, answer) = decide(&calibration, &demand, &limits, answers);
            let agree = members(&decision);
            let paid = (0..answers.len()).map(|place| agree.contains(&place)).collect();
            decided = Some((decision, answer));
            paid
        });
        let mut outcome = asked.await.map_err(session::failed)?;
        bar.set_message("waiting for the nodes' commitments");
        let settled = self.common.until_settled;
        queries.await_float(&mut outcome, settled).await.map_err(session::failed)?;
        bar.finish_and_clear();
        client.stop().await;
        let (decision, answer) = decided.context("no answers were compared")?;
        let broken = outcome.replicas.iter().any(|r| r.agrees && r.revealed == Some(false));
        self.show(&outcome, &decision, answer.as_ref(), &calibration, &demand);
        match decision {
            Decision::Agreed { .. } if !broken => Ok(()),
            Decision::Agreed { .. } => Err(disagree("a node revealed another answer on chain")),
            Decision::Disagreed { .. } => Err(disagree("the nodes disagree")),
            Decision::Undecided { missing } => {
                Err(disagree(&format!("not decidable: {missing} is missing")))
            }
        }
    }

    fn calibration(&self) -> Result<Calibration> {
        let path = self.calibration.clone().unwrap_or_else(|| calibrate::beside(&self.file));
        let next = "make one with `nesa float calibrate`, or name it with --calibration";
        let unusable =
            |what: String| Failure::new(Code::Usage, format!("{}: {what}", path.display()), next);
        let text = std::fs::read_to_string(&path).map_err(|error| unusable(error.to_string()))?;
        let calibration: Calibration =
            serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        calibration.check().map_err(|error| unusable(error.to_string()))?;
        Ok(calibration)
    }

    fn demand(&self) -> Demand {
        let rate = self.error_rate / 100.0;
        Demand { false_positive: rate, false_negative: rate, ..Demand::default() }
    }

    fn show(
        &self,
        outcome: &FloatOutcome,
        decision: &Decision,
        answer: Option<&Answer>,
        calibration: &Calibration,
        demand: &Demand,
    ) {
        let outputs = answer.map(|answer| float::outputs(&answer.outputs));
        let rates = rates(calibration, demand);
        if self.common.json {
            outln!("{}", report(outcome, decision, outputs, &rates, calibration));
            return;
        }
        if let Some(outputs) = outputs {
            outln!("{outputs}");
        }
        eprintln!();
        let answered = outcome.replicas.iter().filter(|r| r.answer.is_ok()).count();
        let agreed = members(decision).len();
        eprintln!("  statistical evidence: {agreed} of {} nodes agree", outcome.replicas.len());
        for (name, words) in rates.as_object().into_iter().flatten() {
            eprintln!("    {name}: {}", words.as_str().unwrap_or_default());
        }
        for lost in &outcome.replaced {
            eprintln!("  node {}: {}; a spare took its place", lost.node, lost.reason);
        }
        for replica in &outcome.replicas {
            let words = match (&replica.answer, replica.agrees, replica.revealed) {
                (Err(reason), ..) => reason.clone(),
                (Ok(_), true, Some(true)) => "agrees; revealed what it told this device".to_owned(),
                (Ok(_), true, Some(false)) => "✗ revealed something else".to_owned(),
                (Ok(_), true, None) => "agrees; has not revealed".to_owned(),
                (Ok(_), false, _) => "✗ told apart: not paid".to_owned(),
            };
            eprintln!("  node {}: {words}", replica.node);
        }
        eprintln!(
            "  {answered} nodes have read your inputs; this is no proof (docs/float-lane.md)"
        );
    }
}

fn members(decision: &Decision) -> Vec<usize> {
    match decision {
        Decision::Agreed { members, .. } => members.clone(),
        _ => Vec::new(),
    }
}

/// The measured rates in words, by deviation.
fn rates(calibration: &Calibration, demand: &Demand) -> Value {
    let mut words = serde_json::Map::new();
    let told = calibrate::rate(&calibration.false_positive);
    words.insert("honest machines told apart".to_owned(), told.into());
    for class in &calibration.classes {
        let demanded = demand.classes.iter().any(|name| name == class.name.as_str());
        let mark = if demanded { "" } else { " (not demanded)" };
        let rate = calibrate::rate(&class.false_negative);
        words.insert(format!("{} pass{mark}", class.name), rate.into());
    }
    words.into()
}

fn report(
    outcome: &FloatOutcome,
    decision: &Decision,
    outputs: Option<Value>,
    rates: &Value,
    calibration: &Calibration,
) -> Value {
    let replicas: Vec<Value> = outcome
        .replicas
        .iter()
        .map(|replica| {
            json!({
                "replica": replica.replica,
                "node": replica.node,
                "operator": replica.operator,
                "answer_bytes": replica.answer.as_ref().ok().map(Bytes::len),
                "problem": replica.answer.as_ref().err(),
                "agrees": replica.agrees,
                "revealed_what_it_told": replica.revealed,
                "claimed": replica.claimed,
            })
        })
        .collect();
    let replaced: Vec<Value> = outcome
        .replaced
        .iter()
        .map(|lost| {
            json!({
                "replica": lost.replica,
                "node": lost.node,
                "operator": lost.operator,
                "reason": lost.reason,
            })
        })
        .collect();
    let (decided, worst) = match decision {
        Decision::Agreed { worst, .. } => ("agreed".to_owned(), Some(*worst)),
        Decision::Disagreed { got, expected } => {
            (format!("disagreed: {got} agree, {expected} needed"), None)
        }
        Decision::Undecided { missing } => (format!("undecided: {missing}"), None),
    };
    json!({
        "query": outcome.query,
        "model": outcome.model,
        "lane": "float",
        "verification": "statistical",
        "label": "statistical evidence",
        "outputs": outputs,
        "decision": decided,
        "worst": worst,
        "thresholds": calibration.thresholds,
        "calibration": calibration.digest(),
        "rates": rates,
        "replicas": replicas,
        "replaced": replaced,
        "escrowed": outcome.escrowed,
        "deadline_ms": outcome.deadline_ms,
        "answered_ms": outcome.answered_ms,
    })
}

fn disagree(what: &str) -> anyhow::Error {
    let next = "do not rely on the outputs; what was not spent returns";
    Failure::new(Code::Failed, what.to_owned(), next).into()
}
