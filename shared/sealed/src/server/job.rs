//! Steps being computed, one or several sequences at once.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use nesa_model::{
    Linear,
    decoder::{DecoderModel, DecoderRun, Fed, Feed},
};
use nesa_trace::{Geometry, Recorder, Trace};

/// A step to be computed; it owns the sequence's cache and trace until it is [`Done`].
pub struct Job {
    pub(super) seq: u32,
    pub(super) feed: Feed,
    pub(super) trace: Trace,
    pub(super) tokens: usize,
    pub(super) cancel: Canceller,
}

/// Stops jobs of a session between two linear stages.
#[derive(Clone, Debug, Default)]
pub struct Canceller(Arc<AtomicBool>);

impl Canceller {
    /// Nobody waits for this session's steps any more.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether nobody waits.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A computed step, or one that was cancelled.
pub struct Done {
    pub(super) seq: u32,
    pub(super) fed: Option<(Fed, Trace)>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({}, {:?})", self.seq, self.feed)
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Done({}, {:?})", self.seq, self.fed.as_ref().map(|(fed, _)| fed))
    }
}

impl Job {
    /// New tokens of the step.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Tokens that the sequence has seen before it.
    pub fn before(&self) -> usize {
        self.feed.cache.len()
    }
}

impl Done {
    /// Whether there is a result.
    pub fn is_complete(&self) -> bool {
        self.fed.is_some()
    }

    /// Flips the lowest bit of every value of the result, and makes up a row.
    #[cfg(test)]
    pub(crate) fn corrupt(&mut self) {
        let Some((fed, trace)) = &mut self.fed else { return };
        use nesa_model::decoder::Output;
        let (Output::Hidden(values) | Output::Logits(values)) = &mut fed.output;
        for value in values {
            *value ^= 1;
        }
        // What it says on chain is what it says to the client.
        let last = trace.len().saturating_sub(1) as u32;
        if let Some(slot) = trace.geometry().slots().checked_sub(1) {
            trace.set(last, slot, nesa_primitives::Hash([0xff; 32]));
        }
    }
}

/// Jobs that are computed together. Those that were cancelled before are left out.
pub struct Batch {
    feeds: Vec<Feed>,
    traces: Vec<Trace>,
    marks: Vec<Mark>,
}

struct Mark {
    seq: u32,
    cancel: Canceller,
    wanted: bool,
}

impl Batch {
    /// A batch of these jobs, in this order.
    pub fn of(jobs: Vec<Job>) -> Self {
        let mut batch = Self { feeds: Vec::new(), traces: Vec::new(), marks: Vec::new() };
        for Job { seq, feed, trace, cancel, .. } in jobs {
            let wanted = !cancel.is_cancelled();
            if wanted {
                batch.feeds.push(feed);
                batch.traces.push(trace);
            }
            batch.marks.push(Mark { seq, cancel, wanted });
        }
        batch
    }

    /// What the sequences that are computed bring, each with its job's number in the batch. The rows of a
    /// stage lie in this order.
    pub fn feeds(&self) -> impl Iterator<Item = (usize, &Feed)> {
        let wanted = self.marks.iter().enumerate().filter(|(_, mark)| mark.wanted);
        wanted.map(|(index, _)| index).zip(&self.feeds)
    }

    /// Computes all jobs in one pass over the weights, in the order given. Each gives what it would have
    /// given alone.
    pub fn run(self, model: &DecoderModel, engine: &impl Linear) -> Vec<Done> {
        let Self { feeds, traces, marks } = self;
        let mut results = compute(feeds, traces, &marks, model, engine).into_iter();
        marks
            .into_iter()
            .map(|mark| Done {
                seq: mark.seq,
                fed: if mark.wanted { results.next() } else { None },
            })
            .collect()
    }
}

/// Computes several sessions' jobs in one pass over the weights, in the order given. Each gives what it
/// would have given alone.
pub fn run(jobs: Vec<Job>, model: &DecoderModel, engine: &impl Linear) -> Vec<Done> {
    Batch::of(jobs).run(model, engine)
}

/// The results of all feeds, or none: sessions let nothing through that a run refuses.
fn compute(
    feeds: Vec<Feed>,
    traces: Vec<Trace>,
    marks: &[Mark],
    model: &DecoderModel,
    engine: &impl Linear,
) -> Vec<(Fed, Trace)> {
    let recorder = Arc::new(Mutex::new(Recorder::new(traces)));
    let observed = DecoderRun::start_observed(model, feeds, Box::new(recorder.clone()));
    let Ok(mut run) = observed else { return Vec::new() };
    let mut y = Vec::new();
    while let Some(pending) = run.pending() {
        if marks.iter().all(|mark| !mark.wanted || mark.cancel.is_cancelled()) {
            return Vec::new();
        }
        let n = model.stages().get(usize::from(pending.stage.0)).map_or(0, |spec| spec.n);
        let len = pending.rows * n;
        if y.len() < len {
            y.resize(len, 0);
        }
        engine.apply_to(pending.stage, pending.x, pending.rows, &mut y[..len]);
        if run.resume(&y[..len]).is_err() {
            return Vec::new();
        }
    }
    let fed = run.into_output().unwrap_or_default();
    let traces = recorder.lock().unwrap_or_else(PoisonError::into_inner).finish();
    fed.into_iter().zip(traces.into_iter().map(|(trace, _)| trace)).collect()
}

/// Memory that the cache and the trace of `tokens` tokens take in a shard, bytes.
pub fn kv_bytes(model: &DecoderModel, tokens: usize) -> usize {
    let c = model.config();
    let row = usize::from(c.kv_heads) * usize::from(c.head_width) * 4;
    let layers = model.layers();
    let geometry = Geometry::of(c, layers.start as u16..layers.end as u16);
    let digests = geometry.map_or(0, |g| usize::from(g.slots()) * 32);
    (layers.len() * row).saturating_add(digests).saturating_mul(tokens)
}
