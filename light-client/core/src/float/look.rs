//! What nodes put on the chain against what they told this device: also later, after a reload.

use std::time::Duration;

use nesa_chain::{
    action::Lane,
    committee::Windows,
    keys,
    params::Params,
    query::{QueryRecord, Settlement},
};
use nesa_platform::time;
use nesa_primitives::{Address, Amount, Hash};
use nesa_sealed::float::root;

use super::FloatOutcome;
use crate::{
    AskError,
    query::{QueryClient, QueryError, pay},
};

/// Blocks after a window in which its last transactions are seen, in ms.
const AFTER_MS: u64 = 5_000;

/// What one node told this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatTold {
    /// Its replica.
    pub replica: u8,
    /// Its key.
    pub node: Address,
    /// What it must reveal to stand by its answer.
    pub root: Hash,
}

/// What one look at a query of the float lane shows, proven in state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatLooked {
    /// For each node asked about: whether it revealed what it told, `None` while it revealed nothing.
    pub revealed: Vec<Option<bool>>,
    /// When answers may be revealed and claims made, block time.
    pub windows: Windows,
    /// What has been claimed so far, before the split.
    pub claimed: Amount,
    /// What was escrowed.
    pub escrow: Amount,
    /// The end of the escrow, once it came.
    pub settlement: Option<Settlement>,
    /// Height of the header under which the record was proven.
    pub height: u64,
}

impl QueryClient {
    /// Looks up what the nodes of `query` have revealed and claimed; `told` is what they told this
    /// device. `None` while no peer can show it.
    ///
    /// # Errors
    /// [`QueryError`] when the chain's answer is wrong, or the query is not of the float lane.
    pub async fn look_at_float(
        &self,
        query: &Hash,
        told: &[FloatTold],
    ) -> Result<Option<FloatLooked>, QueryError> {
        let wanted = [keys::query(query), keys::params()];
        let proven = match self.light().prove(&wanted).await {
            Ok(proven) => proven,
            Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let record = pay::decode::<QueryRecord>(&proven, &wanted[0], "query")?;
        let params = pay::decode::<Params>(&proven, &wanted[1], "params")?;
        let (Some(record), Some(params)) = (record, params) else { return Ok(None) };
        if record.lane != Lane::Float {
            return Err(QueryError::Record {
                what: "lane",
                got: format!("{:?}", record.lane),
                expected: "the float lane".into(),
            });
        }
        Ok(Some(FloatLooked {
            revealed: told.iter().map(|told| revealed(&record, told)).collect(),
            windows: Windows::of(record.deadline_ms, false, &params),
            claimed: record.claimed().unwrap_or_default(),
            escrow: record.escrow,
            settlement: record.status.settlement().copied(),
            height: proven.header.header.height(),
        }))
    }

    /// Waits until the replicas that answered have revealed, or could have; with `claimed`, until those
    /// that agree have claimed, or could have. Compares each revealed root with the answer told here.
    ///
    /// # Errors
    /// [`QueryError`] when the chain cannot be asked.
    pub async fn await_float(
        &self,
        outcome: &mut FloatOutcome,
        claimed: bool,
    ) -> Result<(), QueryError> {
        let key = keys::query(&outcome.query);
        loop {
            let seen = self.light().height();
            let now = time::now_ms();
            if now > outcome.windows.commit_ms {
                match self.light().record::<QueryRecord>(key, "query", 0).await {
                    Ok((Some(record), _)) => {
                        outcome.take(&record);
                        let end = if claimed {
                            outcome.windows.close_ms
                        } else {
                            outcome.windows.reveal_ms
                        };
                        let over = now > end.saturating_add(AFTER_MS);
                        if over || outcome.is_complete(claimed) {
                            return Ok(());
                        }
                    }
                    Ok((None, _)) | Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            self.light().head_or(seen, Duration::from_millis(700)).await;
        }
    }
}

/// Whether a node revealed what it told.
fn revealed(record: &QueryRecord, told: &FloatTold) -> Option<bool> {
    let commit = record.sealed.as_ref()?.commit(0, told.replica)?;
    // Somebody else's commitment in its place says nothing of this node.
    let revealed = commit.root.filter(|_| commit.node == told.node)?;
    Some(revealed == told.root)
}

impl FloatOutcome {
    /// What the nodes that answered must reveal to stand by it.
    pub fn told(&self) -> Vec<FloatTold> {
        let told = |replica: &super::FloatReplica| {
            let answer = replica.answer.as_ref().ok()?;
            let (node, root) = (replica.node, root(&self.salt, answer));
            Some(FloatTold { replica: replica.replica, node, root })
        };
        self.replicas.iter().filter_map(told).collect()
    }

    fn take(&mut self, record: &QueryRecord) {
        let told = self.told();
        for replica in &mut self.replicas {
            let commit = record.sealed.as_ref().and_then(|s| s.commit(0, replica.replica));
            if let Some(commit) = commit.filter(|commit| commit.node == replica.node) {
                replica.claimed = commit.claimed();
            }
            let said = told.iter().find(|told| told.replica == replica.replica);
            replica.revealed = said.and_then(|told| revealed(record, told)).or(replica.revealed);
        }
    }

    fn is_complete(&self, claimed: bool) -> bool {
        let mut answered = self.replicas.iter().filter(|replica| replica.answer.is_ok());
        answered.all(|replica| {
            let paid = !claimed || !replica.agrees || !replica.claimed.is_zero();
            replica.revealed.is_some() && paid
        })
    }
}
