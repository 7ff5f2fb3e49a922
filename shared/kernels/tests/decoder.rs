//! Every fast operation of decoders equals its plain definition, for ordinary values and at the extremes.

mod paths;

use nesa_kernels::attention::{self, AttentionScratch, Cache, Look};
use nesa_kernels::decoder::{self, GAIN_LIMIT, RESIDUAL_LIMIT, plain};
use nesa_kernels::rotary::{self, Turn, Turns};
use paths::on_every_path;
use proptest::prelude::*;

/// Values of up to `bits` bits and sign, with the extremes of that range among them.
fn row(len: usize, bits: u32) -> impl Strategy<Value = Vec<i32>> {
    let top = ((1i64 << bits) - 1) as i32;
    let value = prop_oneof![6 => -top..=top, 1 => Just(top), 1 => Just(-top), 1 => Just(0)];
    prop::collection::vec(value, len)
}

/// [`row`] of any number of bits up to `most`.
fn any_row(len: usize, most: u32) -> impl Strategy<Value = Vec<i32>> {
    (1..=most).prop_flat_map(move |bits| row(len, bits))
}

/// Tables that a model may have: from above 2^14 down to 0.
fn exp_table() -> impl Strategy<Value = Vec<u16>> {
    (16385u16..=32767, prop::collection::vec(0u16..=16385, 0..300), any::<bool>()).prop_map(
        |(first, mut rest, largest)| {
            rest.sort_unstable_by(|a, b| b.cmp(a));
            let first = if largest { i16::MAX as u16 } else { first };
            [vec![first], rest, vec![0]].concat()
        },
    )
}

/// 16-bit values of up to `bits` bits and sign, the extremes among them.
fn narrow(len: usize, bits: u32, seed: u64) -> Vec<i16> {
    let top = ((1i32 << bits) - 1) as i16;
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state ^ (state >> 29)
    };
    let value = |r: u64| match r % 8 {
        0 => top,
        1 => -top - 1,
        _ => ((r >> 20) as i16) >> (15 - bits),
    };
    (0..len).map(|_| value(next())).collect()
}

#[derive(Debug)]
struct Attention {
    queries: Vec<i16>,
    looks: Vec<Look>,
    keys: Vec<i16>,
    values: Vec<i16>,
    exp: Vec<u16>,
}

/// Widths that fill registers and that do not, few queries and many, one piece of tokens and several,
/// rows that see nothing.
fn attention() -> impl Strategy<Value = Attention> {
    let width = prop_oneof![1usize..=40, Just(48), Just(64), Just(80), Just(100)];
    (width, 0usize..12, prop_oneof![0usize..20, 200usize..600]).prop_flat_map(
        |(width, rows, tokens)| {
            let look = (0..=tokens, 0..=tokens, 0u32..31).prop_map(|(a, b, bits)| Look {
                seen: a.min(b)..a.max(b),
                score: (1 << 30) >> bits | 1,
            });
            let looks = prop::collection::vec(look, rows);
            let bits = (1u32..=15, 1u32..=15);
            (looks, bits, exp_table(), any::<u64>()).prop_map(move |(looks, bits, exp, seed)| {
                Attention {
                    queries: narrow(rows * width, bits.0, seed),
                    looks,
                    keys: narrow(tokens * width, bits.0, !seed),
                    values: narrow(tokens * width, bits.1, seed ^ 77),
                    exp,
                }
            })
        },
    )
}

/// Contexts row by row, from the definition.
fn defined(a: &Attention) -> Vec<i32> {
    let width = a.queries.len() / a.looks.len().max(1);
    let mut out = vec![0; a.queries.len()];
    for (i, look) in a.looks.iter().enumerate() {
        let seen = look.seen.start * width..look.seen.end * width;
        let cache = Cache { keys: &a.keys[seen.clone()], values: &a.values[seen] };
        let row = i * width..(i + 1) * width;
        attention::plain::attend(&a.queries[row.clone()], cache, look.score, &a.exp, &mut out[row]);
    }
    out
}

/// Contexts of `count` queries at a time, from the fast path.
fn fast(a: &Attention, count: usize, scratch: &mut AttentionScratch) -> Vec<i32> {
    let width = a.queries.len() / a.looks.len().max(1);
    let mut out = vec![7; a.queries.len()];
    let cache = Cache { keys: &a.keys, values: &a.values };
    for (i, looks) in a.looks.chunks(count).enumerate() {
        let part = i * count * width..(i * count + looks.len()) * width;
        let (queries, out) = (&a.queries[part.clone()], &mut out[part]);
        attention::attend(queries, looks, cache, &a.exp, scratch, out);
    }
    out
}

proptest! {
    #[test]
    fn attending(a in attention()) {
        on_every_path(|| {
            let expected = defined(&a);
            // What was left in the buffers must not matter.
            let mut scratch = AttentionScratch::default();
            for count in [1, 2, a.looks.len().max(1)] {
                prop_assert_eq!(&fast(&a, count, &mut scratch), &expected);
            }
            Ok(())
        })?;
    }

    #[test]
    fn norms(
        (h, gain) in (0usize..70).prop_flat_map(|n| (any_row(n, 30), any_row(n, 30))),
        epsilon in 0u64..1 << 62,
        small: bool,
        q_max in 1u32..1 << 15,
        largest: bool,
    ) {
        on_every_path(|| {
            let gain = if largest { vec![GAIN_LIMIT; h.len()] } else { gain.clone() };
            let epsilon = if small { epsilon >> 40 } else { epsilon };
            let n = h.len();
            let (mut t, mut expected, mut got) = (vec![1; n], vec![7; n], vec![8; n]);
            let scale = plain::rms_quantize_row(&h, epsilon, &gain, q_max, &mut t, &mut expected);
            t.fill(2);
            prop_assert_eq!(
                decoder::rms_quantize_row(&h, epsilon, &gain, q_max, &mut t, &mut got),
                scale
            );
            prop_assert_eq!(got, expected);
            Ok(())
        })?;
    }

    #[test]
    fn gated_units(
        (gate, up) in (0usize..150).prop_flat_map(|n| (any_row(n, 22), any_row(n, 31))),
        table in prop::collection::vec(any::<u16>(), 0..5000),
    ) {
        on_every_path(|| {
            let (mut expected, mut got) = (vec![7; gate.len()], vec![8; gate.len()]);
            plain::swiglu_row(&gate, &up, &table, &mut expected);
            decoder::swiglu_row(&gate, &up, &table, &mut got);
            prop_assert_eq!(got, expected);
            Ok(())
        })?;
    }

    #[test]
    fn residuals(
        (a, b, factor) in (0usize..70).prop_flat_map(|n| {
            (any_row(n, 31), any_row(n, 31), prop::collection::vec(any::<u16>(), n))
        }),
        scale in 0u32..1 << 31,
        shift in 1u32..=62,
    ) {
        on_every_path(|| {
            let (mut expected, mut got) = (a.clone(), a.clone());
            plain::add_residual(&mut expected, &b);
            decoder::add_residual(&mut got, &b);
            prop_assert_eq!(&got, &expected);

            let (mut expected, mut got) = (a.clone(), a.clone());
            plain::smooth_row(&mut expected, &factor);
            decoder::smooth_row(&mut got, &factor);
            prop_assert!(got.iter().all(|v| v.abs() <= RESIDUAL_LIMIT));
            prop_assert_eq!(&got, &expected);

            let words: Vec<i8> = a.iter().map(|&v| v as i8).collect();
            plain::embed_row(&words, scale, shift, &mut expected);
            decoder::embed_row(&words, scale, shift, &mut got);
            prop_assert_eq!(&got, &expected);
            Ok(())
        })?;
    }

    #[test]
    fn rotations(
        (head, cos, sin) in (0usize..50).prop_flat_map(|pairs| {
            (any_row(2 * pairs, 30), row(pairs, 30), row(pairs, 30))
        }),
    ) {
        on_every_path(|| {
            let mut turns = Turns::new();
            for (&cos, &sin) in cos.iter().zip(&sin) {
                turns.push(Turn { cos, sin });
            }
            let turns = turns.view(0..cos.len());
            let (mut expected, mut got) = (head.clone(), head.clone());
            rotary::plain(&mut expected, turns);
            rotary::rotate(&mut got, turns);
            prop_assert_eq!(got, expected);
            Ok(())
        })?;
    }
}

/// The largest sums there can be: every product of its greatest magnitude, over several pieces.
#[test]
fn attention_at_its_bounds() {
    on_every_path(|| {
        for (width, value) in [(48, i16::MIN), (48, i16::MAX), (64, i16::MIN), (64, i16::MAX)] {
            let tokens = 1000;
            for rows in [1, 9] {
                let a = Attention {
                    queries: vec![16383; rows * width],
                    looks: vec![Look { seen: 0..tokens, score: (1 << 31) - 1 }; rows],
                    keys: vec![0; tokens * width],
                    values: vec![value; tokens * width],
                    exp: vec![32767, 0],
                };
                let got = fast(&a, rows, &mut AttentionScratch::default());
                prop_assert_eq!(&got, &defined(&a));
                prop_assert!(got.iter().all(|&c| (c - (i32::from(value) << 7)).abs() <= 1));
            }
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_cache_shorter_than_asked_is_cut() {
    let (queries, keys) = (vec![100i16; 16], vec![50i16; 5 * 16]);
    let cache = Cache { keys: &keys, values: &keys };
    let mut scratch = AttentionScratch::default();
    let mut context = |seen: std::ops::Range<usize>| {
        let mut out = vec![0; 16];
        let looks = [Look { seen, score: 1 << 20 }];
        attention::attend(&queries, &looks, cache, &[32767, 0], &mut scratch, &mut out);
        out
    };
    assert_eq!(context(0..99), context(0..5));
    assert_eq!(context(8..99), vec![0; 16]);
}
