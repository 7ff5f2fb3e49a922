//! Shards of decoders on the device.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
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

/// A device whose kernels are proven, for shards. In a rehearsal it flips a bit from step number `wrong_after`
/// on.
pub(super) fn of(
    name: String,
    kernels: Arc<Kernels>,
    wrong_after: Option<u64>,
) -> Arc<dyn ShardAccelerator> {
    if wrong_after.is_some() {
        tracing::warn!(gpu = name, "this device turns wrong on purpose: a rehearsal");
    }
    let rehearsal = wrong_after.map(|after| Arc::new(Rehearsal { left: AtomicU64::new(after) }));
    Arc::new(OnGpu { name, kernels, rehearsal })
}

/// A device that turns wrong when it has made so many more steps.
struct Rehearsal {
    left: AtomicU64,
}

impl Rehearsal {
    /// A step was made.
    fn bend(&self, stages: &mut [Vec<i32>]) {
        let count = |left: u64| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_err()
            && let Some(value) = stages.first_mut().and_then(|stage| stage.first_mut())
        {
            *value ^= 1;
        }
    }
}

struct OnGpu {
    name: String,
    kernels: Arc<Kernels>,
    rehearsal: Option<Arc<Rehearsal>>,
}

/// A shard on the device, and its sequences by number.
struct Shard {
    decoder: Arc<GpuDecoder>,
    sequences: Mutex<HashMap<u32, Sequence>>,
    rehearsal: Option<Arc<Rehearsal>>,
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
        let (kernels, rehearsal) = (self.kernels.clone(), self.rehearsal.clone());
        Box::pin(async move {
            let placed = task::compute(move || GpuDecoder::place(kernels, &model)).await;
            let decoder = Arc::new(placed.map_err(unfit)?);
            let shard: Arc<dyn PlacedShard> =
                Arc::new(Shard { decoder, sequences: Mutex::default(), rehearsal });
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
            let mut ran = ran.await?;
            if let Some(rehearsal) = &self.rehearsal {
                rehearsal.bend(&mut ran.stages);
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use std::io::Write as _;

    use nesa_gpu::{Gpu, Purpose};
    use nesa_model::decoder::{
        DecoderRun, Feed, Input, KvCache, Logits,
        toy::{self, Noting, ToyDecoder},
    };

    use super::*;

    /// Any Vulkan device, a software one too; `None`, said aloud, where there is none.
    fn device() -> Option<Arc<dyn ShardAccelerator>> {
        let gpu = match block_on(Gpu::open(Purpose::Check)) {
            Ok(gpu) => Arc::new(gpu),
            Err(GpuError::Adapter(error)) => {
                assert!(std::env::var_os("NESA_REQUIRE_ADAPTER").is_none(), "no adapter: {error}");
                // Past the test harness, which keeps what passing tests print.
                let said = format!("NOT RUN, no adapter ({error})\n");
                std::io::stderr().write_all(said.as_bytes()).unwrap();
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        Some(of("a device".into(), block_on(Kernels::prove(gpu)).unwrap(), None))
    }

    fn step(sequence: u32, before: usize, tokens: &[u32]) -> DeviceStep {
        let input = Input::Tokens(tokens.to_vec());
        DeviceStep { sequence, before, input, logits: Logits::Last }
    }

    #[tokio::test]
    async fn steps_give_the_products_of_the_processor_or_fail() {
        let Some(device) = device() else { return };
        let model = DecoderModel::open(&toy::artifact(&ToyDecoder::default()).unwrap()).unwrap();
        let Ok(shard) = device.place(model.clone()).await else { panic!("not placed") };
        let (mut cache, mut before) = (KvCache::new(), 0);
        shard.open(7, 8).unwrap();
        shard.open(8, 8).unwrap();
        // A prompt, a token, and one in its place.
        for (back, tokens) in [(0, &[3, 41, 5][..]), (0, &[9]), (1, &[26])] {
            before -= back;
            cache.truncate(before).unwrap();
            let feed = Feed { cache, input: Input::Tokens(tokens.to_vec()), logits: Logits::Last };
            let noting = Noting::new(&model);
            let mut fed = DecoderRun::start(&model, vec![feed]).unwrap().run(&noting).unwrap();
            cache = fed.remove(0).cache;
            let products = shard.products(vec![step(7, before, tokens)]).await.unwrap();
            assert_eq!(products, noting.into_products());
            before += tokens.len();
        }
        // Two sequences at once: their rows in the order of the steps.
        let (long, short) = (&[9, 26][..], &[30][..]);
        let feeds = [(long, KvCache::new()), (short, cache)].map(|(tokens, cache)| Feed {
            cache,
            input: Input::Tokens(tokens.to_vec()),
            logits: Logits::Last,
        });
        let noting = Noting::new(&model);
        DecoderRun::start(&model, feeds.into()).unwrap().run(&noting).unwrap();
        let both = vec![step(8, 0, long), step(7, before, short)];
        assert_eq!(shard.products(both).await.unwrap(), noting.into_products());
        for (wrong, why) in [
            (step(7, 6, &[1]), "shorter"),
            (step(8, 3, &[1]), "shorter"),
            (step(9, 0, &[1]), "not on the device"),
            (step(7, 4, &[1, 2, 3, 4, 5]), "room for 8 tokens, 9"),
        ] {
            let failed = shard.products(vec![wrong]).await.unwrap_err();
            assert!(failed.to_string().contains(why), "{failed}");
        }
        shard.close(7);
        assert!(shard.products(vec![step(7, 4, &[1])]).await.is_err());
        assert!(shard.open(9, usize::MAX).is_err());
    }

    #[test]
    fn a_shard_that_is_not_for_the_device_is_no_failure_of_it() {
        let large = DecoderError::Large { stage: 3, got: 1 << 33, allowed: 1 << 27 };
        assert!(matches!(unfit(large), PlaceError::Unfit(_)));
        assert!(matches!(unfit(DecoderError::HeadWidth { got: 7 }), PlaceError::Unfit(_)));
        let lost = GpuError::Refused("out of memory".into());
        assert!(matches!(unfit(lost.into()), PlaceError::Failed(_)));
    }
}
