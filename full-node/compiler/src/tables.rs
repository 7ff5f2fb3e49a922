//! The tables of the exact form; `docs/exact-arithmetic.md` says how each is read.

use nesa_kernels::decoder::{SILU_BIN_BITS, SILU_FRACTION_BITS};
use nesa_kernels::ops::{GELU_BIN_BITS, GELU_FRACTION_BITS};
use nesa_kernels::sample::SAMPLE_TABLE_ENTRIES;
use nesa_model::TANH_BIN_BITS;

use crate::bert::FeedForward;

/// What an activation lacks of `max(u, 0)`, as integers at the middle of each bin, up to the last entry that is
/// not 0. `lack(unit · a, a)` is the missing part times the unit.
fn activation(fraction: u32, bin: u32, lack: impl Fn(f64, f64) -> f64) -> Vec<u16> {
    let (unit, bin) = (f64::from(1u32 << fraction), f64::from(1u32 << bin));
    (0..)
        .map(|i| {
            let a = (f64::from(i) * bin + (bin - 1.0) / 2.0) / unit;
            lack(unit * a, a).round() as u16
        })
        .enumerate()
        // The function rises from 0 before it falls, so only a zero past its peak is the end.
        .take_while(|&(i, v)| v > 0 || i < 100)
        .map(|(_, v)| v)
        .collect()
}

/// What a feed-forward's activation lacks of `max(u, 0)`: for GELU `round(2^12 · a·Φ(−a))`, in bins of four
/// units of 2^−12.
pub(crate) fn feed_forward(kind: FeedForward) -> Vec<u16> {
    let table =
        |lack: &dyn Fn(f64, f64) -> f64| activation(GELU_FRACTION_BITS, GELU_BIN_BITS, lack);
    match kind {
        FeedForward::Gelu => {
            table(&|scaled, a| scaled * 0.5 * libm::erfc(a * std::f64::consts::FRAC_1_SQRT_2))
        }
        FeedForward::GeluTanh => table(&|scaled, a| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (a + 0.044_715 * a * a * a);
            scaled * 0.5 * (1.0 - libm::tanh(inner))
        }),
        // Nothing, which a table of one entry says.
        FeedForward::Relu => vec![0],
    }
}

/// The hyperbolic tangent: `round(2^15 · tanh a)` in bins of two units of 2^−12, up to the first that
/// is one.
pub(crate) fn tanh() -> Vec<u16> {
    let (one, unit) = (f64::from(1u32 << 15), f64::from(1u32 << GELU_FRACTION_BITS));
    let bin = f64::from(1u32 << TANH_BIN_BITS);
    (0..)
        .map(|i| (one * libm::tanh((f64::from(i) * bin + (bin - 1.0) / 2.0) / unit)).round() as u16)
        .take_while(|&v| v < 1 << 15)
        .collect()
}

/// The SiLU table: `round(2^12 · a·σ(−a))` in bins of four units of 2^−12.
pub(crate) fn silu() -> Vec<u16> {
    activation(SILU_FRACTION_BITS, SILU_BIN_BITS, |scaled, a| scaled / (1.0 + libm::exp(a)))
}

/// Entries of the exponential table per unit of its argument.
pub(crate) const EXP_STEPS: f64 = 512.0;

/// The exponential table: `round(32767 · e^(−(i + ½)/512))`, ended by its first 0.
pub(crate) fn exp() -> Vec<u16> {
    let mut table = Vec::new();
    for i in 0.. {
        let v = (32767.0 * libm::exp(-(f64::from(i) + 0.5) / EXP_STEPS)).round() as u16;
        table.push(v);
        if v == 0 {
            break;
        }
    }
    table
}

/// Powers of e for sampling, 31 fractional bits.
pub(crate) fn sample() -> Vec<u32> {
    let one = f64::from(1u32 << 31);
    (0..SAMPLE_TABLE_ENTRIES)
        .map(|i| {
            let x = match i {
                0..32 => i as f64,
                32..288 => (i - 32) as f64 / 256.0,
                _ => (i - 288) as f64 / 65536.0,
            };
            (one * libm::exp(-x)).round() as u32
        })
        .collect()
}
