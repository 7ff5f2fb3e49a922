//! A native graphics processor beside a node's kernels.

mod shards;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use futures::executor::block_on;
use nesa_gpu::{Gpu, GpuError, Input, Output, Purpose, Weights, Work, decoder::Kernels};
use nesa_node::{Accelerator, Beside, Failed, Product};
use nesa_platform::{BoxFuture, task};

use crate::failure::{Code, Failure};

/// What an operator asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// Bytes of weights at most.
    pub(crate) memory: u64,
    /// Whether a software adapter will do.
    pub(crate) purpose: Purpose,
    /// After how many steps of shards it flips a bit, in a rehearsal.
    pub(crate) wrong_after: Option<u64>,
}

/// Opens the device that is wished for, and where `decoders` are served, lets it prove what those need.
///
/// # Errors
/// When there is none, it is software, or its bits differ: an operator who asks for one wants to know.
pub(crate) async fn open(wish: Wish, decoders: bool) -> Result<Beside> {
    let opened = task::compute(move || {
        let gpu = Arc::new(block_on(Gpu::open(wish.purpose))?);
        let kernels = decoders.then(|| block_on(Kernels::prove(gpu.clone()))).transpose()?;
        Ok::<_, GpuError>((gpu, kernels))
    });
    let (gpu, kernels) = opened.await.map_err(|error| {
        let next = "check the driver with vulkaninfo, or serve without --gpu";
        Failure::new(Code::Failed, format!("no graphics processor can serve: {error}"), next)
    })?;
    let shards = kernels.map(|kernels| shards::of(name(&gpu), kernels, wish.wrong_after));
    let accelerator = Arc::new(OnGpu { gpu, weights: Mutex::default() });
    Ok(Beside { accelerator, shards, memory: wish.memory })
}

fn name(gpu: &Gpu) -> String {
    let info = gpu.info();
    format!("{} ({})", info.name, info.backend)
}

/// A device and the weights on it.
struct OnGpu {
    gpu: Arc<Gpu>,
    weights: Mutex<HashMap<u32, Arc<Weights>>>,
}

impl OnGpu {
    fn weights(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Arc<Weights>>> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accelerator for OnGpu {
    fn name(&self) -> String {
        name(&self.gpu)
    }

    fn load<'a>(
        &'a self,
        weight: u32,
        w: &'a [i8],
        n: usize,
        k: usize,
    ) -> BoxFuture<'a, Result<(), Failed>> {
        Box::pin(async move {
            let loaded = self.gpu.upload(w, n, k).map_err(|error| Failed(error.to_string()))?;
            self.weights().insert(weight, Arc::new(loaded));
            Ok(())
        })
    }

    fn products(&self, batch: Vec<Product>) -> BoxFuture<'_, Result<Vec<Vec<u32>>, Failed>> {
        Box::pin(async move {
            let held: Option<Vec<Arc<Weights>>> = {
                let all = self.weights();
                batch.iter().map(|product| all.get(&product.weight).cloned()).collect()
            };
            let held = held.ok_or_else(|| Failed("a weight is not on the device".into()))?;
            let gpu = self.gpu.clone();
            // Waiting for the device holds up a thread.
            let outputs = task::compute(move || {
                let work: Vec<Work<'_>> = batch
                    .iter()
                    .zip(&held)
                    .map(|(product, weights)| Work {
                        weights,
                        input: Input::Mask(&product.share),
                        tokens: product.rows,
                    })
                    .collect();
                block_on(gpu.run(&work))
            });
            let outputs = outputs.await.map_err(|error| Failed(error.to_string()))?;
            let words = outputs.into_iter().map(|output| match output {
                Output::Mask(words) => Ok(words),
                _ => Err(Failed("it gave another kind of product".into())),
            });
            words.collect()
        })
    }
}
