//! The light client's values as the page's messages.

use nesa_chain::record::NodeEntry;
use nesa_light::{
    ladder::{LadderStep, StepId as LightStep, StepState as LightState},
    query::report::{
        Cost as LightCost, NodeRef as LightNode, Phase, Rejected, SideName, Timings as LightTimings,
    },
    sync::Certified,
};
use nesa_messages::{
    BlockRow, Caught, Collusion, Cost, JobPhase, NodeRef, Side, Step, StepId, StepState, Timings,
    Unes,
};
use nesa_primitives::Hash;
use std::collections::BTreeMap;

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A verified header. `now_ms` is this device's clock at the check, where it was live.
pub(crate) fn block_row(
    item: &Certified,
    checked_ms: f64,
    batch: usize,
    now_ms: Option<u64>,
) -> BlockRow {
    let header = &item.header;
    // A clock that is behind would give a negative age; then the age is not known.
    let finality_ms = now_ms
        .filter(|_| batch <= 2)
        .and_then(|now| now.checked_sub(header.timestamp_ms()))
        .map(|age| age as f64);
    BlockRow {
        height: header.height(),
        view: header.view(),
        digest: header.hash().to_string(),
        timestamp_ms: header.timestamp_ms(),
        leader: hex(header.fields.context.leader.as_ref()),
        transactions: None,
        finality_ms,
        checked_ms,
        batch: batch as u32,
        state: StepState::Verified,
    }
}

/// A rung.
pub(crate) fn step(step: &LadderStep) -> Step {
    let state = match step.state {
        LightState::Pending => StepState::Pending,
        LightState::Verified => StepState::Verified,
        LightState::Failed => StepState::Failed,
        LightState::NotChecked => StepState::NotChecked,
    };
    Step {
        id: step_id(step.id),
        state,
        who: step.who.clone(),
        detail: step.detail.clone(),
        checked_ms: (state == StepState::Verified || state == StepState::Failed).then_some(step.ms),
        evidence: step.evidence.clone(),
        got: step.got.clone(),
        expected: step.expected.clone(),
    }
}

fn step_id(id: LightStep) -> StepId {
    match id {
        LightStep::RequestEscrowed => StepId::RequestEscrowed,
        LightStep::HeaderFinal => StepId::HeaderFinal,
        LightStep::CommitteeDerived => StepId::CommitteeDerived,
        LightStep::SharesSent => StepId::SharesSent,
        LightStep::LayersChecked => StepId::LayersChecked,
        LightStep::OutputBound => StepId::OutputBound,
        LightStep::Settled => StepId::Settled,
        LightStep::PageCode => StepId::PageCode,
    }
}

/// Where a query stands.
pub(crate) fn phase(phase: Phase) -> JobPhase {
    match phase {
        Phase::Tokenizing => JobPhase::Tokenizing,
        Phase::Escrowing => JobPhase::Escrowing,
        Phase::Drawing => JobPhase::Drawing,
        Phase::Connecting => JobPhase::Connecting,
        Phase::Computing => JobPhase::Computing,
        Phase::Binding => JobPhase::Binding,
        Phase::Settling => JobPhase::Settling,
        Phase::Finished => JobPhase::Finished,
    }
}

/// A side.
pub(crate) fn side(side: SideName) -> Side {
    match side {
        SideName::A => Side::A,
        SideName::B => Side::B,
    }
}

/// A node of a query.
pub(crate) fn node(node: &LightNode) -> NodeRef {
    NodeRef {
        side: side(node.side),
        node: node.node.to_string(),
        operator: node.operator.to_string(),
        operator_name: None,
        named: node.named,
    }
}

/// A node that was replaced.
pub(crate) fn caught(rejected: &Rejected) -> Caught {
    let money = if rejected.reason == "wrong product" {
        "its unpaid increment is burned, not refunded; it earns nothing for it"
    } else {
        "it is paid nothing for what it did not answer"
    };
    Caught {
        node: NodeRef {
            side: side(rejected.side),
            node: rejected.node.to_string(),
            operator: rejected.operator.to_string(),
            operator_name: None,
            named: false,
        },
        what: rejected.reason.clone(),
        money: money.to_owned(),
        next: "only this node was replaced, by the next of its own side; every mask was renewed"
            .to_owned(),
    }
}

/// Where the time went.
pub(crate) fn timings(timings: &LightTimings) -> Timings {
    Timings {
        total_ms: timings.total_ms,
        chain_ms: timings.chain_ms,
        network_ms: timings.network_ms,
        nodes_ms: timings.nodes_ms,
        device_ms: timings.device_ms,
        check_ms: timings.check_ms,
        settle_ms: timings.settle_ms,
    }
}

/// Where the money went.
pub(crate) fn cost(cost: &LightCost) -> Cost {
    Cost {
        escrowed: Unes(cost.escrowed.0),
        paid: Unes(cost.paid.0),
        held: Unes(cost.held.0),
        returns_ms: cost.returns_ms.map(|ms| ms as f64),
        burned: Unes(cost.burned.0),
        fees: Unes(cost.fees.0),
        returned: cost.returned.map(|amount| Unes(amount.0)),
    }
}

/// What it takes to put a colluding pair in one's way: the price is the bond X with
/// (X / (X + T))² = ½ over the bond T of everyone else.
pub(crate) fn collusion<'a>(entries: impl Iterator<Item = &'a NodeEntry>) -> Collusion {
    let mut bonds: BTreeMap<[u8; 32], u64> = BTreeMap::new();
    for entry in entries {
        let bond = bonds.entry(entry.operator.0).or_default();
        *bond = bond.saturating_add(entry.bond.0);
    }
    let total: u64 = bonds.values().fold(0, |sum, bond| sum.saturating_add(*bond));
    let mut sorted: Vec<u64> = bonds.values().copied().collect();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let two: u64 = sorted.iter().take(2).fold(0, |sum, bond| sum.saturating_add(*bond));
    let root = std::f64::consts::FRAC_1_SQRT_2;
    Collusion {
        operators: bonds.len() as u32,
        largest_two: if total == 0 { 0.0 } else { two as f64 / total as f64 },
        price: Unes((total as f64 * root / (1.0 - root)) as u64),
    }
}

/// The bottom rung: where this page's code came from.
pub(crate) fn page_code(origin: &str, build: &str) -> Step {
    Step {
        state: StepState::NotChecked,
        who: origin.to_owned(),
        detail: "This page cannot check itself. Compare its build digest, or run your own node."
            .to_owned(),
        evidence: serde_json::json!({ "origin": origin, "build": build }),
        ..Step::pending(StepId::PageCode)
    }
}

/// First characters of a hash, for sentences.
pub(crate) fn short(hash: &Hash) -> String {
    hash.to_string().chars().take(8).collect()
}
