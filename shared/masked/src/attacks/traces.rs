//! Rule 8 (and 4, and 7): what an observer sees of two prompts of one bucket is the same, on every
//! path. Messages, their order and sizes, dials, closes and transactions are compared.

use nesa_chain::Side;

use super::harness::{Fault, Scene, Seen};
use crate::client::Mutant;

/// Two prompts of the bucket of 64, unlike in length and content, and a second pass each.
const SHORT: [&[i32]; 2] = [&[1; 33], &[9, 9]];
const LONG: [&[i32]; 2] = [&[2_000_000; 64], &[-5; 16]];

/// A path through the protocol by name.
type Path = (&'static str, fn() -> Scene);

fn scenes() -> Vec<Path> {
    fn lie(side: Side, index: usize, bits: u32) -> Scene {
        Scene::new().fault(side, 0, Fault::Xor { stage: 7, part: 0, index, bits })
    }
    vec![
        ("honest", Scene::new),
        ("A lies in a real row", || lie(Side::A, 0, 1)),
        ("A lies in a row that is padding for one of the two", || lie(Side::A, 4 * 50, 1)),
        ("A lies in the last row", || lie(Side::A, 4 * 63, 1)),
        ("A leaves the range", || lie(Side::A, 3, 1 << 22)),
        ("B lies", || lie(Side::B, 0, 2)),
        ("B leaves the range", || lie(Side::B, 3, 1 << 22)),
        ("B lies in a row that is padding for one of the two", || lie(Side::B, 4 * 50, 1)),
        ("A lies, then is silent", || Scene::new().fault(Side::A, 0, Fault::Mute { stage: 3 })),
        ("A vanishes", || Scene::new().fault(Side::A, 0, Fault::Vanish { stage: 3 })),
        ("B vanishes", || Scene::new().fault(Side::B, 0, Fault::Vanish { stage: 3 })),
        ("A refuses", || Scene::new().fault(Side::A, 0, Fault::Refuse)),
        ("a frame is damaged", || {
            Scene::new().fault(Side::A, 0, Fault::Frame { stage: 7, bit: 999 })
        }),
        ("both lie", || {
            lie(Side::A, 1, 1).fault(Side::B, 0, Fault::Stubborn { stage: 7, bits: 4 })
        }),
        ("s is wrong", || Scene { spoiled: Some(1), ..Scene::new() }),
        ("A runs out", || {
            (0..3).fold(Scene::new(), |s, i| {
                s.fault(Side::A, i, Fault::Stubborn { stage: 0, bits: 8 })
            })
        }),
    ]
}

fn trace(scene: Scene, prompts: [&[i32]; 2], seed: u64) -> Vec<Seen> {
    Scene { seed, ..scene }.play(&prompts).trace
}

fn tells_apart(scene: impl Fn() -> Scene) -> bool {
    trace(scene(), SHORT, 1) != trace(scene(), LONG, 2)
}

#[test]
fn every_path_looks_the_same_for_both_prompts() {
    for (name, scene) in scenes() {
        assert!(!tells_apart(scene), "{name}");
        assert!(trace(scene(), SHORT, 1).len() > 8, "{name}");
    }
}

#[test]
fn a_client_that_skips_padding_rows_is_noticed() {
    let caught = scenes()
        .into_iter()
        .any(|(_, scene)| tells_apart(|| scene().mutant(Mutant::PaddingUnchecked)));
    assert!(caught);
}

/// Rule 4: a range failure and a Freivalds failure cannot be told apart.
fn failures_look_alike(mutant: Option<Mutant>) -> bool {
    let play = |bits| {
        let mut scene =
            Scene::new().fault(Side::A, 0, Fault::Xor { stage: 7, part: 0, index: 0, bits });
        scene.mutant = mutant;
        scene.play(&SHORT)
    };
    let (range, freivalds) = (play(1 << 22), play(1));
    assert_eq!((range.rejections, freivalds.rejections), (1, 1));
    range.trace == freivalds.trace && range.rejected == freivalds.rejected
}

#[test]
fn rejection_is_one_opaque_code() {
    assert!(failures_look_alike(None));
    assert!(!failures_look_alike(Some(Mutant::DifferentiatedErrors)));
}

/// Rule 7: messages are fixed batches. Nothing is sent before the whole part is there, and B's
/// window does not depend on what comes back.
#[test]
fn what_b_is_asked_does_not_depend_on_the_answers() {
    let asked = |prompts: [&[i32]; 2]| {
        let story = Scene::new().play(&prompts);
        story
            .trace
            .into_iter()
            .filter(|s| matches!(s, Seen::Up(link, ..) if link.side == Side::B))
            .collect::<Vec<_>>()
    };
    assert_eq!(asked(SHORT), asked(LONG));
}
