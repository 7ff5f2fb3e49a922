//! Every fast kernel equals the plain reference, on random shapes and at the extremes.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod paths;

use nesa_kernels::{
    P61, RowFold, Strided, attention_context, attention_scores, matmul_full_i64, matmul_i8,
    matmul_i8_i16, matmul_mask_u32, reference, rt_w_mod_p,
};
use paths::on_every_path;
use proptest::prelude::*;

/// Shapes that cross every tile and vector boundary.
fn shapes() -> impl Strategy<Value = (usize, usize, usize)> {
    (0usize..70, 0usize..80, 0usize..28)
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

/// A mix of uniform values and the extremes of the type.
fn i8s(len: usize, seed: u64) -> Vec<i8> {
    fill(len, seed, |r| match r % 8 {
        0 => i8::MIN,
        1 => i8::MAX,
        _ => (r >> 20) as i8,
    })
}

fn u32s(len: usize, seed: u64) -> Vec<u32> {
    fill(len, seed, |r| match r % 8 {
        0 => u32::MAX,
        1 => 0x8000_8000,
        2 => 0x7fff_ffff,
        3 => 0x0000_8000,
        _ => (r >> 13) as u32,
    })
}

proptest! {
    #[test]
    fn products_equal_the_reference((n, k, tokens) in shapes(), seed: u64) {
        on_every_path(|| {
            let w = i8s(n * k, seed);
            let x: Vec<i16> = fill(tokens * k, !seed, |r| match r % 6 {
                0 => i16::MIN,
                1 => i16::MAX,
                _ => (r >> 17) as i16,
            });
            let wide: Vec<i32> = x.iter().map(|&v| v.into()).collect();
            let mut expected = vec![0; tokens * n];
            let mut got = vec![1; tokens * n];
            reference::matmul_i8(&w, &wide, n, k, tokens, &mut expected);
            matmul_i8(&w, &wide, n, k, tokens, &mut got);
            prop_assert_eq!(&got, &expected);
            matmul_i8_i16(&w, &x, n, k, tokens, &mut got);
            prop_assert_eq!(&got, &expected);
            Ok(())
        })?;
    }

    /// Columns beyond one panel, and tokens beyond one block.
    #[test]
    fn long_rows_equal_the_reference(
        n in 1usize..20, k in 500usize..1100, tokens in 1usize..8, many: bool, seed: u64,
    ) {
        on_every_path(|| {
            let (n, k, tokens) = if many { (n, k / 20, tokens * 60) } else { (n, k, tokens) };
            let w = i8s(n * k, seed);
            let x: Vec<i32> = fill(tokens * k, !seed, |r| i32::from((r >> 17) as i16));
            let mut expected = vec![0; tokens * n];
            let mut got = vec![1; tokens * n];
            reference::matmul_i8(&w, &x, n, k, tokens, &mut expected);
            matmul_i8(&w, &x, n, k, tokens, &mut got);
            prop_assert_eq!(got, expected);
            Ok(())
        })?;
    }

    #[test]
    fn wide_activations_equal_the_reference((n, k, tokens) in shapes(), seed: u64) {
        on_every_path(|| {
            let w = i8s(n * k, seed);
            let x: Vec<i32> = u32s(tokens * k, !seed).into_iter().map(|v| v as i32).collect();
            let mut expected = vec![0; tokens * n];
            let mut got = vec![1; tokens * n];
            reference::matmul_i8(&w, &x, n, k, tokens, &mut expected);
            matmul_i8(&w, &x, n, k, tokens, &mut got);
            prop_assert_eq!(got, expected);
            Ok(())
        })?;
    }

    /// Heads lie side by side in wider rows, and what is around them stays.
    #[test]
    fn attention_products_equal_the_reference(
        tokens in 0usize..40, width in 0usize..33, gap in 0usize..5, seed: u64,
    ) {
        on_every_path(|| {
            let stride = width + gap;
            let values = |len, seed| fill(len, seed, |r| match r % 6 {
                0 => -32767i16,
                1 => 32767,
                _ => ((r >> 17) as i16).max(-32767),
            });
            let (a, b) = (values(tokens * stride, seed), values(tokens * stride, !seed));
            let dense = |m: &[i16]| -> Vec<i16> {
                (0..tokens).flat_map(|t| m[t * stride..t * stride + width].to_vec()).collect()
            };
            let mut expected = vec![0; tokens * tokens];
            let mut got = vec![1; tokens * tokens];
            reference::attention_scores(&dense(&a), &dense(&b), tokens, width, &mut expected);
            let view = |data| Strided { data, stride };
            attention_scores(view(&a), view(&b), tokens, width, &mut got);
            prop_assert_eq!(&got, &expected);

            let p = values(tokens * tokens, seed ^ 5);
            let mut expected = vec![0; tokens * width];
            reference::attention_context(&p, &dense(&b), tokens, width, &mut expected);
            let mut got = vec![1; tokens * stride];
            let p = Strided { data: &p, stride: tokens };
            attention_context(p, view(&b), tokens, width, &mut got, stride);
            for t in 0..tokens {
                let (row, between) = got[t * stride..(t + 1) * stride].split_at(width);
                prop_assert_eq!(row, &expected[t * width..(t + 1) * width]);
                prop_assert!(between.iter().all(|&v| v == 1));
            }
            Ok(())
        })?;
    }

    #[test]
    fn share_products_equal_the_reference((n, k, tokens) in shapes(), many: bool, seed: u64) {
        // More tokens than are taken at a time, too.
        let (n, k, tokens) = if many { (n % 20, k % 20, tokens * 8) } else { (n, k, tokens) };
        on_every_path(|| {
            let w = i8s(n * k, seed);
            let share = u32s(tokens * k, !seed);
            let mut expected = vec![0; tokens * n];
            let mut got = vec![1; tokens * n];
            reference::matmul_mask_u32(&w, &share, n, k, tokens, &mut expected);
            matmul_mask_u32(&w, &share, n, k, tokens, &mut got);
            prop_assert_eq!(&got, &expected);
            let mut full = vec![0; tokens * n];
            let mut full_expected = vec![0; tokens * n];
            reference::matmul_full_i64(&w, &share, n, k, tokens, &mut full_expected);
            matmul_full_i64(&w, &share, n, k, tokens, &mut full);
            prop_assert_eq!(&full, &full_expected);
            for (full, low) in full.iter().zip(&got) {
                prop_assert_eq!(*full as u32, *low);
            }
            Ok(())
        })?;
    }

    #[test]
    fn freivalds_vectors_equal_the_reference((n, k, split) in (0usize..40, 1usize..50, 0usize..40), seed: u64) {
        let w = i8s(n * k, seed);
        let r = fill(n, !seed, |r| match r % 4 {
            0 => P61 - 1,
            1 => 0,
            _ => r % P61,
        });
        let expected = reference::rt_w_mod_p(&r, &w, n, k);
        prop_assert_eq!(&rt_w_mod_p(&r, &w, n, k), &expected);
        let split = split.min(n);
        let mut fold = RowFold::new(k);
        fold.add(&r[..split], &w[..split * k]);
        fold.add(&r[split..], &w[split * k..]);
        prop_assert_eq!(fold.finish(), expected);
    }

    /// The identity the lane rests on: the two servers' answers add up to the product.
    #[test]
    fn shares_add_up((n, k, tokens) in shapes(), seed: u64) {
        on_every_path(|| {
            let w = i8s(n * k, seed);
            let x: Vec<i32> = fill(tokens * k, !seed, |r| (r % 4095) as i32 - 2047);
            let mask = u32s(tokens * k, seed ^ 77);
            let hidden: Vec<u32> = x.iter().zip(&mask).map(|(&x, &m)| (x as u32).wrapping_sub(m)).collect();
            let (mut a, mut b, mut y) = (vec![0; tokens * n], vec![0; tokens * n], vec![0; tokens * n]);
            matmul_mask_u32(&w, &hidden, n, k, tokens, &mut a);
            matmul_mask_u32(&w, &mask, n, k, tokens, &mut b);
            matmul_i8(&w, &x, n, k, tokens, &mut y);
            for ((a, b), y) in a.iter().zip(&b).zip(&y) {
                prop_assert_eq!(a.wrapping_add(*b) as i32, *y);
            }
            Ok(())
        })?;
    }
}

/// The largest layer at the extremes of every operand, where sums leave 32 bits and wrap.
#[test]
fn extremes_at_full_size() {
    on_every_path(|| {
        let (n, k, tokens) = (5, 1536, 4);
        for w in [i8::MIN, i8::MAX] {
            for s in [u32::MAX, 1 << 31, 0x7fff_ffff] {
                let w = vec![w; n * k];
                let share = vec![s; tokens * k];
                let (mut got, mut expected) = (vec![0; tokens * n], vec![0; tokens * n]);
                matmul_full_i64(&w, &share, n, k, tokens, &mut got);
                reference::matmul_full_i64(&w, &share, n, k, tokens, &mut expected);
                prop_assert_eq!(got, expected);
                let (mut got, mut expected) = (vec![0; tokens * n], vec![0; tokens * n]);
                matmul_mask_u32(&w, &share, n, k, tokens, &mut got);
                reference::matmul_mask_u32(&w, &share, n, k, tokens, &mut expected);
                prop_assert_eq!(got, expected);
            }
            for (x, tokens) in [(i16::MIN, 1), (i16::MAX, 1), (i16::MIN, 3), (i16::MAX, 13)] {
                let (w, x) = (vec![w; n * k], vec![x; tokens * k]);
                let wide: Vec<i32> = x.iter().map(|&v| v.into()).collect();
                let (mut got, mut expected) = (vec![0; tokens * n], vec![0; tokens * n]);
                matmul_i8_i16(&w, &x, n, k, tokens, &mut got);
                reference::matmul_i8(&w, &wide, n, k, tokens, &mut expected);
                prop_assert_eq!(got, expected);
            }
        }
        Ok(())
    })
    .unwrap();
}
