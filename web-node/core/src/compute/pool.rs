//! Threads beside this one, each with a slice of every weight.
//!
//! ```text
//!            ┌─▶ worker 0: rows of W, slice 1 ─┐
//!   share ───┼─▶ worker 1: rows of W, slice 2 ─┼─▶ each slice audited, put in its place ─▶ product
//!            └── here: slice 0, meanwhile ─────┘
//! ```
//!
//! A worker is believed as little as a graphics processor: each of its slices is checked against a secret
//! random vector ([`Audit`]). What is wrong, late, of the wrong shape or missing is computed again here, and
//! that worker is ended; the others go on. A client sees none of it.

#[cfg(all(test, not(target_family = "wasm")))]
mod tests;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::lock;
use nesa_masked::{Lane, server::Weights, spec::SpecError};
use nesa_model::{ExactModel, StageId};
use nesa_platform::{
    BoxFuture, random,
    task::{self, MaybeSend, MaybeSync},
    time::{Instant, timeout},
};
use nesa_primitives::Hash;
use zeroize::Zeroizing;

use super::{
    Failed,
    audit::Audit,
    slices::{ALIGN, cut, put},
};
use crate::{
    metrics::Counters,
    models::{Models, OpenError},
};

/// How long a worker may take for one slice, after this thread has finished its own: a slice takes
/// milliseconds, and what a client waits for an answer leaves time to compute it here.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 2_000 });
/// How long a worker may take to take a slice of a weight.
const LOADING: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 10_000 });
/// Multiplications below which a product stays on one thread: handing it over costs more than it gains
/// (`cargo xtask bench pool`).
const SMALL: usize = if cfg!(test) { 1 } else { 1 << 24 };

/// Slices of one product, as workers give them.
pub type Slices = Vec<BoxFuture<'static, Result<Vec<u32>, Failed>>>;

/// Threads that hold slices of weights, numbered from 0. Each works through what it is asked in order.
pub trait Workers: MaybeSend + MaybeSync {
    /// How many there are.
    fn count(&self) -> usize;

    /// Brings `[n, k]` rows of a weight, row-major, to one worker, under the weight's number.
    fn load<'a>(
        &'a self,
        worker: usize,
        weight: u32,
        w: &'a [i8],
        k: usize,
    ) -> BoxFuture<'a, Result<(), Failed>>;

    /// Begins a product on those workers, at once: of the share's `rows` rows with the slice that each
    /// holds of the weight. A future for each, in their order; each gives `[rows, n]` words of Z_2^32.
    fn products(&self, workers: &[usize], weight: u32, share: &[u32], rows: usize) -> Slices;

    /// Ends a worker, whatever it is doing. It is not asked again.
    fn end(&self, worker: usize);
}

/// Workers and what may be put on them.
#[derive(Clone)]
pub struct Team {
    /// The workers.
    pub workers: Arc<dyn Workers>,
    /// Bytes of weights that all of them together may hold.
    pub memory: u64,
}

/// What is known of a pool in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolStanding {
    /// Workers that were given.
    pub given: u32,
    /// Workers that are left.
    pub workers: u32,
    /// Stages of which they hold slices.
    pub placed: u32,
    /// Stages of all models.
    pub stages: u32,
    /// Bytes of weights on all of them.
    pub bytes: u64,
    /// Why the last worker that was ended was.
    pub ended: Option<String>,
}

/// A weight whose slices are on the workers.
struct Placed {
    weight: u32,
    n: usize,
    k: usize,
    /// This thread's rows.
    own: Range<usize>,
    /// Each worker's.
    theirs: Vec<(Range<usize>, Audit)>,
}

/// Workers at work.
struct Crew {
    workers: Arc<dyn Workers>,
    placed: HashMap<(Hash, u16), Placed>,
    alive: Mutex<Vec<bool>>,
    /// Held during a product, which takes all of them.
    turn: lock::Mutex<()>,
    standing: Arc<Mutex<PoolStanding>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Crew {
    fn alive(&self) -> Vec<usize> {
        let alive = locked(&self.alive);
        alive.iter().enumerate().filter_map(|(worker, alive)| alive.then_some(worker)).collect()
    }

    /// Ends a worker, once.
    fn end(&self, worker: usize, reason: &str) {
        let was = locked(&self.alive).get_mut(worker).is_some_and(std::mem::take);
        if !was {
            return;
        }
        tracing::warn!(worker, reason, "a thread of the pool is ended");
        self.workers.end(worker);
        let mut standing = locked(&self.standing);
        standing.workers = standing.workers.saturating_sub(1);
        standing.ended = Some(reason.to_owned());
    }

    /// Brings the slices of one weight to the workers.
    async fn place(&mut self, key: (Hash, u16), model: &ExactModel, n: usize, k: usize) {
        let weight = self.placed.len() as u32;
        let ranges = cut(n, 1 + self.workers.count());
        let of = model.clone();
        let cuts = ranges.clone();
        let theirs = task::compute(move || {
            let w = Weights::weights(&of, key.1);
            let audit = |range: Range<usize>| {
                let slice = w.rows(range.clone(), k).bytes(k);
                let audit = Audit::new(&slice, range.len(), k, &mut random::rng());
                (range, audit)
            };
            cuts.into_iter().skip(1).map(audit).collect::<Vec<_>>()
        });
        let theirs = theirs.await;
        let w = Weights::weights(model, key.1);
        for worker in self.alive() {
            let slice = w.rows(theirs[worker].0.clone(), k).bytes(k);
            match timeout(LOADING, self.workers.load(worker, weight, &slice, k)).await {
                Ok(Ok(())) => {}
                Ok(Err(failed)) => self.end(worker, &failed.0),
                Err(_) => self.end(worker, "it did not take the weights in time"),
            }
        }
        let own = ranges[0].clone();
        self.placed.insert(key, Placed { weight, n, k, own, theirs });
    }

    /// The product, whoever computed which part; `None` if there is nobody to share it with.
    async fn product(
        &self,
        key: (Hash, u16),
        model: &ExactModel,
        share: &[u32],
        rows: usize,
    ) -> Option<Vec<u32>> {
        let placed = self.placed.get(&key)?;
        let (n, k) = (placed.n, placed.k);
        if rows.saturating_mul(n).saturating_mul(k) < SMALL || share.len() != rows * k {
            return None;
        }
        let _turn = self.turn.lock().await;
        let asked = self.alive();
        if asked.is_empty() {
            return None;
        }
        let answers = self.workers.products(&asked, placed.weight, share, rows);
        let mut whole = Zeroizing::new(vec![0; rows * n]);
        // Slices of workers that are gone are this thread's too.
        let gone = placed.theirs.iter().enumerate().filter(|(worker, _)| !asked.contains(worker));
        let mut mine = vec![placed.own.clone()];
        mine.extend(gone.map(|(_, (range, _))| range.clone()));
        let share = Arc::new(Zeroizing::new(share.to_vec()));
        here(model, key.1, (n, k), &share, rows, mine, &mut whole).await;
        let finished = Instant::now();
        let mut missing = Vec::new();
        for (&worker, answer) in asked.iter().zip(answers) {
            let (range, audit) = &placed.theirs[worker];
            // All of them have been at work since they were asked.
            let left = PATIENCE.saturating_sub(finished.elapsed());
            let reason = match timeout(left, answer).await {
                Ok(Ok(part)) => {
                    let part = Zeroizing::new(part);
                    if part.len() != rows * range.len() {
                        format!("it gave {} words of {}", part.len(), rows * range.len())
                    } else if !audit.passes(&share, &part, rows) {
                        "one of its slices was wrong".to_owned()
                    } else if put(&part, range.clone(), n, &mut whole) {
                        continue;
                    } else {
                        "a slice had no place".to_owned()
                    }
                }
                Ok(Err(failed)) => failed.0,
                Err(_) => format!("it took longer than {PATIENCE:?}"),
            };
            self.end(worker, &reason);
            missing.push(range.clone());
        }
        if !missing.is_empty() {
            here(model, key.1, (n, k), &share, rows, missing, &mut whole).await;
        }
        Some(std::mem::take(&mut *whole))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for worker in self.alive() {
            self.workers.end(worker);
        }
    }
}

/// Computes slices on this thread.
async fn here(
    model: &ExactModel,
    stage: u16,
    (n, k): (usize, usize),
    share: &Arc<Zeroizing<Vec<u32>>>,
    rows: usize,
    ranges: Vec<Range<usize>>,
    whole: &mut [u32],
) {
    let (model, share) = (model.clone(), share.clone());
    let parts = task::compute(move || {
        let w = Weights::weights(&model, stage);
        let part = |range: Range<usize>| {
            let mut part = Zeroizing::new(vec![0; rows * range.len()]);
            let slice = w.rows(range.clone(), k);
            slice.matmul_mask_u32(&share, range.len(), k, rows, &mut part);
            (range, part)
        };
        ranges.into_iter().map(part).collect::<Vec<_>>()
    });
    for (range, part) in parts.await {
        put(&part, range, n, whole);
    }
}

type Opened = HashMap<Hash, (ExactModel, Lane)>;

/// Where the models are whose weights a team may be brought.
#[derive(Clone)]
pub(crate) enum Stock {
    /// Here, opened.
    Opened(Arc<Opened>),
    /// With a node, which opens them when somebody needs them.
    Node(Arc<Models>),
}

impl Stock {
    async fn all(&self) -> Result<Arc<Opened>, OpenError> {
        match self {
            Self::Opened(models) => Ok(models.clone()),
            Self::Node(models) => Ok(Arc::new(models.all().await?)),
        }
    }
}

/// Who is at work now.
#[derive(Default)]
struct Employed {
    /// Counts teams that came and went, so that one that was still being brought its weights when it was
    /// dismissed does not stay.
    turn: u64,
    crew: Option<Arc<Crew>>,
}

/// The threads beside a node's own, which come and go while it serves.
#[derive(Clone)]
pub struct Threads {
    stock: Stock,
    employed: Arc<Mutex<Employed>>,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}

impl Threads {
    /// None yet, for products of these models, without a node.
    ///
    /// # Errors
    /// [`SpecError`] when a model cannot be served masked.
    pub fn of(models: impl IntoIterator<Item = (Hash, ExactModel)>) -> Result<Self, SpecError> {
        let lane = |(digest, model): (Hash, ExactModel)| {
            let lane = Lane::of_model(model.served_stages())?;
            Ok((digest, (model, lane)))
        };
        let models = models.into_iter().map(lane).collect::<Result<HashMap<_, _>, SpecError>>()?;
        Ok(Self::counted(Stock::Opened(Arc::new(models)), Arc::default()))
    }

    /// [`Threads::of`], with a node's counters.
    pub(crate) fn counted(stock: Stock, counters: Arc<Counters>) -> Self {
        Self { stock, employed: Arc::default(), counters }
    }

    /// Brings slices of the models' weights to a team, which from then on takes part in every product that
    /// is large enough. Weights that have no room stay with this thread. Replaces the team before.
    pub async fn employ(&self, Team { workers, memory }: Team) {
        let turn = self.replace();
        let count = workers.count();
        let mut standing =
            PoolStanding { given: count as u32, workers: count as u32, ..PoolStanding::default() };
        let models = match self.stock.all().await {
            Ok(models) => models,
            Err(error) => {
                standing.workers = 0;
                standing.ended = Some(error.to_string());
                self.counters.pooled(Some(Arc::new(Mutex::new(standing))));
                (0..count).for_each(|worker| workers.end(worker));
                return;
            }
        };
        standing.stages = models.values().map(|(_, lane)| lane.stages().len() as u32).sum();
        let standing = Arc::new(Mutex::new(standing));
        self.counters.pooled(Some(standing.clone()));
        let mut crew = Crew {
            workers,
            placed: HashMap::new(),
            alive: Mutex::new(vec![true; count]),
            turn: lock::Mutex::default(),
            standing: standing.clone(),
        };
        for (digest, (model, lane)) in &*models {
            for stage in lane.stages() {
                let (n, k) = (stage.n as usize, stage.k as usize);
                let own = cut(n, 1 + count)[0].len();
                let bytes = (n - own).saturating_mul(k) as u64;
                let used = locked(&standing).bytes;
                let whole = model.weights(StageId(stage.id)).holds(n, k);
                if n < (1 + count) * ALIGN || used.saturating_add(bytes) > memory || !whole {
                    continue;
                }
                crew.place((*digest, stage.id), model, n, k).await;
                let mut standing = locked(&standing);
                standing.placed += 1;
                standing.bytes += bytes;
            }
        }
        let mut employed = locked(&self.employed);
        if employed.turn == turn {
            employed.crew = Some(Arc::new(crew));
        }
    }

    /// Ends all workers; this thread goes on alone.
    pub fn dismiss(&self) {
        self.replace();
    }

    /// Nobody is at work; the number of the turn that begins.
    fn replace(&self) -> u64 {
        self.counters.pooled(None);
        let mut employed = locked(&self.employed);
        employed.crew = None;
        employed.turn += 1;
        employed.turn
    }

    /// The product of a stage's weight, `(model, stage)`, with `[rows, k]` words, in which others had part:
    /// `[rows, n]` words of Z_2^32. `None` where this thread must compute it.
    pub async fn product(
        &self,
        key: (Hash, u16),
        model: &ExactModel,
        share: &[u32],
        rows: usize,
    ) -> Option<Vec<u32>> {
        let crew = locked(&self.employed).crew.clone()?;
        let began = Instant::now();
        let product = crew.product(key, model, share, rows).await?;
        self.counters.computed(&self.counters.pool, 1, began.elapsed());
        Some(product)
    }
}
