//! Threads of the processor that share each product, natively and on request. Which of them computes what changes
//! no integer.

use nesa_kernels::Weight;
use nesa_masked::server::Job;
use nesa_model::{ExactModel, Linear, PlainDecoder, StageId, decoder::DecoderModel};
use nesa_platform::MaybeSend;

#[cfg(not(target_family = "wasm"))]
use {
    nesa_model::ThreadedDecoder,
    rayon::ThreadPool,
    std::{num::NonZeroUsize, sync::Arc},
    zeroize::Zeroizing,
};

/// Products of fewer multiplications cost less than handing them out.
#[cfg(not(target_family = "wasm"))]
const SMALLEST: usize = 1 << 19;
/// Rows of a weight are handed out in multiples of this, which single-row products take together.
#[cfg(not(target_family = "wasm"))]
const ROWS: usize = 4;

/// The threads that compute a node's products: the one that is asked, or several that share each.
#[derive(Clone, Debug, Default)]
pub struct Cores {
    #[cfg(not(target_family = "wasm"))]
    pool: Option<Arc<ThreadPool>>,
}

/// The threads cannot be started.
#[cfg(not(target_family = "wasm"))]
#[derive(Debug, thiserror::Error)]
#[error("{threads} threads cannot be started: {reason}")]
pub struct CoresError {
    /// How many were asked for.
    pub threads: usize,
    /// What the system says.
    pub reason: String,
}

/// What computes a shard's linear stages.
pub(crate) enum Engine<'a> {
    Plain(PlainDecoder<'a>),
    #[cfg(not(target_family = "wasm"))]
    Threaded(ThreadedDecoder<'a>),
}

impl Linear for Engine<'_> {
    fn apply(&self, stage: StageId, x: &[i32], tokens: usize) -> Vec<i32> {
        match self {
            Self::Plain(engine) => engine.apply(stage, x, tokens),
            #[cfg(not(target_family = "wasm"))]
            Self::Threaded(engine) => engine.apply(stage, x, tokens),
        }
    }

    fn apply_to(&self, stage: StageId, x: &[i32], tokens: usize, y: &mut [i32]) {
        match self {
            Self::Plain(engine) => engine.apply_to(stage, x, tokens, y),
            #[cfg(not(target_family = "wasm"))]
            Self::Threaded(engine) => engine.apply_to(stage, x, tokens, y),
        }
    }
}

impl Cores {
    /// So many threads that share each product; with one, whoever is asked computes alone.
    ///
    /// # Errors
    /// [`CoresError`] when the system gives no threads.
    #[cfg(not(target_family = "wasm"))]
    pub fn new(threads: NonZeroUsize) -> Result<Self, CoresError> {
        let threads = threads.get();
        if threads == 1 {
            return Ok(Self::default());
        }
        let name = |index| format!("product-{index}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build();
        let failed = |error: rayon::ThreadPoolBuildError| {
            let reason = error.to_string();
            CoresError { threads, reason }
        };
        Ok(Self { pool: Some(Arc::new(pool.map_err(failed)?)) })
    }

    /// Runs `work` with what computes the linear stages of `model`.
    pub(crate) fn run<T: MaybeSend>(
        &self,
        model: &DecoderModel,
        work: impl FnOnce(&Engine<'_>) -> T + MaybeSend,
    ) -> T {
        #[cfg(not(target_family = "wasm"))]
        if let Some(pool) = &self.pool {
            return pool.install(|| work(&Engine::Threaded(ThreadedDecoder(model))));
        }
        work(&Engine::Plain(PlainDecoder(model)))
    }

    /// The product that a job of the masked lane asks for, `[rows, n]` words of Z_2^32; `None` where whoever is asked
    /// had better compute it alone.
    pub(crate) fn product(&self, job: &Job, model: &ExactModel) -> Option<Vec<u32>> {
        let (n, k) = (job.stage().n as usize, job.stage().k as usize);
        let w = model.weights(StageId(job.stage().id));
        let fits = job.is_narrow() && w.holds(n, k);
        if fits { self.shared(w, job.share(), (n, k), job.rows() as usize) } else { None }
    }

    #[cfg(target_family = "wasm")]
    fn shared(&self, _: Weight, _: &[u32], _: (usize, usize), _: usize) -> Option<Vec<u32>> {
        None
    }

    /// `share · wᵀ` mod 2^32, each thread some rows of the weight.
    #[cfg(not(target_family = "wasm"))]
    fn shared(
        &self,
        w: Weight<'_>,
        share: &[u32],
        (n, k): (usize, usize),
        rows: usize,
    ) -> Option<Vec<u32>> {
        let pool = self.pool.as_ref()?;
        if n.saturating_mul(k).saturating_mul(rows) < SMALLEST {
            return None;
        }
        let slice = n.div_ceil(pool.current_num_threads()).next_multiple_of(ROWS);
        let mut parts: Vec<Zeroizing<Vec<u32>>> = (0..n)
            .step_by(slice)
            .map(|start| Zeroizing::new(vec![0; rows * slice.min(n - start)]))
            .collect();
        pool.install(|| {
            rayon::scope(|scope| {
                for (index, part) in parts.iter_mut().enumerate() {
                    let start = index * slice;
                    let width = slice.min(n - start);
                    let w = w.rows(start..start + width, k);
                    scope.spawn(move |_| w.matmul_mask_u32(share, width, k, rows, part));
                }
            });
        });
        let mut whole = vec![0; rows * n];
        for (index, part) in parts.iter().enumerate() {
            let start = index * slice;
            let width = slice.min(n - start);
            for (to, from) in whole.chunks_exact_mut(n).zip(part.chunks_exact(width)) {
                to[start..start + width].copy_from_slice(from);
            }
        }
        Some(whole)
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
#[allow(clippy::unwrap_used)] // a failed set-up is a failed test
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn masked_products_do_not_depend_on_the_threads(
            threads in 2usize..6,
            n in 1usize..90,
            rows in 1usize..4,
            seed: u32,
        ) {
            let k = SMALLEST / n + 1;
            let mix = |i: usize| (i as u32 ^ seed).wrapping_mul(0x9e37_79b9);
            let w: Vec<i8> = (0..n * k).map(|i| (mix(i) >> 24) as i8).collect();
            let share: Vec<u32> = (0..rows * k).map(|i| mix(i + 7)).collect();
            let mut expected = vec![0; rows * n];
            Weight::Bytes(&w).matmul_mask_u32(&share, n, k, rows, &mut expected);
            let cores = Cores::new(NonZeroUsize::new(threads).unwrap()).unwrap();
            let got = cores.shared(Weight::Bytes(&w), &share, (n, k), rows);
            prop_assert_eq!(got, Some(expected));
            // What is small is left to whoever is asked, and so is all where there is one thread.
            prop_assert_eq!(cores.shared(Weight::Bytes(&w[..n]), &share[..rows], (n, 1), rows), None);
            let one = Cores::new(NonZeroUsize::MIN).unwrap();
            prop_assert_eq!(one.shared(Weight::Bytes(&w), &share, (n, k), rows), None);
        }
    }
}
