//! Each operation on a device beside [`nesa_kernels`], on made-up rows with extremes among them.

use nesa_kernels::attention::{self, AttentionScratch, Cache, Look};
use nesa_kernels::decoder as plain;
use nesa_kernels::ops::{Requantize, RowScale, quantize_row};
use nesa_kernels::rotary::{Turn, Turns, rotate};

use super::{LANES, Op, Ops};
use crate::device::{Gpu, GpuError};
use crate::self_test::words;

/// Numbers of [`words`], cut to a range.
struct Numbers(std::vec::IntoIter<u64>);

impl Numbers {
    fn new(seed: u64, count: usize) -> Self {
        Self(words(seed, count).into_iter())
    }

    fn next(&mut self) -> u64 {
        self.0.next().unwrap_or(0)
    }

    /// `count` values of magnitude at most `limit`; one in eight is at it.
    fn within(&mut self, count: usize, limit: i32) -> Vec<i32> {
        (0..count)
            .map(|_| {
                let v = self.next();
                match v % 8 {
                    0 => limit,
                    1 => -limit,
                    _ => (v as i64 % (i64::from(limit) + 1)) as i32,
                }
            })
            .collect()
    }

    fn below(&mut self, count: usize, bound: u64) -> Vec<u32> {
        (0..count)
            .map(|_| {
                let v = self.next();
                if v.is_multiple_of(8) { (bound - 1) as u32 } else { (v % bound) as u32 }
            })
            .collect()
    }
}

/// Shapes and numbers of one comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) tokens: usize,
    /// Values in a row, or channels of a head (even).
    pub(crate) width: usize,
    /// Right shift of the values, from full magnitude to silence.
    pub(crate) quiet: u32,
}

/// Two heads of keys for three times as many of queries.
const HEADS: [usize; 2] = [6, 2];

fn bits(values: &[i32]) -> Vec<u32> {
    values.iter().map(|v| v.cast_unsigned()).collect()
}

fn scale_words(scales: &[RowScale]) -> Vec<u32> {
    scales.iter().flat_map(|s| [s.mantissa, s.exponent]).collect()
}

/// Bytes of activations as the products read them.
pub(crate) fn byte_words(x: &[i32], k: usize) -> Vec<u32> {
    let narrow: Vec<i16> = x.iter().map(|&x| x as i16).collect();
    let bytes = crate::run::Input::Exact(&narrow).bytes(k, 0, x.len() / k);
    bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word)).collect()
}

/// What padding holds differs: zeros as words here, as values there. Weights are zero there.
fn without_padding(words: &[u32], k: usize) -> Vec<u8> {
    let width = k.next_multiple_of(16);
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.chunks_exact(width).flat_map(|row| row[..k].to_vec()).collect()
}

fn same<T: PartialEq>(kernel: &'static str, got: &[T], expected: &[T]) -> Result<(), GpuError> {
    if got == expected { Ok(()) } else { Err(GpuError::Differs { kernel }) }
}

/// Compares every operation.
pub(crate) async fn all(gpu: &Gpu, ops: &Ops, case: Case) -> Result<(), GpuError> {
    norm(gpu, ops, case).await?;
    offer(gpu, ops, case, true).await?;
    offer(gpu, ops, case, false).await?;
    products(gpu, ops, case).await?;
    attend(gpu, ops, case, 0).await?;
    attend(gpu, ops, case, 3).await
}

async fn norm(gpu: &Gpu, ops: &Ops, case: Case) -> Result<(), GpuError> {
    let Case { seed, tokens, width, quiet } = case;
    let mut numbers = Numbers::new(seed, (tokens + 2) * width + 1);
    let h = numbers.within(tokens * width, plain::RESIDUAL_LIMIT >> quiet);
    let gain = numbers.within(width, plain::GAIN_LIMIT);
    // A row of one value without it: the root of a square.
    let epsilon = if width == 1 { 0 } else { numbers.next() >> (2 + quiet) };
    let q_max = 2047 << (seed % 5);
    let (mut x, mut t) = (vec![0; tokens * width], vec![0; width]);
    let rows = h.chunks_exact(width).zip(x.chunks_exact_mut(width));
    let scales: Vec<RowScale> =
        rows.map(|(h, x)| plain::rms_quantize_row(h, epsilon, &gain, q_max, &mut t, x)).collect();
    let padded = width.next_multiple_of(16) / 4;
    let (rows, gain) = (gpu.words(bits(&h)), gpu.words(bits(&gain)));
    let (out, scale) = (gpu.room(2 * tokens * padded), gpu.room(2 * tokens));
    let shape =
        [width as u32, padded as u32, q_max, 0, epsilon as u32, (epsilon >> 32) as u32, 0, 0];
    let dispatch =
        ops.dispatch(gpu, Op::Norm, &[&rows, &gain, &out, &scale], &shape, [tokens, 1])?;
    let read =
        gpu.run_all(&[dispatch], &[(&out, 2 * tokens * padded), (&scale, 2 * tokens)]).await?;
    same(
        "norm",
        &without_padding(&read[0], width),
        &without_padding(&byte_words(&x, width), width),
    )?;
    same("norm", &read[1], &scale_words(&scales))
}

async fn offer(gpu: &Gpu, ops: &Ops, case: Case, smoothing: bool) -> Result<(), GpuError> {
    let Case { seed, tokens, width, quiet } = case;
    let mut numbers = Numbers::new(!seed, (tokens + 1) * width);
    let mut h = numbers.within(tokens * width, plain::RESIDUAL_LIMIT >> quiet);
    let factor: Vec<u16> = numbers.below(width, 1 << 16).into_iter().map(|v| v as u16).collect();
    let given = h.clone();
    let q_max = 2047;
    let mut x = vec![0; tokens * width];
    let mut scales = Vec::with_capacity(tokens);
    for (h, x) in h.chunks_exact_mut(width).zip(x.chunks_exact_mut(width)) {
        if smoothing {
            plain::smooth_row(h, &factor);
        }
        scales.push(quantize_row(h, q_max, x));
    }
    let padded = width.next_multiple_of(16) / 4;
    let (rows, factors) =
        (gpu.words(bits(&given)), gpu.words(factor.iter().map(|&f| u32::from(f))));
    let (out, scale) = (gpu.room(2 * tokens * padded), gpu.room(2 * tokens));
    let shape = [width as u32, padded as u32, q_max, u32::from(smoothing), 0, 0, 0, 0];
    let dispatch =
        ops.dispatch(gpu, Op::Offer, &[&rows, &factors, &out, &scale], &shape, [tokens, 1])?;
    let read =
        gpu.run_all(&[dispatch], &[(&out, 2 * tokens * padded), (&scale, 2 * tokens)]).await?;
    same(
        "offer",
        &without_padding(&read[0], width),
        &without_padding(&byte_words(&x, width), width),
    )?;
    same("offer", &read[1], &scale_words(&scales))
}

/// A made-up product and how it comes back to fixed point.
struct Product {
    y: Vec<i32>,
    scales: Vec<RowScale>,
    multiplier: Vec<u32>,
    bias: Vec<i32>,
    shift: u32,
}

impl Product {
    fn new(numbers: &mut Numbers, tokens: usize, n: usize, quiet: u32) -> Self {
        let scales = numbers
            .below(2 * tokens, 1 << 30)
            .chunks_exact(2)
            .map(|s| RowScale { mantissa: (1 << 30) | s[0], exponent: s[1] % 62 })
            .collect();
        Self {
            y: numbers.within(tokens * n, i32::MAX >> quiet),
            scales,
            multiplier: numbers.below(n, 1 << 31),
            // Of every size, so that the middle of the clamps and tables is met too.
            bias: (0..n).map(|_| numbers.within(1, i32::MAX)[0] >> (numbers.next() % 31)).collect(),
            shift: 32 + (numbers.next() % 32) as u32,
        }
    }

    fn buffers(&self, gpu: &Gpu) -> [wgpu::Buffer; 3] {
        let to = self.multiplier.iter().zip(&self.bias).flat_map(|(m, b)| [*m, b.cast_unsigned()]);
        [gpu.words(bits(&self.y)), gpu.words(scale_words(&self.scales)), gpu.words(to)]
    }

    fn row(&self, t: usize, columns: std::ops::Range<usize>, limit: i32) -> Vec<i32> {
        let n = self.multiplier.len();
        let to = Requantize {
            multiplier: &self.multiplier[columns.clone()],
            shift: self.shift,
            bias: &self.bias[columns.clone()],
            limit,
        };
        let mut out = vec![0; columns.len()];
        let y = &self.y[t * n + columns.start..t * n + columns.end];
        plain::requantize_row(y, self.scales[t], to, &mut out);
        out
    }
}

/// What is done to values of products.
async fn products(gpu: &Gpu, ops: &Ops, case: Case) -> Result<(), GpuError> {
    let Case { seed, tokens, width, quiet } = case;
    let n = 2 * width;
    let mut numbers = Numbers::new(seed ^ 0xabcd, (tokens + 5) * (n + 4) + tokens * width + 600);
    let product = Product::new(&mut numbers, tokens, n, quiet);
    let mut hidden = numbers.within(tokens * width, plain::RESIDUAL_LIMIT);
    let mut table: Vec<u16> = numbers.below(500, 1 << 11).into_iter().map(|v| v as u16).collect();
    table.push(0);
    let residual = gpu.words(bits(&hidden));
    let (mut opened, mut given) = (Vec::new(), Vec::new());
    for (t, h) in hidden.chunks_exact_mut(width).enumerate() {
        plain::add_residual(h, &product.row(t, 0..width, plain::RESIDUAL_LIMIT));
        let (gate, up) = (
            product.row(t, 0..width, plain::GATE_LIMIT),
            product.row(t, width..n, plain::UP_LIMIT),
        );
        let mut out = vec![0; width];
        plain::swiglu_row(&gate, &up, &table, &mut out);
        opened.extend(out);
        given.extend(product.row(t, 0..n, plain::LOGIT_LIMIT));
    }
    let [y, scales, to] = product.buffers(gpu);
    let silu = gpu.words(table.iter().map(|&e| u32::from(e)));
    let (gated, logits) = (gpu.room(tokens * width), gpu.room(tokens * n));
    let shape = |width: usize, limit: i32| {
        let count = (tokens * width) as u32;
        [width as u32, n as u32, count, product.shift, limit.cast_unsigned(), table.len() as u32]
    };
    let groups = |width: usize| [(tokens * width).div_ceil(LANES), 1];
    let dispatches = [
        ops.dispatch(
            gpu,
            Op::Added,
            &[&y, &scales, &to, &residual],
            &shape(width, 0),
            groups(width),
        )?,
        ops.dispatch(
            gpu,
            Op::Gated,
            &[&y, &scales, &to, &gated, &silu],
            &shape(width, 0),
            groups(width),
        )?,
        ops.dispatch(
            gpu,
            Op::Given,
            &[&y, &scales, &to, &logits],
            &shape(n, plain::LOGIT_LIMIT),
            groups(n),
        )?,
    ];
    let wanted = [(&residual, tokens * width), (&gated, tokens * width), (&logits, tokens * n)];
    let read = gpu.run_all(&dispatches, &wanted).await?;
    same("added", &read[0], &bits(&hidden))?;
    same("gated", &read[1], &bits(&opened))?;
    same("given", &read[2], &bits(&given))
}

fn pairs(values: impl IntoIterator<Item = i32>) -> Vec<u32> {
    let values: Vec<i32> = values.into_iter().collect();
    let word = |two: &[i32]| u32::from(two[0] as u16) | u32::from(two[1] as u16) << 16;
    values.chunks_exact(2).map(word).collect()
}

/// New tokens into a cache that holds some, and their contexts.
async fn attend(gpu: &Gpu, ops: &Ops, case: Case, window: usize) -> Result<(), GpuError> {
    let Case { seed, tokens, quiet, .. } = case;
    let width = (2 * case.width.div_ceil(2)).min(super::MAX_HEAD_WIDTH);
    let [heads, kv_heads] = HEADS;
    let before = (seed % 97) as usize;
    let capacity = before + tokens + 3;
    let n = (heads + 2 * kv_heads) * width;
    let count = (tokens + 5) * (n + 8) + 2 * kv_heads * before * width + tokens * width + 1100;
    let mut numbers = Numbers::new(seed ^ 0x1234, count);
    let mut product = Product::new(&mut numbers, tokens, n, quiet);
    for (bias, small) in product.bias.iter_mut().zip(numbers.within(n, 1 << 15)) {
        *bias = small;
    }
    let limit = plain::query_key_limit(width);
    let (old_keys, old_values) = (
        numbers.within(kv_heads * before * width, limit),
        numbers.within(kv_heads * before * width, plain::VALUE_LIMIT),
    );
    let half = width / 2;
    // Points of a circle: a rotation must not lengthen.
    let turns: Vec<Turn> = numbers
        .below(tokens * half, 4)
        .into_iter()
        .map(|v| match v {
            0 => Turn { cos: 1 << 30, sin: 0 },
            1 => Turn { cos: 0, sin: -(1 << 30) },
            2 => Turn { cos: 644_245_094, sin: 858_993_459 },
            _ => Turn { cos: -759_250_124, sin: 759_250_124 },
        })
        .collect();
    let score = numbers.below(heads, 1 << 31);
    let mut exp: Vec<u16> = numbers.below(900, 1 << 15).into_iter().map(|v| v as u16).collect();
    exp.push(20_000);
    exp.sort_unstable_by(|a, b| b.cmp(a));
    exp.push(0);

    // By the kernels of the processor.
    let mut keys: Vec<Vec<i32>> = (0..kv_heads)
        .map(|g| old_keys[g * before * width..(g + 1) * before * width].to_vec())
        .collect();
    let mut values: Vec<Vec<i32>> = (0..kv_heads)
        .map(|g| old_values[g * before * width..(g + 1) * before * width].to_vec())
        .collect();
    let mut queries = Vec::new();
    let k_end = (heads + kv_heads) * width;
    for t in 0..tokens {
        let mut row = product.row(t, 0..k_end, limit);
        let mut turned = Turns::new();
        turns[t * half..(t + 1) * half].iter().for_each(|&turn| turned.push(turn));
        for head in row.chunks_exact_mut(width) {
            rotate(head, turned.view(0..half));
        }
        queries.extend_from_slice(&row[..heads * width]);
        let new_values = product.row(t, k_end..n, plain::VALUE_LIMIT);
        for g in 0..kv_heads {
            keys[g].extend_from_slice(&row[(heads + g) * width..(heads + g + 1) * width]);
            values[g].extend_from_slice(&new_values[g * width..(g + 1) * width]);
        }
    }
    let mut contexts = vec![0; tokens * heads * width];
    let mut scratch = AttentionScratch::default();
    for (index, out) in contexts.chunks_exact_mut(width).enumerate() {
        let (t, head) = (index / heads, index % heads);
        let g = head / (heads / kv_heads);
        let narrow = |v: &[i32]| v.iter().map(|&v| v as i16).collect::<Vec<i16>>();
        let end = before + t + 1;
        let seen = if window == 0 { 0 } else { end.saturating_sub(window) }..end;
        let look = [Look { seen, score: score[head] }];
        let query = narrow(&queries[index * width..(index + 1) * width]);
        let (keys, values) = (narrow(&keys[g]), narrow(&values[g]));
        let cache = Cache { keys: &keys, values: &values };
        attention::attend(&query, &look, cache, &exp, &mut scratch, out);
    }

    // On the device, whose cache has room for more.
    let spread = |old: &[i32]| {
        let mut all = vec![0; kv_heads * capacity * width];
        for g in 0..kv_heads {
            let from = &old[g * before * width..(g + 1) * before * width];
            all[g * capacity * width..][..from.len()].copy_from_slice(from);
        }
        gpu.words(pairs(all))
    };
    let [y, scales, to] = product.buffers(gpu);
    let turned = turns.iter().flat_map(|t| [t.cos.cast_unsigned(), t.sin.cast_unsigned()]);
    let (turned, device_queries) = (gpu.words(turned), gpu.room(tokens * heads * half));
    let (device_keys, device_values) = (spread(&old_keys), spread(&old_values));
    let shape = [
        n,
        product.shift as usize,
        limit as usize,
        heads,
        kv_heads,
        width,
        before,
        tokens,
        capacity,
        window,
        exp.len() - 1,
        0,
    ]
    .map(|v| v as u32);
    let (exponentials, scores) =
        (gpu.words(exp.iter().map(|&e| u32::from(e))), gpu.words(score.iter().copied()));
    let out = gpu.room(tokens * heads * width);
    let remembered = [&y, &scales, &to, &turned, &device_queries, &device_keys, &device_values];
    let looked = [&device_queries, &device_keys, &device_values, &exponentials, &scores, &out];
    let words = (heads + 2 * kv_heads) * half * tokens;
    let dispatches = [
        ops.dispatch(gpu, Op::Remember, &remembered, &shape, [words.div_ceil(LANES), 1])?,
        ops.dispatch(gpu, Op::Attend, &looked, &shape, [heads, tokens])?,
    ];
    let wanted = [
        (&device_queries, tokens * heads * half),
        (&device_keys, kv_heads * capacity * half),
        (&device_values, kv_heads * capacity * half),
        (&out, tokens * heads * width),
    ];
    let read = gpu.run_all(&dispatches, &wanted).await?;
    same("queries", &read[0], &pairs(queries))?;
    for (name, read, expected) in [("keys", &read[1], &keys), ("values", &read[2], &values)] {
        for (g, expected) in expected.iter().enumerate() {
            let held = (before + tokens) * half;
            same(name, &read[g * capacity * half..][..held], &pairs(expected.iter().copied()))?;
        }
    }
    same("attention", &read[3], &bits(&contexts))
}
