//! After the answer: waiting for settlement, proving it, and building the payment receipt.

use std::time::Duration;

use bytes::Bytes;
use commonware_codec::Encode as _;
use nesa_chain::{
    keys,
    query::{QueryRecord, Role},
    trust::TrustRoot,
    tx::SignedTx,
};
use nesa_masked::{client::Link, message::SignedCommit};
use nesa_platform::time::{self, Instant};
use nesa_primitives::{Address, Amount, Verdict, decode_exact};
use nesa_verify::receipt::{
    CertifiedPart, EntryPart, Hex, PAYMENT_FORMAT, PaymentReceipt, StatePart,
};
use serde_json::json;

use super::{
    QueryClient, QueryError, QueryOutcome,
    journal::{Entry, Fate},
    report::{Listener, Phase, Progress},
};
use crate::{
    AskError, Proven,
    client::{Included, since},
    ladder::{Ladder, LadderStep, StepId},
    sync::Certified,
};

/// A settlement is due in the first block after the deadline; an idle chain makes one a second.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// What a query leaves for its settlement and its receipt. Public values only.
#[derive(Clone)]
pub(super) struct Evidence {
    pub(super) trust: TrustRoot,
    pub(super) signed: SignedTx,
    pub(super) included: Included,
    pub(super) before: Proven,
    pub(super) record: QueryRecord,
    pub(super) seed: Bytes,
    pub(super) snapshot: Proven,
    pub(super) nodes: Proven,
    /// Node, its signed commitment, and its running total.
    pub(super) served: Vec<(Address, Option<SignedCommit>, Amount)>,
    pub(super) links: Vec<Link>,
}

/// An answered query that waits for its settlement.
#[derive(Clone)]
pub struct Pending {
    pub(super) entry: Entry,
    pub(super) ladder: Ladder,
    pub(super) evidence: Box<Evidence>,
    pub(super) answered: Instant,
}

impl Pending {
    /// The payment receipt as far as it can be written before settlement: its last part is empty.
    /// Kept across a reload, [`QueryClient::complete`] finishes it.
    pub fn draft(&self) -> PaymentReceipt {
        unsettled(&self.evidence)
    }
}

impl QueryClient {
    /// Waits for the settlement of an answered query, proves it, and completes `outcome` with the
    /// last rung, the costs and the payment receipt. Does nothing when that was done.
    ///
    /// # Errors
    /// [`QueryError`] when settlement cannot be proven in time; the outcome then stays pending.
    pub async fn settle(
        &self,
        outcome: &mut QueryOutcome,
        say: &Listener,
    ) -> Result<(), QueryError> {
        let Some(mut pending) = outcome.pending.take() else { return Ok(()) };
        say.say(Progress::Phase(Phase::Settling));
        match self.settled(&pending).await {
            Ok((record, proven)) => {
                let start = Instant::now();
                let receipt = build(&pending.evidence, &proven);
                let verdict = nesa_verify::receipt::verify(
                    &receipt,
                    self.light().trust(),
                    &mut nesa_platform::random::rng(),
                );
                let step = self.settled_step(&pending, &record, &proven, &verdict, since(start));
                pending.ladder.set(step.clone());
                say.say(Progress::Step(Box::new(step)));
                if let Some(settlement) = record.status.settlement() {
                    outcome.cost.returned = Some(settlement.returned);
                    outcome.cost.burned = settlement.burned;
                    outcome.cost.paid = settlement
                        .paid
                        .iter()
                        .fold(settlement.treasury, |sum, p| super::sum(sum, p.amount));
                    pending.entry.fate = Fate::Settled { returned: settlement.returned };
                }
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

    /// The settled record with the proofs a receipt needs.
    async fn settled(&self, pending: &Pending) -> Result<(QueryRecord, Proven), QueryError> {
        let record = &pending.evidence.record;
        let wanted = [keys::query(&record.id), keys::params(), keys::model(&record.model)];
        let until = record.deadline_ms.saturating_sub(time::now_ms());
        let limit = Duration::from_millis(until) + SETTLE_LIMIT;
        let wait = async {
            loop {
                let seen = self.light().height();
                let due = self
                    .light()
                    .head()
                    .is_some_and(|head| head.timestamp_ms() >= record.deadline_ms);
                if due {
                    match self.light().prove(&wanted).await {
                        Ok(proven) => {
                            let found = super::pay::decode::<QueryRecord>(
                                &proven,
                                &wanted[0],
                                "settled query",
                            )?;
                            if let Some(found) = found
                                && !found.status.is_open()
                            {
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
                what: "settlement of the query",
                ms: limit.as_millis() as u64,
            }
            .into()),
        }
    }

    fn settled_step(
        &self,
        pending: &Pending,
        record: &QueryRecord,
        proven: &Proven,
        receipt: &Result<
            nesa_verify::receipt::Report<nesa_verify::receipt::PaymentSummary>,
            nesa_verify::receipt::Failure,
        >,
        check_ms: f64,
    ) -> LadderStep {
        let evidence = &pending.evidence;
        let Some(settlement) = record.status.settlement() else {
            return LadderStep::pending(StepId::Settled);
        };
        if let Err(failure) = receipt {
            return LadderStep::failed(
                StepId::Settled,
                failure.what.clone(),
                failure.got.clone(),
                failure.expected.clone(),
            );
        }
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
                    "claimed": c.claimed(), "height": c.height,
                })
            })
            .collect();
        let to_nodes: u64 = settlement
            .paid
            .iter()
            .filter(|p| p.role == Role::Compute)
            .map(|p| p.amount.0)
            .fold(0, u64::saturating_add);
        LadderStep::verified(
            StepId::Settled,
            "the chain",
            format!(
                "{to_nodes} unes to the nodes, {} burned, {} returned, in block {}",
                settlement.burned, settlement.returned, settlement.height
            ),
            proven.ms + check_ms,
            json!({
                "height": settlement.height,
                "proven_at": proven.header.header.height(),
                "escrow": record.escrow,
                "paid": settlement.paid,
                "treasury": settlement.treasury,
                "burned": settlement.burned,
                "returned": settlement.returned,
                "commits": commits,
                "attempts": evidence.links.iter().map(|l| l.attempt).collect::<Vec<_>>(),
            }),
        )
    }

    /// Completes a receipt that was kept before settlement; `None` while the chain has not settled
    /// the query, or has forgotten it.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn complete(
        &self,
        mut draft: PaymentReceipt,
    ) -> Result<Option<(PaymentReceipt, QueryRecord)>, AskError> {
        let Ok(signed) = SignedTx::from_bytes(&draft.payment.0) else { return Ok(None) };
        let nesa_chain::action::Action::PayForQuery(pay) = &signed.tx.action else {
            return Ok(None);
        };
        let wanted = [keys::query(&signed.id()), keys::params(), keys::model(&pay.model)];
        let proven = self.light().prove(&wanted).await?;
        let record = super::pay::decode::<QueryRecord>(&proven, &wanted[0], "settled query")?;
        let Some(record) = record.filter(|record| !record.status.is_open()) else {
            return Ok(None);
        };
        draft.settled = state(&proven);
        Ok(Some((draft, record)))
    }

    /// Checks an earlier query again, from a fresh state proof: the settlement's record, if the
    /// chain still keeps it.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn recheck(&self, receipt: &PaymentReceipt) -> Result<Verdict<()>, AskError> {
        let Ok(signed) = SignedTx::from_bytes(&receipt.payment.0) else {
            return Ok(Verdict::invalid("payment", "malformed bytes", "a signed transaction"));
        };
        let key = keys::query(&signed.id());
        let proven = self.light().prove(&[key]).await?;
        let stored = receipt.settled.entries.first().and_then(|entry| entry.value.as_ref());
        match (proven.value(&key), stored) {
            (Some(now), Some(then)) if now[..] == then.0[..] => Ok(Verdict::Valid(())),
            (Some(now), _) => {
                let now = decode_exact::<QueryRecord>(now, &()).map(|r| format!("{:?}", r.status));
                Ok(Verdict::invalid(
                    "record of the query",
                    now.unwrap_or_else(|error| error.to_string()),
                    "the one in the receipt",
                ))
            }
            (None, _) => Ok(Verdict::undecided("the record: the chain has forgotten it by now")),
        }
    }
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

/// The public record of a settled query.
fn build(evidence: &Evidence, settled: &Proven) -> PaymentReceipt {
    PaymentReceipt { settled: state(settled), ..unsettled(evidence) }
}

/// The public record of a query that is not settled yet.
fn unsettled(evidence: &Evidence) -> PaymentReceipt {
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
        settled: StatePart {
            at: CertifiedPart { header: Hex::default(), finalization: None },
            entries: Vec::new(),
        },
    }
}
