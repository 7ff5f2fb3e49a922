//! What a node has done, for its operator.

use crate::compute::{PoolStanding, Standing, Watch};
use nesa_platform::time::Instant;
use nesa_primitives::Amount;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Where a node stands on its way to serving.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Waits for the first verified header.
    #[default]
    Syncing,
    /// Fetches pieces of the models that it has no files of.
    Fetching,
    /// Fetches the bond from the faucet.
    Funding,
    /// Reserves a place at a relay.
    Reserving,
    /// Registers on the chain.
    Registering,
    /// Can be drawn.
    Serving,
    /// Finishes what is under way.
    Stopping,
    /// Stopped.
    Stopped,
}

/// What one kind of processor has computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Computed {
    /// Masked products that were served.
    pub products: u64,
    /// Time spent on them.
    pub busy: Duration,
}

/// Steps of shard sessions, by what computed their linear stages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardSteps {
    /// The processor itself.
    pub on_cpu: u64,
    /// The accelerator beside it.
    pub on_accelerator: u64,
    /// Sessions that an accelerator was there for, and that it had no place for.
    pub spilled: u64,
}

/// A copy of a node's counters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// Where the node stands.
    pub phase: Phase,
    /// What keeps it from going on, in words; it tries again by itself.
    pub problem: Option<String>,
    /// Addresses it is registered with.
    pub addresses: Vec<String>,
    /// Bond posted, in unes.
    pub bond: Amount,
    /// Queries under way.
    pub active: u32,
    /// Queries served to their end.
    pub queries: u64,
    /// Queries that were refused, for whatever reason.
    pub refused: u64,
    /// Products served: one per linear stage and part of a pass.
    pub layers: u64,
    /// Preparations served to their end.
    pub preparations: u64,
    /// Bytes received in queries.
    pub bytes_in: u64,
    /// Bytes sent in queries.
    pub bytes_out: u64,
    /// Sum of the running totals that clients signed, before the split.
    pub vouchers: Amount,
    /// Paid out for claims, as proven in state.
    pub earned: Amount,
    /// Time spent in kernels.
    pub busy: Duration,
    /// Of the products, those of the node's own thread alone.
    pub on_cpu: Computed,
    /// Those of the accelerator beside it.
    pub on_accelerator: Computed,
    /// Those in which threads beside it had part.
    pub on_pool: Computed,
    /// Steps of the sealed lane.
    pub steps: ShardSteps,
    /// The accelerator, if one was given.
    pub accelerator: Option<Standing>,
    /// The threads beside its own, while there are any.
    pub pool: Option<PoolStanding>,
    /// Time since serving began.
    pub serving: Duration,
}

/// Counters of one kind of processor.
#[derive(Default)]
pub(crate) struct Kernel {
    products: AtomicU64,
    busy_us: AtomicU64,
}

impl Kernel {
    fn snapshot(&self) -> Computed {
        Computed {
            products: self.products.load(Ordering::Relaxed),
            busy: Duration::from_micros(self.busy_us.load(Ordering::Relaxed)),
        }
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) active: AtomicU32,
    pub(crate) queries: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) layers: AtomicU64,
    pub(crate) preparations: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) vouchers: AtomicU64,
    pub(crate) earned: AtomicU64,
    pub(crate) busy_us: AtomicU64,
    pub(crate) cpu: Kernel,
    pub(crate) accelerator: Kernel,
    pub(crate) pool: Kernel,
    pub(crate) shard_cpu: AtomicU64,
    pub(crate) shard_accelerator: AtomicU64,
    pub(crate) shard_spilled: AtomicU64,
    state: Mutex<State>,
}

fn copy<T: Clone>(standing: &Mutex<T>) -> T {
    standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[derive(Default)]
struct State {
    phase: Phase,
    problem: Option<String>,
    addresses: Vec<String>,
    bond: Amount,
    since: Option<Instant>,
    accelerator: Option<Watch>,
    pool: Option<Arc<Mutex<PoolStanding>>>,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }

    /// Notes work of one kind of processor.
    pub(crate) fn computed(&self, kernel: &Kernel, products: u64, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self::add(&kernel.products, products);
        Self::add(&kernel.busy_us, took);
        Self::add(&self.busy_us, took);
    }

    /// There is an accelerator, whose standing is kept there.
    pub(crate) fn accelerated(&self, standing: Watch) {
        self.state().accelerator = Some(standing);
    }

    /// There are threads, whose standing is kept there, or there are none any more.
    pub(crate) fn pooled(&self, standing: Option<Arc<Mutex<PoolStanding>>>) {
        self.state().pool = standing;
    }

    pub(crate) fn enter(&self, phase: Phase) {
        let mut state = self.state();
        tracing::debug!(?phase, "phase");
        if phase == Phase::Serving && state.since.is_none() {
            state.since = Some(Instant::now());
        }
        state.phase = phase;
        state.problem = None;
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().phase
    }

    pub(crate) fn problem(&self, problem: impl std::fmt::Display) {
        self.state().problem = Some(problem.to_string());
    }

    pub(crate) fn registered(&self, addresses: Vec<String>, bond: Amount) {
        let mut state = self.state();
        state.addresses = addresses;
        state.bond = bond;
    }

    pub(crate) fn snapshot(&self) -> Metrics {
        let state = self.state();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metrics {
            phase: state.phase,
            problem: state.problem.clone(),
            addresses: state.addresses.clone(),
            bond: state.bond,
            active: self.active.load(Ordering::Relaxed),
            queries: load(&self.queries),
            refused: load(&self.refused),
            layers: load(&self.layers),
            preparations: load(&self.preparations),
            bytes_in: load(&self.bytes_in),
            bytes_out: load(&self.bytes_out),
            vouchers: Amount(load(&self.vouchers)),
            earned: Amount(load(&self.earned)),
            busy: Duration::from_micros(load(&self.busy_us)),
            on_cpu: self.cpu.snapshot(),
            on_accelerator: self.accelerator.snapshot(),
            on_pool: self.pool.snapshot(),
            steps: ShardSteps {
                on_cpu: load(&self.shard_cpu),
                on_accelerator: load(&self.shard_accelerator),
                spilled: load(&self.shard_spilled),
            },
            accelerator: state.accelerator.as_ref().map(|standing| standing.lock().clone()),
            pool: state.pool.as_deref().map(copy),
            serving: state.since.map_or(Duration::ZERO, |since| since.elapsed()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
