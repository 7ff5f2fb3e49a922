//! Shards and sequences on a device, within the memory that it may use.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use nesa_masked::preparation::Preparation;
use nesa_model::decoder::DecoderModel;
use nesa_platform::{random, task, time::timeout};

use super::{
    audit,
    device::{BesideShards, DeviceStep, PlaceError, PlacedShard, ShardAccelerator},
    memory::{Memory, Promise},
};
use crate::compute::{Failed, PATIENCE, Watch};

/// Bytes of a shard that a device must take in a second, beyond what it has five for.
const UPLOAD_RATE: u64 = 64 << 20;

/// Why a session is the processor's alone although there is a device.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Spill {
    /// Its shard is not there: no room, not one for this device, or not yet.
    #[error("the shard is not on the device")]
    Shard,
    /// The device failed.
    #[error("the device is not used any more")]
    Dropped,
    /// Its cache has no room.
    #[error("its cache takes {needed} bytes on the device, {free} are free")]
    Room {
        /// Bytes of the cache.
        needed: u64,
        /// Bytes that are not promised to others.
        free: u64,
    },
    /// The device did not make room.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// A device for shards, and whether it is still asked.
pub(crate) struct Device {
    accelerator: Arc<dyn ShardAccelerator>,
    memory: Arc<Memory>,
    standing: Watch,
}

/// A shard on it.
pub(crate) struct Placed {
    device: Arc<Device>,
    model: DecoderModel,
    shard: Arc<dyn PlacedShard>,
    secrets: Preparation,
    /// The next sequence's number.
    next: AtomicU32,
    weights: Promise,
}

/// A session's sequence on it. It holds the tokens of the processor's cache up to some number.
pub(crate) struct Seat {
    placed: Arc<Placed>,
    sequence: u32,
    holds: Mutex<usize>,
    cache: Promise,
}

impl Device {
    pub(crate) fn new(BesideShards { accelerator, memory }: BesideShards, standing: Watch) -> Self {
        let memory = Memory::new(usize::try_from(memory).unwrap_or(usize::MAX));
        Self { accelerator, memory, standing }
    }

    fn promise(&self, bytes: u64) -> Option<Promise> {
        self.memory.promise(usize::try_from(bytes).ok()?)
    }

    /// Brings a shard to the device; `None`, with the reason in the log, where the processor serves it.
    pub(crate) async fn place(self: Arc<Self>, model: DecoderModel) -> Option<Arc<Placed>> {
        if self.standing.is_dropped() {
            return None;
        }
        let bytes = self.accelerator.shard_bytes(&model);
        let Some(weights) = self.promise(bytes) else {
            let free = self.memory.free();
            tracing::info!(bytes, free, "a shard has no room on the device");
            return None;
        };
        let of = model.clone();
        let secrets = task::compute(move || audit::secrets(&of, &mut random::rng())).await;
        let secrets = match secrets {
            Ok(secrets) => secrets,
            Err(error) => {
                tracing::info!(%error, "a shard is not one for the device");
                return None;
            }
        };
        let patience = PATIENCE + Duration::from_secs(bytes / UPLOAD_RATE);
        let shard = match timeout(patience, self.accelerator.place(model.clone())).await {
            Ok(Ok(shard)) => shard,
            Ok(Err(PlaceError::Unfit(reason))) => {
                tracing::info!(reason, "a shard is not one for the device");
                return None;
            }
            Ok(Err(PlaceError::Failed(failed))) => {
                self.standing.drop_for(&failed.to_string());
                return None;
            }
            Err(_) => {
                self.standing.drop_for("it did not take a shard in time");
                return None;
            }
        };
        {
            let mut standing = self.standing.lock();
            standing.shards += 1;
            standing.shard_bytes += bytes;
        }
        let (layers, name) = (model.layers(), self.accelerator.name());
        tracing::info!(gpu = name, ?layers, bytes, "a shard is served on the device");
        let next = AtomicU32::new(0);
        Some(Arc::new(Placed { device: self, model, shard, secrets, next, weights }))
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let mut standing = self.device.standing.lock();
        standing.shards = standing.shards.saturating_sub(1);
        standing.shard_bytes = standing.shard_bytes.saturating_sub(self.weights.bytes() as u64);
    }
}

impl Placed {
    /// A place for a session of at most `tokens` tokens.
    pub(crate) fn seat(self: &Arc<Self>, tokens: usize) -> Result<Arc<Seat>, Spill> {
        if self.device.standing.is_dropped() {
            return Err(Spill::Dropped);
        }
        let needed = self.device.accelerator.cache_bytes(&self.model, tokens);
        let free = self.device.memory.free() as u64;
        let cache = self.device.promise(needed).ok_or(Spill::Room { needed, free })?;
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        self.shard.open(sequence, tokens)?;
        let mut standing = self.device.standing.lock();
        standing.sessions += 1;
        standing.shard_bytes += needed;
        drop(standing);
        Ok(Arc::new(Seat { placed: self.clone(), sequence, holds: Mutex::new(0), cache }))
    }

    /// The products of these steps; `None` when the device gave none in time, and is not asked again.
    pub(crate) async fn products(&self, steps: Vec<DeviceStep>) -> Option<Vec<Vec<i32>>> {
        let reason = match timeout(PATIENCE, self.shard.products(steps)).await {
            Ok(Ok(products)) => return Some(products),
            Ok(Err(failed)) => failed.to_string(),
            Err(_) => format!("it took longer than {PATIENCE:?}"),
        };
        self.drop_device(&reason);
        None
    }

    pub(crate) fn drop_device(&self, reason: &str) {
        self.device.standing.drop_for(reason);
    }

    pub(crate) fn secrets(&self) -> &Preparation {
        &self.secrets
    }
}

impl Seat {
    /// The shard that the seat is in.
    pub(crate) fn placed(&self) -> &Arc<Placed> {
        &self.placed
    }

    /// The sequence's number on the device.
    pub(crate) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Whether the device can compute a step after `before` tokens.
    pub(crate) fn follows(&self, before: usize) -> bool {
        *self.holds() >= before && !self.placed.device.standing.is_dropped()
    }

    /// The device computed a step, and the sequence has `tokens` tokens since.
    pub(crate) fn reached(&self, tokens: usize) {
        *self.holds() = tokens;
    }

    /// The processor computed a step after `before` tokens: the device knows nothing of it.
    pub(crate) fn passed_over(&self, before: usize) {
        let mut holds = self.holds();
        *holds = (*holds).min(before);
    }

    fn holds(&self) -> std::sync::MutexGuard<'_, usize> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.placed.shard.close(self.sequence);
        let mut standing = self.placed.device.standing.lock();
        standing.sessions = standing.sessions.saturating_sub(1);
        standing.shard_bytes = standing.shard_bytes.saturating_sub(self.cache.bytes() as u64);
    }
}
