//! The chain behind the service: proving a query, and bringing what was served to its payment.
//!
//! ```text
//! session ends ─▶ CommitShard ─(deadline)─▶ Reveal ─(reveal window)─▶ ClaimShard, where the replicas agree
//! ```
//!
//! What the node will commit to and claim is written down with every voucher and at the end, so that a
//! node that is killed and started again goes on where it stopped. Each step looks at the proven record
//! first and does what is still missing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use commonware_codec::Encode as _;
use futures::{future::join_all, lock::Mutex as AsyncMutex};
use nesa_chain::{
    action::{Action, ClaimServed, ClaimShard, CommitShard, Lane, Place, Reveal, SeedBytes},
    committee::{self, DRAW_DELAY_VIEWS, Windows},
    fees, keys,
    query::{Agreement, QueryRecord},
    record::Snapshot,
};
use nesa_crypto::{SecretKey, seal::Binding};
use nesa_light::{
    AskError, LightClient,
    accounts::{Accounts, INCLUSION_LIMIT},
};
use nesa_platform::{
    BoxFuture,
    storage::{StorageError, Store},
    task, time,
};
use nesa_primitives::{Address, Amount, decode_exact};
use nesa_sealed::{Opening, Terms, message::Refusal, server::Outcome};

use nesa_trace::Answer;

use super::{
    contest::Brief,
    entry::{Entry, place, place_of},
    evidence::{Evidence, Kept, Need},
    service::{ProvenShard, ShardChain},
    shelf::Shelf,
};
use crate::{fault::Fault, metrics::Counters};

/// The namespace in the store.
const SPACE: &str = "served-shards";
/// How long a node waits for its own view of the chain to reach a client's.
const CATCH_UP: Duration = Duration::from_secs(6);
/// Pause between two looks, unless a new head comes first.
const LOOK: Duration = Duration::from_millis(500);
/// How long a node waits for what it said in a dispute to be in a block, before it looks again: several
/// tries fit a round.
const DISPUTE_WAIT: Duration = Duration::from_millis(2_500);
/// How often the fee of what is said in a dispute doubles, each time that no block took it: a bond is worth
/// more than a place in the next block.
const MAX_RAISES: u32 = 10;
/// Block time runs a little behind this device's clock: a window is entered so much later, in ms.
pub(super) const LATE_MS: u64 = 300;

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

/// What to do next about a session.
enum Next {
    Send(Action),
    /// What is owed in disputes: none of it waits for another.
    Say(Vec<Action>),
    Wait(Amount),
    Over(Amount),
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
    async fn forget(&self, key: &str) {
        if let Err(error) = self.evidence.erase(key).await {
            self.counters.problem(&error);
        }
    }

    async fn run(&self, entry: Entry) {
        let mut earned = Amount::ZERO;
        let mut brief = Brief::default();
        // What this node has said is in every record from this height on.
        let mut floor = 0;
        // How often it was said in vain.
        let mut tries = BTreeMap::new();
        loop {
            let seen = self.light().height();
            let next = match self.next(&entry, floor, &mut brief).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::debug!(%error, query = %entry.query, "cannot settle yet");
                    Next::Wait(earned)
                }
            };
            if let Next::Wait(now) | Next::Over(now) = next {
                let more = now.checked_sub(earned).unwrap_or_default();
                Counters::add(&self.counters.earned, more.0);
                earned = earned.max(now);
            }
            match next {
                Next::Send(action) => {
                    let name = name(&action);
                    match self.send(action).await {
                        Err(error) => {
                            tracing::debug!(%error, name, query = %entry.query, "not taken");
                        }
                        Ok(height) => {
                            floor = height;
                            continue;
                        }
                    }
                }
                Next::Say(actions) => {
                    if let Some(height) = self.say(&entry, actions, &mut tries).await {
                        floor = floor.max(height);
                        continue;
                    }
                }
                Next::Wait(_) => {}
                Next::Over(_) => {
                    if let Err(error) = self.store.delete(SPACE, &entry.key()).await {
                        self.counters.problem(&error);
                    }
                    self.forget(&entry.key()).await;
                    return;
                }
            }
            self.light().head_or(seen, LOOK).await;
        }
    }

    /// Says all that is owed in disputes, each by itself: what no block takes holds nothing else up, and is
    /// said again for a higher fee. The height from which what was taken is in every record, if anything was.
    async fn say(
        &self,
        entry: &Entry,
        actions: Vec<Action>,
        tries: &mut BTreeMap<Place, u32>,
    ) -> Option<u64> {
        let Entry { query, shard, replica, .. } = entry;
        let said = actions.into_iter().map(|action| {
            let (place, name) = (action.place(), name(&action));
            let raises = place.and_then(|place| tries.get(&place)).copied().unwrap_or(0);
            async move {
                match self.say_one(action, raises).await {
                    Ok(height) => {
                        if matches!(name, "open-dispute" | "opening" | "close-dispute") {
                            tracing::info!(name, %query, shard, replica, "in a dispute");
                        }
                        (place, Some(height))
                    }
                    Err(error) => {
                        tracing::debug!(%error, name, %query, "not taken");
                        (place, None)
                    }
                }
            }
        });
        let mut floor = None;
        for (place, height) in join_all(said).await {
            if let (Some(place), None) = (place, height) {
                *tries.entry(place).or_insert(0) += 1;
            }
            floor = floor.max(height);
        }
        floor
    }

    /// Given up early: of two openings only one is taken, and the next round does not wait.
    async fn say_one(&self, action: Action, raises: u32) -> Result<u64, AskError> {
        let least = self.accounts.params().await?.min_tx_fee;
        let fee = Amount(least.0.saturating_mul(1 << raises.min(MAX_RAISES)));
        let signed = self.accounts.send(&self.operator, action, fee).await?;
        let included = self.light().wait_included(&signed, DISPUTE_WAIT).await?;
        Ok(included.header.header.height())
    }

    /// Sends, and waits for the block; its height.
    async fn send(&self, action: Action) -> Result<u64, AskError> {
        let fee = self.accounts.params().await?.min_tx_fee;
        let signed = self.accounts.send(&self.operator, action, fee).await?;
        match self.light().wait_included(&signed, INCLUSION_LIMIT).await {
            Ok(included) => Ok(included.header.header.height()),
            Err(error) => {
                // It may have been dropped: do not build on its nonce.
                self.accounts.forget(&signed.tx.sender).await;
                Err(error)
            }
        }
    }

    async fn next(&self, entry: &Entry, floor: u64, brief: &mut Brief) -> Result<Next, AskError> {
        let Entry { query, shard, replica, seat, .. } = *entry;
        let key = keys::query(&query);
        let (record, _) = self.light().record::<QueryRecord>(key, "query", floor).await?;
        let params = self.accounts.params().await?;
        let now = time::now_ms();
        let Some((record, sealed)) = record.and_then(|r| r.sealed.clone().map(|s| (r, s))) else {
            let gone = now > entry.deadline_ms.saturating_add(params.longest_query_ms());
            return Ok(if gone { Next::Over(Amount::ZERO) } else { Next::Wait(Amount::ZERO) });
        };
        let windows = Windows::of(record.deadline_ms, sealed.terms.disclose, &params);
        let mine = sealed.commit(shard, replica).filter(|commit| commit.node == entry.node);
        let earned = mine.map_or(Amount::ZERO, |commit| commit.earned());
        if !record.status.is_open() || now > windows.close_ms.saturating_add(60_000) {
            return Ok(Next::Over(earned));
        }
        let owed = self.contest(entry, (&record, floor), &sealed, &windows, brief).await?;
        if !owed.is_empty() {
            return Ok(Next::Say(owed));
        }
        if windows.dispute_ms.is_none_or(|last| now > last.saturating_add(LATE_MS))
            && sealed.disputes.iter().all(|d| d.ruling().is_some() || d.shard != shard)
            && !matches!(brief, Brief::Over)
        {
            self.forget(&entry.key()).await;
            *brief = Brief::Over;
        }
        let entered = |end_ms: u64| now > end_ms.saturating_add(LATE_MS);
        Ok(match mine {
            // A spare puts whoever had its place before it out.
            None if now <= windows.commit_ms
                && sealed.commit(shard, replica).is_none_or(|before| before.seat < seat) =>
            {
                Next::Send(Action::CommitShard(CommitShard {
                    query,
                    shard,
                    replica,
                    seat,
                    blinded_root: committee::blind(
                        &self.light().chain(),
                        &query,
                        (shard, replica),
                        &entry.root,
                        &entry.blind,
                    ),
                    served_tokens: entry.served_tokens,
                    admission: entry.admission,
                    seed: SeedBytes(entry.seed.to_vec()),
                }))
            }
            Some(commit)
                if commit.root.is_none()
                    && entered(windows.commit_ms)
                    && now <= windows.reveal_ms =>
            {
                let (root, blind) = (entry.root, entry.blind);
                Next::Send(Action::Reveal(Reveal { query, shard, replica, root, blind }))
            }
            Some(commit) if commit.root.is_some() && entered(windows.reveal_ms) => {
                let agreement = sealed.agreement(shard);
                let served = fees::price(record.price_per_token, commit.served_tokens);
                let budget = fees::replica_budget(record.escrow, &sealed.terms);
                let served = served.map_or(budget, |served| served.min(budget));
                if agreement == Agreement::ClientLied && !commit.liar && served > commit.claimed() {
                    let claim = ClaimServed { query, shard, replica };
                    return Ok(Next::Send(Action::ClaimServed(claim)));
                }
                // Float replicas are compared by the client, whose voucher says what it found.
                let agreed =
                    record.lane == Lane::Float || matches!(agreement, Agreement::Agreed(_));
                let agreed = agreed && !commit.liar;
                match &entry.voucher {
                    Some(voucher) if agreed && voucher.total > commit.claimed() => {
                        let voucher = voucher.clone();
                        Next::Send(Action::ClaimShard(ClaimShard { query, voucher }))
                    }
                    _ => Next::Wait(earned),
                }
            }
            _ => Next::Wait(earned),
        })
    }
}

/// How long computing all sessions again may take that may be disputed: each is computed twice for its first
/// answers, and the half of a round is left for these to come into a block.
const fn most_repeated(proven: &ProvenShard) -> Duration {
    Duration::from_millis(proven.round_ms / 4)
}

/// An action's name. An opening has one of its own: once it is in a block, the validators have computed
/// what it opens.
fn name(action: &Action) -> &'static str {
    match action {
        Action::AnswerDispute(said) if matches!(said.answer, Answer::Opening(_)) => "opening",
        action => action.name(),
    }
}
