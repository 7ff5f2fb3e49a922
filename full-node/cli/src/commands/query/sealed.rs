//! `nesa query generate --lane sealed`: a prompt continued by nodes that read it and must agree.

use std::{io::Write as _, path::Path, sync::Arc};

use anyhow::Result;
use clap::{Args, ValueEnum};
use nesa_chain::{
    Grounds, Ruling,
    query::{DisputeEntry, Sealed, ShardCommit},
};
use nesa_light::{
    query::Prompt,
    sealed::{SealedEvent, SealedOptions, SealedOutcome, SealedQueryError, Standing, StartError},
};
use serde_json::{Value, json};

use super::{
    Common,
    session::{self, Asker},
};
use crate::{
    failure::{Code, Failure},
    output::outln,
};

/// How the input is hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Lane {
    /// Split between two nodes: neither reads it, and this machine checks every layer.
    #[default]
    Masked,
    /// Encrypted to each of several nodes, which read it; those with the same part must agree.
    Sealed,
}

/// Options of the sealed lane.
#[derive(Debug, Args)]
pub(super) struct SealedArgs {
    /// How the text is hidden, and the answer checked.
    #[arg(long, value_enum, default_value_t)]
    pub(super) lane: Lane,
    /// Sealed lane: nodes that must agree on every part of the model [default: 3].
    #[arg(long, value_name = "N")]
    replicas: Option<u8>,
    /// Sealed lane: parts the model is cut into, each on nodes of its own [default: 2].
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// Sealed lane: agree that a dispute publishes a piece of an activation, from which something of
    /// the text may be learnt. Without it, nodes that disagree are not paid and nothing is published.
    #[arg(long)]
    disclose: bool,
}

impl SealedArgs {
    /// Refuses options of the sealed lane in another.
    pub(super) fn check(&self, common: &Common) -> Result<()> {
        let sealed = self.lane == Lane::Sealed;
        let given = self.replicas.is_some() || self.shards.is_some() || self.disclose;
        let masked = common.node_a.is_some() || common.node_b.is_some();
        let masked = masked || common.open_receipt.is_some();
        let problem = match (sealed, given, masked) {
            (false, true, _) => "--replicas, --shards and --disclose are for --lane sealed",
            (true, _, true) => "--node-a, --node-b and --open-receipt are for --lane masked",
            _ => return Ok(()),
        };
        Err(Failure::new(Code::Usage, problem.to_owned(), "see `nesa query generate --help`")
            .into())
    }
}

/// Asks, shows the text as it comes, and says how far it can be relied on.
pub(super) async fn run(args: &SealedArgs, common: &Common, prompt: Prompt) -> Result<()> {
    let Asker { client, queries, key } = Asker::open(common).await?;
    let model = session::choose_model(common.model, &client.models, "decoder", &queries).await?;
    let quiet = common.json;
    let options = SealedOptions {
        shards: args.shards.unwrap_or(2),
        replicas: args.replicas.unwrap_or(3),
        disclose: args.disclose,
        max_fee: common.max_fee,
        deadline: common.deadline(),
        answer_only: false,
        listener: Arc::new(move |event| show(&event, quiet)),
    };
    let needed = queries.sealed_cost(&model, &prompt, &options).await.map_err(failed)?;
    session::fund(&queries, key.public(), needed).await?;
    let outcome = queries.write_sealed(&model, &key, &prompt, &options).await.map_err(failed)?;
    let receipt = match &outcome.receipt {
        Some(receipt) => Some(session::write_payment(common, &outcome.query, receipt)?),
        None => None,
    };
    if common.json {
        outln!("{}", report(&outcome, receipt.as_deref()));
    } else {
        outln!("");
        explain(&outcome);
        if let Some(path) = &receipt {
            eprintln!("  receipt: {}", path.display());
        }
    }
    client.stop().await;
    if matches!(outcome.standing, Standing::Disputed(_)) {
        let next = "do not rely on the text; ask again, or use --lane masked";
        return Err(Failure::new(Code::Failed, "the nodes disagree".to_owned(), next).into());
    }
    Ok(())
}

fn show(event: &SealedEvent, quiet: bool) {
    match event {
        SealedEvent::Text(piece) if !quiet => {
            let mut stdout = std::io::stdout().lock();
            // Nobody may be reading any more; the query goes on.
            let _ = write!(stdout, "{piece}").and_then(|()| stdout.flush());
        }
        SealedEvent::Replaced { candidate, reason, .. } => {
            tracing::info!(node = %candidate.node, reason, "a node was replaced");
        }
        _ => {}
    }
}

fn failed(error: SealedQueryError) -> anyhow::Error {
    match error {
        SealedQueryError::Query(error) => session::failed(error),
        error => {
            let next = match &error {
                SealedQueryError::Plan(_) => "ask for fewer --shards",
                SealedQueryError::Start(StartError::Empty) => session::EMPTY_PROMPT,
                SealedQueryError::Start(StartError::Length { .. }) => session::LONG_PROMPT,
                SealedQueryError::Start(_) => "ask for fewer --replicas, or a shorter text",
                _ => "what was not spent returns; ask again",
            };
            Failure::new(Code::Failed, error.to_string(), next).into()
        }
    }
}

fn standing(standing: &Standing) -> &'static str {
    match standing {
        Standing::Verified(_) => "verified",
        Standing::Agreed { .. } => "agreed, not yet verified",
        Standing::Disputed(_) => "disputed",
    }
}

fn report(outcome: &SealedOutcome, receipt: Option<&Path>) -> Value {
    let transcript = &outcome.transcript;
    let nodes: Vec<Value> = transcript
        .served
        .iter()
        .map(|served| {
            json!({
                "shard": served.link.shard, "replica": served.replica, "seat": served.link.seat,
                "node": served.candidate.node, "operator": served.candidate.operator,
                "blinded_root": served.commitment.map(|c| c.blinded_root),
                "served_tokens": served.commitment.map(|c| c.served_tokens),
                "promised": served.paid,
            })
        })
        .collect();
    let replaced: Vec<Value> = outcome
        .replaced
        .iter()
        .map(|(link, node, reason)| {
            json!({ "shard": link.shard, "seat": link.seat, "node": node, "reason": reason })
        })
        .collect();
    let roots = match &outcome.standing {
        Standing::Verified(roots) => roots.clone(),
        _ => Vec::new(),
    };
    json!({
        "query": outcome.query,
        "model": outcome.model,
        "lane": "sealed",
        "verification": "committee",
        "text": outcome.text,
        "tokens": transcript.tokens.len(),
        "agreed": transcript.agreed,
        "ended": transcript.ended,
        "standing": standing(&outcome.standing),
        "trace_roots": roots,
        "cuts": outcome.plan.cuts(),
        "nodes": nodes,
        "receipt": receipt,
        "disputes": outcome.on_chain.as_ref().map(|sealed| &sealed.disputes),
        "commits": outcome.on_chain.as_ref().map(|sealed| {
            let fate = |c: &ShardCommit| json!({
                "shard": c.shard, "replica": c.replica, "node": c.node, "operator": c.operator,
                "root": c.root, "liar": c.liar, "put_out": c.put_out, "claimed": c.claimed(), "earned": c.earned(),
            });
            sealed.commits.iter().map(fate).collect::<Vec<_>>()
        }),
        "rejected": replaced,
        "escrowed": outcome.escrowed,
        "promised": outcome.promised,
        "deadline_ms": outcome.deadline_ms,
        "timings": {
            "first_token_ms": outcome.timings.first_token_ms,
            "total_ms": outcome.timings.total_ms,
            "recovered_ms": outcome.timings.recovered_ms,
        },
        "bytes": { "up": outcome.timings.bytes_up, "down": outcome.timings.bytes_down },
    })
}

/// What the chain made of it, in words.
fn judged(sealed: &Sealed) -> Vec<String> {
    let mut lines = Vec::new();
    for dispute in &sealed.disputes {
        let DisputeEntry { shard, left, right, decision } = dispute;
        let who = match dispute.ruling() {
            None => "not decided yet".to_owned(),
            Some(Ruling::LeftLies) => format!("replica {left} lied"),
            Some(Ruling::RightLies) => format!("replica {right} lied"),
            Some(Ruling::BothLie) => "both lied".to_owned(),
            Some(Ruling::Undecided) => "nobody is shown to have lied".to_owned(),
            Some(Ruling::Lengths) => "one only goes further".to_owned(),
            Some(Ruling::ClientLies) => "the client asked them for different things".to_owned(),
        };
        let why = match decision.map(|decision| decision.grounds) {
            None => "",
            Some(Grounds::Opening) => ": the validators computed the disputed value again",
            Some(Grounds::Silence) => ": an answer did not come in time",
            Some(Grounds::Receipts) => ": it had signed both",
            Some(Grounds::Form) => ": by the form of what they said",
        };
        lines.push(format!("shard {shard}, replica {left} against {right}: {who}{why}"));
    }
    for commit in &sealed.commits {
        let (shard, replica, node) = (commit.shard, commit.replica, commit.node);
        let fate = match (commit.liar, commit.claimed()) {
            (true, _) => "lied; its bond was slashed, and it is not paid".to_owned(),
            (false, claimed) if claimed.is_zero() => "not paid".to_owned(),
            (false, claimed) => format!("paid {} unes before the split", claimed.0),
        };
        lines.push(format!("shard {shard}, replica {replica} (node {node}): {fate}"));
    }
    lines
}

fn explain(outcome: &SealedOutcome) {
    let transcript = &outcome.transcript;
    eprintln!();
    eprintln!(
        "  {} tokens by {} nodes over {} shards; all agree on {}",
        transcript.tokens.len(),
        transcript.served.len(),
        outcome.plan.len(),
        transcript.agreed,
    );
    for (link, node, reason) in &outcome.replaced {
        eprintln!("  replaced node {node} of shard {}: {reason}", link.shard);
    }
    match &outcome.standing {
        Standing::Verified(_) => eprintln!(
            "  ✓ every node revealed the same trace on chain. That says that they computed the same, \
             not that it is right: if all of a shard lie alike, nothing here shows it."
        ),
        Standing::Agreed { revealed, expected } => {
            eprintln!("  – not yet verified: {revealed} of {expected} traces are revealed on chain")
        }
        Standing::Disputed(_) => {
            eprintln!("  ✗ the nodes disagree: do not rely on this text");
            for line in outcome.on_chain.iter().flat_map(judged) {
                eprintln!("    {line}");
            }
        }
    }
    eprintln!("  the nodes have read your text");
}
