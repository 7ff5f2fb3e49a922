//! Continuous batching: steps of several sequences that wait at the same time are computed in one pass
//! over the weights, by the device where their sequences are on it, by the processor otherwise.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt as _, SinkExt as _, StreamExt as _,
    channel::{mpsc, oneshot},
    future::Shared,
};
use nesa_model::decoder::DecoderModel;
use nesa_platform::{
    task::{self, Guard},
    time::{Instant, timeout},
};
use nesa_sealed::{
    MAX_STEP,
    server::{self, Batch, Done, Job},
};

use super::{
    audit::Audited,
    device::DeviceStep,
    seat::{Device, Placed, Seat, Spill},
};
use crate::{compute::Cores, metrics::Counters};

/// Steps that wait for a pass; a session has one at a time.
const WAITING: usize = 64;
/// How long a session waits for its shard to be brought to the device; a client waits longer.
const SEATING: Duration = Duration::from_secs(2);

/// The shard on the device, once it is there.
type Placing = Shared<oneshot::Receiver<Option<Arc<Placed>>>>;

/// A step, where its sequence is on the device, and whoever waits.
struct Ticket {
    job: Job,
    seat: Option<Arc<Seat>>,
    reply: oneshot::Sender<Timed>,
}

/// A step, and how long the pass took that computed it.
type Timed = (Done, Duration);

/// Computes the steps of one shard's sessions.
pub(crate) struct Desk {
    model: DecoderModel,
    cores: Cores,
    jobs: mpsc::Sender<Ticket>,
    /// The shard on the device, once it is there, where there is a device.
    placing: Option<Placing>,
    counters: Arc<Counters>,
    /// What a token by itself takes on the processor, in microseconds, of late; 0 before the first.
    pace_us: AtomicU64,
    _tasks: Vec<Guard>,
}

impl Desk {
    /// A desk for `model`, which is brought to `device` meanwhile.
    pub(crate) fn new(
        model: DecoderModel,
        counters: Arc<Counters>,
        device: Option<Arc<Device>>,
        cores: Cores,
    ) -> Self {
        let (jobs, waiting) = mpsc::channel(WAITING);
        let bench =
            Bench { model: model.clone(), cores: cores.clone(), counters: counters.clone() };
        let work = work(bench, waiting);
        let mut tasks = vec![task::spawn(work).abort_on_drop()];
        let placing = device.map(|device| {
            let (done, placing) = oneshot::channel();
            let model = model.clone();
            let place = async move {
                // The desk may be gone already.
                let _ = done.send(device.place(model).await);
            };
            tasks.push(task::spawn(place).abort_on_drop());
            placing.shared()
        });
        Self { model, cores, jobs, placing, counters, pace_us: AtomicU64::new(0), _tasks: tasks }
    }

    /// The shard.
    pub(crate) fn model(&self) -> &DecoderModel {
        &self.model
    }

    /// The processor's threads.
    pub(crate) fn cores(&self) -> &Cores {
        &self.cores
    }

    /// How long computing `tokens` tokens one by one takes at the pace of late; nothing before a pace is known.
    pub(crate) fn repeat(&self, tokens: usize) -> Duration {
        let pace = self.pace_us.load(Ordering::Relaxed);
        Duration::from_micros(pace.saturating_mul(tokens as u64))
    }

    fn paced(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.pace_us.load(Ordering::Relaxed);
        let now = if before == 0 { took } else { before - before / 4 + took / 4 };
        self.pace_us.store(now, Ordering::Relaxed);
    }

    /// Takes a session in that the processor computes alone.
    pub(crate) fn alone(self: Arc<Self>) -> Seated {
        Seated { desk: self, seat: None, spent_us: AtomicU64::new(0) }
    }

    /// Takes a session of at most `tokens` tokens in, on the device where there is one and it has a place.
    pub(crate) async fn enter(self: Arc<Self>, tokens: usize) -> Seated {
        let Some(placing) = self.placing.clone() else { return self.alone() };
        let seat = match timeout(SEATING, placing).await {
            Ok(Ok(Some(placed))) => placed.seat(tokens),
            _ => Err(Spill::Shard),
        };
        let seat = seat.inspect_err(|spill| {
            tracing::info!(reason = %spill, "a session of the sealed lane is the processor's alone");
            Counters::add(&self.counters.shard_spilled, 1);
        });
        Seated { seat: seat.ok(), ..self.alone() }
    }
}

/// A session at a desk.
pub(crate) struct Seated {
    desk: Arc<Desk>,
    seat: Option<Arc<Seat>>,
    /// What its steps took, in microseconds, since that was last asked.
    spent_us: AtomicU64,
}

impl Seated {
    /// The shard.
    pub(crate) fn model(&self) -> &DecoderModel {
        &self.desk.model
    }

    /// What the session's steps took since the last call, in microseconds.
    pub(crate) fn take_spent_us(&self) -> u64 {
        self.spent_us.swap(0, Ordering::Relaxed)
    }

    /// The result of a step, and how long the pass took that computed it, others' steps included; `None` when
    /// the desk is gone.
    pub(crate) async fn compute(&self, job: Job) -> Option<Timed> {
        let single = job.tokens() == 1;
        let (reply, done) = oneshot::channel();
        let ticket = Ticket { job, seat: self.seat.clone(), reply };
        self.desk.jobs.clone().send(ticket).await.ok()?;
        let (done, took) = done.await.ok()?;
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.spent_us.fetch_add(us, Ordering::Relaxed);
        if single && self.seat.is_none() {
            self.desk.paced(took);
        }
        Some((done, took))
    }

    /// The result of a step whose new token number `row` is computed wrong, for scenarios.
    pub(crate) async fn lie(&self, job: Job, row: usize) -> Option<Done> {
        if let Some(seat) = &self.seat {
            seat.passed_over(job.before());
        }
        let (shard, tokens) = (self.model().clone(), job.tokens());
        let cores = self.desk.cores.clone();
        let done = task::compute(move || {
            cores.run(&shard, |engine| {
                server::run(vec![job], &shard, &server::Bent::new(&shard, engine, row, tokens))
            })
        });
        done.await.pop()
    }
}

/// What the steps of a desk are computed with.
struct Bench {
    model: DecoderModel,
    cores: Cores,
    counters: Arc<Counters>,
}

async fn work(bench: Bench, mut waiting: mpsc::Receiver<Ticket>) {
    let mut held = None;
    loop {
        let first = match held.take() {
            Some(first) => first,
            None => match waiting.next().await {
                Some(first) => first,
                None => return,
            },
        };
        let mut tokens = first.job.tokens();
        let mut tickets = vec![first];
        while let Ok(ticket) = waiting.try_recv() {
            if tokens + ticket.job.tokens() > MAX_STEP {
                held = Some(ticket);
                break;
            }
            tokens += ticket.job.tokens();
            tickets.push(ticket);
        }
        let (beside, alone): (Vec<Ticket>, Vec<Ticket>) = tickets.into_iter().partition(|ticket| {
            ticket.seat.as_ref().is_some_and(|seat| seat.follows(ticket.job.before()))
        });
        futures::join!(on_device(&bench, beside), on_cpu(&bench, alone));
    }
}

/// Computes steps on the device, and follows them here: what it gives is checked on the way, and computed
/// here where it is wrong or missing.
async fn on_device(bench: &Bench, tickets: Vec<Ticket>) {
    let Bench { model, cores, counters } = bench;
    let (mut jobs, mut marks) = (Vec::new(), Vec::new());
    for Ticket { job, seat, reply } in tickets {
        if let Some(seat) = seat {
            marks.push((seat, job.before(), job.before() + job.tokens(), reply));
            jobs.push(job);
        }
    }
    let Some((seat, ..)) = marks.first() else { return };
    let (placed, batch) = (seat.placed().clone(), Batch::of(jobs));
    let steps: Vec<DeviceStep> = batch
        .feeds()
        .map(|(index, feed)| DeviceStep {
            sequence: marks[index].0.sequence(),
            before: feed.cache.len(),
            input: feed.input.clone(),
            logits: feed.logits,
        })
        .collect();
    // Nobody may wait for any of them any more.
    let products = if steps.is_empty() { None } else { placed.products(steps).await };
    let (shard, with, given) = (model.clone(), placed.clone(), products.is_some());
    let cores = cores.clone();
    let began = Instant::now();
    let (done, right) = task::compute(move || match products {
        Some(products) => {
            let engine = Audited::new(&shard, with.secrets(), products);
            let done = batch.run(&shard, &engine);
            (done, engine.is_right())
        }
        None => (cores.run(&shard, |engine| batch.run(&shard, engine)), false),
    })
    .await;
    let took = began.elapsed();
    note(counters, took, model);
    if given && !right {
        placed.drop_device("one of its products was wrong");
    }
    for ((seat, before, after, reply), done) in marks.into_iter().zip(done) {
        if right {
            seat.reached(after);
        } else {
            seat.passed_over(before);
        }
        count(counters, &done, right);
        // A session that has ended does not wait any more.
        let _ = reply.send((done, took));
    }
}

async fn on_cpu(bench: &Bench, tickets: Vec<Ticket>) {
    let Bench { model, cores, counters } = bench;
    if tickets.is_empty() {
        return;
    }
    let (mut jobs, mut replies) = (Vec::new(), Vec::new());
    for Ticket { job, seat, reply } in tickets {
        if let Some(seat) = seat {
            seat.passed_over(job.before());
        }
        jobs.push(job);
        replies.push(reply);
    }
    let (shard, cores) = (model.clone(), cores.clone());
    let began = Instant::now();
    let run = move || cores.run(&shard, |engine| server::run(jobs, &shard, engine));
    let done = task::compute(run).await;
    let took = began.elapsed();
    note(counters, took, model);
    for (done, reply) in done.into_iter().zip(replies) {
        count(counters, &done, false);
        // A session that has ended does not wait any more.
        let _ = reply.send((done, took));
    }
}

fn count(counters: &Counters, done: &Done, on_device: bool) {
    let counter = if on_device { &counters.shard_accelerator } else { &counters.shard_cpu };
    Counters::add(counter, done.is_complete().into());
}

fn note(counters: &Counters, busy: Duration, model: &DecoderModel) {
    let busy = u64::try_from(busy.as_micros()).unwrap_or(u64::MAX);
    Counters::add(&counters.busy_us, busy);
    Counters::add(&counters.layers, model.layers().len() as u64);
}
