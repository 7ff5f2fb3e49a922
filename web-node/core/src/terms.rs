//! What the chain says about a query, proven by this node's own light client.

use bytes::Bytes;
use nesa_chain::{
    committee::{self, CommitteeError, DRAW_DELAY_VIEWS},
    fees, keys,
    query::QueryRecord,
    record::Snapshot,
};
use nesa_light::{AskError, LightClient};
use nesa_masked::{message::Open, server::Terms};
use nesa_platform::time;
use nesa_primitives::{Address, Amount, Hash};
use std::time::Duration;

/// How long a node waits for its own view of the chain to reach a client's.
const CATCH_UP: Duration = Duration::from_secs(6);
/// Pause between two looks, unless a new head comes first.
const LOOK: Duration = Duration::from_millis(250);

/// A query that this node must not serve, or cannot judge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// The chain has no such query.
    #[error("query {0} is not on the chain")]
    Unknown(Hash),
    /// The query is settled, or too close to its deadline.
    #[error("query {0} is closed")]
    Closed(Hash),
    /// The query drew another node for this side and attempt.
    #[error("query {0} did not draw this node so")]
    NotDrawn(Hash),
    /// The draw cannot be recomputed.
    #[error(transparent)]
    Committee(#[from] CommitteeError),
    /// The chain could not be asked.
    #[error(transparent)]
    Chain(#[from] AskError),
}

/// A query proven to have drawn this node.
pub(crate) struct Drawn {
    pub(crate) terms: Terms,
    /// The seed of the draw view: the first commit brings it.
    pub(crate) seed: Bytes,
    /// Block time of settlement, in ms.
    pub(crate) deadline_ms: u64,
}

/// Proves that `open` names an open query that drew `node`, and returns its terms.
///
/// Waits a little where the client's view of the chain is ahead of this node's.
pub(crate) async fn prove(
    light: &LightClient,
    node: &Address,
    open: &Open,
    margin: Duration,
) -> Result<Drawn, TermsError> {
    let looked = time::timeout(CATCH_UP, async {
        loop {
            let seen = light.height();
            match look(light, node, open, margin).await {
                // Not there yet, perhaps: a later head decides.
                Err(
                    TermsError::Unknown(_)
                    | TermsError::Chain(AskError::Undecided { .. } | AskError::NoPeer { .. }),
                ) => light.head_or(seen, LOOK).await,
                decided => return decided,
            }
        }
    });
    looked.await.unwrap_or(Err(TermsError::Unknown(open.query)))
}

async fn look(
    light: &LightClient,
    node: &Address,
    open: &Open,
    margin: Duration,
) -> Result<Drawn, TermsError> {
    let query = open.query;
    let (record, _) = light.record::<QueryRecord>(keys::query(&query), "query", 0).await?;
    let record = record.ok_or(TermsError::Unknown(query))?;
    let late = time::now_ms().saturating_add(margin.as_millis() as u64) >= record.deadline_ms;
    if !record.status.is_open() || late {
        return Err(TermsError::Closed(query));
    }
    if record.model != open.model
        || record.draw_view != record.included_view.saturating_add(DRAW_DELAY_VIEWS)
    {
        return Err(TermsError::NotDrawn(query));
    }
    let seed = light.seed(record.draw_view).await?;
    let key = keys::snapshot(record.snapshot_epoch);
    let (snapshot, _) = light.record::<Snapshot>(key, "snapshot", 0).await?;
    let missing = || AskError::Undecided { missing: "the snapshot".into() };
    let snapshot = snapshot.ok_or_else(missing)?;
    let named = record.named.as_ref();
    let committee = committee::derive(&seed, &query, &snapshot.set, &record.model, named)?;
    if committee.find(node) != Some((open.side, open.attempt)) {
        return Err(TermsError::NotDrawn(query));
    }
    // What the side's other candidates have claimed is gone from the budget.
    let budget = record
        .commits
        .iter()
        .filter(|commit| commit.side == open.side && commit.node != *node)
        .try_fold(fees::side_budget(record.escrow), |left, commit| {
            left.checked_sub(commit.claimed())
        })
        .unwrap_or(Amount::ZERO);
    Ok(Drawn {
        terms: Terms {
            chain: light.chain(),
            query,
            model: record.model,
            client_key: record.client_key,
            side: open.side,
            attempt: open.attempt,
            price_per_token: record.price_per_token,
            budget,
            max_tokens: record.max_tokens,
        },
        seed,
        deadline_ms: record.deadline_ms,
    })
}
