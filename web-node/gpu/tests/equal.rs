//! Products on a device equal the reference, on random shapes, at the extremes, and however they are cut.
//!
//! Any Vulkan device will do, a software one too. Where there is none, each test says so and does nothing.

#![cfg(not(target_family = "wasm"))]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod support;

use std::sync::OnceLock;

use futures::executor::block_on;
use nesa_gpu::{Caps, Gpu, GpuError, Input, Output, Purpose, Work};
use nesa_kernels::reference;
use proptest::prelude::*;
use support::open;

/// The device at its own limits, opened once.
fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| open(None)).as_ref()
}

/// A device so small that everything is cut.
fn small() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| open(Some(Caps { binding: 1 << 12, groups: 11 }))).as_ref()
}

fn fill<T>(len: usize, seed: u64, f: impl Fn(u64) -> T) -> Vec<T> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            f(state ^ (state >> 29))
        })
        .collect()
}

struct Product {
    n: usize,
    k: usize,
    tokens: usize,
    w: Vec<i8>,
    share: Vec<u32>,
    x: Vec<i16>,
}

impl Product {
    /// Uniform values and the extremes of each type.
    fn random([n, k, tokens]: [usize; 3], seed: u64) -> Self {
        let w = fill(n * k, seed, |r| match r % 8 {
            0 => i8::MIN,
            1 => i8::MAX,
            _ => (r >> 20) as i8,
        });
        let share = fill(tokens * k, !seed, |r| match r % 8 {
            0 => u32::MAX,
            1 => 0x8000_8000,
            2 => 0x7fff_ffff,
            _ => (r >> 13) as u32,
        });
        let x = fill(tokens * k, seed ^ 5, |r| match r % 6 {
            0 => i16::MIN,
            1 => i16::MAX,
            _ => (r >> 17) as i16,
        });
        Self { n, k, tokens, w, share, x }
    }

    fn expected(&self) -> [Output; 3] {
        let Self { n, k, tokens, .. } = *self;
        let len = n * tokens;
        let (mut mask, mut full, mut exact) = (vec![0; len], vec![0; len], vec![0; len]);
        let wide: Vec<i32> = self.x.iter().map(|&x| x.into()).collect();
        reference::matmul_mask_u32(&self.w, &self.share, n, k, tokens, &mut mask);
        reference::matmul_full_i64(&self.w, &self.share, n, k, tokens, &mut full);
        reference::matmul_i8(&self.w, &wide, n, k, tokens, &mut exact);
        [Output::Mask(mask), Output::Full(full), Output::Exact(exact)]
    }

    /// All three in one submit.
    fn on(&self, gpu: &Gpu) -> Vec<Output> {
        let weights = gpu.upload(&self.w, self.n, self.k).unwrap();
        let inputs = [Input::Mask(&self.share), Input::Full(&self.share), Input::Exact(&self.x)];
        let work = inputs.map(|input| Work { weights: &weights, input, tokens: self.tokens });
        block_on(gpu.run(&work)).unwrap()
    }
}

proptest! {
    // Each case is several dispatches of a software device.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn products_equal_the_reference(
        n in 1usize..150, k in 1usize..200, tokens in prop_oneof![1usize..5, 5usize..70], seed: u64,
    ) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let product = Product::random([n, k, tokens], seed);
        prop_assert_eq!(product.on(gpu), product.expected());
    }

    /// Weights, tokens and dispatches are cut, and put together again.
    #[test]
    fn what_exceeds_a_device_is_cut(
        n in 1usize..100, k in 1usize..100, tokens in 1usize..40, seed: u64,
    ) {
        let Some(gpu) = small() else { return Ok(()) };
        let product = Product::random([n, k, tokens], seed);
        prop_assert_eq!(product.on(gpu), product.expected());
    }
}

/// The largest layer of MiniLM, every operand at an extreme: sums leave 32 bits and wrap.
#[test]
fn extremes_at_full_size() {
    let Some(gpu) = gpu() else { return };
    let (n, k) = (5, 1536);
    for w in [i8::MIN, i8::MAX] {
        for (s, x) in [(u32::MAX, i16::MAX), (1 << 31, i16::MIN), (0x7fff_ffff, -1)] {
            for tokens in [1, 6] {
                let (w, share, x) = (vec![w; n * k], vec![s; tokens * k], vec![x; tokens * k]);
                let product = Product { n, k, tokens, w, share, x };
                assert_eq!(product.on(gpu), product.expected());
            }
        }
    }
}

/// Several layers of a step go over in one submit.
#[test]
fn several_weights_in_one_submit() {
    let Some(gpu) = gpu() else { return };
    let products = [[30, 64, 2], [64, 30, 33], [1, 1, 1]].map(|shape| Product::random(shape, 9));
    let weights = products.each_ref().map(|p| gpu.upload(&p.w, p.n, p.k).unwrap());
    let work: Vec<Work<'_>> = products
        .iter()
        .zip(&weights)
        .map(|(p, weights)| Work { weights, input: Input::Mask(&p.share), tokens: p.tokens })
        .collect();
    let got = block_on(gpu.run(&work)).unwrap();
    for (got, product) in got.into_iter().zip(&products) {
        assert_eq!(got, product.expected()[0]);
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let Some(gpu) = gpu() else { return };
    assert!(matches!(gpu.upload(&[1; 5], 2, 3), Err(GpuError::Shape { .. })));
    assert!(matches!(gpu.upload(&[], 0, 3), Err(GpuError::Shape { .. })));
    let weights = gpu.upload(&[1; 6], 2, 3).unwrap();
    let work = |tokens| [Work { weights: &weights, input: Input::Mask(&[1; 4]), tokens }];
    for tokens in [0, 1, 2, usize::MAX] {
        assert!(matches!(block_on(gpu.run(&work(tokens))), Err(GpuError::Shape { .. })));
    }
    let nothing = [Work { weights: &weights, input: Input::Mask(&[]), tokens: 0 }];
    assert_eq!(block_on(gpu.run(&nothing)).unwrap(), [Output::Mask(vec![])]);
    let small = small().unwrap();
    let wide = small.upload(&[1; 5000], 1, 5000);
    assert!(matches!(wide, Err(GpuError::TooWide(_))));
}

/// A processor in disguise may be checked, but never serves.
#[test]
fn software_adapters_do_not_serve() {
    let Some(gpu) = gpu() else { return };
    let serving = block_on(Gpu::open(Purpose::Serve));
    if gpu.info().software {
        assert!(matches!(serving, Err(GpuError::Software(_))));
    } else {
        assert!(serving.is_ok());
    }
}
