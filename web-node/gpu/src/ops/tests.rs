//! Every operation equals the processor's on random shapes, loud and quiet, and a wrong one is found out.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::sync::OnceLock;

use futures::executor::block_on;
use proptest::prelude::*;

use super::check::{Case, all};
use super::*;
use crate::device::Purpose;

/// The device and its operations, opened once; `None` where there is none.
fn device() -> Option<&'static (Gpu, Ops)> {
    static DEVICE: OnceLock<Option<(Gpu, Ops)>> = OnceLock::new();
    let open = || match block_on(Gpu::open(Purpose::Check)) {
        Ok(gpu) => {
            let ops = Ops::compile(&gpu);
            Some((gpu, ops))
        }
        Err(GpuError::Adapter(error)) => {
            assert!(std::env::var_os("NESA_REQUIRE_ADAPTER").is_none(), "no adapter: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    };
    DEVICE.get_or_init(open).as_ref()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn operations_equal_the_processors(
        seed: u64, tokens in 1usize..6, width in 1usize..180, quiet in 0u32..30,
    ) {
        let Some((gpu, ops)) = device() else { return Ok(()) };
        let case = Case { seed, tokens, width, quiet };
        let got = block_on(all(gpu, ops, case));
        prop_assert!(got.is_ok(), "{case:?}: {}", got.unwrap_err());
    }
}

#[test]
fn operations_at_full_width() {
    let Some((gpu, ops)) = device() else { return };
    for (width, quiet) in [(2048, 0), (256, 0), (576, 29), (1, 0), (1, 30)] {
        block_on(all(gpu, ops, Case { seed: 96, tokens: 2, width, quiet })).unwrap();
    }
}

/// One instruction wrong, as a faulty driver would have it.
#[test]
fn wrong_operations_are_found_out() {
    let Some((gpu, _)) = device() else { return };
    for (right, wrong) in [
        ("select(0u, 1u, low < a.x)", "0u"),
        ("select(0u, bitcast<u32>(b), a < 0)", "0u"),
        ("left(vec2<u32>(1u, 0u), s - 1u)", "vec2<u32>(0u)"),
        ("carry == 1u || rest >= d", "rest >= d"),
        ("square.x <= a.x", "square.x < a.x"),
        ("if (s > 62u) { return clamp(bias, -limit, limit); }", ""),
        ("right(shape.epsilon, 2u * s)", "shape.epsilon"),
        ("bitcast<i32>(weight >> 8u)", "bitcast<i32>(weight >> 9u)"),
        ("minus(times_signed(a, turn.x)", "plus(times_signed(a, turn.x)"),
        ("end - min(end, shape.window)", "0u"),
        ("bin < shape.table", "bin + 400u < shape.table"),
    ] {
        let changed = std::cell::Cell::new(false);
        let ops = Ops::compile_with(gpu, |source| {
            changed.set(changed.get() || source.contains(right));
            source.replacen(right, wrong, 1)
        });
        assert!(changed.get(), "{right} is not in the sources");
        let found = (0..12u64).any(|seed| {
            let quiet = [0, 6, 14, 29][seed as usize % 4];
            let width = [70, 1][seed as usize / 4 % 2];
            let case = Case { seed: seed * 31 + 7, tokens: 3, width, quiet };
            matches!(block_on(all(gpu, &ops, case)), Err(GpuError::Differs { .. }))
        });
        assert!(found, "{wrong:?} for {right:?} passed");
    }
}
