//! Steps being computed, one or several sequences at once.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nesa_model::{
    Linear,
    decoder::{DecoderModel, DecoderRun, Fed, Feed, Output},
};

/// A step to be computed; it owns the sequence's cache until it is [`Done`].
pub struct Job {
    pub(super) seq: u32,
    pub(super) feed: Feed,
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
    pub(super) fed: Option<Fed>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({}, {:?})", self.seq, self.feed)
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Done({}, {:?})", self.seq, self.fed)
    }
}

impl Job {
    /// New tokens of the step.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

impl Done {
    /// Whether there is a result.
    pub fn is_complete(&self) -> bool {
        self.fed.is_some()
    }

    /// Flips the lowest bit of every value of the result: for scenarios with a liar.
    pub fn corrupt(&mut self) {
        if let Some(Fed { output: Output::Hidden(values) | Output::Logits(values), .. }) =
            &mut self.fed
        {
            for value in values {
                *value ^= 1;
            }
        }
    }
}

/// Computes several sessions' jobs in one pass over the weights, in the order given. Each gives what it
/// would have given alone.
pub fn run(jobs: Vec<Job>, model: &DecoderModel, engine: &impl Linear) -> Vec<Done> {
    let (mut feeds, mut marks) = (Vec::new(), Vec::new());
    for job in jobs {
        let wanted = !job.cancel.is_cancelled();
        if wanted {
            feeds.push(job.feed);
        }
        marks.push((job.seq, job.cancel, wanted));
    }
    let mut results = compute(feeds, &marks, model, engine).into_iter();
    marks
        .into_iter()
        .map(|(seq, _, wanted)| Done { seq, fed: if wanted { results.next() } else { None } })
        .collect()
}

/// The results of all feeds, or none: sessions let nothing through that a run refuses.
fn compute(
    feeds: Vec<Feed>,
    marks: &[(u32, Canceller, bool)],
    model: &DecoderModel,
    engine: &impl Linear,
) -> Vec<Fed> {
    let Ok(mut run) = DecoderRun::start(model, feeds) else { return Vec::new() };
    let mut y = Vec::new();
    while let Some(pending) = run.pending() {
        if marks.iter().all(|(_, cancel, wanted)| !wanted || cancel.is_cancelled()) {
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
    run.into_output().unwrap_or_default()
}

/// Memory that the cache of `tokens` tokens takes in a shard, bytes.
pub fn kv_bytes(model: &DecoderModel, tokens: usize) -> usize {
    let c = model.config();
    let row = usize::from(c.kv_heads) * usize::from(c.head_width) * 4;
    model.layers().len().saturating_mul(row).saturating_mul(tokens)
}
