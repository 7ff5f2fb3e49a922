//! What the page is shown of a query of the sealed lane: its ladder, its standing and its money.

use nesa_chain::query::Settlement;
use nesa_light::sealed::{Looked, SealedOutcome, Standing as LightStanding, Told};
use nesa_messages::{
    JobPhase, JobView, Problem, SealedDispute, SealedNode, Standing, Step, StepId, StepState, Unes,
};
use nesa_primitives::{Amount, Hash};
use nesa_sealed::client::Dispute;
use serde_json::json;

use crate::progress::life;

/// Blocks after a window in which its last transactions are seen, in ms.
const AFTER_MS: u64 = 6_000;

/// Sets one rung of a view.
pub(crate) fn rung(view: &mut JobView, step: Step) {
    if let Some(slot) = view.ladder.iter_mut().find(|slot| slot.id == step.id) {
        *slot = step;
    }
}

pub(crate) fn verified(id: StepId, who: &str, detail: String, evidence: serde_json::Value) -> Step {
    let (who, state) = (who.to_owned(), StepState::Verified);
    Step { who, state, detail, evidence, ..Step::pending(id) }
}

/// Two nodes with the same part gave different numbers.
pub(super) fn disagree() -> Problem {
    Problem::new(
        "nodes-disagree",
        "Nodes that had the same part gave different numbers. At least one of them lied, and nobody can tell here which.",
        "Do not rely on this text. Ask again: other nodes are drawn; or ask in the masked lane, which catches the liar.",
    )
}

/// Whether something is still to be learnt about a query of this device in the sealed or the float lane.
pub(crate) fn is_open(view: &JobView) -> bool {
    let returned = view.cost.as_ref().is_some_and(|cost| cost.returned.is_some());
    let followed = view.sealed.is_some() || view.float.is_some();
    followed && !view.imported && view.query.is_some() && !returned
}

/// The query of a view, what its nodes told, and whether they agreed on all of it.
pub(super) fn known(view: &JobView) -> (Option<Hash>, Vec<Told>, bool) {
    let query = view.query.as_ref().filter(|_| !view.imported);
    let query = query.and_then(|query| query.parse().ok());
    let nodes = view.sealed.iter().flat_map(|sealed| &sealed.nodes);
    let told = nodes.filter_map(|node| {
        Some(Told {
            shard: node.shard,
            node: node.node.parse().ok()?,
            blinded_root: node.blinded_root.as_ref().and_then(|root| root.parse().ok()),
        })
    });
    let whole = view.written.as_ref().is_some_and(|w| w.tokens == w.agreed);
    (query, told.collect(), whole)
}

pub(crate) fn paid(view: &mut JobView, query: &Hash, escrow: Amount) {
    view.query = Some(query.to_string());
    let evidence = json!({ "query": query, "escrow": escrow });
    let detail = format!("{} NES held for this query", Unes(escrow.0));
    rung(view, verified(StepId::RequestEscrowed, "the chain", detail, evidence.clone()));
    let detail = "its certificate holds under the group key".to_owned();
    rung(view, verified(StepId::HeaderFinal, "the validators", detail, evidence));
    view.cost.get_or_insert_default().escrowed = Unes(escrow.0);
    view.progress.phase = JobPhase::Drawing;
    life(view, "payment signed, sent and final", None);
}

pub(super) fn nodes(outcome: &SealedOutcome) -> Vec<SealedNode> {
    let served = outcome.transcript.served.iter();
    served
        .map(|served| SealedNode {
            shard: served.link.shard,
            replica: served.replica,
            node: served.candidate.node.to_string(),
            operator: served.candidate.operator.to_string(),
            blinded_root: served.commitment.map(|c| c.blinded_root.to_string()),
            promised: Unes(served.paid.0),
        })
        .collect()
}

/// All replicas of every shard gave this device the same.
pub(super) fn agreed(view: &mut JobView, outcome: &SealedOutcome) {
    let count = outcome.transcript.served.len();
    let sealed = view.sealed.get_or_insert_default();
    sealed.standing = Standing::Agreed;
    let shards = sealed.shards.len();
    let evidence = json!({ "nodes": sealed.nodes, "layers": sealed.shards });
    let detail = format!("{count} envelopes, each under a key that its node signed");
    let envelopes = verified(StepId::EnvelopesSealed, "this device", detail, evidence.clone());
    let detail = format!(
        "{} tokens, the same from {count} nodes over {shards} shards",
        outcome.transcript.tokens.len()
    );
    let same = verified(StepId::ReplicasAgreed, "the nodes", detail, evidence);
    rung(view, envelopes);
    rung(view, same);
}

/// Nodes contradict each other, towards this device or on the chain.
pub(super) fn disputed(view: &mut JobView, dispute: Option<&Dispute>) {
    let sealed = view.sealed.get_or_insert_default();
    sealed.standing = Standing::Disputed;
    sealed.dispute = dispute.map(|dispute| SealedDispute {
        shard: dispute.shard,
        step: dispute.step as u32,
        node: dispute.node.to_string(),
        said: dispute.said.to_string(),
        others: dispute.others.to_string(),
    });
    let mut step = Step::pending(StepId::ReplicasAgreed);
    step.state = StepState::Failed;
    step.who = "the nodes".to_owned();
    if let Some(dispute) = &sealed.dispute {
        let at = u32::from(dispute.shard) + 1;
        step.detail = format!("nodes of shard {at} differ at step {}", dispute.step + 1);
        step.got = Some(dispute.said.clone());
        step.expected = Some(dispute.others.clone());
    } else {
        step.detail = "nodes with the same part differ".to_owned();
    }
    rung(view, step);
}

/// What the chain shows of the traces.
pub(super) fn traces(view: &mut JobView, looked: &Looked, now_ms: u64) {
    let Some(sealed) = &mut view.sealed else { return };
    if sealed.standing == Standing::Provisional || sealed.standing == Standing::Disputed {
        return;
    }
    sealed.reveal_until_ms = Some(looked.windows.reveal_ms as f64);
    let mut step = Step::pending(StepId::TracesEqual);
    step.who = "the nodes".to_owned();
    let said = match &looked.standing {
        LightStanding::Verified(roots) => {
            sealed.standing = Standing::Verified;
            sealed.revealed = sealed.expected;
            sealed.roots = roots.iter().map(Hash::to_string).collect();
            step.state = StepState::Verified;
            step.detail = format!("{} traces published, equal for each shard", sealed.expected);
            step.evidence = json!({ "roots": roots, "height": looked.height });
            "all traces are published and equal"
        }
        LightStanding::Agreed { revealed, expected } => {
            (sealed.revealed, sealed.expected) = (*revealed as u32, *expected as u32);
            step.detail = format!("{revealed} of {expected} traces published so far");
            if now_ms <= looked.windows.reveal_ms.saturating_add(AFTER_MS) {
                rung(view, step);
                return;
            }
            sealed.standing = Standing::Unrevealed;
            step.state = StepState::NotChecked;
            step.detail = format!("only {revealed} of {expected} traces were published in time");
            "not all traces were published in time"
        }
        LightStanding::Disputed(_) => {
            sealed.standing = Standing::Disputed;
            step.state = StepState::Failed;
            step.detail = "the traces published are not equal, or not those told here".to_owned();
            view.problem = Some(disagree());
            "the published traces contradict each other"
        }
    };
    let known = view.ladder.iter().find(|slot| slot.id == step.id).map(|slot| slot.state);
    if known != Some(step.state) {
        life(view, said, Some(looked.height));
    }
    rung(view, step);
}

/// What the chain shows of the money.
pub(crate) fn money(
    view: &mut JobView,
    claimed: Amount,
    escrow: Amount,
    close_ms: u64,
    settlement: Option<&Settlement>,
) {
    let cost = view.cost.get_or_insert_default();
    cost.escrowed = Unes(escrow.0);
    cost.paid = Unes(claimed.0);
    cost.held = Unes(escrow.0.saturating_sub(claimed.0));
    cost.returns_ms = Some(close_ms as f64);
    let Some(settlement) = settlement else { return };
    if cost.returned.is_some() {
        return;
    }
    cost.held = Unes(0);
    cost.burned = Unes(settlement.burned.0);
    cost.returned = Some(Unes(settlement.returned.0));
    view.progress.phase = JobPhase::Finished;
    let detail = format!(
        "{} paid, {} returned, {} burned",
        claimed.in_nes(),
        settlement.returned.in_nes(),
        settlement.burned.in_nes()
    );
    let evidence = json!({
        "claimed": claimed, "returned": settlement.returned, "burned": settlement.burned,
        "height": settlement.height,
    });
    rung(view, verified(StepId::Settled, "the chain", detail, evidence));
    let what = format!("settled: {} returned", settlement.returned.in_nes());
    life(view, &what, Some(settlement.height));
}
