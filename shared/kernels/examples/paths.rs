//! Times every path of this machine by turns on one thread and prints a table: products in milliards of
//! multiplications a second, operations on rows in microseconds. Times are the least on the processor.
//!
//! `cargo run --profile local -p nesa-kernels --example paths`

use cpu_time::ThreadTime;
use nesa_kernels::attention::{self, AttentionScratch, Cache, Look};
use nesa_kernels::ops::{self, Requantize, RowScale};
use nesa_kernels::{Path, Weight, decoder, nibbles};

/// `[n, k, tokens]`: stages of MiniLM and of a model of 135M parameters, prompts and single rows.
const SHAPES: [[usize; 3]; 6] = [
    [1152, 384, 32],
    [1152, 384, 256],
    [384, 1536, 256],
    [1536, 576, 256],
    [1536, 576, 1],
    [49_152, 576, 1],
];
/// `[width, tokens seen, queries]` of attention.
const ATTENTION: [[usize; 3]; 3] = [[64, 256, 1], [48, 256, 1], [64, 256, 256]];
/// Multiplications that a shape is timed for.
const WORK: usize = 4_000_000_000;
/// Width of a row.
const ROW: usize = 576;

/// The least seconds on the processor of `rounds` calls.
fn least(rounds: usize, mut f: impl FnMut()) -> f64 {
    let mut least = f64::MAX;
    for _ in 0..rounds {
        let start = ThreadTime::now();
        f();
        least = least.min(start.elapsed().as_secs_f64());
    }
    least
}

/// One line: what is timed, then a figure for each path.
fn line(what: &str, mut figure: impl FnMut() -> f64) {
    print!("{what:40}");
    for path in vector_paths() {
        let figure = path.during(&mut figure).unwrap_or_default();
        print!("{figure:14.2}");
    }
    println!();
}

fn vector_paths() -> impl Iterator<Item = Path> {
    Path::available().filter(|path| *path != Path::Scalar)
}

fn main() {
    print!("{:40}", "");
    for path in vector_paths() {
        print!("{:>14}", path.name());
    }
    println!();
    for [n, k, tokens] in SHAPES {
        let products = n * k * tokens;
        let w: Vec<i8> = (0..n * k).map(|i| (i * 7919 % 255) as i8).collect();
        // Twelve bits, as the models have.
        let x: Vec<i32> = (0..tokens * k).map(|i| (i * 104_729 % 4095) as i32 - 2047).collect();
        let share: Vec<u32> =
            (0..tokens * k).map(|i| (i as u32).wrapping_mul(2_654_435_761)).collect();
        let (mut y, mut masked) = (vec![0; n * tokens], vec![0; n * tokens]);
        let rounds = (WORK / products).clamp(9, 500);
        let rate = |seconds: f64| products as f64 / seconds * 1e-9;
        let packed: Vec<u8> =
            (0..n * nibbles::packed_bytes(k)).map(|i| (i * 7919 % 251) as u8).collect();
        for (form, w) in [("", Weight::Bytes(&w)), (", four bits", Weight::Nibbles(&packed))] {
            line(&format!("product {n}x{k}, {tokens} rows{form}"), || {
                rate(least(rounds, || w.matmul_i8(&x, n, k, tokens, &mut y)))
            });
            line(&format!("masked {n}x{k}, {tokens} rows{form}"), || {
                rate(least(rounds, || w.matmul_mask_u32(&share, n, k, tokens, &mut masked)))
            });
        }
    }
    for [width, tokens, queries] in ATTENTION {
        let values = |len: usize| -> Vec<i16> {
            (0..len).map(|i| (i * 7919 % 8191) as i16 - 4000).collect()
        };
        let (q, cached) = (values(queries * width), values(tokens * width));
        let exp: Vec<u16> = (0..1000u16).rev().map(|i| i * 32).collect();
        let looks = vec![Look { seen: 0..tokens, score: 1 << 22 }; queries];
        let (mut scratch, mut out) = (AttentionScratch::default(), vec![0; queries * width]);
        line(&format!("attention {width} wide, {queries} by {tokens}"), || {
            let cache = Cache { keys: &cached, values: &cached };
            1e6 * least(500, || attention::attend(&q, &looks, cache, &exp, &mut scratch, &mut out))
        });
    }
    rows();
}

/// Operations on a row of [`ROW`] values.
fn rows() {
    let h: Vec<i32> = (0..ROW as i32).map(|i| i * 7919 % 100_000 - 50_000).collect();
    let (gain, bias) = (vec![1 << 29; ROW], vec![5; ROW]);
    let (mut t, mut x) = (vec![0; ROW], vec![0; ROW]);
    let multiplier = vec![1u32 << 30; ROW];
    let table: Vec<u16> = (0..4000).rev().collect();
    let micro = |f: &mut dyn FnMut()| 1e6 * least(2000, f);
    line("RMSNorm and quantisation", || {
        micro(&mut || {
            decoder::rms_quantize_row(&h, 1000, &gain, 2047, &mut t, &mut x);
        })
    });
    line("layer norm", || {
        let mut row = h.clone();
        micro(&mut || ops::layer_norm_row(&mut row, 5, &gain, 30, &bias))
    });
    line("requantisation", || {
        let scale = RowScale { mantissa: 1 << 30, exponent: 10 };
        let to = Requantize { multiplier: &multiplier, shift: 50, bias: &bias, limit: 1 << 25 };
        micro(&mut || decoder::requantize_row(&h, scale, to, &mut x))
    });
    line("SwiGLU", || micro(&mut || decoder::swiglu_row(&h, &h, &table, &mut x)));
}
