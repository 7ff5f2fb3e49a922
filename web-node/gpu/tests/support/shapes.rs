//! Decoders of random shapes.

use nesa_model::decoder::toy::ToyDecoder;
use proptest::prelude::*;

/// Decoders of `layers` layers.
pub(crate) fn shapes(layers: u16) -> impl Strategy<Value = ToyDecoder> {
    (
        0u64..1000,
        prop::sample::select(vec![(4u16, 2u16, 8u16), (2, 2, 16), (6, 1, 4), (3, 3, 2)]),
        prop::sample::select(vec![0u32, 1, 3]),
        any::<bool>(),
        prop::sample::select(vec![8u8, 12, 14]),
        prop::sample::select(vec![0u8, 4, 9, 18]),
    )
        .prop_map(
            move |(seed, (heads, kv_heads, head_width), window, tied, input_bits, loudness)| {
                ToyDecoder {
                    heads,
                    kv_heads,
                    head_width,
                    window,
                    tied,
                    input_bits,
                    loudness,
                    layers,
                    seed,
                    ..ToyDecoder::default()
                }
            },
        )
}
