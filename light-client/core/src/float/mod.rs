//! One paid query of the float lane: the same inputs, sealed to each of `k` nodes, and their answers.
//!
//! ```text
//! inputs ─price─▶ PayForQuery ─final─▶ seed ─▶ replicas, spares for the lost ─▶ envelopes, runs ─▶ answers
//!                                                                              │ judge (calibration)
//!      reveals, proven in state: each root that of its answer ◀── deadline ◀── vouchers to those that agree
//! ```
//!
//! Answers are opaque here: the caller decodes and compares them, and says which replicas agree. Only
//! those are paid. What is withheld from the others is burned by the chain, so a client gains nothing by
//! finding fault.

mod drive;
mod look;

pub use look::{FloatLooked, FloatTold};

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nesa_chain::{
    action::{Lane, PayForQuery, Verification},
    committee::{Seat, Terms, Windows},
    fees, keys,
    params::Params,
    record::ModelRecord,
};
use nesa_crypto::SecretKey;
use nesa_platform::{MaybeSend, MaybeSync, random, time};
use nesa_primitives::{Address, Amount, Hash};
use nesa_sealed::float::{MAX_CONTENT, RUN_UNITS};

use crate::{
    AskError,
    query::{QueryClient, QueryError, journal::Fate, pay},
};

/// Time from inclusion to the last commitment, unless asked otherwise: the draw, the links, one run.
const DEADLINE: Duration = Duration::from_secs(20);
/// Choices for a query of the float lane.
#[derive(Clone)]
pub struct FloatOptions {
    /// Nodes that run the model.
    pub replicas: u8,
    /// Refuse to escrow more than this.
    pub max_fee: Option<Amount>,
    /// From inclusion to the last commitment.
    pub deadline: Option<Duration>,
    /// Hears what happens.
    pub listener: Arc<dyn FloatListener>,
}

/// What happens while a query runs.
#[derive(Clone, Debug)]
pub enum FloatEvent {
    /// The payment is final.
    Paid {
        /// The query's id on the chain.
        query: Hash,
        /// What is escrowed.
        escrow: Amount,
    },
    /// The nodes were drawn.
    Drawn {
        /// The view whose seed drew them.
        view: u64,
        /// Replicas in order, then spares.
        seats: Vec<Seat>,
    },
    /// A node has answered.
    Answered {
        /// Its replica.
        replica: u8,
        /// The node.
        node: Address,
        /// Bytes of its answer.
        bytes: usize,
    },
    /// A node gave no answer; a spare takes its place.
    Replaced(FloatReplaced),
}

/// Hears what happens.
pub trait FloatListener: MaybeSend + MaybeSync {
    /// Takes one event.
    fn take(&self, event: FloatEvent);
}

impl<F: Fn(FloatEvent) + MaybeSend + MaybeSync> FloatListener for F {
    fn take(&self, event: FloatEvent) {
        self(event);
    }
}

/// What a run costs, before anything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatQuote {
    /// What all nodes together earn if all agree.
    pub compute: Amount,
    /// What each of them earns.
    pub per_node: Amount,
    /// What is escrowed.
    pub escrow: Amount,
    /// Burned for the draw.
    pub draw_fee: Amount,
    /// The payment's transaction fee.
    pub tx_fee: Amount,
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

/// A node that gave no answer while a spare was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatReplaced {
    /// The replica it was asked to be.
    pub replica: u8,
    /// The node.
    pub node: Address,
    /// Its operator.
    pub operator: Address,
    /// Why, in words.
    pub reason: String,
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
    /// Nodes that gave no answer, whose places were taken by spares.
    pub replaced: Vec<FloatReplaced>,
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

impl QueryClient {
    /// What a run on `options.replicas` nodes costs.
    ///
    /// # Errors
    /// [`QueryError`] when the model or the network cannot do it.
    pub async fn float_quote(
        &self,
        model: &Hash,
        options: &FloatOptions,
    ) -> Result<FloatQuote, QueryError> {
        let Planned { params, record, terms, escrow } = self.plan_float(model, options).await?;
        let per_node = record.price_per_token.checked_mul(RUN_UNITS.into()).unwrap_or_default();
        Ok(FloatQuote {
            compute: per_node.checked_mul(terms.replicas.into()).unwrap_or(escrow),
            per_node,
            escrow,
            draw_fee: params.draw_fee,
            tx_fee: params.min_tx_fee,
        })
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
        // Before anything is paid for what could not be sent.
        if inputs.len() > MAX_CONTENT {
            return Err(QueryError::Inputs { got: inputs.len(), max: MAX_CONTENT });
        }
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
        let (query, escrow) = (paid.record.id, paid.record.escrow);
        let listener = options.listener.as_ref();
        listener.take(FloatEvent::Paid { query, escrow });
        let ran =
            self.run_float(&planned, &paid.record, &client_key, inputs, listener, judge).await;
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
}
