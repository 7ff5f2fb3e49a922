//! Before the first share leaves: the price, the escrow, and the draw, all checked here.

use commonware_codec::Encode as _;
use nesa_chain::{
    action::{Action, Lane as ChainLane, PayForQuery, Verification},
    committee::{self, Committee as Drawn},
    fees, keys,
    query::QueryRecord,
    record::{ModelRecord, NodeRecord, Snapshot},
    tx::SignedTx,
};
use nesa_crypto::SecretKey;
use nesa_masked::thin::TEST_ROWS;
use nesa_platform::{
    random,
    time::{self, Instant},
};
use nesa_primitives::{Address, Hash, Verdict, decode_exact};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    BASE_DEADLINE, Planned, QueryClient, QueryError, QueryOptions, TOKEN_DEADLINE,
    WRITTEN_TOKEN_DEADLINE,
    journal::{Entry, Fate},
    report::{Phase, Progress, Quote},
    sum,
    work::Work,
};
use crate::{
    AskError, Proven,
    accounts::INCLUSION_LIMIT,
    client::{Included, since},
    ladder::{Ladder, LadderStep, StepId},
    models::Prepared,
};

/// The draw view ends a few views after inclusion; longer than this, something is wrong.
const DRAW_LIMIT: Duration = Duration::from_secs(30);

/// A query whose escrow is proven.
pub(super) struct Paid {
    pub(super) entry: Entry,
    pub(super) signed: SignedTx,
    pub(super) included: Included,
    pub(super) record: QueryRecord,
    pub(super) before: Proven,
    pub(super) client_key: SecretKey,
    pub(super) opening: Opening,
}

/// What opens the commitment of a query: never leaves this device unless the user opens a receipt.
#[derive(Clone)]
pub(super) struct Opening {
    pub(super) salt: Hash,
}

/// The committee with what reaching it needs.
pub(super) struct DrawnCommittee {
    pub(super) committee: Drawn,
    pub(super) addresses: BTreeMap<Address, Vec<String>>,
    pub(super) seed: bytes::Bytes,
    pub(super) snapshot: Proven,
    pub(super) nodes: Proven,
}

/// Commitment to a request: hides it behind 32 random bytes, binds model, texts and their order.
///
/// Source: the chain's record holds only this; see `docs/masked-lane.md`.
pub fn commitment(chain: &Hash, salt: &Hash, model: &Hash, texts: &[String]) -> Hash {
    let mut hasher = nesa_primitives::domain("query commitment", chain);
    hasher.update(&salt.0);
    hasher.update(&model.0);
    hasher.update(&(texts.len() as u64).to_le_bytes());
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().into()
}

impl QueryClient {
    /// Plans the passes and computes the price from proven records. `texts` are what the payment
    /// commits to.
    pub(super) async fn plan(
        &self,
        prepared: &Prepared,
        work: Work,
        texts: Vec<String>,
        options: &QueryOptions,
    ) -> Result<Planned, QueryError> {
        let mut passes = work.passes();
        if prepared.preparation.origin().is_thin() {
            // Two strangers' s is tested once, in front of whatever it is first used for; and it may
            // have to be made anew once the nodes are drawn.
            passes.insert(0, TEST_ROWS);
        }
        let padded = passes.iter().map(|tokens| u64::from(*tokens)).sum();

        let digest = prepared.model.digest();
        let (model_key, params_key) = (keys::model(&digest), keys::params());
        let proven = self.light.prove(&[model_key, params_key]).await?;
        let model: ModelRecord = decode(&proven, &model_key, "model")?
            .ok_or(QueryError::Model { model: digest, reason: "it is not registered" })?;
        if model.lanes & ChainLane::Masked.bit() == 0 {
            return Err(QueryError::Model { model: digest, reason: "it does not allow this lane" });
        }
        let params: nesa_chain::params::Params = decode(&proven, &params_key, "params")?
            .ok_or(AskError::Undecided { missing: "the chain's parameters".into() })?;
        let count = u32::try_from(padded)
            .ok()
            .filter(|count| *count <= params.max_query_tokens)
            .ok_or(QueryError::TooLong { tokens: padded, max: params.max_query_tokens })?;
        let price = model.price_per_token;
        let overflow = QueryError::TooLong { tokens: padded, max: params.max_query_tokens };
        let Some(escrow) = fees::min_escrow(price, count, &params) else { return Err(overflow) };
        let Some(compute) = fees::price(price, count).and_then(|one| one.checked_mul(2)) else {
            return Err(overflow);
        };
        if let Some(allowed) = options.max_fee
            && escrow > allowed
        {
            return Err(QueryError::TooDear { needed: escrow, allowed });
        }
        let per_token = prepared.lane.bytes_per_token();
        let (number, truncated) = work.texts();
        let quote = Quote {
            texts: number,
            truncated,
            passes: passes.iter().map(|tokens| *tokens as usize).collect(),
            padded_tokens: padded,
            stages: prepared.lane.stages().len(),
            bytes_up: padded * per_token.to_a,
            bytes_down: padded * (per_token.from_a + per_token.from_b),
            compute,
            draw_fee: params.draw_fee,
            tx_fee: params.min_tx_fee,
            max_fee: escrow,
        };
        let needed =
            BASE_DEADLINE + TOKEN_DEADLINE * count + WRITTEN_TOKEN_DEADLINE * work.written();
        let wanted = options.deadline.unwrap_or(needed);
        // A margin on both bounds: the chain measures from inclusion, which is a little later.
        let least = Duration::from_millis(params.min_deadline_ms.saturating_add(2_000));
        let most = Duration::from_millis(params.max_deadline_ms.saturating_sub(2_000)).max(least);
        let deadline = wanted.clamp(least, most);
        Ok(Planned { work, texts, quote, price, denom: model.denom, deadline })
    }

    /// Signs and submits the payment, waits for its block and proves the escrow.
    pub(super) async fn pay(
        &self,
        prepared: &Prepared,
        wallet: &SecretKey,
        planned: &Planned,
        options: &QueryOptions,
        ladder: &mut Ladder,
    ) -> Result<Paid, QueryError> {
        let say = &options.listener;
        say.say(Progress::Phase(Phase::Escrowing));
        let quote = &planned.quote;
        let account = self.accounts.account(&wallet.public()).await?;
        let nes = nesa_primitives::Denom::NES;
        let mut needed = quote.max_fee;
        if planned.denom == nes {
            needed = sum(needed, sum(quote.draw_fee, quote.tx_fee));
        }
        let balance = account.account.balance(planned.denom);
        if balance < needed {
            return Err(QueryError::Funds { balance, needed });
        }

        let chain = self.light.chain();
        let model = prepared.model.digest();
        let mut rng = random::rng();
        let client_key = SecretKey::generate(&mut rng);
        let opening = Opening { salt: Hash(random::bytes()) };
        let head_ms = self.light.head().map_or(0, |head| head.timestamp_ms());
        // An idle chain's head may be old; the next block will carry about this device's time.
        let now_ms = time::now_ms().max(head_ms);
        let max_tokens = planned.quote.padded_tokens as u32;
        let action = Action::PayForQuery(PayForQuery {
            model,
            lane: ChainLane::Masked,
            verification: Verification::Freivalds,
            max_fee: quote.max_fee,
            denom: planned.denom,
            commitment: commitment(&chain, &opening.salt, &model, &planned.texts),
            client_key: client_key.public(),
            deadline_ms: now_ms.saturating_add(planned.deadline.as_millis() as u64),
            max_tokens,
            named: options.named,
            terms: None,
        });
        let outgoing = self.accounts.sign(wallet, action, quote.tx_fee).await?;
        let query = outgoing.signed().id();
        let Action::PayForQuery(pay) = &outgoing.signed().tx.action else {
            return Err(QueryError::Record {
                what: "action",
                got: outgoing.signed().tx.action.name().into(),
                expected: "pay-for-query".into(),
            });
        };
        let pay = pay.clone();
        let entry = Entry {
            query,
            chain,
            started_ms: time::now_ms(),
            deadline_ms: pay.deadline_ms,
            max_fee: quote.max_fee,
            fate: Fate::Running,
        };
        // Written before it leaves: a reload at any later point finds it.
        self.journal.put(&entry).await?;
        say.say(Progress::Paid { query, max_fee: quote.max_fee });
        let signed = match outgoing.submit().await {
            Ok(signed) => signed,
            Err(error) => {
                self.journal.delete(&query).await?;
                return Err(error.into());
            }
        };
        let included = match self.light.wait_included(&signed, INCLUSION_LIMIT).await {
            Ok(included) => included,
            Err(error) => {
                self.accounts.forget(&wallet.public()).await;
                return Err(error.into());
            }
        };
        let height = included.header.header.height();
        say.say(Progress::Note { what: "payment final".into(), height: Some(height) });
        let step = self.header_step(&included)?;
        ladder.set(step.clone());
        say.say(Progress::Step(Box::new(step)));

        let key = keys::query(&query);
        let (record, before) = self.light.record::<QueryRecord>(key, "query", height).await?;
        let record = record.ok_or(AskError::Undecided { missing: "the query's record".into() })?;
        check_record(&record, &signed, &pay, height)?;
        let step = LadderStep::verified(
            StepId::RequestEscrowed,
            "the chain",
            format!("{} held in block {height}", record.escrow.in_nes()),
            included.ms + before.ms,
            json!({
                "query": query, "height": height, "index": included.index,
                "escrow": record.escrow, "draw_fee": record.draw_fee,
                "commitment": record.commitment, "deadline_ms": record.deadline_ms,
                "model": record.model, "client_key": record.client_key,
                "state_root": nesa_chain::header::to_hash(before.header.header.state_root()),
                "proven_at": before.header.header.height(),
            }),
        );
        ladder.set(step.clone());
        say.say(Progress::Step(Box::new(step)));
        Ok(Paid { entry, signed, included, record, before, client_key, opening })
    }

    /// Checks the block's certificate once more by itself: the feed of heads checked it in a batch,
    /// but this rung is about this header, and says what this check costs.
    fn header_step(&self, included: &Included) -> Result<LadderStep, QueryError> {
        let header = &included.header.header;
        let start = Instant::now();
        let items: Vec<_> = std::iter::once(&included.header)
            .chain(&included.descendants)
            .map(|item| (item.header.clone(), item.finalization.clone()))
            .collect();
        for verdict in self.light.verifier().verify_batch(&mut random::rng(), &items) {
            if let Verdict::Invalid { what, got, expected } = verdict {
                return Err(QueryError::Record { what, got, expected });
            }
        }
        let certified = items.iter().find_map(|(header, finalization)| {
            finalization.as_ref().map(|f| (header.height(), f.encode().len()))
        });
        Ok(LadderStep::verified(
            StepId::HeaderFinal,
            "the validators",
            format!("block {} is final under the trust root's group key", header.height()),
            since(start) + included.ms,
            json!({
                "height": header.height(),
                "view": header.view(),
                "digest": header.hash(),
                "tx_root": header.fields.tx_root,
                "state_root": nesa_chain::header::to_hash(header.state_root()),
                "certified_at": certified.map(|(height, _)| height),
                "certificate_bytes": certified.map(|(_, bytes)| bytes),
            }),
        ))
    }

    /// Waits for the seed of the draw view and recomputes the committee from proven records.
    pub(super) async fn draw(
        &self,
        paid: &Paid,
        options: &QueryOptions,
        ladder: &mut Ladder,
    ) -> Result<DrawnCommittee, QueryError> {
        let say = &options.listener;
        say.say(Progress::Phase(Phase::Drawing));
        let record = &paid.record;
        let seed = async {
            loop {
                let seen = self.light.height();
                match self.light.seed(record.draw_view).await {
                    Ok(seed) => return Ok(seed),
                    Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => {}
                    Err(error) => return Err(error),
                }
                self.light.head_or(seen, Duration::from_millis(300)).await;
            }
        };
        let seed = time::timeout(DRAW_LIMIT, seed).await.map_err(|_| AskError::Timeout {
            what: "the seed of the draw view",
            ms: DRAW_LIMIT.as_millis() as u64,
        })??;
        let key = keys::snapshot(record.snapshot_epoch);
        let (snapshot, snapshot_proof) = self.light.record::<Snapshot>(key, "snapshot", 0).await?;
        let snapshot = snapshot.ok_or(AskError::Undecided { missing: "the snapshot".into() })?;
        let start = Instant::now();
        let committee = committee::derive(
            &seed,
            &record.id,
            &snapshot.set,
            &record.model,
            record.named.as_ref(),
        )?;
        let derived_ms = since(start) + snapshot_proof.ms;
        let seats: Vec<Address> =
            committee.a.iter().chain(&committee.b).map(|seat| seat.node).collect();
        let node_keys: Vec<Hash> = seats.iter().map(keys::node).collect();
        let nodes = self.light.prove(&node_keys).await?;
        let mut addresses = BTreeMap::new();
        for (node, key) in seats.iter().zip(&node_keys) {
            // A node that left since the snapshot has no record: it cannot be reached.
            if let Some(record) = decode::<NodeRecord>(&nodes, key, "node")? {
                let list = record.addresses.iter().map(|a| a.as_str().to_owned()).collect();
                addresses.insert(*node, list);
            }
        }
        let side = |seats: &[committee::Seat]| -> Vec<serde_json::Value> {
            let seat = |s: &committee::Seat| json!({ "node": s.node, "operator": s.operator });
            seats.iter().map(seat).collect()
        };
        let step = LadderStep::verified(
            StepId::CommitteeDerived,
            "the chain's randomness",
            format!(
                "seed of view {} over {} nodes of snapshot {}",
                record.draw_view,
                snapshot.set.entries.len(),
                snapshot.epoch
            ),
            derived_ms + nodes.ms,
            json!({
                "draw_view": record.draw_view,
                "included_view": record.included_view,
                "seed": crate::wallet::hex(&seed),
                "snapshot_epoch": snapshot.epoch,
                "snapshot_height": snapshot.height,
                "named": record.named,
                "a": side(&committee.a), "b": side(&committee.b),
            }),
        );
        ladder.set(step.clone());
        say.say(Progress::Step(Box::new(step)));
        Ok(DrawnCommittee { committee, addresses, seed, snapshot: snapshot_proof, nodes })
    }
}

/// Decodes one record of a proof; `None` when it is proven absent.
pub(crate) fn decode<T>(
    proven: &Proven,
    key: &Hash,
    what: &'static str,
) -> Result<Option<T>, AskError>
where
    T: commonware_codec::Decode<Cfg = ()> + commonware_codec::Encode,
{
    proven
        .value(key)
        .map(|bytes| decode_exact::<T>(bytes, &()))
        .transpose()
        .map_err(|error| AskError::Record { what, reason: error.to_string() })
}

/// The chain's record must say what was signed, and draw where the rules say.
pub(crate) fn check_record(
    record: &QueryRecord,
    signed: &SignedTx,
    pay: &PayForQuery,
    height: u64,
) -> Result<(), QueryError> {
    let expected_view = record.included_view.saturating_add(committee::DRAW_DELAY_VIEWS);
    let rows: [(&'static str, String, String); 9] = [
        ("id", record.id.to_string(), signed.id().to_string()),
        ("payer", record.payer.to_string(), signed.tx.sender.to_string()),
        ("model", record.model.to_string(), pay.model.to_string()),
        ("escrow", record.escrow.to_string(), pay.max_fee.to_string()),
        ("commitment", record.commitment.to_string(), pay.commitment.to_string()),
        ("client key", record.client_key.to_string(), pay.client_key.to_string()),
        ("deadline", record.deadline_ms.to_string(), pay.deadline_ms.to_string()),
        ("height", record.included_height.to_string(), height.to_string()),
        ("draw view", record.draw_view.to_string(), expected_view.to_string()),
    ];
    for (what, got, expected) in rows {
        if got != expected {
            return Err(QueryError::Record { what, got, expected });
        }
    }
    if record.named != pay.named {
        return Err(QueryError::Record {
            what: "named node",
            got: format!("{:?}", record.named),
            expected: format!("{:?}", pay.named),
        });
    }
    Ok(())
}
