//! One paid query of the sealed lane: from the price to the revealed traces.
//!
//! ```text
//! prompt ─tokenise─▶ plan of shards ─price─▶ PayForQuery ─final─▶ seed ─▶ replicas and spares of each shard
//!                                                                             │
//!   text, "not yet verified" ◀─ drive ── envelopes, steps ──────────────────▶ nodes
//!        │ replicas agree on every row
//!        └─▶ deadline ─▶ reveals, proven in state ─▶ verified: all roots of a shard equal
//! ```

mod quote;
mod traces;

pub use quote::SealedQuote;
pub use traces::{Looked, Told};

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt as _, channel::mpsc};
use nesa_chain::{
    action::{Lane, PayForQuery, Verification},
    committee::{Seat, Terms, Windows},
    fees, keys,
    params::Params,
    query::{QueryRecord, Sealed},
    record::ModelRecord,
};
use nesa_crypto::SecretKey;
use nesa_model::{
    decoder::{PlanError, ShardPlan, WriteRequest},
    manifest::{DecoderManifest, Manifest},
};
use nesa_platform::{random, time};
use nesa_primitives::{Address, Amount, Denom, Hash};
use nesa_sealed::client::{Candidate, Config, Dispute, Link, Relay, StartError, Transcript};
use nesa_verify::receipt::PaymentReceipt;

use super::{SealedError, SealedEvent, SealedListener, SealedTimings, drive, paces::Paces};
use crate::{
    AskError,
    client::lock,
    query::{
        Evidence, Prompt, QueryClient, QueryError,
        engine::{SharedCodec, TextError},
        journal::{Entry, Fate},
        pay, sum, unpaid,
    },
    replicas::{Drawn, PaidFor},
};

/// Time allowed for the draw, the links and the shards' loading.
const BASE_DEADLINE: Duration = Duration::from_secs(12);
/// Time allowed for each token of the prompt, on each shard.
const READ_DEADLINE: Duration = Duration::from_millis(10);
/// Time kept before the deadline for commitments to reach a block.
const MARGIN_MS: u64 = 2_500;
/// Blocks after a window in which its last transactions are seen, in ms.
const AFTER_MS: u64 = 5_000;
/// Most tokens of the prompt in a step.
const PIECE: usize = 64;

/// Choices for a query of the sealed lane.
#[derive(Clone)]
pub struct SealedOptions {
    /// Shards that the model is cut into.
    pub shards: usize,
    /// Nodes for each that must agree.
    pub replicas: u8,
    /// Whether a dispute may publish a piece of an activation.
    pub disclose: bool,
    /// Refuse to escrow more than this.
    pub max_fee: Option<Amount>,
    /// From inclusion to the last commitment; `None` takes a time that fits the work.
    pub deadline: Option<Duration>,
    /// Return when the replicas agree, without waiting for their commitments to be revealed.
    pub answer_only: bool,
    /// Hears what happens.
    pub listener: Arc<dyn SealedListener>,
}

/// Why a query of the sealed lane gave no text. What was escrowed and not spent returns.
#[derive(Debug, thiserror::Error)]
pub enum SealedQueryError {
    /// Before or while paying.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The model cannot be cut so.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The prompt does not fit, or too few nodes were drawn.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The nodes gave no text that they agree on.
    #[error(transparent)]
    Nodes(#[from] SealedError),
}

impl From<AskError> for SealedQueryError {
    fn from(error: AskError) -> Self {
        Self::Query(error.into())
    }
}

/// How far a text can be relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// All replicas of every shard gave the same digests to this device, and have revealed equal traces on chain; their roots
    /// by shard.
    Verified(Vec<Hash>),
    /// All replicas agreed towards this device; what they committed to is not revealed yet, or not by
    /// all.
    Agreed {
        /// Commitments revealed so far.
        revealed: usize,
        /// Commitments that there should be.
        expected: usize,
    },
    /// Replicas disagree: towards this device, or in what they revealed.
    Disputed(Option<Dispute>),
}

/// Everything about a finished query of the sealed lane.
#[derive(Clone, Debug)]
pub struct SealedOutcome {
    /// The query's id on the chain.
    pub query: Hash,
    /// The model's digest.
    pub model: Hash,
    /// The text.
    pub text: String,
    /// Its tokens, commitments, and who served.
    pub transcript: Transcript,
    /// How far it can be relied on.
    pub standing: Standing,
    /// Where the time went.
    pub timings: SealedTimings,
    /// Nodes that were given up, and why.
    pub replaced: Vec<(Link, Address, String)>,
    /// Layers at which the model was cut.
    pub plan: ShardPlan,
    /// What was escrowed.
    pub escrowed: Amount,
    /// The sum of all vouchers, before the split.
    pub promised: Amount,
    /// Block time of the last commitment, in ms.
    pub deadline_ms: u64,
    /// Where nodes disagree and the user agreed to disclosure: what the chain made of it, as last
    /// proven. Who lied is marked there, and who was paid.
    pub on_chain: Option<Sealed>,
    /// The payment receipt, once somebody is paid: public, without a word of the text.
    pub receipt: Option<PaymentReceipt>,
}

/// What is known before the payment.
struct Planned {
    request: WriteRequest,
    codec: SharedCodec,
    manifest: DecoderManifest,
    plan: ShardPlan,
    terms: Terms,
    params: Params,
    denom: Denom,
    price_per_token: Amount,
    max_tokens: u32,
    escrow: Amount,
    deadline: Duration,
    /// What of the deadline is for each token that is written; `None` where the user named the deadline.
    pace: Option<Duration>,
}

impl QueryClient {
    /// What continuing `prompt` in the sealed lane would escrow at most, fees included.
    ///
    /// # Errors
    /// [`SealedQueryError`] when the model or the network cannot do it.
    pub async fn sealed_cost(
        &self,
        model: &Hash,
        prompt: &Prompt,
        options: &SealedOptions,
    ) -> Result<Amount, SealedQueryError> {
        let planned = self.plan_sealed(model, prompt, options).await?;
        let fees = sum(planned.params.draw_fee, planned.params.min_tx_fee);
        Ok(sum(planned.escrow, fees))
    }

    /// Continues `prompt` on nodes that read it, encrypted to each of them, `options.replicas` of which
    /// must agree on every shard.
    ///
    /// # Errors
    /// [`SealedQueryError`]. Once paid, the journal knows the query; its unspent escrow returns.
    pub async fn write_sealed(
        &self,
        model: &Hash,
        wallet: &SecretKey,
        prompt: &Prompt,
        options: &SealedOptions,
    ) -> Result<SealedOutcome, SealedQueryError> {
        let planned = self.plan_sealed(model, prompt, options).await?;
        let client_key = SecretKey::generate(&mut random::rng());
        let (paid, mut entry) =
            self.pay_sealed(model, wallet, prompt, &planned, &client_key).await?;
        let record = paid.record.clone();
        options.listener.take(SealedEvent::Paid { query: record.id, escrow: record.escrow });
        let ran = self.run_sealed(&planned, &paid, client_key, options).await;
        entry.fate = match &ran {
            Ok(_) => Fate::Answered,
            Err(error) => Fate::Failed { reason: error.to_string() },
        };
        self.journal().put(&entry).await.map_err(QueryError::from)?;
        let (paces, about) = (Paces(self.models().store()), (model, planned.plan.len()));
        let noted = match (&ran, planned.pace) {
            (Ok((outcome, _)), _) => {
                paces.written(about, outcome.transcript.tokens.len(), &outcome.timings).await
            }
            (Err(SealedQueryError::Nodes(SealedError::Deadline)), Some(given)) => {
                paces.missed(about, given).await
            }
            _ => Ok(()),
        };
        if let Err(error) = noted {
            tracing::warn!(%error, "the nodes' pace is not noted");
        }
        let (mut outcome, evidence) = ran?;
        if !options.answer_only {
            self.await_reveals(&mut outcome, &planned).await?;
            if planned.terms.disclose && matches!(outcome.standing, Standing::Disputed(_)) {
                let windows =
                    Windows::of(outcome.deadline_ms, planned.terms.disclose, &planned.params);
                outcome.on_chain = self.await_rulings(&outcome.query, &windows).await?;
            }
            outcome.receipt = self.sealed_receipt(evidence, &planned.params).await?;
        }
        Ok(outcome)
    }

    async fn plan_sealed(
        &self,
        model: &Hash,
        prompt: &Prompt,
        options: &SealedOptions,
    ) -> Result<Planned, SealedQueryError> {
        let loaded = self.models().text_files(model, self.sources()).await;
        let (header, files) = loaded.map_err(QueryError::from)?;
        let Manifest::Decoder(manifest) = header.manifest().clone() else {
            return Err(PlanError::Family { got: header.manifest().family() }.into());
        };
        let engine = self.engine().ok_or(TextError::Absent).map_err(QueryError::from)?;
        let codec = engine.open(files).await.map_err(QueryError::from)?;
        let request = WriteRequest {
            prompt: codec.tokens(&prompt.said).await.map_err(QueryError::from)?,
            tokens: prompt.tokens,
            sampling: prompt.sampling,
            seed: prompt.seed,
            pad_to: 1,
            piece: PIECE,
            draft: 0,
        };
        let (read, written) = (request.prompt.len(), request.tokens);
        // Refused before anything is paid.
        if read == 0 {
            return Err(StartError::Empty.into());
        }
        let max = manifest.config.max_tokens as usize;
        let length = StartError::Length { prompt: read, tokens: written, max };
        let all = read.checked_add(written).filter(|all| *all <= max);
        let max_tokens = all.and_then(|all| u32::try_from(all).ok()).ok_or(length)?;
        let plan = ShardPlan::even(&header, options.shards)?;
        let inner = plan.cuts().get(1..plan.len()).unwrap_or_default().to_vec();
        let terms = Terms { cuts: inner, replicas: options.replicas, disclose: options.disclose };
        terms.check().map_err(|error| QueryError::Record {
            what: "committee",
            got: error.to_string(),
            expected: "terms that the chain takes".into(),
        })?;

        let (model_key, params_key) = (keys::model(model), keys::params());
        let proven = self.light().prove(&[model_key, params_key]).await?;
        let record: ModelRecord = pay::decode(&proven, &model_key, "model")?
            .ok_or(QueryError::Model { model: *model, reason: "it is not registered" })?;
        if record.lanes & Lane::Sealed.bit() == 0 {
            let reason = "it does not allow this lane";
            return Err(QueryError::Model { model: *model, reason }.into());
        }
        let params: Params = pay::decode(&proven, &params_key, "params")?
            .ok_or(AskError::Undecided { missing: "the chain's parameters".into() })?;
        let too_long =
            QueryError::TooLong { tokens: max_tokens.into(), max: params.max_query_tokens };
        if max_tokens > params.max_query_tokens {
            return Err(too_long.into());
        }
        let escrow =
            fees::min_committee_escrow(record.price_per_token, max_tokens, &params, &terms);
        let escrow = escrow.ok_or(too_long)?;
        if let Some(allowed) = options.max_fee
            && escrow > allowed
        {
            return Err(QueryError::TooDear { needed: escrow, allowed }.into());
        }
        let paces = Paces(self.models().store());
        let pace = paces.allowed(model, plan.len()).await.map_err(QueryError::from)?;
        let needed =
            BASE_DEADLINE + READ_DEADLINE * (read * plan.len()) as u32 + pace * written as u32;
        let least = Duration::from_millis(params.min_deadline_ms.saturating_add(2_000));
        let most = Duration::from_millis(params.max_deadline_ms.saturating_sub(2_000)).max(least);
        let deadline = options.deadline.unwrap_or(needed).clamp(least, most);
        Ok(Planned {
            request,
            codec,
            manifest,
            plan,
            terms,
            params,
            denom: record.denom,
            price_per_token: record.price_per_token,
            max_tokens,
            escrow,
            deadline,
            pace: options.deadline.is_none().then_some(pace),
        })
    }

    async fn pay_sealed(
        &self,
        model: &Hash,
        wallet: &SecretKey,
        prompt: &Prompt,
        planned: &Planned,
        client_key: &SecretKey,
    ) -> Result<(PaidFor, Entry), SealedQueryError> {
        let chain = self.light().chain();
        let head_ms = self.light().head().map_or(0, |head| head.timestamp_ms());
        let now_ms = time::now_ms().max(head_ms);
        let salt = Hash(random::bytes());
        let payment = PayForQuery {
            model: *model,
            lane: Lane::Sealed,
            verification: Verification::Committee,
            max_fee: planned.escrow,
            denom: planned.denom,
            commitment: pay::commitment(&chain, &salt, model, &prompt.committed()),
            client_key: client_key.public(),
            deadline_ms: now_ms.saturating_add(planned.deadline.as_millis() as u64),
            max_tokens: planned.max_tokens,
            named: None,
            terms: Some(planned.terms.clone()),
        };
        Ok(self.escrow_replicas(wallet, payment, &planned.params).await?)
    }

    /// Draws, drives, and reads the tokens as text.
    async fn run_sealed(
        &self,
        planned: &Planned,
        paid: &PaidFor,
        client_key: SecretKey,
        options: &SealedOptions,
    ) -> Result<(SealedOutcome, Evidence), SealedQueryError> {
        let record = &paid.record;
        let Drawn { drawn, addresses, seed, snapshot } =
            self.draw_replicas(record, &planned.terms).await?;
        let evidence = Evidence {
            trust: self.light().trust().clone(),
            signed: paid.signed.clone(),
            included: paid.included.clone(),
            before: paid.before.clone(),
            record: record.clone(),
            seed,
            nodes: snapshot.clone(),
            snapshot,
            served: Vec::new(),
            links: Vec::new(),
        };
        let seats: Vec<Vec<Candidate>> = drawn
            .shards
            .iter()
            .map(|shard| {
                let seat = |s: &Seat| Candidate { node: s.node, operator: s.operator };
                shard.seats.iter().map(seat).collect()
            })
            .collect();
        options.listener.take(SealedEvent::Drawn { view: record.draw_view, seats: seats.clone() });
        options.listener.take(SealedEvent::Receipt(Box::new(unpaid(&evidence))));
        let DecoderManifest { config, special, .. } = &planned.manifest;
        let config = Config {
            chain: self.light().chain(),
            query: record.id,
            model: record.model,
            plan: planned.plan.clone(),
            d_model: config.d_model as usize,
            context: config.max_tokens as usize,
            ends: special.ends.clone(),
            replicas: planned.terms.replicas.into(),
            price_per_token: record.price_per_token,
            client_key,
            disclose: planned.terms.disclose,
        };
        let relay = Relay::new(config, &planned.request, &seats, random::rng())?;
        let (tokens, mut written) = mpsc::unbounded();
        let reader = Arc::new(Reader {
            tokens: Mutex::new(Some(tokens)),
            replaced: Mutex::default(),
            listener: options.listener.clone(),
        });
        let listener: Arc<dyn SealedListener> = reader.clone();
        let until = record.deadline_ms.saturating_sub(MARGIN_MS);
        let driving = async {
            let driven = drive(self.network(), relay, &addresses, until, &listener).await;
            // No token follows, so the text ends.
            lock(&reader.tokens).take();
            driven
        };
        let reading = async {
            let mut stream = planned.codec.stream(&planned.request.prompt).await?;
            let mut text = String::new();
            while let Some(token) = written.next().await {
                // A token outside the tokenizer is the model's doing; the text goes on without it.
                let piece = stream.push(token).await.unwrap_or_default();
                text.push_str(&piece);
                if !piece.is_empty() {
                    options.listener.take(SealedEvent::Text(piece));
                }
            }
            text.push_str(&stream.finish().await?);
            Ok::<_, TextError>(text)
        };
        let (driven, text) = futures::join!(driving, reading);
        let (transcript, timings) = driven?;
        let text = text.map_err(QueryError::from)?;
        let expected = planned.terms.seats();
        let standing = match &transcript.dispute {
            Some(dispute) => Standing::Disputed(Some(dispute.clone())),
            None => Standing::Agreed { revealed: 0, expected },
        };
        let parted = transcript.parted;
        let paid = transcript.served.iter().try_fold(parted, |s, one| s.checked_add(one.paid));
        let replaced = lock(&reader.replaced).clone();
        let outcome = SealedOutcome {
            query: record.id,
            model: record.model,
            text,
            transcript,
            standing,
            timings,
            replaced,
            plan: planned.plan.clone(),
            escrowed: record.escrow,
            promised: paid.unwrap_or_default(),
            deadline_ms: record.deadline_ms,
            on_chain: None,
            receipt: None,
        };
        Ok((outcome, evidence))
    }

    /// Waits for the reveals, and says what they show.
    async fn await_reveals(
        &self,
        outcome: &mut SealedOutcome,
        planned: &Planned,
    ) -> Result<(), SealedQueryError> {
        let windows = Windows::of(outcome.deadline_ms, planned.terms.disclose, &planned.params);
        let key = keys::query(&outcome.query);
        loop {
            let seen = self.light().height();
            if time::now_ms() > windows.commit_ms {
                let looked = self.light().record::<QueryRecord>(key, "query", 0).await;
                match looked {
                    Ok((Some(record), _)) => {
                        let now = standing(&record, outcome);
                        let over = time::now_ms() > windows.reveal_ms.saturating_add(AFTER_MS);
                        if over || !matches!(now, Standing::Agreed { .. }) {
                            outcome.standing = now;
                            return Ok(());
                        }
                        outcome.standing = now;
                    }
                    Ok((None, _)) | Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            self.light().head_or(seen, Duration::from_millis(700)).await;
        }
    }
}

/// What the chain's record shows about a text on which the replicas agreed towards this device.
fn standing(record: &QueryRecord, outcome: &SealedOutcome) -> Standing {
    if let Standing::Disputed(dispute) = &outcome.standing {
        return Standing::Disputed(dispute.clone());
    }
    traces::judge(record, &outcome.told(), outcome.is_whole())
}

/// Passes on what happens, and tokens to whoever makes text of them.
struct Reader {
    tokens: Mutex<Option<mpsc::UnboundedSender<u32>>>,
    replaced: Mutex<Vec<(Link, Address, String)>>,
    listener: Arc<dyn SealedListener>,
}

impl SealedListener for Reader {
    fn take(&self, event: SealedEvent) {
        match &event {
            SealedEvent::Token(token) => {
                if let Some(tokens) = &*lock(&self.tokens) {
                    // Its reader lives as long as the query.
                    let _ = tokens.unbounded_send(*token);
                }
            }
            SealedEvent::Replaced { link, candidate, reason } => {
                lock(&self.replaced).push((*link, candidate.node, reason.clone()));
            }
            _ => {}
        }
        self.listener.take(event);
    }
}
