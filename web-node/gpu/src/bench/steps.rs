//! Whole steps of a decoder as the sealed lane takes them, with the products of all stages read back.

use std::sync::Arc;
use std::time::Instant;

use nesa_model::decoder::{DecoderModel, Input, Logits};

use super::TURNS;
use crate::decoder::{DecoderError, GpuDecoder, Kernels, Part, Products};
use crate::device::Gpu;

/// How many sequences take a step at once, and with how many new tokens each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Sequences.
    pub sequences: usize,
    /// New tokens of each.
    pub tokens: usize,
}

/// What a step took.
#[derive(Clone, Debug)]
pub struct Step {
    /// Sequences and tokens.
    pub load: Load,
    /// Least time from the rows on the host to the products on the host, in seconds.
    pub seconds: f64,
    /// Bytes of weights that were read, one for each.
    pub weights: u64,
    /// Submits, dispatches and bytes read back.
    pub submits: usize,
    /// Dispatches in all of them.
    pub dispatches: usize,
    /// Bytes that were read back.
    pub bytes: usize,
}

/// Measures steps of `model` after a prompt of one token.
///
/// # Errors
/// [`DecoderError`] when the model does not fit the device, or that fails.
pub async fn steps(
    gpu: Arc<Gpu>,
    model: &DecoderModel,
    loads: &[Load],
) -> Result<Vec<Step>, DecoderError> {
    let decoder = GpuDecoder::place(Kernels::prove(gpu).await?, model)?;
    let here = model.stages().get(model.stages_here()).unwrap_or_default();
    let weights = here.iter().map(|spec| (spec.n * spec.k) as u64).sum();
    let mut steps = Vec::with_capacity(loads.len());
    for &load in loads {
        let mut sequences = (0..load.sequences)
            .map(|_| decoder.sequence(load.tokens + 1))
            .collect::<Result<Vec<_>, _>>()?;
        let mut run = async |tokens: usize, before: usize| {
            let input = Input::Tokens(vec![1; tokens]);
            let mut parts = Vec::with_capacity(sequences.len());
            for sequence in &mut sequences {
                sequence.truncate(before);
                parts.push(Part { sequence, input: &input, logits: Logits::Last });
            }
            let began = Instant::now();
            let products = decoder.products(&mut parts).await?;
            Ok::<_, DecoderError>((began.elapsed().as_secs_f64(), products))
        };
        run(1, 0).await?;
        let (mut seconds, mut last) = (f64::INFINITY, Products::default());
        for _ in 0..TURNS {
            let (took, products) = run(load.tokens, 1).await?;
            (seconds, last) = (seconds.min(took), products);
        }
        let Products { submits, dispatches, bytes, .. } = last;
        steps.push(Step { load, seconds, weights, submits, dispatches, bytes });
    }
    Ok(steps)
}
