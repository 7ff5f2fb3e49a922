//! The sealed lane's client: a text by shards and their replicas over live links.
//!
//! # Design
//!
//! ```text
//!   terms, seats, addresses ─▶ drive ─▶ Relay (nesa-sealed) ─▶ frames ─▶ links ─▶ nodes
//!                                │  Token: shown, "not yet verified"
//!                                │  Agreed: all replicas of all shards gave the same so far
//!                                └▶ Transcript: commitments, vouchers, what was agreed on
//! ```
//!
//! The links tell the relay what arrives and what breaks; clocks live here. Dropping the future closes
//! every stream, which cancels what the nodes compute.

mod online;
mod paces;
mod query;
mod receipt;
mod rulings;

pub use nesa_sealed::client::StartError;
pub use online::{Online, OnlineNode};
pub use query::{
    Looked, SealedOptions, SealedOutcome, SealedQueryError, SealedQuote, Standing, Told,
};

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nesa_platform::{
    MaybeSend, MaybeSync,
    net::Network,
    task,
    time::{self, Instant},
};
use nesa_primitives::{Address, Amount, Hash};
use nesa_sealed::client::{Action, Candidate, Link, Lost, Relay, RelayError, Transcript};
use nesa_verify::receipt::PaymentReceipt;
use nesa_wire::Protocol;
use rand_core::CryptoRng;

use crate::query::links::{Input, Links};

/// A node that owes an answer and is silent for this long is replaced.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// A node that has to fetch its shard first may take longer to accept.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// What happens while a text is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealedEvent {
    /// The payment is final.
    Paid {
        /// The query's id.
        query: Hash,
        /// What was escrowed.
        escrow: Amount,
    },
    /// Who may serve: recomputed here from the draw view's seed and an older snapshot, both proven.
    Drawn {
        /// The view whose seed drew them.
        view: u64,
        /// The candidates of each shard, in the order in which they are asked.
        seats: Vec<Vec<Candidate>>,
    },
    /// What a payment receipt begins with, without a word of the text. Whoever keeps it can
    /// [complete](crate::query::QueryClient::complete) it when the query is settled, also after a reload.
    Receipt(Box<PaymentReceipt>),
    /// A token, from the fastest replicas: not yet verified.
    Token(u32),
    /// The text that tokens so far make, not told before: not yet verified.
    Text(String),
    /// All replicas agree on so many tokens.
    Agreed(usize),
    /// A node was given up and another one asked.
    Replaced {
        /// Its place.
        link: Link,
        /// Who it was.
        candidate: Candidate,
        /// Why, in words.
        reason: String,
    },
}

/// Hears what happens.
pub trait SealedListener: MaybeSend + MaybeSync {
    /// Takes one event.
    fn take(&self, event: SealedEvent);
}

impl<F: Fn(SealedEvent) + MaybeSend + MaybeSync> SealedListener for F {
    fn take(&self, event: SealedEvent) {
        self(event);
    }
}

/// Why there is no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// The nodes gave none.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The deadline came first.
    #[error("the deadline passed before the text was agreed on")]
    Deadline,
}

/// What a text took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SealedTimings {
    /// From the start to the first token, in ms.
    pub first_token_ms: f64,
    /// From the start to the end, in ms.
    pub total_ms: f64,
    /// For each node that was replaced: from its loss to the next token or agreement, in ms.
    pub recovered_ms: Vec<f64>,
    /// Bytes sent.
    pub bytes_up: u64,
    /// Bytes received.
    pub bytes_down: u64,
}

/// Drives `relay` to its end over links to `addresses`, or until `deadline_ms` (block time, which this
/// device's clock should be near).
///
/// # Errors
/// [`SealedError`].
pub async fn drive<R: CryptoRng>(
    network: &Network,
    mut relay: Relay<R>,
    addresses: &BTreeMap<Address, Vec<String>>,
    deadline_ms: u64,
    listener: &Arc<dyn SealedListener>,
) -> Result<(Transcript, SealedTimings), SealedError> {
    let began = Instant::now();
    let mut run = Run {
        links: Links::new(network.clone(), Protocol::Shard),
        addresses,
        listener,
        began,
        heard: BTreeMap::new(),
        lost: None,
        timings: SealedTimings::default(),
        done: None,
    };
    let mut actions = relay.start();
    loop {
        run.apply(actions)?;
        if let Some(transcript) = run.done.take() {
            run.timings.total_ms = crate::client::since(began);
            for (_, up, down) in run.links.bytes() {
                run.timings.bytes_up += up;
                run.timings.bytes_down += down;
            }
            return Ok((transcript, run.timings));
        }
        let time_left = Duration::from_millis(deadline_ms.saturating_sub(time::now_ms()));
        if time_left.is_zero() {
            return Err(SealedError::Deadline);
        }
        let waiting = relay.waiting_on();
        let left = |link: &Link| run.limit(link).saturating_sub(run.links.silence(*link));
        let patience = waiting.iter().map(left).min().unwrap_or(ANSWER_LIMIT).min(time_left);
        actions = match run.links.next(patience.max(Duration::from_millis(1))).await {
            Some(Input::Received(link, frame)) => {
                *run.heard.entry(link).or_default() += 1;
                relay.received(link, &frame, time::now_ms())
            }
            Some(Input::Lost(link, reason)) => {
                tracing::debug!(?link, reason, "a link ended");
                run.links.abandon(link);
                relay.lost(link)
            }
            Some(Input::Connected(..)) => Vec::new(),
            None => {
                let overdue =
                    waiting.into_iter().find(|link| run.links.silence(*link) >= run.limit(link));
                match overdue {
                    Some(link) => {
                        run.links.abandon(link);
                        relay.lost(link)
                    }
                    None => Vec::new(),
                }
            }
        };
        // In the browser there is one thread: let the links and the page breathe.
        task::yield_now().await;
    }
}

struct Run<'a> {
    links: Links<Link>,
    addresses: &'a BTreeMap<Address, Vec<String>>,
    listener: &'a Arc<dyn SealedListener>,
    began: Instant,
    /// Frames heard from each node.
    heard: BTreeMap<Link, u32>,
    /// When a node was lost, until the text goes on.
    lost: Option<Instant>,
    timings: SealedTimings,
    done: Option<Transcript>,
}

impl Run<'_> {
    /// How long a node may be silent: the second frame is its acceptance.
    fn limit(&self, link: &Link) -> Duration {
        let accepted = self.heard.get(link).is_some_and(|frames| *frames >= 2);
        if accepted { ANSWER_LIMIT } else { OPEN_LIMIT }
    }

    fn apply(&mut self, actions: Vec<Action>) -> Result<(), SealedError> {
        for action in actions {
            match action {
                Action::Connect { link, candidate } => {
                    let addresses = self.addresses.get(&candidate.node).cloned();
                    self.links.connect(link, candidate.node, addresses.unwrap_or_default());
                }
                Action::Send { link, frame } => {
                    self.links.send(link, frame);
                    self.links.touch(link);
                }
                Action::Close { link } => self.links.close(link),
                Action::Token(token) => {
                    if self.timings.first_token_ms == 0.0 {
                        self.timings.first_token_ms = crate::client::since(self.began);
                    }
                    self.listener.take(SealedEvent::Token(token));
                }
                Action::Agreed(tokens) => {
                    if let Some(lost) = self.lost.take() {
                        self.timings.recovered_ms.push(crate::client::since(lost));
                    }
                    self.listener.take(SealedEvent::Agreed(tokens));
                }
                Action::Replaced { link, candidate, reason } => {
                    self.lost.get_or_insert_with(Instant::now);
                    if reason != Lost::Gone {
                        self.links.abandon(link);
                    }
                    let reason = reason.to_string();
                    self.listener.take(SealedEvent::Replaced { link, candidate, reason });
                }
                Action::Done(transcript) => self.done = Some(*transcript),
                Action::Failed(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
