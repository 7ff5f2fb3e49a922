//! Which processor computes an answer: an accelerator, where there is one and it holds the weights, threads
//! that each hold a slice of them, or the kernels of the processor itself.
//!
//! # Design
//!
//! ```text
//! Job ─▶ placed on the accelerator? ─yes─▶ queue ─▶ one batch at a time ─▶ audit ─▶ answer
//!          └─no, lost, wrong or late──────────────▶ kernels of the processor ─────▶ answer
//!                                                      (in slices, with [`pool`] or [`Cores`])
//! ```
//!
//! Weights are placed once, stage after stage, up to the memory the operator allows; what has no room stays
//! with the processor. The first stages stay: a pass walks through all of them, so evicting the oldest would
//! move every weight in every pass.
//!
//! An accelerator is believed as little as a stranger. Each of its products is checked against a secret
//! random vector ([`Audit`]) before it is signed; one that is wrong, late or missing is computed again here,
//! and the accelerator is not used again until serving begins anew. A client sees neither.

mod accelerator;
mod audit;
mod cores;
mod pool;
mod queue;
mod slices;
mod standing;
#[cfg(all(test, not(target_family = "wasm")))]
mod tests;

use std::{collections::HashMap, sync::Arc};

use nesa_masked::{
    Lane, Stage,
    server::{Done, Job, Weights},
};
use nesa_model::ExactModel;
use nesa_platform::{
    random,
    task::{self, Guard},
    time::{Instant, timeout},
};
use nesa_primitives::Hash;
use zeroize::Zeroizing;

pub use accelerator::{Accelerator, Beside, Failed, Product};
pub use cores::Cores;
#[cfg(not(target_family = "wasm"))]
pub use cores::CoresError;
pub(crate) use pool::Stock;
pub use pool::{PoolStanding, Slices, Team, Threads, Workers};
pub use standing::Standing;

pub(crate) use queue::PATIENCE;
pub(crate) use standing::Watch;

use crate::metrics::Counters;
use audit::Audit;
use queue::Queue;

/// A weight on the accelerator.
struct Placed {
    weight: u32,
    audit: Audit,
}

/// An accelerator, the bytes of weights that it may hold, and the way to it.
struct Room {
    accelerator: Arc<dyn Accelerator>,
    memory: u64,
    queue: Queue,
}

/// The processors of a node.
pub(crate) struct Processors {
    placed: HashMap<(Hash, u16), Placed>,
    beside: Option<Room>,
    standing: Watch,
    threads: Threads,
    cores: Cores,
    counters: Arc<Counters>,
}

impl Processors {
    /// The kernels of the processor alone.
    pub(crate) fn alone(threads: Threads, counters: Arc<Counters>) -> Self {
        let standing = Watch::default();
        let (placed, cores) = (HashMap::new(), Cores::default());
        Self { placed, beside: None, standing, threads, cores, counters }
    }

    /// The same, where the processor's own products are shared among `cores`.
    pub(crate) fn with(self, cores: Cores) -> Self {
        Self { cores, ..self }
    }

    /// An accelerator beside it, with up to `memory` bytes of weights, whose standing is kept in `standing`.
    /// The guard keeps its queue moving.
    pub(crate) fn beside(
        (accelerator, memory): (Arc<dyn Accelerator>, u64),
        threads: Threads,
        counters: Arc<Counters>,
        standing: Watch,
    ) -> (Self, Guard) {
        let (queue, task) = Queue::new(accelerator.clone(), standing.clone(), counters.clone());
        let beside = Some(Room { accelerator, memory, queue });
        (Self { beside, standing, ..Self::alone(threads, counters) }, task)
    }

    /// Brings weights of a model to the accelerator. The model is only opened if one of them has room there.
    ///
    /// # Errors
    /// When the model cannot be opened.
    pub(crate) async fn place<E>(
        &mut self,
        digest: Hash,
        lane: &Lane,
        open: impl Future<Output = Result<ExactModel, E>>,
    ) -> Result<(), E> {
        self.standing().stages += lane.stages().len() as u32;
        let fits = |stage: &Stage| self.room(stage).is_some();
        if self.standing.is_dropped() || !lane.stages().iter().any(fits) {
            return Ok(());
        }
        let model = open.await?;
        for stage in lane.stages() {
            if let Err(reason) = self.place_stage(digest, &model, stage).await {
                self.drop_accelerator(&reason);
                break;
            }
        }
        Ok(())
    }

    /// Where there is room for a weight, the accelerator and the bytes that it takes there.
    fn room(&self, stage: &Stage) -> Option<(Arc<dyn Accelerator>, u64)> {
        let Room { accelerator, memory, .. } = self.beside.as_ref()?;
        let bytes = accelerator.footprint(stage.n as usize, stage.k as usize);
        let used = self.standing().bytes.saturating_add(bytes);
        (used <= *memory).then(|| (accelerator.clone(), bytes))
    }

    /// Brings a weight to the accelerator if it has room there; why the accelerator failed, otherwise.
    async fn place_stage(
        &mut self,
        digest: Hash,
        model: &ExactModel,
        stage: &Stage,
    ) -> Result<(), String> {
        let (id, n, k) = (stage.id, stage.n as usize, stage.k as usize);
        let Some((accelerator, bytes)) = self.room(stage) else { return Ok(()) };
        if !Weights::weights(model, id).holds(n, k) {
            return Ok(());
        }
        let weight = self.placed.len() as u32;
        let of = model.clone();
        let audit = task::compute(move || {
            Audit::new(&Weights::weights(&of, id).bytes(k), n, k, &mut random::rng())
        });
        let audit = audit.await;
        let unpacked = Weights::weights(model, id).bytes(k);
        match timeout(PATIENCE, accelerator.load(weight, &unpacked, n, k)).await {
            Ok(Ok(())) => {}
            Ok(Err(failed)) => return Err(failed.to_string()),
            Err(_) => return Err("it did not take the weights in time".into()),
        }
        self.placed.insert((digest, id), Placed { weight, audit });
        let mut standing = self.standing();
        standing.placed += 1;
        standing.bytes += bytes;
        Ok(())
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.standing.lock()
    }

    fn drop_accelerator(&self, reason: &str) {
        self.standing.drop_for(reason);
    }

    /// Computes an answer; `None` if the model's weights do not have the stage's shape.
    pub(crate) async fn run(&self, job: Job, digest: &Hash, model: &ExactModel) -> Option<Done> {
        if job.is_narrow() {
            let (stage, rows) = (job.stage().id, job.rows() as usize);
            if let Some(product) = self.accelerated((*digest, stage), job.share(), rows).await {
                return job.finish(product);
            }
            let key = (*digest, stage);
            if let Some(product) = self.threads.product(key, model, job.share(), rows).await {
                return job.finish(product);
            }
        }
        let (weights, cores) = (model.clone(), self.cores.clone());
        let began = Instant::now();
        let done = task::compute(move || match cores.product(&job, &weights) {
            Some(product) => job.finish(product),
            None => job.run(&weights),
        });
        let done = done.await;
        self.counters.computed(&self.counters.cpu, 1, began.elapsed());
        done
    }

    /// A product of the accelerator that passed its audit; `None` where the processor must compute it.
    async fn accelerated(&self, key: (Hash, u16), share: &[u32], rows: usize) -> Option<Vec<u32>> {
        let (placed, room) = (self.placed.get(&key)?, self.beside.as_ref()?);
        if self.standing.is_dropped() {
            return None;
        }
        let share = Zeroizing::new(share.to_vec());
        let product = Product { weight: placed.weight, share: share.clone(), rows };
        let got = room.queue.compute(product).await?;
        if !placed.audit.passes(&share, &got, rows) {
            self.drop_accelerator("one of its products was wrong");
            return None;
        }
        self.counters.computed(&self.counters.accelerator, 1, std::time::Duration::ZERO);
        Some(got)
    }
}
