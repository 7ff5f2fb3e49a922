//! Every kernel once, against the reference: a device whose bits differ is refused.

use nesa_kernels::reference;

use crate::device::{Gpu, GpuError};
use crate::run::{Input, Output, Work};

/// Shapes that cross the edges of tiles and of vec4s, `[n, k, tokens]`: few tokens and many.
const SHAPES: [[usize; 3]; 3] = [[70, 150, 1], [7, 16, 3], [67, 81, 35]];

/// Test data that needs no file: a counter, mixed (splitmix64), with the extremes among its values.
pub(crate) fn words(seed: u64, count: usize) -> Vec<u64> {
    let mix = |i: u64| {
        let z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let extremes = [0, u64::MAX, 0x8000_8000_8000_8080, 0x7fff_7fff_7fff_7f7f];
    let value = |i: u64| match mix(i) % 8 {
        e @ 0..4 => extremes[e as usize],
        _ => mix(!i),
    };
    (0..count as u64).map(value).collect()
}

impl Gpu {
    /// Computes every kernel on [`SHAPES`] and compares.
    pub(crate) async fn self_test(&self) -> Result<(), GpuError> {
        self.check()?;
        for (seed, [n, k, tokens]) in (0u64..).zip(SHAPES) {
            let w: Vec<i8> = words(seed, n * k).into_iter().map(|w| w as i8).collect();
            let share: Vec<u32> = words(!seed, tokens * k).into_iter().map(|w| w as u32).collect();
            let x: Vec<i16> = share.iter().map(|&s| s as i16).collect();
            let weights = self.upload(&w, n, k)?;
            let inputs = [Input::Mask(&share), Input::Full(&share), Input::Exact(&x)];
            let work = inputs.map(|input| Work { weights: &weights, input, tokens });
            let got = self.run(&work).await?;
            let (mut mask, mut full) = (vec![0; tokens * n], vec![0; tokens * n]);
            reference::matmul_mask_u32(&w, &share, n, k, tokens, &mut mask);
            reference::matmul_full_i64(&w, &share, n, k, tokens, &mut full);
            let wide: Vec<i32> = x.iter().map(|&x| x.into()).collect();
            let mut exact = vec![0; tokens * n];
            reference::matmul_i8(&w, &wide, n, k, tokens, &mut exact);
            let expected = [
                ("masked product", Output::Mask(mask)),
                ("whole product", Output::Full(full)),
                ("exact product", Output::Exact(exact)),
            ];
            for ((kernel, expected), got) in expected.into_iter().zip(got) {
                if got != expected {
                    return Err(GpuError::Differs { kernel });
                }
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use std::io::Write as _;

    use futures::executor::block_on;

    use super::*;
    use crate::device::{Purpose, Setting};

    /// A device opened with this source, or `None`, said aloud, where there is no adapter.
    fn open(source: &str, built_in_dot: bool) -> Option<Result<Gpu, GpuError>> {
        let purpose = Purpose::Check;
        let gpu = block_on(Gpu::open_as(Setting { purpose, caps: None, source, built_in_dot }));
        if let Err(GpuError::Adapter(error)) = &gpu {
            assert!(std::env::var_os("NESA_REQUIRE_ADAPTER").is_none(), "no adapter: {error}");
            // Past the test harness, which keeps what passing tests print.
            let said = format!("NOT RUN, no adapter ({error})\n");
            let _ = std::io::stderr().write_all(said.as_bytes());
            return None;
        }
        Some(gpu)
    }

    const SOURCE: &str = include_str!("products.wgsl");

    #[test]
    fn both_dot_products_pass() {
        for built_in_dot in [true, false] {
            let Some(gpu) = open(SOURCE, built_in_dot) else { return };
            let gpu = gpu.map_err(|error| panic!("{error}"));
            assert!(gpu.is_ok_and(|gpu| gpu.info().built_in_dot == built_in_dot));
        }
    }

    /// Each kernel wrong in one place, as a faulty driver would have it.
    #[test]
    fn a_device_whose_bits_differ_is_refused() {
        let faults = [
            ("masked product", "+ weight(four, 2u) * share.z", "+ weight(four, 2u) * share.w"),
            ("masked product", "extractBits(signed, 24u, 8u)", "extractBits(words, 24u, 8u)"),
            ("exact product", "<< 7u)", "<< 6u)"),
            ("exact product", "dot4(weights.w, highs.w)", "dot4(weights.w, highs.z)"),
            ("exact product", "dot4(words.w, l)", "dot4(words.z, l)"),
            ("whole product", "select(0u, 1u, low < a.x)", "0u"),
        ];
        for (kernel, right, wrong) in faults {
            let source = SOURCE.replacen(right, wrong, 1);
            assert_ne!(source, SOURCE, "{right} is not in the source");
            let Some(gpu) = open(&source, true) else { return };
            match gpu {
                Err(GpuError::Differs { kernel: got }) => assert_eq!(got, kernel, "{wrong}"),
                Err(error) => panic!("{wrong}: {error}"),
                Ok(_) => panic!("{wrong} passed"),
            }
        }
    }

    #[test]
    fn a_kernel_that_does_not_compile_is_an_error() {
        let Some(gpu) = open(&SOURCE.replacen("fn full", "fn empty", 1), true) else { return };
        assert!(matches!(gpu, Err(GpuError::Refused(_))));
    }
}
