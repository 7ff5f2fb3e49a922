//! Who uses the simulated chain: each validator has a user and an operator beside it.

use super::world::{AGENTS, MODEL, Tally, operator, time_of, user};
use crate::{
    admission::Admission,
    execute::{Execution, StoreSource},
    seeds::Seeds,
    view::View,
};
use bytes::Bytes;
use commonware_runtime::{Clock as _, deterministic};
use futures::channel::mpsc;
use nesa_chain::{
    Action, Lane, Side, Tx, Verification, Voucher,
    action::{Claim, Commit, PayForQuery, SeedBytes, Transfer},
    header::to_digest,
    keys,
    query::QueryRecord,
    tx::SignedTx,
};
use nesa_crypto::SecretKey;
use nesa_primitives::{Amount, Denom, Hash, decode_exact};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

/// How often an agent acts.
const TICK: Duration = Duration::from_millis(350);
const TOKENS: u32 = 64;

/// What the agents of one run know together.
#[derive(Default)]
pub(super) struct Shared {
    queries: BTreeSet<Hash>,
    pub(super) tally: Tally,
    /// How the scenario of disputes ended.
    pub(super) ended: Option<super::disputes::Ended>,
}

impl Shared {
    pub(super) fn add(&mut self, query: Hash) {
        self.queries.insert(query);
    }

    pub(super) fn queries(&self) -> Vec<Hash> {
        self.queries.iter().copied().collect()
    }
}

/// A query's ephemeral key: in real life only its client knows it.
fn client_key(commitment: &Hash) -> SecretKey {
    SecretKey::from_seed(&commitment.0)
}

pub(super) struct Agent {
    pub(super) index: u8,
    pub(super) admission: Admission<deterministic::Context>,
    pub(super) outbox: mpsc::Sender<Bytes>,
    pub(super) seeds: Seeds,
    pub(super) view: View,
    pub(super) shared: Arc<Mutex<Shared>>,
    /// Whether it only moves money.
    pub(super) quiet: bool,
    /// Queries for which our operator was not drawn, or has committed.
    pub(super) refused: BTreeSet<Hash>,
}

impl Agent {
    pub(super) async fn run(mut self, context: deterministic::Context) {
        let mut turn = 0u64;
        loop {
            context.sleep(TICK).await;
            turn += 1;
            if self.quiet {
                self.transfer(turn).await;
                continue;
            }
            if turn.is_multiple_of(4) {
                self.ask(turn).await;
            } else {
                self.transfer(turn).await;
            }
            self.serve().await;
        }
    }

    /// Sends an action as `key`, after what waits already; `None` if it was refused.
    pub(super) async fn send(&self, key: &SecretKey, action: Action) -> Option<Hash> {
        let sender = key.public();
        let mut execution = Execution::new(StoreSource(&self.admission.store));
        let nonce = execution.nonce(&sender).await.ok()?;
        let waiting = self.admission.pool.lock().unwrap().of_sender(&sender);
        let nonce = waiting.last().map_or(nonce, |tx| nonce.max(tx.tx.nonce + 1));
        let nonce = if action.place().is_some() { 0 } else { nonce };
        let tx = Tx { chain: self.admission.chain, sender, nonce, fee: Amount(10), action };
        self.hand_over(tx.sign(key)).await
    }

    /// Puts a transaction into the pools; `None` if it was refused.
    pub(super) async fn hand_over(&self, tx: SignedTx) -> Option<Hash> {
        let bytes = tx.to_bytes();
        let id = self.admission.admit(tx).await.ok()?;
        let _ = self.outbox.clone().try_send(bytes);
        Some(id)
    }

    async fn transfer(&self, turn: u64) {
        let to = user((self.index + 1) % AGENTS).public();
        let action =
            Action::Transfer(Transfer { to, denom: Denom::NES, amount: Amount(100 + turn) });
        if self.send(&user(self.index), action).await.is_some() {
            self.shared.lock().unwrap().tally.transfers += 1;
        }
    }

    async fn ask(&self, turn: u64) {
        let mut seed = [self.index; 32];
        seed[..8].copy_from_slice(&turn.to_be_bytes());
        let commitment = Hash(seed);
        let action = Action::PayForQuery(PayForQuery {
            model: MODEL,
            lane: Lane::Masked,
            verification: Verification::Freivalds,
            max_fee: Amount(10_000),
            denom: Denom::NES,
            commitment,
            client_key: client_key(&commitment).public(),
            deadline_ms: time_of(&self.view) + 4_000,
            max_tokens: TOKENS,
            named: None,
            terms: None,
        });
        if let Some(id) = self.send(&user(self.index), action).await {
            self.shared.lock().unwrap().queries.insert(id);
        }
    }

    /// Commits and claims for our operator where it was drawn.
    async fn serve(&mut self) {
        let queries = self.shared.lock().unwrap().queries();
        let me = operator(self.index);
        for id in queries {
            let Some(query) = self.query(&id).await.filter(|query| query.status.is_open()) else {
                continue;
            };
            if let Some(mine) = query.commits.iter().find(|c| c.operator == me.public()) {
                if mine.claim.is_none() {
                    let total = Amount(u64::from(TOKENS / 2) * query.price_per_token.0);
                    let key = client_key(&query.commitment);
                    let chain = self.admission.chain;
                    let voucher = Voucher::sign(&key, &chain, id, mine.node, total);
                    self.send(&me, Action::Claim(Claim { query: id, voucher })).await;
                }
                continue;
            }
            if self.refused.contains(&id) {
                continue;
            }
            let Some(seed) = self.seeds.get(query.draw_view).await else { continue };
            self.refused.insert(id);
            // Whoever was not drawn is refused by the rules, and sends nothing.
            for side in [Side::A, Side::B] {
                let commit = Commit {
                    query: id,
                    side,
                    attempt: 0,
                    blinded_root: id,
                    served_tokens: TOKENS,
                    seed: SeedBytes(seed.0.to_vec()),
                };
                if self.send(&me, Action::Commit(commit)).await.is_some() {
                    break;
                }
            }
        }
    }

    async fn query(&self, id: &Hash) -> Option<QueryRecord> {
        let store = self.admission.store.read().await;
        let bytes = store.get(&to_digest(&keys::query(id))).await.ok()??;
        decode_exact(&bytes, &()).ok()
    }
}
