//! One paid, private, verified query: from the price to the receipt.
//!
//! # Design
//!
//! ```text
//!  texts ─tokenise─> plan ─price─> PayForQuery ─final─> seed of the draw view ─> committee
//!                                                                                   │
//!   vectors <─PassDone── masked Session <── frames ──> A and B (links) <── proven node records
//!      │                      └─ vouchers, blame, replacement, commitments
//!      └──> payment proven in state ──> ladder, payment receipt, opened receipt
//! ```
//!
//! Every await may be the last: dropping the future closes the links and leaves a journal entry
//! that tells the query's fate. Masks live in the session alone and die with it.

pub(crate) mod classify;
pub(crate) mod classify_text;
pub(crate) mod drafts;
mod drive;
pub mod engine;
mod error;
pub mod journal;
pub(crate) mod links;
#[cfg(feature = "text")]
mod native;
pub(crate) mod pay;
pub(crate) mod prompt;
pub(crate) mod reading;
pub mod report;
mod settle;
pub(crate) mod text;
mod thin;
pub(crate) mod work;

use std::{sync::Arc, time::Duration};

use nesa_chain::{action::Named, query::QueryRecord};
use nesa_crypto::SecretKey;
use nesa_model::{Embedding, decoder::DecoderModel};
use nesa_platform::{BoxFuture, net::Network, storage::Store, time::Instant};
use nesa_primitives::{Amount, Hash};

use crate::{
    AskError, LightClient,
    accounts::Accounts,
    client::since,
    ladder::{Ladder, LadderStep, StepId},
    models::{ModelStore, PieceSource, Prepared},
    receipt::{OpenedReceipt, PaymentReceipt},
};
use engine::TextEngine;
use journal::{Fate, Journal};
use report::{
    Answer, BytesMoved, Cost, Listener, NodeRef, Phase, PreparationUsed, Progress, Quote, Rejected,
    Timings,
};
use work::Work;

/// Texts of one query at most: a search over a few documents fits.
pub const MAX_TEXTS: usize = 512;
/// Images of one query at most.
pub const MAX_IMAGES: usize = 256;
/// Time allowed for the draw, the links and the commitments of a query.
const BASE_DEADLINE: Duration = Duration::from_secs(20);
/// Time allowed for each padded token besides: 40 tokens a second is a slow link.
const TOKEN_DEADLINE: Duration = Duration::from_millis(25);
/// Time allowed for each token that is written besides: tens of round trips, one after another.
const WRITTEN_TOKEN_DEADLINE: Duration = Duration::from_millis(1_000);

/// Choices for one query.
#[derive(Clone, Default)]
pub struct QueryOptions {
    /// A node the user chose, and its side.
    pub named: Option<Named>,
    /// Keep what an opened receipt needs. Only after explicit consent: it contains the prompt.
    pub open_receipt: bool,
    /// Refuse to escrow more than this.
    pub max_fee: Option<Amount>,
    /// From inclusion to settlement; `None` takes a time that fits the work.
    pub deadline: Option<Duration>,
    /// Guesses what a text's model will choose, on this device, as many tokens a pass as the prompt has a
    /// draft of. Without it they come from what was written before.
    pub draft_model: Option<DecoderModel>,
    /// Hears what happens.
    pub listener: Listener,
    /// Return as soon as the answer is checked, without waiting for the chain. The payment
    /// receipt then waits for [`QueryClient::settle`].
    pub answer_only: bool,
    /// How long to wait for the chain otherwise.
    pub until: Until,
}

/// Everything about a finished query.
#[derive(Clone)]
pub struct QueryOutcome {
    /// The query's id on the chain.
    pub query: Hash,
    /// The model's digest.
    pub model: Hash,
    /// The checked answer.
    pub answer: Arc<Answer>,
    /// Indices of texts that were cut at the model's limit.
    pub truncated: Vec<usize>,
    /// The verification ladder.
    pub ladder: Vec<LadderStep>,
    /// The public record; `None` until paid.
    pub receipt: Option<PaymentReceipt>,
    /// The private record, if it was asked for.
    pub opened: Option<OpenedReceipt>,
    /// Where the time went.
    pub timings: Timings,
    /// Bytes moved.
    pub bytes: BytesMoved,
    /// Attempts used: 1 plus the replacements.
    pub attempts: u32,
    /// Nodes that were replaced.
    pub rejected: Vec<Rejected>,
    /// The nodes at the end.
    pub nodes: Vec<NodeRef>,
    /// Where the money went.
    pub cost: Cost,
    /// Who made the s that checked it.
    pub preparation: PreparationUsed,
    /// What the payment's proof needs later.
    pub pending: Option<Pending>,
}

pub use classify_text::TextInput;
pub use error::QueryError;
#[cfg(feature = "text")]
pub use native::NativeText;
pub use pay::commitment;
pub use prompt::{MAX_DRAFT, Message, Prompt, Role, Said, SamplingError, sampling, seed};
pub(crate) use settle::{Evidence, build, unpaid};
pub use settle::{Pending, Until, complete};
pub use text::Fitted;
pub use thin::ThinError;

/// Runs queries for one wallet over one chain.
#[derive(Clone)]
pub struct QueryClient {
    light: LightClient,
    network: Network,
    accounts: Accounts,
    journal: Journal,
    models: ModelStore,
    sources: Arc<Vec<Arc<dyn PieceSource>>>,
    text: Option<Arc<dyn TextEngine>>,
}

/// What is known of a query before it is paid.
pub(crate) struct Planned {
    pub(crate) work: Work,
    /// What the payment commits to.
    pub(crate) texts: Vec<String>,
    pub(crate) quote: Quote,
    pub(crate) price: Amount,
    pub(crate) denom: nesa_primitives::Denom,
    pub(crate) deadline: Duration,
}

impl QueryClient {
    /// A client over a running light client and network; `store` keeps the journal and models.
    pub fn new(
        light: LightClient,
        network: Network,
        accounts: Accounts,
        store: Store,
        sources: Vec<Arc<dyn PieceSource>>,
    ) -> Self {
        let journal = Journal::new(store.clone(), light.chain());
        Self {
            light,
            network,
            accounts,
            journal,
            models: ModelStore::new(store),
            sources: Arc::new(sources),
            text: engine::built_in(),
        }
    }

    /// This client with another engine for the tokenizers that models bring.
    #[must_use]
    pub fn with_text(mut self, engine: Arc<dyn TextEngine>) -> Self {
        self.text = Some(engine);
        self
    }

    pub(crate) fn engine(&self) -> Option<&dyn TextEngine> {
        self.text.as_deref()
    }

    /// The journal of this device's queries.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The network behind it.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The light client behind it.
    pub fn light(&self) -> &LightClient {
        &self.light
    }

    /// The accounts behind it.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The models kept on this device.
    pub fn models(&self) -> &ModelStore {
        &self.models
    }

    /// Where pieces of models come from.
    pub fn sources(&self) -> &[Arc<dyn PieceSource>] {
        &self.sources
    }

    /// What `texts` would cost and move, without sending anything.
    ///
    /// # Errors
    /// [`QueryError`] when the texts cannot be computed in one query.
    pub async fn quote(
        &self,
        prepared: &Prepared,
        texts: &[String],
        options: &QueryOptions,
    ) -> Result<Quote, QueryError> {
        let work = Work::embed(prepared.encoder()?, texts, self.engine()).await?;
        Ok(self.plan(prepared, work, texts.to_vec(), options).await?.quote)
    }

    /// Embeds `texts`: one unit vector each, every layer checked by this device.
    ///
    /// # Errors
    /// [`QueryError`]. Once paid, the journal knows the query; its unspent escrow returns.
    pub async fn embed(
        &self,
        prepared: &Prepared,
        wallet: &SecretKey,
        texts: &[String],
        options: &QueryOptions,
    ) -> Result<QueryOutcome, QueryError> {
        let work = Box::pin(async { Work::embed(prepared.encoder()?, texts, self.engine()).await });
        self.ask(prepared, wallet, work, texts.to_vec(), options).await
    }

    async fn ask(
        &self,
        prepared: &Prepared,
        wallet: &SecretKey,
        work: BoxFuture<'_, Result<Work, QueryError>>,
        texts: Vec<String>,
        options: &QueryOptions,
    ) -> Result<QueryOutcome, QueryError> {
        let start = Instant::now();
        let say = &options.listener;
        let mut ladder = Ladder::new();
        ladder.set(LadderStep::not_checked(
            StepId::PageCode,
            "this program",
            "A program cannot check itself: compare its digest with a build of your own.",
            serde_json::json!({ "version": env!("CARGO_PKG_VERSION") }),
        ));
        say.say(Progress::Phase(Phase::Tokenizing));
        let planned = self.plan(prepared, work.await?, texts, options).await?;
        say.say(Progress::Quote(planned.quote.clone()));

        let planning_ms = since(start);
        let chain_start = Instant::now();
        let mut paid = self.pay(prepared, wallet, &planned, options, &mut ladder).await?;
        let drawn = match self.draw(&paid, options, &mut ladder).await {
            Ok(drawn) => drawn,
            Err(error) => return Err(self.give_up(&mut paid, error).await),
        };
        let chain_ms = since(chain_start);

        let prepared = match self.fitting(prepared, &drawn.committee, say).await {
            Ok(prepared) => prepared,
            Err(error) => return Err(self.give_up(&mut paid, error).await),
        };
        let prepared = &prepared;
        let before = prepared.preparation.standing();
        let driven = self.drive(prepared, &planned, &paid, drawn, options, &mut ladder).await;
        let driven = match self.keep_standing(prepared, before).await.and(driven) {
            Ok(driven) => driven,
            Err(error) => return Err(self.give_up(&mut paid, error).await),
        };
        paid.entry.fate = Fate::Answered;
        self.journal.put(&paid.entry).await?;
        say.say(Progress::Answer(driven.answer.clone()));

        let mut timings = driven.timings.clone();
        timings.chain_ms = chain_ms;
        timings.device_ms += planning_ms;
        timings.total_ms = since(start);
        let mut outcome = QueryOutcome {
            query: paid.entry.query,
            model: prepared.model.digest(),
            answer: driven.answer,
            truncated: planned.quote.truncated.clone(),
            ladder: Vec::new(),
            receipt: None,
            opened: driven.opened,
            timings,
            bytes: driven.bytes,
            attempts: 1 + driven.rejected.len() as u32,
            rejected: driven.rejected,
            nodes: driven.nodes,
            preparation: PreparationUsed::of(&prepared.preparation),
            cost: Cost {
                escrowed: planned.quote.max_fee,
                fees: sum(planned.quote.draw_fee, planned.quote.tx_fee),
                ..Cost::default()
            },
            pending: Some(Pending {
                entry: paid.entry,
                ladder,
                evidence: Box::new(driven.evidence),
                answered: Instant::now(),
            }),
        };
        if options.answer_only {
            outcome.ladder =
                outcome.pending.as_ref().map(|p| p.ladder.steps().to_vec()).unwrap_or_default();
        } else {
            self.settle(&mut outcome, options.until, say).await?;
        }
        Ok(outcome)
    }

    /// Notes that a paid query gave no answer, and passes the error on.
    async fn give_up(&self, paid: &mut pay::Paid, error: QueryError) -> QueryError {
        paid.entry.fate = Fate::Failed { reason: error.to_string() };
        if let Err(storage) = self.journal.put(&paid.entry).await {
            tracing::warn!(error = %storage, "the query's end was not written down");
        }
        error
    }

    /// What became of an earlier query, from the chain's own record.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn fate(&self, query: &Hash) -> Result<Option<QueryRecord>, AskError> {
        let key = nesa_chain::keys::query(query);
        Ok(self.light.record::<QueryRecord>(key, "query", 0).await?.0)
    }
}

pub(crate) fn sum(a: Amount, b: Amount) -> Amount {
    a.checked_add(b).unwrap_or(Amount(u64::MAX))
}

/// BLAKE3 over the integers of the vectors: the name of an answer's bytes.
pub fn answer_digest(model: &Hash, vectors: &[Embedding]) -> Hash {
    let mut hasher = nesa_primitives::domain("embeddings", model);
    for vector in vectors {
        hasher.update(&(vector.values.len() as u64).to_le_bytes());
        for value in &vector.values {
            hasher.update(&value.to_le_bytes());
        }
    }
    hasher.finalize().into()
}
