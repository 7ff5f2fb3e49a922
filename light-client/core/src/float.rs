//! One paid query of the float lane: the same inputs, sealed to each of `k` nodes, and their answers.
//!
//! ```text
//! inputs ─price─▶ PayForQuery ─final─▶ seed ─▶ replicas ─▶ envelopes, runs ─▶ answers
//!                                                                              │ judge (calibration)
//!      reveals, proven in state: each root that of its answer ◀── deadline ◀── vouchers to those that agree
//! ```
//!
//! Answers are opaque here: the caller decodes and compares them, and says which replicas agree. Only
//! those are paid. What is withheld from the others is burned by the chain, so a client gains nothing by
//! finding fault.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use nesa_chain::{
    action::{Lane, PayForQuery, Verification},
    committee::{Terms, Windows},
    fees, keys,
    params::Params,
    query::QueryRecord,
    record::ModelRecord,
    voucher::ShardVoucher,
};
use nesa_crypto::SecretKey;
use nesa_platform::{
    net::Stream,
    random,
    time::{self, Instant},
};
use nesa_primitives::{Address, Amount, Hash};
use nesa_sealed::float::{Ask, Client, Event, Purpose, RUN_UNITS, max_frame, root};
use nesa_wire::Protocol;

use crate::{
    AskError,
    query::{QueryClient, QueryError, journal::Fate, pay, sum},
    replicas::Drawn,
};

/// Time from inclusion to the last commitment, unless asked otherwise: the draw, the links, one run.
const DEADLINE: Duration = Duration::from_secs(20);
/// Time kept before the deadline for commitments to reach a block.
const MARGIN_MS: u64 = 4_000;
/// A node may take so long to open its stream and accept.
const OPEN_LIMIT: Duration = Duration::from_secs(12);
/// Blocks after a window in which its last transactions are seen, in ms.
const AFTER_MS: u64 = 5_000;

/// Choices for a query of the float lane.
#[derive(Clone, Debug)]
pub struct FloatOptions {
    /// Nodes that run the model.
    pub replicas: u8,
    /// Refuse to escrow more than this.
    pub max_fee: Option<Amount>,
    /// From inclusion to the last commitment.
    pub deadline: Option<Duration>,
}

/// One replica and what came of it.
#[derive(Clone, Debug)]
pub struct FloatReplica {
    /// Its number.
    pub replica: u8,
    /// The node.
    pub node: Address,
    /// Its operator.
    pub operator: Address,
    /// Its answer, or why there is none.
    pub answer: Result<Bytes, String>,
    /// Whether it was counted among those that agree, and promised its pay.
    pub agrees: bool,
    /// Whether it revealed on chain what it told this device; `None` while it has not revealed.
    pub revealed: Option<bool>,
    /// What it has claimed, before the split.
    pub claimed: Amount,
}

/// Everything about a finished query of the float lane.
#[derive(Clone, Debug)]
pub struct FloatOutcome {
    /// The query's id on the chain.
    pub query: Hash,
    /// The model's digest.
    pub model: Hash,
    /// By replica.
    pub replicas: Vec<FloatReplica>,
    /// What was escrowed.
    pub escrowed: Amount,
    /// Block time of the last commitment, in ms.
    pub deadline_ms: u64,
    /// From the payment to the last answer, in ms.
    pub answered_ms: f64,
    salt: Hash,
    windows: Windows,
}

/// What is known before the payment.
struct Planned {
    params: Params,
    record: ModelRecord,
    terms: Terms,
    escrow: Amount,
}

/// An open stream with its session, after the answer.
struct Link {
    client: Client,
    stream: Stream,
    answer: Bytes,
}

impl QueryClient {
    /// What a run on `options.replicas` nodes would escrow at most, fees included.
    ///
    /// # Errors
    /// [`QueryError`] when the model or the network cannot do it.
    pub async fn float_cost(
        &self,
        model: &Hash,
        options: &FloatOptions,
    ) -> Result<Amount, QueryError> {
        let planned = self.plan_float(model, options).await?;
        let fees = sum(planned.params.draw_fee, planned.params.min_tx_fee);
        Ok(sum(planned.escrow, fees))
    }

    /// Runs a float model on `options.replicas` nodes, which read `inputs`. `judge` gets an answer, or
    /// none, for each replica, and says which agree: those are paid.
    ///
    /// # Errors
    /// [`QueryError`]. Once paid, the journal knows the query; its unspent escrow returns.
    pub async fn ask_float(
        &self,
        model: &Hash,
        wallet: &SecretKey,
        inputs: Bytes,
        options: &FloatOptions,
        judge: impl FnOnce(&[Option<Bytes>]) -> Vec<bool>,
    ) -> Result<FloatOutcome, QueryError> {
        let planned = self.plan_float(model, options).await?;
        let chain = self.light().chain();
        let head_ms = self.light().head().map_or(0, |head| head.timestamp_ms());
        let now_ms = time::now_ms().max(head_ms);
        let client_key = SecretKey::generate(&mut random::rng());
        let said = Hash::of_bytes("float inputs", &chain, &inputs).to_string();
        let params = &planned.params;
        let least = Duration::from_millis(params.min_deadline_ms.saturating_add(2_000));
        let most = Duration::from_millis(params.max_deadline_ms.saturating_sub(2_000)).max(least);
        let deadline = options.deadline.unwrap_or(DEADLINE).clamp(least, most);
        let payment = PayForQuery {
            model: *model,
            lane: Lane::Float,
            verification: Verification::Statistical,
            max_fee: planned.escrow,
            denom: planned.record.denom,
            commitment: pay::commitment(&chain, &Hash(random::bytes()), model, &[said]),
            client_key: client_key.public(),
            deadline_ms: now_ms.saturating_add(deadline.as_millis() as u64),
            max_tokens: RUN_UNITS,
            named: None,
            terms: Some(planned.terms.clone()),
        };
        let (paid, mut entry) = self.escrow_replicas(wallet, payment, params).await?;
        let ran = self.run_float(&planned, &paid.record, &client_key, inputs, judge).await;
        entry.fate = match &ran {
            Ok(_) => Fate::Answered,
            Err(error) => Fate::Failed { reason: error.to_string() },
        };
        self.journal().put(&entry).await?;
        ran
    }

    /// The lanes that a model allows, as bits, proven in state.
    ///
    /// # Errors
    /// [`QueryError`] when the chain does not know it or cannot be asked.
    pub async fn model_lanes(&self, model: &Hash) -> Result<u32, QueryError> {
        let key = keys::model(model);
        let (record, _) = self.light().record::<ModelRecord>(key, "model", 0).await?;
        let missing = QueryError::Model { model: *model, reason: "it is not registered" };
        Ok(record.ok_or(missing)?.lanes)
    }

    async fn plan_float(
        &self,
        model: &Hash,
        options: &FloatOptions,
    ) -> Result<Planned, QueryError> {
        let (model_key, params_key) = (keys::model(model), keys::params());
        let proven = self.light().prove(&[model_key, params_key]).await?;
        let record: ModelRecord = pay::decode(&proven, &model_key, "model")?
            .ok_or(QueryError::Model { model: *model, reason: "it is not registered" })?;
        if record.lanes & Lane::Float.bit() == 0 {
            let reason = "it does not allow this lane";
            return Err(QueryError::Model { model: *model, reason });
        }
        let params: Params = pay::decode(&proven, &params_key, "params")?
            .ok_or(AskError::Undecided { missing: "the chain's parameters".into() })?;
        let terms = Terms { cuts: Vec::new(), replicas: options.replicas, disclose: false };
        let invalid = |got: String| QueryError::Record {
            what: "committee",
            got,
            expected: "2 replicas at least, and terms that the chain takes".into(),
        };
        terms.check().map_err(|error| invalid(error.to_string()))?;
        if terms.replicas < 2 {
            return Err(invalid("1 replica".into()));
        }
        let price = record.price_per_token;
        let escrow = fees::min_committee_escrow(price, RUN_UNITS, &params, &terms);
        let escrow = escrow.ok_or_else(|| invalid("a price beyond all money".into()))?;
        if let Some(allowed) = options.max_fee
            && escrow > allowed
        {
            return Err(QueryError::TooDear { needed: escrow, allowed });
        }
        Ok(Planned { params, record, terms, escrow })
    }

    async fn run_float(
        &self,
        planned: &Planned,
        record: &QueryRecord,
        client_key: &SecretKey,
        inputs: Bytes,
        judge: impl FnOnce(&[Option<Bytes>]) -> Vec<bool>,
    ) -> Result<FloatOutcome, QueryError> {
        let began = Instant::now();
        let Drawn { drawn, addresses, .. } = self.draw_replicas(record, &planned.terms).await?;
        let chain = self.light().chain();
        let salt = Hash(random::bytes());
        let seats: Vec<_> = (0..planned.terms.replicas)
            .filter_map(|replica| Some((replica, *drawn.seat(0, replica)?)))
            .collect();
        let until = record.deadline_ms.saturating_sub(MARGIN_MS).saturating_sub(time::now_ms());
        let asking = seats.iter().map(|&(replica, seat)| {
            let (query, model, node) = (record.id, record.model, seat.node);
            let purpose = Purpose { chain, query, model, node, replica, salt };
            let list = addresses.get(&node).cloned().unwrap_or_default();
            let asked = self.ask_replica(purpose, list, client_key, inputs.clone());
            async move {
                let asked = time::timeout(Duration::from_millis(until), asked).await;
                asked.unwrap_or_else(|_| Err("no answer in time".to_owned()))
            }
        });
        let links = join_all(asking).await;
        let answered_ms = began.elapsed().as_secs_f64() * 1000.0;
        let answers: Vec<Option<Bytes>> =
            links.iter().map(|link| link.as_ref().ok().map(|l| l.answer.clone())).collect();
        let agree = judge(&answers);
        let price = record.price_per_token.checked_mul(RUN_UNITS.into()).unwrap_or_default();
        let mut replicas = Vec::new();
        for (place, (link, &(replica, seat))) in links.into_iter().zip(&seats).enumerate() {
            let agrees = agree.get(place).copied().unwrap_or_default();
            let answer = match link {
                Err(reason) => Err(reason),
                Ok(mut link) => {
                    if agrees {
                        let place = (0, replica);
                        let voucher = ShardVoucher::sign(
                            client_key, &chain, record.id, place, seat.node, price,
                        );
                        if let Some(frame) = link.client.say(&Ask::Voucher(voucher)) {
                            // A node that left has lost its pay.
                            let _ = link.stream.send(&frame).await;
                        }
                    }
                    let _ = link.stream.close().await;
                    Ok(link.answer)
                }
            };
            replicas.push(FloatReplica {
                replica,
                node: seat.node,
                operator: seat.operator,
                agrees: agrees && answer.is_ok(),
                answer,
                revealed: None,
                claimed: Amount::ZERO,
            });
        }
        Ok(FloatOutcome {
            query: record.id,
            model: record.model,
            replicas,
            escrowed: record.escrow,
            deadline_ms: record.deadline_ms,
            answered_ms,
            salt,
            windows: Windows::of(record.deadline_ms, false, &planned.params),
        })
    }

    /// One session, up to its answer.
    async fn ask_replica(
        &self,
        purpose: Purpose,
        addresses: Vec<String>,
        client_key: &SecretKey,
        inputs: Bytes,
    ) -> Result<Link, String> {
        let node = purpose.node;
        let opening = time::timeout(OPEN_LIMIT, self.reach_replica(node, &addresses));
        let mut stream = opening.await.map_err(|elapsed| elapsed.to_string())??;
        // How long a run may take is the query's business.
        stream.set_idle(Duration::from_secs(3600));
        let (mut client, hello) = Client::start(purpose);
        stream.send(&hello).await.map_err(|error| error.to_string())?;
        loop {
            let frame = stream.recv_up_to(max_frame()).await.map_err(|error| error.to_string())?;
            let frame = frame.ok_or("the node closed the stream")?;
            let event = client.receive(&frame, client_key, time::now_ms(), &mut random::rng());
            let send = match event.map_err(|error| error.to_string())? {
                Event::Send(frame) => frame,
                Event::Ready => {
                    let frame = client.say(&Ask::Run(inputs.clone()));
                    frame.ok_or("the inputs are too long to be sent")?
                }
                Event::Ran(answer) => return Ok(Link { client, stream, answer }),
            };
            stream.send(&send).await.map_err(|error| error.to_string())?;
        }
    }

    async fn reach_replica(&self, node: Address, addresses: &[String]) -> Result<Stream, String> {
        let mut reason = "the node has no address".to_owned();
        for address in addresses {
            // The record's addresses are its operator's word; the handshake proves the key.
            match self.network().dial(address).await {
                Ok(reached) if reached == node => {
                    match self.network().open(node, Protocol::Float).await {
                        Ok(stream) => return Ok(stream),
                        Err(error) => reason = error.to_string(),
                    }
                }
                Ok(_) => reason = format!("{address} names another node"),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(reason)
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

impl FloatOutcome {
    fn take(&mut self, record: &QueryRecord) {
        let Some(sealed) = &record.sealed else { return };
        for replica in &mut self.replicas {
            let Some(commit) = sealed.commit(0, replica.replica) else { continue };
            if commit.node != replica.node {
                continue;
            }
            replica.claimed = commit.claimed();
            if let (Some(revealed), Ok(answer)) = (commit.root, &replica.answer) {
                replica.revealed = Some(revealed == root(&self.salt, answer));
            }
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
