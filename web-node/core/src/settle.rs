//! From a served query to money: `Commit`, `Claim`, and the proven payment.
//!
//! A claim pays in its own block. The journal keeps the query until the chain has settled it all the
//! same: a query is served once, and the entry is what says so.
//!
//! Each step looks at the proven record first and does what is still missing, so it can be
//! repeated after a refusal, a lost connection or a killed process without harm.

use crate::{
    journal::{Entry, Journal},
    metrics::Counters,
};
use nesa_chain::{
    action::{Action, Claim, Commit, SeedBytes},
    keys,
    query::{CommitRecord, QueryRecord},
};
use nesa_crypto::SecretKey;
use nesa_light::{AskError, accounts::Accounts};
use nesa_platform::{
    task::{self, MaybeSend},
    time,
};
use nesa_primitives::Amount;
use std::{sync::Arc, time::Duration};

/// Pause between two looks at the chain, unless a new head comes first.
const LOOK: Duration = Duration::from_secs(1);
/// How long after its deadline a query may stay unsettled before it is given up, in ms: the chain
/// was stopped, or forgot it.
const GIVE_UP_MS: u64 = 60 * 60 * 1000;

/// Brings served queries to the chain.
#[derive(Clone)]
pub(crate) struct Settler {
    accounts: Accounts,
    operator: SecretKey,
    journal: Journal,
    counters: Arc<Counters>,
}

/// What to do next about a query.
enum Step {
    Send(Action),
    /// All is on chain, or nothing can be done for now; so much was paid to this node.
    Wait(Amount),
    /// Settled: so much was paid to this node.
    Settled(Amount),
    /// The chain does not have it (any more).
    Gone,
}

impl Settler {
    pub(crate) fn new(
        accounts: Accounts,
        operator: SecretKey,
        journal: Journal,
        counters: Arc<Counters>,
    ) -> Settler {
        Settler { accounts, operator, journal, counters }
    }

    /// Takes a query to its settlement, in the background.
    pub(crate) fn settle(&self, entry: Entry) {
        let settler = self.clone();
        task::spawn(async move { settler.run(entry).await });
    }

    /// Settles what an earlier run of this node left behind.
    pub(crate) async fn recover(&self) {
        let entries = match self.journal.all().await {
            Ok(entries) => entries,
            Err(error) => return self.counters.problem(&error),
        };
        for entry in entries {
            if entry.outcome.is_none() {
                self.forget(&entry).await;
                continue;
            }
            tracing::info!(query = %entry.query, "settling a query of an earlier run");
            self.settle(entry);
        }
    }

    async fn run(&self, entry: Entry) {
        let mut earned = Amount::ZERO;
        loop {
            let seen = self.accounts.light().height();
            let step = match self.look(&entry).await {
                Ok(step) => step,
                Err(error) => {
                    tracing::debug!(%error, query = %entry.query, "cannot settle yet");
                    Step::Wait(earned)
                }
            };
            if let Step::Wait(now) | Step::Settled(now) = step {
                let more = now.checked_sub(earned).unwrap_or_default();
                Counters::add(&self.counters.earned, more.0);
                earned = earned.max(now);
            }
            match step {
                Step::Send(action) => {
                    let name = action.name();
                    match self.send(action).await {
                        Ok(()) => continue,
                        Err(error) => {
                            tracing::debug!(%error, name, query = %entry.query, "not taken");
                        }
                    }
                }
                Step::Wait(_) => {}
                Step::Settled(_) | Step::Gone => return self.forget(&entry).await,
            }
            self.accounts.light().head_or(seen, LOOK).await;
        }
    }

    async fn forget(&self, entry: &Entry) {
        if let Err(error) = self.journal.delete(&entry.query).await {
            self.counters.problem(&error);
        }
    }

    async fn send(&self, action: Action) -> Result<(), AskError> {
        let fee = self.accounts.params().await?.min_tx_fee;
        self.accounts.send_and_wait(&self.operator, action, fee).await.map(|_| ())
    }

    async fn look(&self, entry: &Entry) -> Result<Step, AskError> {
        let light = self.accounts.light();
        let key = keys::query(&entry.query);
        let (record, _) = light.record::<QueryRecord>(key, "query", 0).await?;
        let overdue = time::now_ms() > entry.deadline_ms.saturating_add(GIVE_UP_MS);
        let Some(record) = record else {
            return Ok(if overdue { Step::Gone } else { Step::Wait(Amount::ZERO) });
        };
        let mine = record.commits.iter().find(|commit| commit.node == entry.node);
        let earned = mine.map_or(Amount::ZERO, CommitRecord::earned);
        if !record.status.is_open() {
            return Ok(Step::Settled(earned));
        }
        if overdue {
            return Ok(Step::Gone);
        }
        Ok(match (mine, entry.outcome, &entry.voucher) {
            (None, Some(outcome), _) => Step::Send(Action::Commit(Commit {
                query: entry.query,
                side: entry.side,
                attempt: entry.attempt,
                blinded_root: outcome.blinded_root,
                served_tokens: outcome.served_tokens,
                seed: SeedBytes(entry.seed.to_vec()),
            })),
            (Some(commit), _, Some(voucher)) if voucher.total > commit.claimed() => {
                Step::Send(Action::Claim(Claim { query: entry.query, voucher: voucher.clone() }))
            }
            _ => Step::Wait(earned),
        })
    }
}

/// The settler is shared between tasks.
const fn _assert_shared<T: MaybeSend>() {}
const _: () = _assert_shared::<Settler>();
