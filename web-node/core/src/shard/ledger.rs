//! The chain behind the service: proving a query, and bringing what was served to its payment.
//!
//! ```text
//! session ends ─▶ CommitShard ─(deadline)─▶ Reveal ─(reveal window)─▶ ClaimShard, where the replicas agree
//! ```
//!
//! What the node will commit to and claim is written down with every voucher and at the end, so that a
//! node that is killed and started again goes on where it stopped. Each step looks at the proven record
//! first and does what is still missing.

use std::{sync::Arc, time::Duration};

use commonware_codec::Encode as _;
use futures::lock::Mutex as AsyncMutex;
use nesa_chain::{
    action::Lane,
    committee::{self, DRAW_DELAY_VIEWS},
    fees, keys,
    query::QueryRecord,
    record::Snapshot,
};
use nesa_crypto::{SecretKey, seal::Binding};
use nesa_light::{AskError, LightClient, accounts::Accounts};
use nesa_platform::{
    BoxFuture,
    storage::{StorageError, Store},
    task, time,
};
use nesa_primitives::{Address, decode_exact};
use nesa_sealed::{Opening, Terms, message::Refusal, server::Outcome};

use super::{
    chain::{ProvenShard, ShardChain},
    entry::{Entry, place, place_of},
    evidence::{Evidence, Kept, Need},
    shelf::Shelf,
};
use crate::{fault::Fault, metrics::Counters};

/// The namespace in the store.
pub(super) const SPACE: &str = "served-shards";
/// How long a node waits for its own view of the chain to reach a client's.
const CATCH_UP: Duration = Duration::from_secs(6);
/// Pause between two looks, unless a new head comes first.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// The chain as a node of the sealed lane uses it.
#[derive(Clone)]
pub(crate) struct OnChain {
    pub(crate) accounts: Accounts,
    pub(crate) operator: SecretKey,
    pub(crate) node: Address,
    pub(crate) store: Store,
    pub(crate) counters: Arc<Counters>,
    pub(crate) margin: Duration,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) evidence: Arc<Evidence>,
    /// One session at a time is computed again for a dispute.
    pub(crate) defending: Arc<AsyncMutex<()>>,
    pub(crate) fault: Option<Fault>,
    /// Which lane's queries are proven: those of the sealed lane, or of the float lane.
    pub(crate) lane: Lane,
}

impl ShardChain for OnChain {
    fn prove<'a>(
        &'a self,
        binding: &'a Binding,
        opening: &'a Opening,
    ) -> BoxFuture<'a, Result<ProvenShard, Refusal>> {
        Box::pin(self.prove_place(binding, opening.replica))
    }

    fn checkpoint<'a>(&'a self, proven: &'a ProvenShard, outcome: Outcome) -> BoxFuture<'a, ()> {
        Box::pin(self.note(proven, outcome))
    }

    fn reserve(&self, proven: &ProvenShard, bytes: usize, repeat: Duration) -> bool {
        let need = Need { bytes, repeat, most: most_repeated(proven) };
        self.evidence.reserve(&place_of(proven), need)
    }

    fn spend(&self, proven: &ProvenShard, took: Duration) -> bool {
        self.evidence.spend(&place_of(proven), took, most_repeated(proven))
    }

    fn keep<'a>(&'a self, proven: &'a ProvenShard, kept: Kept) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Err(error) = self.evidence.append(&place_of(proven), &kept).await {
                self.counters.problem(&error);
            }
        })
    }

    fn settle<'a>(
        &'a self,
        proven: &'a ProvenShard,
        outcome: Option<Outcome>,
    ) -> BoxFuture<'a, ()> {
        Box::pin(self.conclude(proven, outcome))
    }
}

impl OnChain {
    /// [`ShardChain::prove`] for the place of `replica`.
    pub(crate) async fn prove_place(
        &self,
        binding: &Binding,
        replica: u8,
    ) -> Result<ProvenShard, Refusal> {
        // A session is served once: a second one would need a second commitment.
        let place = place(&binding.query, binding.role.shard, replica);
        if self.store.get(SPACE, &place).await.map_err(|_| Refusal::Unavailable)?.is_some() {
            return Err(Refusal::Unavailable);
        }
        let looked = time::timeout(CATCH_UP, async {
            loop {
                let seen = self.light().height();
                match self.look(binding, replica).await {
                    Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => {
                        self.light().head_or(seen, LOOK).await;
                    }
                    decided => return decided,
                }
            }
        });
        match looked.await {
            Ok(Ok(Some(proven))) => Ok(proven),
            Ok(Ok(None)) | Err(_) => Err(Refusal::NotDrawn),
            Ok(Err(error)) => {
                tracing::debug!(%error, query = %binding.query, "the chain cannot be asked");
                Err(Refusal::Unavailable)
            }
        }
    }

    /// [`ShardChain::checkpoint`].
    pub(crate) async fn note(&self, proven: &ProvenShard, outcome: Outcome) {
        let entry = Entry::new(proven, self.node, outcome);
        if let Err(error) = self.put(&entry).await {
            self.counters.problem(&error);
        }
    }

    /// [`ShardChain::settle`].
    pub(crate) async fn conclude(&self, proven: &ProvenShard, outcome: Option<Outcome>) {
        self.evidence.ended(&place_of(proven));
        let Some(outcome) = outcome else {
            return self.bring_kept(&place_of(proven)).await;
        };
        let entry = Entry::new(proven, self.node, outcome);
        if let Err(error) = self.put(&entry).await {
            self.counters.problem(&error);
        }
        self.bring(entry);
    }

    pub(super) fn light(&self) -> &LightClient {
        self.accounts.light()
    }

    async fn put(&self, entry: &Entry) -> Result<(), StorageError> {
        self.store.put(SPACE, &entry.key(), &entry.encode()).await
    }

    /// The node's part in the query that an envelope is bound to; `None` when it has none.
    async fn look(&self, binding: &Binding, replica: u8) -> Result<Option<ProvenShard>, AskError> {
        let Binding { query, model, role, .. } = *binding;
        let light = self.light();
        let (record, _) = light.record::<QueryRecord>(keys::query(&query), "query", 0).await?;
        let missing = || AskError::Undecided { missing: format!("query {query}") };
        let record = record.ok_or_else(missing)?;
        let late = time::now_ms().saturating_add(self.margin.as_millis() as u64);
        let Some(sealed) = record.sealed.as_ref().filter(|_| record.lane == self.lane) else {
            return Ok(None);
        };
        let drawn_later = record.included_view.saturating_add(DRAW_DELAY_VIEWS);
        if !record.status.is_open()
            || late >= record.deadline_ms
            || record.model != model
            || record.draw_view != drawn_later
        {
            return Ok(None);
        }
        let seed = light.seed(record.draw_view).await?;
        let key = keys::snapshot(record.snapshot_epoch);
        let (snapshot, _) = light.record::<Snapshot>(key, "snapshot", 0).await?;
        let missing = || AskError::Undecided { missing: "the snapshot".into() };
        let snapshot = snapshot.ok_or_else(missing)?;
        let params = self.accounts.params().await?;
        let terms = &sealed.terms;
        let drawn = committee::derive_shards(&seed, &query, &snapshot.set, &model, terms);
        let Ok(drawn) = drawn else { return Ok(None) };
        if drawn.seat(role.shard, role.seat).is_none_or(|seat| seat.node != self.node) {
            return Ok(None);
        }
        Ok(Some(ProvenShard {
            terms: Terms {
                chain: light.chain(),
                query,
                model,
                client_key: record.client_key,
                role,
                cuts: terms.cuts.clone(),
                replicas: terms.replicas,
                price_per_token: record.price_per_token,
                budget: fees::replica_budget(record.escrow, terms),
                max_tokens: record.max_tokens,
                disclose: terms.disclose,
            },
            replica,
            seed,
            deadline_ms: record.deadline_ms,
            round_ms: params.step_ms,
        }))
    }

    /// Settles what an earlier run of this node left behind.
    pub(crate) async fn recover(&self) {
        let keys = match self.store.list(SPACE).await {
            Ok(keys) => keys,
            Err(error) => return self.counters.problem(&error),
        };
        if let Err(error) = self.evidence.recover(&keys).await {
            self.counters.problem(&error);
        }
        for key in keys {
            self.bring_kept(&key).await;
        }
    }

    /// Takes what was written down under a key to its settlement, if there is anything.
    async fn bring_kept(&self, key: &str) {
        let Ok(Some(bytes)) = self.store.get(SPACE, key).await else {
            return self.forget(key).await;
        };
        match decode_exact::<Entry>(&bytes, &()) {
            Ok(entry) => self.bring(entry),
            Err(error) => {
                tracing::warn!(%error, key, "a journal entry is dropped");
                if let Err(error) = self.store.delete(SPACE, key).await {
                    self.counters.problem(&error);
                }
            }
        }
    }

    /// Takes a session to its settlement, in the background.
    fn bring(&self, entry: Entry) {
        let chain = self.clone();
        task::spawn(async move { chain.run(entry).await });
    }

    /// Erases what was kept for a dispute that cannot come any more.
    pub(super) async fn forget(&self, key: &str) {
        if let Err(error) = self.evidence.erase(key).await {
            self.counters.problem(&error);
        }
    }
}

/// How long computing all sessions again may take that may be disputed: each is computed twice for its first
/// answers, and the half of a round is left for these to come into a block.
const fn most_repeated(proven: &ProvenShard) -> Duration {
    Duration::from_millis(proven.round_ms / 4)
}
