//! Rotary frequencies and the cosine table.

use nesa_kernels::rotary::{COSINE_BITS, COSINE_ENTRIES};
use std::f64::consts::TAU;

use super::config::{LlamaConfig, RopeScaling};

/// Radians per position of each channel pair, `[head_dim / 2]`, scaled as the checkpoint says.
pub(crate) fn frequencies(config: &LlamaConfig) -> Vec<f64> {
    let width = config.head_dim as f64;
    let plain = |i: usize| libm::pow(config.rope_theta, -2.0 * i as f64 / width);
    let pairs = config.head_dim / 2;
    match config.rope_scaling {
        RopeScaling::None => (0..pairs).map(plain).collect(),
        RopeScaling::Linear { factor } => (0..pairs).map(|i| plain(i) / factor).collect(),
        RopeScaling::Llama3 { factor, low, high, original } => (0..pairs)
            .map(|i| {
                let f = plain(i);
                let turns = original * f / TAU;
                let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                f / factor * (1.0 - keep) + f * keep
            })
            .collect(),
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original, .. } => {
            // The pair that makes `turns` turns over the original context.
            let pair = |turns: f64| {
                width * libm::log(original / (turns * TAU)) / (2.0 * libm::log(config.rope_theta))
            };
            let low = pair(beta_fast).floor().max(0.0);
            let high = pair(beta_slow).ceil().min(width - 1.0);
            let span = if high > low { high - low } else { 0.001 };
            (0..pairs)
                .map(|i| {
                    let f = plain(i);
                    let divide = ((i as f64 - low) / span).clamp(0.0, 1.0);
                    f / factor * divide + f * (1.0 - divide)
                })
                .collect()
        }
    }
}

/// What multiplies queries and keys beside the rotation.
pub(crate) fn attention_factor(config: &LlamaConfig) -> f64 {
    match config.rope_scaling {
        RopeScaling::Yarn { attention, .. } => attention,
        _ => 1.0,
    }
}

/// Frequencies as fractions of a turn with 64 fractional bits.
pub(crate) fn turns(frequencies: &[f64]) -> Vec<u64> {
    frequencies
        .iter()
        .map(|f| {
            let turns = f / TAU;
            libm::ldexp(turns - turns.floor(), 64).round() as u64
        })
        .collect()
}

/// One turn of the cosine, both ends included.
pub(crate) fn cosine_table() -> Vec<i32> {
    let one = f64::from(1u32 << COSINE_BITS);
    let steps = (COSINE_ENTRIES - 1) as f64;
    (0..COSINE_ENTRIES).map(|i| (one * libm::cos(TAU * i as f64 / steps)).round() as i32).collect()
}
