//! What the page is shown of the float lane: offers, standing, ladder and money.

use nesa_fingerprint::{Answer, Calibration, Card, Data, Decision, Demand, Dimension, Kind, Rate};
use nesa_light::float::{self, FloatLooked, FloatOutcome, FloatTold};
use nesa_messages::{
    FloatInput, FloatKind, FloatNode, FloatOffer, FloatRate, FloatRates, FloatReplaced, FloatSize,
    FloatStanding, FloatTensor, FloatValues, FloatView, JobPhase, JobState, JobView, Problem, Step,
    StepId, StepState,
};
use nesa_primitives::Hash;
use serde_json::json;

use crate::{
    progress::life,
    sealed::show::{money, rung, verified},
};

/// Values of outputs that are kept with a job.
const KEPT: usize = 1 << 16;
/// Blocks after a window in which its last transactions are seen, in ms.
const AFTER_MS: u64 = 6_000;

/// What the origin's card says of a model.
pub(crate) fn offer(card: &Card) -> FloatOffer {
    let demand = Demand::default();
    let problem = match &card.calibration {
        None => Some("Nothing was measured of it, so its nodes could not be compared.".to_owned()),
        Some(calibration) => calibration
            .meets(&demand)
            .err()
            .map(|weakness| format!("Its measurements do not decide what is asked: {weakness}.")),
    };
    let kind = |kind| match kind {
        Kind::F32 => FloatKind::Floats,
        Kind::I64 => FloatKind::Integers,
        Kind::Bool => FloatKind::Booleans,
    };
    let size = |size: &Dimension| match size {
        Dimension::Fixed(size) => FloatSize::Fixed(*size),
        Dimension::Open(name) => FloatSize::Open(name.clone()),
    };
    let input = |input: &nesa_fingerprint::InputInfo| FloatInput {
        name: input.name.clone(),
        kind: kind(input.kind),
        shape: input.shape.iter().map(size).collect(),
    };
    FloatOffer {
        inputs: card.inputs.iter().map(input).collect(),
        outputs: card.plan.outputs.clone(),
        rates: card.calibration.as_ref().map(|calibration| rates(calibration, &demand)),
        problem,
    }
}

/// The measured rates.
pub(super) fn rates(calibration: &Calibration, demand: &Demand) -> FloatRates {
    let rate = |name: &str, rate: Rate, demanded| FloatRate {
        name: name.to_owned(),
        trials: rate.trials,
        errors: rate.errors,
        upper: rate.interval().1,
        demanded,
    };
    let classes = calibration.classes.iter().map(|class| {
        let name = class.name.as_str();
        let demanded = demand.classes.iter().any(|demanded| demanded == name);
        rate(name, class.false_negative, demanded)
    });
    FloatRates {
        digest: calibration.digest().to_string(),
        machines: calibration.platforms.iter().map(|p| p.as_str().to_owned()).collect(),
        engine: calibration.engine.as_str().to_owned(),
        inputs: calibration.inputs.as_str().to_owned(),
        honest: rate("honest machines", calibration.false_positive, true),
        classes: classes.collect(),
    }
}

/// A view that begins.
pub(crate) fn begun(replicas: u8, inputs: &[FloatTensor]) -> FloatView {
    FloatView { replicas, inputs: inputs.to_vec(), ..FloatView::default() }
}

pub(super) fn replaced(lost: &float::FloatReplaced) -> FloatReplaced {
    FloatReplaced {
        replica: lost.replica,
        node: lost.node.to_string(),
        operator: lost.operator.to_string(),
        reason: lost.reason.clone(),
    }
}

/// The outputs, the first [`KEPT`] values of them, and how many there are.
fn outputs(answer: &Answer) -> (Vec<FloatTensor>, u64) {
    let mut left = KEPT;
    let outputs = answer.outputs.iter().map(|output| {
        let count = output.data.len().min(left);
        left -= count;
        let values = match &output.data {
            Data::F32(all) => {
                let finite = |v: &f32| v.is_finite().then_some(*v);
                FloatValues::Floats(all.iter().take(count).map(finite).collect())
            }
            Data::I64(all) => FloatValues::Integers(all.iter().take(count).copied().collect()),
            Data::Bool(all) => FloatValues::Booleans(all.iter().take(count).copied().collect()),
        };
        let (name, shape) = (output.name.as_str().to_owned(), output.shape.clone());
        FloatTensor { name, shape, values }
    });
    let outputs = outputs.collect();
    (outputs, answer.outputs.iter().map(|output| output.data.len() as u64).sum())
}

/// Puts what was decided into the view; the problem to show where that is no answer.
pub(super) fn decided(
    view: &mut JobView,
    outcome: &FloatOutcome,
    decision: &Decision,
    answer: Option<&Answer>,
    calibration: &Calibration,
    check_ms: f64,
) -> Option<Problem> {
    let told = outcome.told();
    let nodes = outcome.replicas.iter().map(|replica| FloatNode {
        replica: replica.replica,
        node: replica.node.to_string(),
        operator: replica.operator.to_string(),
        problem: replica.answer.as_ref().err().cloned(),
        agrees: replica.agrees,
        root: told.iter().find(|t| t.replica == replica.replica).map(|t| t.root.to_string()),
        revealed: None,
    });
    let nodes: Vec<FloatNode> = nodes.collect();
    let (asked, agreed) = (nodes.len(), nodes.iter().filter(|node| node.agrees).count());
    let float = view.float.get_or_insert_default();
    float.nodes = nodes;
    float.replaced = outcome.replaced.iter().map(replaced).collect();
    float.answered = told.len() as u32;
    float.allowed_ppb = calibration.thresholds.output_ppb;
    let mut near = Step::pending(StepId::AnswersNear);
    near.who = "the nodes".to_owned();
    near.checked_ms = Some(check_ms);
    near.evidence = json!({
        "calibration": calibration.digest(), "thresholds": calibration.thresholds,
        "plan": calibration.plan,
    });
    let envelopes = format!("{} envelopes, each under a key that its node signed", told.len());
    let problem = match decision {
        Decision::Agreed { worst, .. } => {
            if let Some(answer) = answer {
                (float.outputs, float.values) = outputs(answer);
            }
            float.standing = FloatStanding::Agreed;
            float.worst_ppb = Some(worst.output_ppb);
            near.state = StepState::Evidence;
            near.detail = format!("{agreed} of {asked} within the calibrated thresholds");
            near.evidence["worst"] = json!(worst);
            view.state = JobState::Answered;
            view.progress.phase = JobPhase::Settling;
            None
        }
        Decision::Disagreed { got, expected } => {
            float.standing = FloatStanding::Disagreed;
            near.state = StepState::Failed;
            near.detail = "no majority is within the calibrated thresholds".to_owned();
            near.got = Some(format!("{got} near each other"));
            near.expected = Some(format!("{expected} of {asked}"));
            Some(Problem::new(
                "nodes-disagree",
                "The nodes’ answers differ by more than those of honest machines do.",
                "Nobody is paid for it. Run it again: other nodes are drawn.",
            ))
        }
        Decision::Undecided { missing } => {
            float.standing = FloatStanding::Undecided;
            float.missing = Some(missing.clone());
            near.state = StepState::NotChecked;
            near.detail = format!("not decidable: {missing} is missing");
            Some(Problem::new(
                "undecided",
                "Too little came back to compare.",
                "What was not spent comes back. Run it again, perhaps on more nodes.",
            ))
        }
    };
    life(view, &format!("{agreed} of {asked} nodes agree"), None);
    rung(view, near);
    if asked > 0 && !told.is_empty() {
        let evidence = json!({ "nodes": view.float.as_ref().map(|float| &float.nodes) });
        rung(view, verified(StepId::EnvelopesSealed, "this device", envelopes, evidence));
    }
    problem
}

/// The query of a view, and what its nodes that agree told.
pub(super) fn known(view: &JobView) -> (Option<Hash>, Vec<FloatTold>) {
    let query = view.query.as_ref().and_then(|query| query.parse().ok());
    let nodes = view.float.iter().flat_map(|float| &float.nodes).filter(|node| node.agrees);
    let told = nodes.filter_map(|node| {
        Some(FloatTold {
            replica: node.replica,
            node: node.node.parse().ok()?,
            root: node.root.as_ref()?.parse().ok()?,
        })
    });
    (query, told.collect())
}

/// What the chain shows now.
pub(super) fn looked_at(view: &mut JobView, looked: &FloatLooked, now_ms: u64) {
    published(view, looked, now_ms);
    let FloatLooked { claimed, escrow, windows, settlement, .. } = looked;
    money(view, *claimed, *escrow, windows.close_ms, settlement.as_ref());
}

fn published(view: &mut JobView, looked: &FloatLooked, now_ms: u64) {
    let Some(float) = &mut view.float else { return };
    let open = matches!(float.standing, FloatStanding::Agreed | FloatStanding::Revealed);
    if !open {
        return;
    }
    float.reveal_until_ms = Some(looked.windows.reveal_ms as f64);
    let agree = float.nodes.iter_mut().filter(|node| node.agrees && node.root.is_some());
    for (node, revealed) in agree.zip(&looked.revealed) {
        node.revealed = revealed.or(node.revealed);
    }
    let all = looked.revealed.len();
    let stood = looked.revealed.iter().filter(|revealed| **revealed == Some(true)).count();
    let mut step = Step::pending(StepId::AnswersRevealed);
    step.who = "the nodes".to_owned();
    step.detail = format!("{stood} of {all} have published their answer’s root");
    step.evidence = json!({ "nodes": float.nodes, "height": looked.height });
    let said = if looked.revealed.contains(&Some(false)) {
        float.standing = FloatStanding::Broken;
        step.state = StepState::Failed;
        step.detail = "a node published the root of another answer".to_owned();
        view.problem = Some(Problem::new(
            "node-broke-word",
            "A node published another answer on the chain than it told this device.",
            "Do not rely on these outputs. Run it again: other nodes are drawn.",
        ));
        "a node published another answer than it told"
    } else if stood == all && all > 0 {
        float.standing = FloatStanding::Revealed;
        step.state = StepState::Verified;
        "the nodes published what they told"
    } else if now_ms > looked.windows.reveal_ms.saturating_add(AFTER_MS) {
        float.standing = FloatStanding::Unrevealed;
        step.state = StepState::NotChecked;
        step.detail = format!("only {stood} of {all} published their answer’s root in time");
        "not all nodes published their answer in time"
    } else {
        rung(view, step);
        return;
    };
    let before = view.ladder.iter().find(|slot| slot.id == step.id).map(|slot| slot.state);
    if before != Some(step.state) {
        life(view, said, Some(looked.height));
    }
    rung(view, step);
}
