//! One client, one query, one side.

use crate::{
    admission::{Admission, Place},
    compute::Processors,
    fault::Fault,
    journal::{Committed, Entry, Journal},
    limits::Limits,
    metrics::Counters,
    models::Models,
    settle::Settler,
    terms::{self, TermsError},
};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use nesa_crypto::SecretKey;
use nesa_light::LightClient;
use nesa_masked::{
    message::{self, Refusal},
    server::{self, Outcome, Received, Session},
};
use nesa_model::ExactModel;
use nesa_platform::{
    net::{Reader, Stream, Writer},
    task, time,
};
use nesa_primitives::Hash;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

/// How long a client may take to say which query it is.
const OPENING: Duration = Duration::from_secs(10);

/// Everything that serving one stream needs.
pub(crate) struct Service {
    pub(crate) light: LightClient,
    pub(crate) key: SecretKey,
    pub(crate) models: Arc<Models>,
    pub(crate) processors: Processors,
    pub(crate) journal: Journal,
    pub(crate) settler: Settler,
    pub(crate) counters: Arc<Counters>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) limits: Limits,
    pub(crate) fault: Option<Fault>,
    /// Queries with a live session.
    pub(crate) live: Mutex<HashSet<Hash>>,
}

/// A session whose query was proven.
struct Begun {
    session: Session,
    entry: Entry,
    digest: Hash,
    model: ExactModel,
    accept: Bytes,
    place: Place,
    live: Live,
}

/// How a session ended.
enum End {
    /// The client asked for the commitment.
    Finished(Outcome),
    /// The client left, broke the protocol, or ran out of time.
    Left,
    /// As the scenario wants: without a trace.
    Died,
}

/// Holds a query's place among the live ones.
struct Live {
    service: Arc<Service>,
    query: Hash,
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut live = self.service.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.remove(&self.query);
    }
}

impl Service {
    /// Serves one stream to its end.
    pub(crate) async fn serve(self: Arc<Self>, mut stream: Stream) {
        stream.set_idle(OPENING);
        let peer = stream.peer();
        let begun = match self.begin(&mut stream).await {
            Ok(begun) => begun,
            Err(refusal) => {
                Counters::add(&self.counters.refused, 1);
                tracing::debug!(%peer, ?refusal, "a query is refused");
                // The client may be gone already.
                let _ = stream.send(&server::refuse(refusal)).await;
                let _ = stream.close().await;
                return;
            }
        };
        let Begun { mut session, mut entry, digest, model, accept, place, live } = begun;
        let (reader, writer) = stream.split();
        let end =
            self.converse(&mut session, &mut entry, (digest, model), accept, reader, writer).await;
        drop((place, live));
        self.close(&mut session, entry, end).await;
    }

    /// Reads the opening and proves that this node is to serve it.
    async fn begin(self: &Arc<Self>, stream: &mut Stream) -> Result<Begun, Refusal> {
        let Ok(Some(frame)) = stream.recv_up_to(message::OVERHEAD).await else {
            return Err(Refusal::Protocol);
        };
        let open = message::decode_open(&frame).map_err(|_| Refusal::Protocol)?;
        if open.chain != self.light.chain() || open.node != self.key.public() {
            return Err(Refusal::NotDrawn);
        }
        let lane = self.models.lane(&open.model).ok_or(Refusal::NotDrawn)?;
        let place = self.admission.enter().ok_or(Refusal::Unavailable)?;
        let live = self.enter(open.query).ok_or(Refusal::Unavailable)?;
        // A query is served once: a second session would need a second commitment.
        match self.journal.contains(&open.query).await {
            Ok(false) => {}
            Ok(true) => return Err(Refusal::Unavailable),
            Err(error) => {
                self.counters.problem(&error);
                return Err(Refusal::Unavailable);
            }
        }
        let node = self.key.public();
        let drawn = terms::prove(&self.light, &node, &open, self.limits.margin).await;
        let drawn = drawn.map_err(|error| {
            tracing::debug!(query = %open.query, %error, "the chain does not confirm a query");
            match error {
                TermsError::Chain(_) => Refusal::Unavailable,
                _ => Refusal::NotDrawn,
            }
        })?;
        // Who has paid may have a model opened.
        let model = self.models.get(&open.model).await.ok_or(Refusal::NotDrawn)?;
        let model = model.map_err(|error| {
            self.counters.problem(&error);
            Refusal::Unavailable
        })?;
        let entry = Entry {
            query: open.query,
            node,
            side: open.side,
            attempt: open.attempt,
            seed: drawn.seed,
            deadline_ms: drawn.deadline_ms,
            voucher: None,
            outcome: None,
        };
        let mut session = Session::new(drawn.terms, lane, self.key.clone());
        let accept = match session.receive(&frame) {
            Ok(Received::Reply(accept)) => accept,
            Ok(_) => return Err(Refusal::Protocol),
            Err(error) => return Err(error.refusal()),
        };
        if let Err(error) = self.journal.put(&entry).await {
            self.counters.problem(&error);
            return Err(Refusal::Unavailable);
        }
        Ok(Begun { session, entry, digest: open.model, model, accept, place, live })
    }

    fn enter(self: &Arc<Self>, query: Hash) -> Option<Live> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.insert(query).then(|| Live { service: self.clone(), query })
    }

    /// Reads ahead, computes and writes at the same time, until one of them ends or the deadline
    /// is too close.
    async fn converse(
        &self,
        session: &mut Session,
        entry: &mut Entry,
        (digest, model): (Hash, ExactModel),
        accept: Bytes,
        mut reader: Reader,
        mut writer: Writer,
    ) -> End {
        let (mut frames, requests) = mpsc::channel(self.limits.ahead);
        let (mut answers, mut outgoing) = mpsc::channel::<Bytes>(self.limits.ahead);
        reader.set_idle(self.limits.idle);
        let limit = session.max_message();
        let reading = task::spawn(async move {
            while let Ok(Some(frame)) = reader.recv_up_to(limit).await {
                if frames.send(frame).await.is_err() {
                    return;
                }
            }
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
        let left = entry
            .deadline_ms
            .saturating_sub(time::now_ms())
            .saturating_sub(self.limits.margin.as_millis() as u64);
        let working = async move {
            if answers.send(accept).await.is_err() {
                return End::Left;
            }
            let work = self.work(session, entry, (&digest, &model), requests, answers);
            time::timeout(Duration::from_millis(left), work).await.unwrap_or(End::Left)
        };
        let (end, ()) = futures::join!(working, writing);
        drop(reading);
        end
    }

    async fn work(
        &self,
        session: &mut Session,
        entry: &mut Entry,
        (digest, model): (&Hash, &ExactModel),
        mut requests: mpsc::Receiver<Bytes>,
        mut answers: mpsc::Sender<Bytes>,
    ) -> End {
        let mut products = 0;
        while let Some(frame) = requests.next().await {
            Counters::add(&self.counters.bytes_in, frame.len() as u64);
            let answer = match session.receive(&frame) {
                Ok(Received::Reply(answer)) => answer,
                Ok(Received::Quiet) => {
                    if let Err(error) = self.note_voucher(session, entry).await {
                        self.counters.problem(&error);
                        return End::Left;
                    }
                    continue;
                }
                Ok(Received::Work(job)) => {
                    if self.fault == Some(Fault::NeverAnswer) {
                        continue;
                    }
                    let done = self.processors.run(job, digest, model).await;
                    let Some(mut done) = done else {
                        let _ = answers.send(server::refuse(Refusal::Unavailable)).await;
                        return End::Left;
                    };
                    if self.fault == Some(Fault::FlipOneBit { product: products }) {
                        done.corrupt(0, 1);
                    }
                    products += 1;
                    Counters::add(&self.counters.layers, 1);
                    session.complete(done)
                }
                Ok(Received::Finished { reply, outcome }) => {
                    // Written first: what the client holds, this node will also claim.
                    entry.outcome = Some(committed(&outcome));
                    if let Err(error) = self.journal.put(entry).await {
                        self.counters.problem(&error);
                    }
                    let _ = answers.send(reply).await;
                    return End::Finished(outcome);
                }
                Err(error) => {
                    tracing::debug!(%error, query = %entry.query, "a client is refused");
                    let _ = answers.send(server::refuse(error.refusal())).await;
                    return End::Left;
                }
            };
            if answers.send(answer).await.is_err() {
                return End::Left;
            }
            if matches!(self.fault, Some(Fault::DieMidQuery { after }) if products >= after) {
                self.admission.close();
                return End::Died;
            }
        }
        End::Left
    }

    /// Writes a new running total down, and what it pays for, before anything else is served.
    async fn note_voucher(
        &self,
        session: &Session,
        entry: &mut Entry,
    ) -> Result<(), nesa_platform::storage::StorageError> {
        let Some(voucher) = session.latest_voucher() else { return Ok(()) };
        let before = entry.total();
        if voucher.total <= before {
            return Ok(());
        }
        Counters::add(&self.counters.vouchers, voucher.total.0 - before.0);
        entry.voucher = Some(voucher.clone());
        entry.outcome = session.checkpoint().as_ref().map(committed);
        self.journal.put(entry).await
    }

    /// Ends a session: what was served goes on chain.
    async fn close(&self, session: &mut Session, mut entry: Entry, end: End) {
        let outcome = match end {
            End::Finished(outcome) => Some(outcome),
            End::Left => session.abandon(),
            End::Died => return,
        };
        // A node that never answers has nothing to show.
        let silent = self.fault == Some(Fault::NeverAnswer);
        let outcome = outcome.filter(|outcome| outcome.served_tokens > 0 && !silent);
        let Some(outcome) = outcome else {
            if let Err(error) = self.journal.delete(&entry.query).await {
                self.counters.problem(&error);
            }
            return;
        };
        Counters::add(&self.counters.queries, 1);
        entry.outcome = Some(committed(&outcome));
        if let Err(error) = self.journal.put(&entry).await {
            self.counters.problem(&error);
        }
        self.settler.settle(entry);
    }
}

fn committed(outcome: &Outcome) -> Committed {
    Committed { blinded_root: outcome.blinded_root, served_tokens: outcome.served_tokens }
}

impl Drop for Service {
    fn drop(&mut self) {
        tracing::debug!(
            active = self.counters.active.load(Ordering::Relaxed),
            "the service is gone"
        );
    }
}
