//! After the answer: waiting for the payment, proving it, and building the payment receipt.
//!
//! A node is paid when its claim is in a block, about a second after it has answered. What was not
//! spent stays in escrow until the deadline, so that a server that was replaced keeps its right to
//! what it was signed for. The last rung and the receipt are about the payment; they say what is
//! still held and until when, and [`QueryClient::complete`] brings the receipt to its end.

use std::time::Duration;

use bytes::Bytes;
use commonware_codec::Encode as _;
use nesa_chain::{
    keys,
    query::{QueryRecord, ShardCommit},
    trust::TrustRoot,
    tx::SignedTx,
};
use nesa_masked::{client::Link, message::SignedCommit};
use nesa_platform::time::{self, Instant};
use nesa_primitives::{Address, Amount, Hash, Verdict, decode_exact};
use nesa_verify::receipt::{
    CertifiedPart, EntryPart, Hex, PAYMENT_FORMAT, PaymentReceipt, StatePart,
};
use serde_json::json;

use super::{
    QueryClient, QueryError, QueryOutcome,
    journal::{Entry, Fate},
    report::{Cost, Listener, Phase, Progress},
};
use crate::{
    AskError, LightClient, Proven,
    client::{Included, since},
    ladder::{Ladder, LadderStep, StepId},
    sync::Certified,
};

/// A settlement is due in the first block after the deadline; an idle chain makes one a second.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// How far to wait for the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// Both nodes have been paid what their vouchers say: about a second after the answer. Where a
    /// node does not claim, the deadline decides.
    #[default]
    Paid,
    /// The deadline has passed: what was not spent has returned, what was disputed is burned.
    Settled,
}

/// What a query leaves for its payment and its receipt. Public values only.
#[derive(Clone)]
pub(crate) struct Evidence {
    pub(crate) trust: TrustRoot,
    pub(crate) signed: SignedTx,
    pub(crate) included: Included,
    pub(crate) before: Proven,
    pub(crate) record: QueryRecord,
    pub(crate) seed: Bytes,
    pub(crate) snapshot: Proven,
    pub(crate) nodes: Proven,
    /// Node, its signed commitment, and its running total.
    pub(crate) served: Vec<(Address, Option<SignedCommit>, Amount)>,
    pub(crate) links: Vec<Link>,
}

/// An answered query that waits for its payment.
#[derive(Clone)]
pub struct Pending {
    pub(super) entry: Entry,
    pub(super) ladder: Ladder,
    pub(super) evidence: Box<Evidence>,
    pub(super) answered: Instant,
}

impl Pending {
    /// The payment receipt as far as it can be written before the payment: its last part is empty.
    /// Kept across a reload, [`QueryClient::complete`] finishes it.
    pub fn draft(&self) -> PaymentReceipt {
        unpaid(&self.evidence)
    }
}

impl QueryClient {
    /// Waits until an answered query is paid, or settled, proves it, and completes `outcome` with
    /// the last rung, the costs and the payment receipt. Does nothing when that was done.
    ///
    /// # Errors
    /// [`QueryError`] when it cannot be proven in time; the outcome then stays pending.
    pub async fn settle(
        &self,
        outcome: &mut QueryOutcome,
        until: Until,
        say: &Listener,
    ) -> Result<(), QueryError> {
        let Some(mut pending) = outcome.pending.take() else { return Ok(()) };
        say.say(Progress::Phase(Phase::Settling));
        match self.paid(&pending, until).await {
            Ok((record, proven)) => {
                let start = Instant::now();
                let receipt = build(&pending.evidence, &proven);
                let verdict = nesa_verify::receipt::verify(
                    &receipt,
                    self.light().trust(),
                    &mut nesa_platform::random::rng(),
                );
                let step = paid_step(&pending.evidence, &record, &proven, &verdict, since(start));
                pending.ladder.set(step.clone());
                say.say(Progress::Step(Box::new(step)));
                outcome.cost.update(&record);
                pending.entry.fate = match record.status.settlement() {
                    Some(settlement) => Fate::Settled { returned: settlement.returned },
                    None => Fate::Paid { held: record.returnable() },
                };
                self.journal().put(&pending.entry).await?;
                outcome.receipt = Some(receipt);
                outcome.timings.settle_ms = Some(since(pending.answered));
                outcome.ladder = pending.ladder.into_steps();
                say.say(Progress::Phase(Phase::Finished));
                Ok(())
            }
            Err(error) => {
                outcome.ladder = pending.ladder.steps().to_vec();
                outcome.pending = Some(pending);
                Err(error)
            }
        }
    }

    /// The paid record with the proofs a receipt needs.
    async fn paid(
        &self,
        pending: &Pending,
        until: Until,
    ) -> Result<(QueryRecord, Proven), QueryError> {
        let record = &pending.evidence.record;
        let wanted = [keys::query(&record.id), keys::params(), keys::model(&record.model)];
        let left = record.deadline_ms.saturating_sub(time::now_ms());
        let limit = Duration::from_millis(left) + SETTLE_LIMIT;
        let wait = async {
            loop {
                let seen = self.light().height();
                let due = self
                    .light()
                    .head()
                    .is_some_and(|head| head.timestamp_ms() >= record.deadline_ms);
                if due || until == Until::Paid {
                    match self.light().prove(&wanted).await {
                        Ok(proven) => {
                            let found = super::pay::decode::<QueryRecord>(
                                &proven,
                                &wanted[0],
                                "paid query",
                            )?;
                            let enough = |found: &QueryRecord| {
                                let paid = until == Until::Paid && pending.evidence.is_paid(found);
                                paid || !found.status.is_open()
                            };
                            if let Some(found) = found.filter(enough) {
                                return Ok((found, proven));
                            }
                        }
                        Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                self.light().head_or(seen, Duration::from_millis(1000)).await;
            }
        };
        match time::timeout(limit, wait).await {
            Ok(found) => Ok(found?),
            Err(_) => Err(AskError::Timeout {
                what: "payment of the query",
                ms: limit.as_millis() as u64,
            }
            .into()),
        }
    }

    /// [`complete`] with this client's view of the chain.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn complete(
        &self,
        draft: PaymentReceipt,
    ) -> Result<Option<(PaymentReceipt, QueryRecord)>, AskError> {
        complete(self.light(), draft).await
    }

    /// Checks an earlier query again, from a fresh state proof, if the chain still keeps its record.
    /// A receipt written before the deadline is also held true by the record of its settlement.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn recheck(&self, receipt: &PaymentReceipt) -> Result<Verdict<()>, AskError> {
        let Ok(signed) = SignedTx::from_bytes(&receipt.payment.0) else {
            return Ok(Verdict::invalid("payment", "malformed bytes", "a signed transaction"));
        };
        let key = keys::query(&signed.id());
        let proven = self.light().prove(&[key]).await?;
        let stored = receipt.paid.entries.first().and_then(|entry| entry.value.as_ref());
        let Some(now) = proven.value(&key) else {
            return Ok(Verdict::undecided("the record: the chain has forgotten it by now"));
        };
        let now = decode_exact::<QueryRecord>(now, &());
        let then = stored.map(|then| decode_exact::<QueryRecord>(&then.0, &()));
        Ok(match (now, then) {
            (Ok(now), Some(Ok(then))) if follows(&then, &now) => Verdict::Valid(()),
            (now, _) => Verdict::invalid(
                "record of the query",
                now.map_or_else(|error| error.to_string(), |r| format!("{:?}", r.status)),
                "the one in the receipt",
            ),
        })
    }
}

/// Brings a receipt that was written or kept before the deadline to its end; `None` while the chain
/// has not settled the query, or has forgotten it.
///
/// # Errors
/// [`AskError`].
pub async fn complete(
    light: &LightClient,
    mut draft: PaymentReceipt,
) -> Result<Option<(PaymentReceipt, QueryRecord)>, AskError> {
    let Ok(signed) = SignedTx::from_bytes(&draft.payment.0) else { return Ok(None) };
    let nesa_chain::action::Action::PayForQuery(pay) = &signed.tx.action else {
        return Ok(None);
    };
    let wanted = [keys::query(&signed.id()), keys::params(), keys::model(&pay.model)];
    let proven = light.prove(&wanted).await?;
    let record = super::pay::decode::<QueryRecord>(&proven, &wanted[0], "paid query")?;
    let Some(record) = record.filter(|record| !record.status.is_open()) else {
        return Ok(None);
    };
    draft.paid = state(&proven);
    if let Some(sealed) = &record.sealed {
        // Which nodes committed is known only now.
        let mut nodes: Vec<Hash> = Vec::new();
        for key in sealed.commits.iter().map(|commit| keys::node(&commit.node)) {
            if !nodes.contains(&key) {
                nodes.push(key);
            }
        }
        draft.nodes = if nodes.is_empty() {
            StatePart { at: draft.paid.at.clone(), entries: Vec::new() }
        } else {
            state(&light.prove(&nodes).await?)
        };
    }
    Ok(Some((draft, record)))
}

/// Whether the chain can have come from `then` to `now`: the same record, or, from an open one,
/// none of its claims taken back.
fn follows(then: &QueryRecord, now: &QueryRecord) -> bool {
    let kept = |claimed: &nesa_chain::query::CommitRecord| {
        now.commits.iter().any(|c| c.node == claimed.node && c.claimed() >= claimed.claimed())
    };
    let shards = |record: &QueryRecord| -> Vec<ShardCommit> {
        record.sealed.iter().flat_map(|sealed| &sealed.commits).cloned().collect()
    };
    let (before, after) = (shards(then), shards(now));
    let kept_shard = |claimed: &ShardCommit| {
        let place = (claimed.shard, claimed.replica, claimed.node);
        let same = |c: &&ShardCommit| (c.shard, c.replica, c.node) == place;
        after.iter().find(same).is_some_and(|c| c.claimed() >= claimed.claimed())
    };
    let grown = then.commits.iter().all(kept) && before.iter().all(kept_shard);
    then == now || (then.status.is_open() && then.id == now.id && grown)
}

impl Evidence {
    /// Whether every node that served to the end has been paid what our vouchers say.
    fn is_paid(&self, record: &QueryRecord) -> bool {
        let claimed = |node: &Address| record.commits.iter().find(|c| c.node == *node);
        let mut owed = self.served.iter().filter(|(_, _, total)| !total.is_zero()).peekable();
        owed.peek().is_some()
            && owed.all(|(node, _, total)| claimed(node).is_some_and(|c| c.claimed() >= *total))
    }
}

impl Cost {
    /// Takes over what the chain's record says.
    pub fn update(&mut self, record: &QueryRecord) {
        self.escrowed = record.escrow;
        self.paid = record.claimed().unwrap_or_default();
        self.held = record.returnable();
        self.returns_ms = Some(record.deadline_ms);
        if let Some(settlement) = record.status.settlement() {
            self.burned = settlement.burned;
            self.returned = Some(settlement.returned);
        }
    }
}

/// The last rung: who was paid, and what becomes of the rest.
fn paid_step(
    evidence: &Evidence,
    record: &QueryRecord,
    proven: &Proven,
    receipt: &Result<
        nesa_verify::receipt::Report<nesa_verify::receipt::PaymentSummary>,
        nesa_verify::receipt::Failure,
    >,
    check_ms: f64,
) -> LadderStep {
    let summary = match receipt {
        Ok(report) => &report.summary,
        Err(failure) => {
            return LadderStep::failed(
                StepId::Settled,
                failure.what.clone(),
                failure.got.clone(),
                failure.expected.clone(),
            );
        }
    };
    // A node's commitment on the chain must be the one it signed for us, and must be paid what
    // our vouchers say; a node that claimed less, or nothing, only lost its own money.
    for (node, commit, total) in &evidence.served {
        let Some(claim) = record.commits.iter().find(|c| c.node == *node) else { continue };
        if let Some(commit) = commit
            && commit.blinded_root != claim.blinded_root
        {
            return LadderStep::failed(
                StepId::Settled,
                format!("node {node} committed to something else on the chain"),
                claim.blinded_root.to_string(),
                commit.blinded_root.to_string(),
            );
        }
        if claim.claimed() > *total {
            return LadderStep::failed(
                StepId::Settled,
                format!("node {node} was paid more than its voucher"),
                claim.claimed().to_string(),
                total.to_string(),
            );
        }
    }
    let commits: Vec<_> = record
        .commits
        .iter()
        .map(|c| {
            json!({
                "side": c.side, "attempt": c.attempt, "node": c.node,
                "blinded_root": c.blinded_root, "served_tokens": c.served_tokens,
                "claimed": c.claimed(), "earned": c.earned(), "height": c.height,
                "paid_height": c.claim.as_ref().map(|claim| claim.height),
            })
        })
        .collect();
    let to_nodes: u64 = record.commits.iter().map(|c| c.earned().0).fold(0, u64::saturating_add);
    let rest = match record.status.settlement() {
        Some(settlement) => {
            format!(
                "{} burned, {} returned",
                settlement.burned.in_nes(),
                settlement.returned.in_nes()
            )
        }
        None => {
            format!(
                "{} unspent and held until the deadline, when it returns",
                record.returnable().in_nes()
            )
        }
    };
    LadderStep::verified(
        StepId::Settled,
        "the chain",
        format!(
            "{} to the nodes, {rest}, in block {}",
            Amount(to_nodes).in_nes(),
            summary.final_height
        ),
        proven.ms + check_ms,
        json!({
            "height": summary.final_height,
            "proven_at": proven.header.header.height(),
            "escrow": record.escrow,
            "paid": summary.paid,
            "shares": record.shares_paid,
            "held": record.returnable(),
            "returns_ms": record.deadline_ms,
            "burned": summary.burned,
            "returned": summary.returned,
            "commits": commits,
            "attempts": evidence.links.iter().map(|l| l.attempt).collect::<Vec<_>>(),
        }),
    )
}

fn certified(item: &Certified) -> CertifiedPart {
    CertifiedPart {
        header: Hex::from(item.header.encode()),
        finalization: item.finalization.as_ref().map(|f| Hex::from(f.encode())),
    }
}

fn state(proven: &Proven) -> StatePart {
    StatePart {
        at: certified(&proven.header),
        entries: proven
            .entries
            .iter()
            .map(|entry| EntryPart {
                value: entry.value.as_ref().map(Hex::from),
                proof: Hex::from(&entry.proof),
            })
            .collect(),
    }
}

/// The public record of a paid query.
pub(crate) fn build(evidence: &Evidence, paid: &Proven) -> PaymentReceipt {
    PaymentReceipt { paid: state(paid), ..unpaid(evidence) }
}

/// The public record of a query that is not paid yet.
pub(crate) fn unpaid(evidence: &Evidence) -> PaymentReceipt {
    let mut inclusion = vec![certified(&evidence.included.header)];
    inclusion.extend(evidence.included.descendants.iter().map(certified));
    PaymentReceipt {
        format: PAYMENT_FORMAT.to_owned(),
        trust_root: Hex::from(evidence.trust.encode()),
        payment: Hex::from(evidence.signed.to_bytes()),
        inclusion,
        inclusion_proof: Hex::from(&evidence.included.proof),
        opened: state(&evidence.before),
        seed: Hex::from(&evidence.seed),
        snapshot: state(&evidence.snapshot),
        nodes: state(&evidence.nodes),
        paid: StatePart {
            at: CertifiedPart { header: Hex::default(), finalization: None },
            entries: Vec::new(),
        },
    }
}
