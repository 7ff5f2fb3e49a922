//! One client, one query, one shard.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use nesa_crypto::{SecretKey, seal::Role};
use nesa_platform::{
    net::{AcceptError, Network, Reader, Stream, StreamLimits, Writer},
    random,
    task::{self, Guard},
    time,
};
use nesa_primitives::Hash;
use nesa_sealed::{
    message::{OVERHEAD, Refusal},
    server::{self, Asked, Door, Greeting, Outcome, Received, Session, given_bytes, kv_bytes},
};
use nesa_wire::Protocol;

use super::{
    chain::{ProvenShard, ShardChain},
    desk::Seated,
    device::BesideShards,
    evidence::Kept,
    memory::{Memory, Promise},
    seat::Device,
    shelf::Shelf,
};
use crate::{
    admission::{Admission, Place},
    compute::{Cores, Watch},
    fault::Fault,
    limits::Limits,
    metrics::Counters,
};

/// How long a client may take to say which query it is.
const OPENING: Duration = Duration::from_secs(10);
/// Frames before a session stands: a greeting, an envelope, and one of each again after a prekey ran out.
const GREETINGS: usize = 4;
/// Streams of one client: a query may need a node for several shards.
const PER_CLIENT: usize = 8;

/// What serving shards needs.
pub struct ShardNode {
    /// The chain's digest.
    pub chain: Hash,
    /// The node key.
    pub key: SecretKey,
    /// The shards.
    pub shelf: Arc<Shelf>,
    /// Who proves queries and takes outcomes.
    pub ledger: Arc<dyn ShardChain>,
    /// What may be spent.
    pub limits: Limits,
    /// A device that computes the shards' products.
    pub beside: Option<BesideShards>,
    /// The threads that compute what a device does not.
    pub cores: Cores,
    /// Misbehaviour of a test scenario.
    pub fault: Option<Fault>,
}

struct Service {
    key: SecretKey,
    shelf: Arc<Shelf>,
    ledger: Arc<dyn ShardChain>,
    limits: Limits,
    fault: Option<Fault>,
    door: Mutex<Door>,
    memory: Arc<Memory>,
    admission: Arc<Admission>,
    counters: Arc<Counters>,
    live: Mutex<HashSet<(Hash, Role)>>,
}

/// Serves shards on `network` until the guard is dropped.
///
/// # Errors
/// [`AcceptError`] if something else on this network serves them already.
pub fn serve(network: &Network, node: ShardNode) -> Result<Guard, AcceptError> {
    let counters = Arc::new(Counters::default());
    let admission = Admission::new(node.limits, counters.clone());
    let standing =
        Watch::of(node.beside.as_ref().map_or_else(String::new, |b| b.accelerator.name()));
    serve_with(network, node, admission, counters, standing)
}

/// [`serve`] within the limits that a whole node shares, where `standing` is kept of its device.
pub(crate) fn serve_with(
    network: &Network,
    node: ShardNode,
    admission: Arc<Admission>,
    counters: Arc<Counters>,
    standing: Watch,
) -> Result<Guard, AcceptError> {
    let limits = StreamLimits { total: node.limits.queries as usize * 4, per_peer: PER_CLIENT };
    let mut incoming = network.accept(Protocol::Shard, limits)?;
    *node.shelf.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters.clone();
    *node.shelf.cores.lock().unwrap_or_else(PoisonError::into_inner) = node.cores;
    let device = node.beside.map(|beside| Arc::new(Device::new(beside, standing)));
    *node.shelf.device.lock().unwrap_or_else(PoisonError::into_inner) = device;
    let service = Arc::new(Service {
        door: Mutex::new(Door::new(node.chain, node.key.clone())),
        memory: Memory::new(node.limits.cache_bytes),
        key: node.key,
        shelf: node.shelf,
        ledger: node.ledger,
        limits: node.limits,
        fault: node.fault,
        admission,
        counters,
        live: Mutex::default(),
    });
    let task = task::spawn(async move {
        while let Some(stream) = incoming.next().await {
            if service.admission.is_closed() {
                return;
            }
            task::spawn(service.clone().serve(stream));
        }
    });
    Ok(task.abort_on_drop())
}

/// A session whose query was proven.
struct Begun {
    session: Session,
    proven: ProvenShard,
    desk: Seated,
    accept: Bytes,
    _held: Held,
}

/// What a session holds while it lasts.
struct Held {
    _place: Place,
    _memory: Promise,
    _live: Live,
}

/// Holds a role's place among the live ones.
struct Live {
    service: Arc<Service>,
    role: (Hash, Role),
}

impl Drop for Live {
    fn drop(&mut self) {
        self.service.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.role);
    }
}

/// How a session ended.
enum End {
    /// The client asked for the commitment.
    Finished(Box<Outcome>),
    /// The client left, broke the protocol, or ran out of time; or the node dies, as its scenario wants: who
    /// is killed and starts again commits to the part it served, like who is given up.
    Left,
}

impl Service {
    async fn serve(self: Arc<Self>, mut stream: Stream) {
        stream.set_idle(OPENING);
        let peer = stream.peer();
        let begun = match self.begin(&mut stream).await {
            Ok(begun) => begun,
            Err(refusal) => {
                Counters::add(&self.counters.refused, 1);
                tracing::debug!(%peer, ?refusal, "a shard session is refused");
                // The client may be gone already.
                let _ = stream.send(&server::refuse(refusal)).await;
                let _ = stream.close().await;
                return;
            }
        };
        let Begun { mut session, proven, desk, accept, _held } = begun;
        let (reader, writer) = stream.split();
        let end = self.converse(&mut session, &proven, &desk, accept, reader, writer).await;
        drop(_held);
        self.keep(&mut session, &proven, &desk).await;
        drop(desk);
        let outcome = match end {
            End::Finished(outcome) => Some(*outcome),
            End::Left => session.abandon(),
        };
        let silent = self.fault == Some(Fault::NeverAnswer);
        let outcome = outcome.filter(|outcome| outcome.served_tokens > 0 && !silent);
        if outcome.is_some() {
            Counters::add(&self.counters.queries, 1);
        }
        self.ledger.settle(&proven, outcome).await;
    }

    /// Hands out the prekey, opens the envelope, and proves that this node is to serve the query.
    async fn begin(self: &Arc<Self>, stream: &mut Stream) -> Result<Begun, Refusal> {
        let asked = self.greet(stream).await?;
        let (binding, opening) = (asked.binding, asked.opening.clone());
        if !self.shelf.offers(&binding.model) {
            return Err(Refusal::NotDrawn);
        }
        let layers = opening.plan.layers(binding.role.shard.into()).ok_or(Refusal::Protocol)?;
        let place = self.admission.enter().ok_or(Refusal::Unavailable)?;
        let live = self.enter((binding.query, binding.role)).ok_or(Refusal::Unavailable)?;
        let proven = self.ledger.prove(&binding, &opening).await?;
        let desk = self.shelf.desk(&binding.model, layers).await.map_err(|error| {
            tracing::warn!(%error, model = %binding.model, "a shard cannot be loaded");
            Refusal::Unavailable
        })?;
        let bytes = kv_bytes(desk.model(), opening.max_tokens as usize);
        let memory = self.memory.promise(bytes).ok_or(Refusal::Unavailable)?;
        let (model, key) = (desk.model().clone(), self.key.clone());
        let started = Session::start(asked, proven.terms.clone(), model, key);
        let (session, accept) = started.map_err(|error| {
            tracing::debug!(%error, query = %binding.query, "an opening is refused");
            error.refusal()
        })?;
        let room = given_bytes(desk.model(), session.max_tokens());
        let desk = if proven.terms.disclose {
            let repeat = desk.repeat(session.max_tokens());
            if !self.ledger.reserve(&proven, room, repeat) {
                tracing::info!(query = %binding.query, ?repeat, "too much to compute again in a dispute");
                return Err(Refusal::Unavailable);
            }
            // What the processor may have to repeat, it computes: so its time is known.
            desk.alone()
        } else {
            desk.enter(session.max_tokens()).await
        };
        let held = Held { _place: place, _memory: memory, _live: live };
        Ok(Begun { session, proven, desk, accept, _held: held })
    }

    async fn greet(&self, stream: &mut Stream) -> Result<Asked, Refusal> {
        for _ in 0..GREETINGS {
            let Ok(Some(frame)) = stream.recv_up_to(2 * OVERHEAD).await else {
                return Err(Refusal::Protocol);
            };
            let greeting = {
                let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
                door.turn(time::now_ms(), &mut random::rng());
                door.receive(&frame)?
            };
            match greeting {
                Greeting::Reply(reply) => {
                    stream.send(&reply).await.map_err(|_| Refusal::Protocol)?;
                }
                Greeting::Asked(asked) => return Ok(*asked),
            }
        }
        Err(Refusal::Protocol)
    }

    fn enter(self: &Arc<Self>, role: (Hash, Role)) -> Option<Live> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.insert(role).then(|| Live { service: self.clone(), role })
    }

    /// Reads ahead, computes and writes at the same time, until one of them ends or the deadline is
    /// too close. A stream that ends stops what is being computed.
    async fn converse(
        &self,
        session: &mut Session,
        proven: &ProvenShard,
        desk: &Seated,
        accept: Bytes,
        mut reader: Reader,
        mut writer: Writer,
    ) -> End {
        let (mut frames, requests) = mpsc::channel(self.limits.ahead);
        let (mut answers, mut outgoing) = mpsc::channel::<Bytes>(self.limits.ahead);
        reader.set_idle(self.limits.idle);
        let (limit, canceller) = (session.max_frame(), session.canceller());
        let reading = task::spawn(async move {
            while let Ok(Some(frame)) = reader.recv_up_to(limit).await {
                if frames.send(frame).await.is_err() {
                    return;
                }
            }
            canceller.cancel();
        })
        .abort_on_drop();
        let counters = self.counters.clone();
        let writing = async move {
            while let Some(answer) = outgoing.next().await {
                if writer.send(&answer).await.is_err() {
                    return;
                }
                Counters::add(&counters.bytes_out, answer.len() as u64);
            }
            // The client has all it will get; it may be gone already.
            let _ = writer.close().await;
        };
        let margin = self.limits.margin.as_millis() as u64;
        let left = proven.deadline_ms.saturating_sub(time::now_ms()).saturating_sub(margin);
        let working = async move {
            if answers.send(accept).await.is_err() {
                return End::Left;
            }
            let work = self.work(session, proven, desk, requests, answers);
            time::timeout(Duration::from_millis(left), work).await.unwrap_or(End::Left)
        };
        let (end, ()) = futures::join!(working, writing);
        drop(reading);
        end
    }

    async fn work(
        &self,
        session: &mut Session,
        proven: &ProvenShard,
        desk: &Seated,
        mut requests: mpsc::Receiver<Bytes>,
        mut answers: mpsc::Sender<Bytes>,
    ) -> End {
        // Steps may go together: a scenario counts tokens.
        let mut tokens = 0;
        while let Some(frame) = requests.next().await {
            Counters::add(&self.counters.bytes_in, frame.len() as u64);
            let answer = match session.receive(&frame) {
                Ok(Received::Reply(answer)) => answer,
                Ok(Received::Quiet) => {
                    self.keep(session, proven, desk).await;
                    self.note_voucher(session, proven).await;
                    continue;
                }
                Ok(Received::Work(job)) => {
                    if self.fault == Some(Fault::NeverAnswer) {
                        // Takes everything, says nothing, until the client gives up.
                        while requests.next().await.is_some() {}
                        return End::Left;
                    }
                    if matches!(self.fault, Some(Fault::DieMidQuery { after }) if tokens >= after) {
                        self.admission.close();
                        // Computed and never told: part of what it commits to.
                        if let Some((done, _)) = desk.compute(job).await {
                            drop(session.complete(done));
                        }
                        return End::Left;
                    }
                    let before = tokens;
                    tokens += job.tokens() as u64;
                    let lie = self.fault.and_then(Fault::lie).map(|lie| lie as u64);
                    let computed = match lie.filter(|lie| (before..tokens).contains(lie)) {
                        Some(lie) => {
                            let done = desk.lie(job, (lie - before) as usize).await;
                            done.map(|done| (done, Duration::ZERO))
                        }
                        None => desk.compute(job).await,
                    };
                    let Some((done, took)) = computed else { return End::Left };
                    let Some(answer) = session.complete(done) else { return End::Left };
                    if proven.terms.disclose && !self.ledger.spend(proven, took) {
                        let query = proven.terms.query;
                        tracing::info!(%query, "more than could be computed again in a dispute");
                        let refused = session.refuse(Refusal::Unavailable);
                        for frame in [Some(answer), refused].into_iter().flatten() {
                            let _ = answers.send(frame).await;
                        }
                        return End::Left;
                    }
                    answer
                }
                Ok(Received::Finished { reply, outcome }) => {
                    self.keep(session, proven, desk).await;
                    // Written first: what the client holds, this node will also claim.
                    self.ledger.checkpoint(proven, outcome.as_ref().clone()).await;
                    let _ = answers.send(reply).await;
                    return End::Finished(outcome);
                }
                Err(error) => {
                    tracing::debug!(%error, "a client is refused in mid-session");
                    if let Some(refused) = session.refuse(error.refusal()) {
                        let _ = answers.send(refused).await;
                    }
                    return End::Left;
                }
            };
            if answers.send(answer).await.is_err() {
                return End::Left;
            }
        }
        End::Left
    }

    /// Hands on what the session was given, if a dispute may ask for it.
    async fn keep(&self, session: &mut Session, proven: &ProvenShard, desk: &Seated) {
        let Some(salt) = session.salt() else { return };
        let (layers, model) = (desk.model().layers(), desk.model().config());
        let (Ok(start), Ok(end)) = (u16::try_from(layers.start), u16::try_from(layers.end)) else {
            return;
        };
        let Ok(d_model) = u16::try_from(model.d_model) else { return };
        let (given, asked) = (session.take_given(), session.take_end());
        if !given.is_empty() || asked.is_some() {
            let took_us = desk.take_spent_us();
            let kept = Kept { salt, layers: (start, end), d_model, given, end: asked, took_us };
            self.ledger.keep(proven, kept).await;
        }
    }

    async fn note_voucher(&self, session: &Session, proven: &ProvenShard) {
        if let Some(outcome) = session.checkpoint() {
            self.ledger.checkpoint(proven, outcome).await;
        }
    }
}
