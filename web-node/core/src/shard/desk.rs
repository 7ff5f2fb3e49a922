//! Continuous batching: steps of several sequences that wait at the same time are computed in one pass
//! over the weights.

use std::{sync::Arc, time::Duration};

use futures::{
    SinkExt as _, StreamExt as _,
    channel::{mpsc, oneshot},
};
use nesa_model::{PlainDecoder, decoder::DecoderModel};
use nesa_platform::{
    task::{self, Guard},
    time::Instant,
};
use nesa_sealed::{
    MAX_STEP,
    server::{self, Done, Job},
};

use crate::metrics::Counters;

/// Steps that wait for a pass; a session has one at a time.
const WAITING: usize = 64;

/// Computes the steps of one shard's sessions.
pub(crate) struct Desk {
    model: DecoderModel,
    jobs: mpsc::Sender<(Job, oneshot::Sender<Done>)>,
    _task: Guard,
}

impl Desk {
    pub(crate) fn new(model: DecoderModel, counters: Arc<Counters>) -> Self {
        let (jobs, waiting) = mpsc::channel(WAITING);
        let task = task::spawn(work(model.clone(), waiting, counters)).abort_on_drop();
        Self { model, jobs, _task: task }
    }

    /// The shard.
    pub(crate) fn model(&self) -> &DecoderModel {
        &self.model
    }

    /// The result of a step; `None` when the desk is gone.
    pub(crate) async fn compute(&self, job: Job) -> Option<Done> {
        let (reply, done) = oneshot::channel();
        self.jobs.clone().send((job, reply)).await.ok()?;
        done.await.ok()
    }
}

impl Desk {
    /// The result of a step whose new token number `row` is computed wrong, for scenarios.
    pub(crate) async fn lie(&self, job: Job, row: usize) -> Option<Done> {
        let (shard, tokens) = (self.model.clone(), job.tokens());
        let done = task::compute(move || {
            let plain = PlainDecoder(&shard);
            server::run(vec![job], &shard, &server::Bent::new(&shard, &plain, row, tokens))
        });
        done.await.pop()
    }
}

async fn work(
    model: DecoderModel,
    mut waiting: mpsc::Receiver<(Job, oneshot::Sender<Done>)>,
    counters: Arc<Counters>,
) {
    let mut held = None;
    loop {
        let first = match held.take() {
            Some(first) => first,
            None => match waiting.next().await {
                Some(first) => first,
                None => return,
            },
        };
        let mut tokens = first.0.tokens();
        let (mut jobs, mut replies) = (vec![first.0], vec![first.1]);
        while let Ok((job, reply)) = waiting.try_recv() {
            if tokens + job.tokens() > MAX_STEP {
                held = Some((job, reply));
                break;
            }
            tokens += job.tokens();
            jobs.push(job);
            replies.push(reply);
        }
        let shard = model.clone();
        let began = Instant::now();
        let done = task::compute(move || server::run(jobs, &shard, &PlainDecoder(&shard))).await;
        note(&counters, began.elapsed(), &model);
        for (done, reply) in done.into_iter().zip(replies) {
            // A session that has ended does not wait any more.
            let _ = reply.send(done);
        }
    }
}

fn note(counters: &Counters, busy: Duration, model: &DecoderModel) {
    let busy = u64::try_from(busy.as_micros()).unwrap_or(u64::MAX);
    Counters::add(&counters.busy_us, busy);
    Counters::add(&counters.layers, model.layers().len() as u64);
}
