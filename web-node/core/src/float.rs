//! The float lane's node: one sealed run per stream on `/nesa/float/1`.
//!
//! ```text
//!   stream ─▶ door (prekey, envelope) ─▶ terms (proven on chain) ─▶ engine ─▶ answer
//!                                              │
//!              CommitShard, Reveal, ClaimShard ◀── with or without a voucher
//! ```
//!
//! The engine is given from outside: natively it is linked, in a browser it is a module of its own. Like
//! the sealed lane's nodes, this one reads what it computes on.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use nesa_crypto::SecretKey;
use nesa_platform::{
    BoxFuture, MaybeSend, MaybeSync,
    net::{AcceptError, Network, Stream, StreamLimits},
    random,
    task::{self, Guard},
    time,
};
use nesa_primitives::Hash;
use nesa_sealed::{
    float::{Door, Greeting, Received, Session, max_frame},
    message::{OVERHEAD, Refusal},
    server,
};
use nesa_wire::Protocol;

/// Bytes of encoded inputs or of an encoded answer at most.
pub use nesa_sealed::float::MAX_CONTENT;

use crate::{
    admission::Admission,
    limits::Limits,
    metrics::Counters,
    shard::{OnChain, ProvenShard},
};

/// How long a client may take to say which query it is.
const OPENING: Duration = Duration::from_secs(10);
/// How long a client may compare answers before it pays.
const COMPARING: Duration = Duration::from_secs(60);
/// Frames before a session stands.
const GREETINGS: usize = 4;
/// Streams of one client.
const PER_CLIENT: usize = 4;
/// Before a query's deadline, an answer must be there so that its commitment reaches a block.
const COMMITTING_MS: u64 = 2_000;

/// What runs float models.
pub trait FloatEngine: MaybeSend + MaybeSync + fmt::Debug {
    /// Digests of the models it can run.
    fn models(&self) -> Vec<Hash>;
    /// Runs one on encoded inputs; the encoded answer. How long that takes cannot be known before, so the
    /// future is dropped when its time is over: the run must end with it, wherever it stands.
    ///
    /// # Errors
    /// In words, what is wrong with the inputs.
    fn run(&self, model: Hash, inputs: Bytes) -> BoxFuture<'_, Result<Bytes, String>>;
}

pub(crate) struct FloatService {
    pub(crate) engine: Arc<dyn FloatEngine>,
    pub(crate) ledger: OnChain,
    pub(crate) limits: Limits,
    pub(crate) admission: Arc<Admission>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) door: Mutex<Door>,
    pub(crate) live: Mutex<HashSet<Hash>>,
}

impl FloatService {
    pub(crate) fn new(
        (chain, key): (Hash, SecretKey),
        engine: Arc<dyn FloatEngine>,
        ledger: OnChain,
        limits: Limits,
        admission: Arc<Admission>,
    ) -> Self {
        let counters = ledger.counters.clone();
        let door = Mutex::new(Door::new(chain, key));
        Self { engine, ledger, limits, admission, counters, door, live: Mutex::default() }
    }

    /// Serves on `network` until the guard is dropped.
    pub(crate) fn serve(self, network: &Network) -> Result<Guard, AcceptError> {
        let limits = StreamLimits { total: self.limits.queries as usize * 4, per_peer: PER_CLIENT };
        let mut incoming = network.accept(Protocol::Float, limits)?;
        let service = Arc::new(self);
        let task = task::spawn(async move {
            while let Some(stream) = incoming.next().await {
                if service.admission.is_closed() {
                    return;
                }
                task::spawn(service.clone().converse(stream));
            }
        });
        Ok(task.abort_on_drop())
    }

    async fn converse(self: Arc<Self>, mut stream: Stream) {
        stream.set_idle(OPENING);
        let (mut session, proven) = match self.begin(&mut stream).await {
            Ok(begun) => begun,
            Err(refusal) => {
                Counters::add(&self.counters.refused, 1);
                tracing::debug!(peer = %stream.peer(), ?refusal, "a float session is refused");
                // The client may be gone already.
                let _ = stream.send(&server::refuse(refusal)).await;
                let _ = stream.close().await;
                return;
            }
        };
        let query = proven.terms.query;
        let blind = Hash(random::bytes());
        if let Err(refusal) = self.work(&mut stream, &mut session, &proven, blind).await
            && let Some(frame) = session.refuse(refusal)
        {
            let _ = stream.send(&frame).await;
        }
        let _ = stream.close().await;
        let outcome = session.outcome(blind);
        if outcome.is_some() {
            Counters::add(&self.counters.queries, 1);
        }
        self.ledger.conclude(&proven, outcome).await;
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&query);
    }

    /// Hands out the prekey, opens the envelope, and proves that this node is to serve the query.
    async fn begin(
        self: &Arc<Self>,
        stream: &mut Stream,
    ) -> Result<(Session, ProvenShard), Refusal> {
        for _ in 0..GREETINGS {
            let Ok(Some(frame)) = stream.recv_up_to(2 * OVERHEAD).await else {
                return Err(Refusal::Protocol);
            };
            let greeting = {
                let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
                door.turn(time::now_ms(), &mut random::rng());
                door.receive(&frame)?
            };
            let asked = match greeting {
                Greeting::Reply(reply) => {
                    stream.send(&reply).await.map_err(|_| Refusal::Protocol)?;
                    continue;
                }
                Greeting::Asked(asked) => asked,
            };
            let binding = asked.binding;
            if !self.engine.models().contains(&binding.model) {
                return Err(Refusal::NotDrawn);
            }
            let first =
                self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(binding.query);
            if !first {
                return Err(Refusal::Unavailable);
            }
            let begun = self.prove(*asked).await;
            if begun.is_err() {
                self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&binding.query);
            }
            let (session, proven, accept) = begun?;
            stream.send(&accept).await.map_err(|_| Refusal::Protocol)?;
            return Ok((session, proven));
        }
        Err(Refusal::Protocol)
    }

    async fn prove(
        &self,
        asked: nesa_sealed::float::Asked,
    ) -> Result<(Session, ProvenShard, Bytes), Refusal> {
        let binding = asked.binding;
        let proven = self.ledger.prove_place(&binding, asked.opening.replica).await?;
        let (session, accept) = Session::start(asked, proven.terms.clone())?;
        Ok((session, proven, accept))
    }

    /// One run, and the voucher if one comes.
    async fn work(
        self: &Arc<Self>,
        stream: &mut Stream,
        session: &mut Session,
        proven: &ProvenShard,
        blind: Hash,
    ) -> Result<(), Refusal> {
        let _place = self.admission.enter().ok_or(Refusal::Unavailable)?;
        stream.set_idle(COMPARING);
        while let Ok(Some(frame)) = stream.recv_up_to(max_frame()).await {
            Counters::add(&self.counters.bytes_in, frame.len() as u64);
            match session.receive(&frame)? {
                Received::Paid => {
                    if let Some(outcome) = session.outcome(blind) {
                        // Written first: what the client signed, this node will also claim.
                        self.ledger.note(proven, outcome).await;
                    }
                    return Ok(());
                }
                Received::Run(inputs) => {
                    let limit = run_limit(&self.limits, proven.deadline_ms, time::now_ms());
                    let run = self.engine.run(proven.terms.model, inputs);
                    let answer = time::timeout(limit, run).await.map_err(|elapsed| {
                        tracing::info!(%elapsed, query = %proven.terms.query, "a run is ended");
                        Refusal::Unavailable
                    })?;
                    let answer = answer.map_err(|error| {
                        tracing::debug!(%error, query = %proven.terms.query, "a run fails");
                        Refusal::Protocol
                    })?;
                    let frame = session.complete(answer).ok_or(Refusal::Unavailable)?;
                    if let Some(outcome) = session.outcome(blind) {
                        self.ledger.note(proven, outcome).await;
                    }
                    Counters::add(&self.counters.bytes_out, frame.len() as u64);
                    stream.send(&frame).await.map_err(|_| Refusal::Protocol)?;
                }
            }
        }
        Ok(())
    }
}

/// How long a run may take: what the node allows, and no longer than its answer is of use.
fn run_limit(limits: &Limits, deadline_ms: u64, now_ms: u64) -> Duration {
    let left = deadline_ms.saturating_sub(COMMITTING_MS).saturating_sub(now_ms);
    limits.run.min(Duration::from_millis(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_with_its_query_or_before() {
        let limits = Limits { run: Duration::from_secs(10), ..Limits::default() };
        assert_eq!(run_limit(&limits, 60_000, 0), limits.run);
        assert_eq!(run_limit(&limits, 60_000, 53_000), Duration::from_secs(5));
        assert_eq!(run_limit(&limits, 60_000, 59_000), Duration::ZERO);
        assert_eq!(run_limit(&limits, 0, u64::MAX), Duration::ZERO);
    }
}
