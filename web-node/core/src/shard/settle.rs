//! From the end of a session to its payment: what is still missing in the proven record is said, block after block.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use nesa_chain::{
    action::{Action, ClaimServed, ClaimShard, CommitShard, Lane, Place, Reveal, SeedBytes},
    committee::{self, Windows},
    fees, keys,
    query::{Agreement, QueryRecord},
};
use nesa_light::{AskError, accounts::INCLUSION_LIMIT};
use nesa_platform::time;
use nesa_primitives::Amount;
use nesa_trace::Answer;

use super::{
    contest::Brief,
    entry::Entry,
    ledger::{LOOK, OnChain, SPACE},
};
use crate::metrics::Counters;

/// How long a node waits for what it said in a dispute to be in a block, before it looks again: several
/// tries fit a round.
const DISPUTE_WAIT: Duration = Duration::from_millis(2_500);
/// How often the fee of what is said in a dispute doubles, each time that no block took it: a bond is worth
/// more than a place in the next block.
const MAX_RAISES: u32 = 10;
/// Block time runs a little behind this device's clock: a window is entered so much later, in ms.
pub(super) const LATE_MS: u64 = 300;

/// What to do next about a session.
enum Next {
    Send(Action),
    /// What is owed in disputes: none of it waits for another.
    Say(Vec<Action>),
    Wait(Amount),
    Over(Amount),
}

impl OnChain {
    /// Brings a session to its payment, however often the node is started again meanwhile.
    pub(super) async fn run(&self, entry: Entry) {
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
        let mine = sealed.place_of((shard, replica), &entry.node).map(|at| &sealed.commits[at]);
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
            // A spare puts whoever had its place before it out; who was put out is paid what was signed for.
            None if now <= windows.commit_ms
                && (entry.voucher.is_some()
                    || sealed.commit(shard, replica).is_none_or(|holder| holder.seat < seat)) =>
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
                    && !commit.put_out
                    && entered(windows.commit_ms)
                    && now <= windows.reveal_ms =>
            {
                let (root, blind) = (entry.root, entry.blind);
                Next::Send(Action::Reveal(Reveal { query, shard, replica, root, blind }))
            }
            Some(commit) if commit.is_due() && entered(windows.reveal_ms) => {
                let agreement = sealed.agreement(shard);
                let served = fees::price(record.price_per_token, commit.served_tokens);
                let budget = fees::replica_budget(record.escrow, &sealed.terms);
                let served = served.map_or(budget, |served| served.min(budget));
                let lied = agreement == Agreement::ClientLied && !commit.put_out;
                if lied && served > commit.claimed() {
                    let claim = ClaimServed { query, shard, replica };
                    return Ok(Next::Send(Action::ClaimServed(claim)));
                }
                // Float replicas are compared by the client, whose voucher says what it found; who was put
                // out is compared with nobody.
                let payable = record.lane == Lane::Float || commit.put_out || agreement.pays();
                match &entry.voucher {
                    Some(voucher) if payable && voucher.total > commit.claimed() => {
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

/// An action's name. An opening has one of its own: once it is in a block, the validators have computed
/// what it opens.
fn name(action: &Action) -> &'static str {
    match action {
        Action::AnswerDispute(said) if matches!(said.answer, Answer::Opening(_)) => "opening",
        action => action.name(),
    }
}
