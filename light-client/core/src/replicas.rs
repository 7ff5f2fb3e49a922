//! What queries of replicas have in common, whatever the replicas compute: their escrow, and who was drawn.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use nesa_chain::{
    action::{Action, PayForQuery},
    committee::{self, ShardCommittee, Terms},
    keys,
    params::Params,
    query::QueryRecord,
    record::{NodeRecord, Snapshot},
    tx::SignedTx,
};
use nesa_crypto::SecretKey;
use nesa_platform::time;
use nesa_primitives::{Address, Denom, Hash};

use crate::{
    AskError, Proven,
    accounts::INCLUSION_LIMIT,
    client::Included,
    query::{
        QueryClient, QueryError,
        journal::{Entry, Fate},
        pay, sum,
    },
};

/// The draw view ends a few views after inclusion; longer than this, something is wrong.
const DRAW_LIMIT: Duration = Duration::from_secs(30);

/// A payment that is final, with what shows it.
pub(crate) struct PaidFor {
    pub(crate) record: QueryRecord,
    pub(crate) signed: SignedTx,
    pub(crate) included: Included,
    pub(crate) before: Proven,
}

/// Who was drawn, how they are reached, and what shows it.
pub(crate) struct Drawn {
    pub(crate) drawn: ShardCommittee,
    pub(crate) addresses: BTreeMap<Address, Vec<String>>,
    pub(crate) seed: Bytes,
    pub(crate) snapshot: Proven,
}

impl QueryClient {
    /// Escrows a query of replicas, and waits until it is final: its record, and what the journal holds.
    pub(crate) async fn escrow_replicas(
        &self,
        wallet: &SecretKey,
        payment: PayForQuery,
        params: &Params,
    ) -> Result<(PaidFor, Entry), QueryError> {
        let Params { draw_fee, min_tx_fee, .. } = *params;
        let account = self.accounts().account(&wallet.public()).await?;
        let mut needed = payment.max_fee;
        if payment.denom == Denom::NES {
            needed = sum(needed, sum(draw_fee, min_tx_fee));
        }
        let balance = account.account.balance(payment.denom);
        if balance < needed {
            return Err(QueryError::Funds { balance, needed });
        }
        let action = Action::PayForQuery(payment.clone());
        let outgoing = self.accounts().sign(wallet, action, min_tx_fee).await?;
        let query = outgoing.signed().id();
        let entry = Entry {
            query,
            chain: self.light().chain(),
            started_ms: time::now_ms(),
            deadline_ms: payment.deadline_ms,
            max_fee: payment.max_fee,
            fate: Fate::Running,
        };
        // Written before it leaves: a reload at any later point finds it.
        self.journal().put(&entry).await?;
        let signed = match outgoing.submit().await {
            Ok(signed) => signed,
            Err(error) => {
                self.journal().delete(&query).await?;
                return Err(error.into());
            }
        };
        let included = match self.light().wait_included(&signed, INCLUSION_LIMIT).await {
            Ok(included) => included,
            Err(error) => {
                self.accounts().forget(&wallet.public()).await;
                return Err(error.into());
            }
        };
        let height = included.header.header.height();
        let key = keys::query(&query);
        let (record, before) = self.light().record::<QueryRecord>(key, "query", height).await?;
        let record = record.ok_or(AskError::Undecided { missing: "the query's record".into() })?;
        pay::check_record(&record, &signed, &payment, height)?;
        let terms = record.sealed.as_ref().map(|sealed| &sealed.terms);
        if terms != payment.terms.as_ref() {
            let (got, expected) = (format!("{terms:?}"), format!("{:?}", payment.terms));
            return Err(QueryError::Record { what: "terms", got, expected });
        }
        Ok((PaidFor { record, signed, included, before }, entry))
    }

    /// The nodes that the chain drew, and where they can be reached.
    pub(crate) async fn draw_replicas(
        &self,
        record: &QueryRecord,
        terms: &Terms,
    ) -> Result<Drawn, QueryError> {
        let seed = async {
            loop {
                let seen = self.light().height();
                match self.light().seed(record.draw_view).await {
                    Ok(seed) => return Ok(seed),
                    Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => {}
                    Err(error) => return Err(error),
                }
                self.light().head_or(seen, Duration::from_millis(300)).await;
            }
        };
        let late = AskError::Timeout {
            what: "the seed of the draw view",
            ms: DRAW_LIMIT.as_millis() as u64,
        };
        let seed = time::timeout(DRAW_LIMIT, seed).await.map_err(|_| late)??;
        let key = keys::snapshot(record.snapshot_epoch);
        let (snapshot, shown) = self.light().record::<Snapshot>(key, "snapshot", 0).await?;
        let snapshot = snapshot.ok_or(AskError::Undecided { missing: "the snapshot".into() })?;
        let drawn =
            committee::derive_shards(&seed, &record.id, &snapshot.set, &record.model, terms)
                .map_err(QueryError::from)?;
        let mut nodes: Vec<Address> =
            drawn.shards.iter().flat_map(|s| s.seats.iter().map(|seat| seat.node)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let mut addresses = BTreeMap::new();
        for some in nodes.chunks(nesa_wire::chain::MAX_KEYS) {
            let keys: Vec<Hash> = some.iter().map(keys::node).collect();
            let proven = self.light().prove(&keys).await?;
            for (node, key) in some.iter().zip(&keys) {
                // A node that left since the snapshot has no record: it cannot be reached.
                if let Some(record) = pay::decode::<NodeRecord>(&proven, key, "node")? {
                    let list = record.addresses.iter().map(|a| a.as_str().to_owned()).collect();
                    addresses.insert(*node, list);
                }
            }
        }
        Ok(Drawn { drawn, addresses, seed, snapshot: shown })
    }
}
