//! What a node says in the disputes of its replica, as the chain stands.
//!
//! ```text
//! another root revealed ─▶ OpenDispute ─▶ answer each round by its end ─▶ the other is late: CloseDispute
//!                                                                     └▶ opening, judged ─▶ ruling
//! ```
//!
//! All that is owed is said at once. Nothing of it has a nonce, so no other transaction of the operator, and
//! no other dispute, stands in its way.

use std::time::Duration;

use nesa_chain::{
    action::{Action, AnswerDispute, CloseDispute, OpenDispute, Pair},
    committee::Windows,
    keys,
    limits::MAX_DISPUTES,
    query::{DisputeRecord, QueryRecord, Sealed},
};
use nesa_light::AskError;
use nesa_platform::time::{self, Instant};
use nesa_trace::Side;

use super::{
    defence::{Defence, DefenceError},
    entry::Entry,
    ledger::OnChain,
    settle::LATE_MS,
};
use crate::fault::Fault;

/// The replica with the higher number leaves opening to the other for so long, in ms: a dispute is opened
/// once.
const COURTESY_MS: u64 = 2_000;
/// What is ready is said when computing more has taken so long: nothing waits for an answer that takes long.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a node prepared for the disputes of one session.
#[derive(Default)]
pub(super) enum Brief {
    /// Nothing yet.
    #[default]
    Unread,
    /// Its run, computed again.
    Ready(Box<Defence>),
    /// It cannot defend itself.
    Lost,
    /// Nobody can ask any more.
    Over,
}

impl OnChain {
    /// What the node has to say now in the disputes of its replica, what is due first first; nothing when it
    /// is not its turn.
    pub(super) async fn contest(
        &self,
        entry: &Entry,
        (record, floor): (&QueryRecord, u64),
        sealed: &Sealed,
        windows: &Windows,
        brief: &mut Brief,
    ) -> Result<Vec<Action>, AskError> {
        let (now, started) = (time::now_ms(), Instant::now());
        let Some(last) = windows.dispute_ms else { return Ok(Vec::new()) };
        let silent = matches!(self.fault, Some(Fault::LieAndHush { .. }));
        if silent || now <= windows.reveal_ms.saturating_add(LATE_MS) {
            return Ok(Vec::new());
        }
        let Entry { query, shard, replica, .. } = *entry;
        // Who was put out is no party: a spare has its place.
        let mine = sealed.commit(shard, replica).filter(|mine| mine.node == entry.node);
        let Some(mine) = mine else { return Ok(Vec::new()) };
        let (mut said, mut owing) = (Vec::new(), Vec::new());
        for dispute in sealed.disputes.iter().filter(|d| d.shard == shard && d.ruling().is_none()) {
            let (left, right) = (dispute.left, dispute.right);
            let Some(side) = side(replica, left, right) else { continue };
            let pair = Pair { query, shard, left, right };
            let key = keys::dispute(&query, shard, left, right);
            let (running, _) = self.light().record::<DisputeRecord>(key, "dispute", floor).await?;
            let Some(DisputeRecord { dispute, round, round_ms }) = running else { continue };
            let owed = dispute.awaits(side);
            if now > round_ms.saturating_add(LATE_MS) {
                // Who has answered wins by the other's silence; who has not says nothing.
                if !owed {
                    said.push(Action::CloseDispute(CloseDispute { pair }));
                }
            } else if owed {
                owing.push((round_ms, pair, round, side, dispute));
            }
        }
        owing.sort_by_key(|(round_ms, pair, ..)| (*round_ms, *pair));
        for (_, pair, round, side, dispute) in owing {
            if !said.is_empty() && started.elapsed() > PATIENCE {
                return Ok(said);
            }
            let Some(defence) = self.brief(entry, record, brief).await else { break };
            match defence.answer(&self.shelf, &dispute, side).await {
                Ok(answer) => {
                    said.push(Action::AnswerDispute(AnswerDispute { pair, round, answer }));
                }
                Err(error) => tracing::warn!(%error, %query, shard, replica, "no answer"),
            }
        }
        if now > last || mine.liar {
            return Ok(said);
        }
        for other in sealed.commits.iter().filter(|c| c.shard == shard && !c.liar) {
            let differs = other.root.is_some() && mine.root.is_some() && other.root != mine.root;
            let (left, right) = (replica.min(other.replica), replica.max(other.replica));
            let known =
                sealed.disputes.iter().any(|d| (d.shard, d.left, d.right) == (shard, left, right));
            let waits = replica == right && now <= windows.reveal_ms.saturating_add(COURTESY_MS);
            if !differs || known || waits || sealed.disputes.len() >= MAX_DISPUTES {
                continue;
            }
            let Some(defence) = self.brief(entry, record, brief).await else { break };
            match defence.manifest() {
                Ok(manifest) => {
                    let pair = Pair { query, shard, left, right };
                    said.push(Action::OpenDispute(OpenDispute { pair, manifest }));
                }
                Err(error) => tracing::warn!(%error, %query, shard, replica, "no dispute"),
            }
        }
        Ok(said)
    }

    /// The session's run, computed again the first time.
    async fn brief<'a>(
        &self,
        entry: &Entry,
        record: &QueryRecord,
        brief: &'a mut Brief,
    ) -> Option<&'a mut Defence> {
        if matches!(brief, Brief::Unread) {
            // One at a time: each takes a run of its shard.
            let _one = self.defending.lock().await;
            *brief = match self.prepare(entry, record).await {
                Ok(Some(defence)) => Brief::Ready(Box::new(defence)),
                Ok(None) => Brief::Lost,
                Err(error) => {
                    tracing::warn!(%error, query = %entry.query, "this node cannot defend itself");
                    self.counters.problem(&error);
                    Brief::Lost
                }
            };
        }
        match brief {
            Brief::Ready(defence) => Some(defence),
            Brief::Unread | Brief::Lost | Brief::Over => None,
        }
    }

    async fn prepare(
        &self,
        entry: &Entry,
        record: &QueryRecord,
    ) -> Result<Option<Defence>, DefenceError> {
        let Some(kept) = self.evidence.load(&entry.key()).await? else { return Ok(None) };
        let committed = (entry.root, record.max_tokens);
        Defence::prepare(&self.shelf, record.model, kept, committed, self.fault).await.map(Some)
    }
}

/// Which party of a pair a replica is.
fn side(replica: u8, left: u8, right: u8) -> Option<Side> {
    match replica {
        _ if replica == left => Some(Side::Left),
        _ if replica == right => Some(Side::Right),
        _ => None,
    }
}
