//! Shards of decoders on the device.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::executor::block_on;
use nesa_gpu::{
    GpuError,
    decoder::{DecoderError, GpuDecoder, GpuSequence, Kernels, Part},
};
use nesa_model::decoder::DecoderModel;
use nesa_node::{
    Failed,
    shard::{DeviceStep, PlaceError, PlacedShard, ShardAccelerator},
};
use nesa_platform::{BoxFuture, task};

/// A device whose kernels are proven, for shards.
pub(super) fn of(name: String, kernels: Arc<Kernels>) -> Arc<dyn ShardAccelerator> {
    Arc::new(OnGpu { name, kernels })
}

struct OnGpu {
    name: String,
    kernels: Arc<Kernels>,
}

/// A shard on the device, and its sequences by number.
struct Shard {
    decoder: Arc<GpuDecoder>,
    sequences: Mutex<HashMap<u32, Sequence>>,
}

type Sequence = Arc<Mutex<GpuSequence>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: impl ToString) -> Failed {
    Failed(error.to_string())
}

/// Whether a device that refused for this reason is well, and the shard not one for it.
fn unfit(error: DecoderError) -> PlaceError {
    match error {
        DecoderError::Gpu(GpuError::TooWide(_) | GpuError::Groups(_))
        | DecoderError::HeadWidth { .. }
        | DecoderError::Large { .. }
        | DecoderError::Absent(_) => PlaceError::Unfit(error.to_string()),
        _ => failed(error).into(),
    }
}

impl ShardAccelerator for OnGpu {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn shard_bytes(&self, model: &DecoderModel) -> u64 {
        GpuDecoder::bytes(model)
    }

    fn cache_bytes(&self, model: &DecoderModel, tokens: usize) -> u64 {
        GpuDecoder::cache_bytes(model, tokens)
    }

    fn place(
        &self,
        model: DecoderModel,
    ) -> BoxFuture<'_, Result<Arc<dyn PlacedShard>, PlaceError>> {
        let kernels = self.kernels.clone();
        Box::pin(async move {
            let placed = task::compute(move || GpuDecoder::place(kernels, &model)).await;
            let decoder = Arc::new(placed.map_err(unfit)?);
            let shard: Arc<dyn PlacedShard> =
                Arc::new(Shard { decoder, sequences: Mutex::default() });
            Ok(shard)
        })
    }
}

impl PlacedShard for Shard {
    fn open(&self, sequence: u32, tokens: usize) -> Result<(), Failed> {
        let opened = self.decoder.sequence(tokens).map_err(failed)?;
        lock(&self.sequences).insert(sequence, Arc::new(Mutex::new(opened)));
        Ok(())
    }

    fn close(&self, sequence: u32) {
        lock(&self.sequences).remove(&sequence);
    }

    fn products(&self, steps: Vec<DeviceStep>) -> BoxFuture<'_, Result<Vec<Vec<i32>>, Failed>> {
        Box::pin(async move {
            let held: Option<Vec<Sequence>> = {
                let all = lock(&self.sequences);
                steps.iter().map(|step| all.get(&step.sequence).cloned()).collect()
            };
            let held = held.ok_or_else(|| failed("a sequence is not on the device"))?;
            let decoder = self.decoder.clone();
            // Waiting for the device holds up a thread.
            let ran = task::compute(move || {
                let mut sequences: Vec<_> = held.iter().map(|sequence| lock(sequence)).collect();
                let mut parts = Vec::with_capacity(steps.len());
                for (sequence, step) in sequences.iter_mut().zip(&steps) {
                    sequence.truncate(step.before);
                    if sequence.len() != step.before {
                        return Err(failed(
                            "a sequence on the device is shorter than its step says",
                        ));
                    }
                    let (input, logits) = (&step.input, step.logits);
                    parts.push(Part { sequence, input, logits });
                }
                block_on(decoder.products(&mut parts)).map_err(failed)
            });
            let ran = ran.await?;
            tracing::debug!(
                submits = ran.submits,
                dispatches = ran.dispatches,
                bytes = ran.bytes,
                "a step on the device"
            );
            Ok(ran.stages)
        })
    }
}
