//! Which processor computes an answer: an accelerator, where there is one and it holds the weights, threads
//! that each hold a slice of them, or the kernels of the processor itself.
//!
//! # Design
//!
//! ```text
//! Job ─▶ placed on the accelerator? ─yes─▶ queue ─▶ one batch at a time ─▶ audit ─▶ answer
//!          └─no, lost, wrong or late──────────────▶ kernels of the processor ─────▶ answer
//!                                                      (in slices, with [`pool`])
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
mod pool;
mod queue;
mod slices;
mod standing;
#[cfg(all(test, not(target_family = "wasm")))]
mod tests;

use std::{collections::HashMap, sync::Arc};

use nesa_masked::{
    Lane,
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

/// The processors of a node.
pub(crate) struct Processors {
    placed: HashMap<(Hash, u16), Placed>,
    queue: Option<Queue>,
    standing: Watch,
    threads: Threads,
    counters: Arc<Counters>,
}

impl Processors {
    /// The kernels of the processor alone.
    pub(crate) fn alone(threads: Threads, counters: Arc<Counters>) -> Self {
        let standing = Watch::default();
        Self { placed: HashMap::new(), queue: None, standing, threads, counters }
    }

    /// Brings up to `memory` bytes of weights to the accelerator, whose standing is kept in `standing`. The
    /// guard keeps its queue moving.
    pub(crate) async fn beside(
        (accelerator, memory): (Arc<dyn Accelerator>, u64),
        models: &HashMap<Hash, (ExactModel, Lane)>,
        threads: Threads,
        counters: Arc<Counters>,
        standing: Watch,
    ) -> (Self, Guard) {
        standing.lock().stages = models.values().map(|(_, lane)| lane.stages().len() as u32).sum();
        let (queue, task) = Queue::new(accelerator.clone(), standing.clone(), counters.clone());
        let mut processors =
            Self { placed: HashMap::new(), queue: Some(queue), standing, threads, counters };
        for (digest, (model, lane)) in models {
            for stage in lane.stages() {
                let (n, k) = (stage.n as usize, stage.k as usize);
                let id = stage.id;
                let bytes = accelerator.footprint(n, k);
                let used = processors.standing().bytes;
                if used.saturating_add(bytes) > memory || !Weights::weights(model, id).holds(n, k) {
                    continue;
                }
                let weight = processors.placed.len() as u32;
                let of = model.clone();
                let audit = task::compute(move || {
                    Audit::new(&Weights::weights(&of, id).bytes(k), n, k, &mut random::rng())
                });
                let audit = audit.await;
                let bytes_of = Weights::weights(model, id).bytes(k);
                let loading = accelerator.load(weight, &bytes_of, n, k);
                match timeout(PATIENCE, loading).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        processors.drop_accelerator(&error.to_string());
                        return (processors, task);
                    }
                    Err(_) => {
                        processors.drop_accelerator("it did not take the weights in time");
                        return (processors, task);
                    }
                }
                processors.placed.insert((*digest, id), Placed { weight, audit });
                let mut standing = processors.standing();
                standing.placed += 1;
                standing.bytes += bytes;
            }
        }
        (processors, task)
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
        let weights = model.clone();
        let began = Instant::now();
        let done = task::compute(move || job.run(&weights)).await;
        self.counters.computed(&self.counters.cpu, 1, began.elapsed());
        done
    }

    /// A product of the accelerator that passed its audit; `None` where the processor must compute it.
    async fn accelerated(&self, key: (Hash, u16), share: &[u32], rows: usize) -> Option<Vec<u32>> {
        let (placed, queue) = (self.placed.get(&key)?, self.queue.as_ref()?);
        if self.standing().dropped.is_some() {
            return None;
        }
        let share = Zeroizing::new(share.to_vec());
        let product = Product { weight: placed.weight, share: share.clone(), rows };
        let got = queue.compute(product).await?;
        if !placed.audit.passes(&share, &got, rows) {
            self.drop_accelerator("one of its products was wrong");
            return None;
        }
        self.counters.computed(&self.counters.accelerator, 1, std::time::Duration::ZERO);
        Some(got)
    }
}
