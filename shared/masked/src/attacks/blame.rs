//! Rule 5: blame finds the liar A, the liar B, both, and a wrong s; only the liar is replaced.

use nesa_chain::Side;

use super::harness::{Fault, Scene, link};
use crate::client::{Reason, SessionError};

const PROMPT: &[i32] = &[3, 1, 4, 1, 5, 9, 2, 6, 5, 3];

fn lie(stage: u16) -> Fault {
    Fault::Xor { stage, part: 0, index: 5, bits: 1 }
}

#[test]
fn an_honest_query_ends_well() {
    let scene = Scene::new();
    let story = scene.play(&[PROMPT, &[7; 30]]);
    assert_eq!(story.outputs, [scene.toy.expected(PROMPT), scene.toy.expected(&[7; 30])]);
    assert_eq!(story.rejections, 0);
    let transcript = story.transcript.unwrap();
    assert_eq!(transcript.tokens, 48);
    assert!(transcript.served.iter().all(|s| s.commit.is_some() && s.paid.0 == 48 * 5));
}

#[test]
fn several_parts_per_stage_and_any_window() {
    let prompt: Vec<i32> = (0..200).collect();
    for ahead in [0, 1, 2, 10] {
        let mut scene = Scene::new();
        scene.ahead = ahead;
        let story = scene.play(&[&prompt]);
        assert_eq!(story.outputs, [scene.toy.expected(&prompt)]);
    }
}

#[test]
fn a_lying_server_is_found_and_only_it_is_replaced() {
    for side in [Side::A, Side::B] {
        for stage in [0, 7, 3] {
            let scene = Scene::new().fault(side, 0, lie(stage));
            let story = scene.play(&[PROMPT]);
            assert_eq!(story.outputs, [scene.toy.expected(PROMPT)]);
            assert_eq!(story.rejected, [(link(side, 0), Reason::Rejected)]);
            assert_eq!(story.rejections, 1);
            let transcript = story.transcript.unwrap();
            let attempts: Vec<u8> = transcript.served.iter().map(|s| s.link.attempt).collect();
            assert_eq!(attempts, if side == Side::A { [1, 0] } else { [0, 1] });
            assert!(!transcript.preparation_discarded);
        }
    }
}

#[test]
fn a_liar_who_lies_again_under_blame_is_found() {
    for side in [Side::A, Side::B] {
        for bits in [1, 1 << 22, 1 << 31] {
            let scene = Scene::new().fault(side, 0, Fault::Stubborn { stage: 7, bits });
            let story = scene.play(&[PROMPT]);
            assert_eq!(story.outputs, [scene.toy.expected(PROMPT)]);
            // The highest bit is cut off before it is signed: then there was no lie to find.
            let expected =
                if bits == 1 << 31 { vec![] } else { vec![(link(side, 0), Reason::Rejected)] };
            assert_eq!(story.rejected, expected, "{side:?} {bits:x}");
        }
    }
}

#[test]
fn a_liar_who_leaves_is_replaced() {
    for side in [Side::A, Side::B] {
        let scene = Scene::new().fault(side, 0, Fault::Mute { stage: 7 });
        let story = scene.play(&[PROMPT]);
        assert_eq!(story.outputs, [scene.toy.expected(PROMPT)]);
        assert_eq!(story.rejected, [(link(side, 0), Reason::Unavailable)]);
        assert_eq!(story.preparations, 0);
    }
}

#[test]
fn two_liars_are_both_found_by_a_fresh_preparation() {
    let scene = Scene::new().fault(Side::A, 0, lie(7)).fault(
        Side::B,
        0,
        Fault::Stubborn { stage: 7, bits: 4 },
    );
    let story = scene.play(&[PROMPT]);
    assert_eq!(story.outputs, [scene.toy.expected(PROMPT)]);
    assert_eq!(story.preparations, 1);
    assert_eq!(
        story.rejected,
        [(link(Side::A, 0), Reason::Rejected), (link(Side::B, 0), Reason::Rejected)]
    );
    assert!(!story.transcript.unwrap().preparation_discarded);
}

#[test]
fn a_wrong_s_blames_nobody() {
    for stage in 0..3 {
        let mut scene = Scene::new();
        scene.spoiled = Some(stage);
        let story = scene.play(&[PROMPT]);
        assert_eq!(story.outputs, [scene.toy.expected(PROMPT)]);
        assert_eq!(story.rejected, []);
        assert_eq!(story.preparations, 1);
        assert!(story.transcript.unwrap().preparation_discarded);
    }
}

#[test]
fn a_wrong_s_beside_a_liar_blames_the_liar() {
    let mut scene = Scene::new().fault(Side::B, 0, lie(7));
    scene.spoiled = Some(1);
    let story = scene.play(&[PROMPT]);
    assert_eq!(story.outputs, [scene.toy.expected(PROMPT)]);
    assert_eq!(story.rejected, [(link(Side::B, 0), Reason::Rejected)]);
    assert!(story.transcript.unwrap().preparation_discarded);
}

#[test]
fn candidates_run_out() {
    let mut scene = Scene::new();
    for attempt in 0..3 {
        scene = scene.fault(Side::A, attempt, lie(0));
    }
    let story = scene.play(&[PROMPT]);
    assert_eq!(story.failed, Some(SessionError::Exhausted(Side::A)));
    assert_eq!(story.rejected.len(), 3);
    assert!(story.outputs.is_empty());
}

#[test]
fn absent_servers_are_replaced_without_blame() {
    for fault in [Fault::Vanish { stage: 7 }, Fault::Refuse] {
        for side in [Side::A, Side::B] {
            let scene = Scene::new().fault(side, 0, fault).fault(side, 1, fault);
            let story = scene.play(&[PROMPT]);
            assert_eq!(story.outputs, [scene.toy.expected(PROMPT)]);
            assert_eq!(story.rejections, 0);
            let gone = |i| (link(side, i), Reason::Unavailable);
            assert_eq!(story.rejected, [gone(0), gone(1)]);
        }
    }
}

/// Rule 3: whoever has been A for this query is never asked to be B, and the other way round.
#[test]
fn operators_never_change_sides() {
    let committee = super::harness::committee();
    let scene = Scene::new()
        .fault(Side::A, 0, lie(0))
        .fault(Side::B, 0, Fault::Vanish { stage: 7 })
        .fault(Side::A, 1, lie(3));
    let story = scene.play(&[PROMPT]);
    assert_eq!(story.outputs, [scene.toy.expected(PROMPT)]);
    for (link, _) in &story.requests {
        let node = committee.side(link.side)[link.attempt as usize].node;
        assert!(committee.side(link.side.other()).iter().all(|c| c.node != node));
    }
    for (side, other) in [(Side::A, Side::B), (Side::B, Side::A)] {
        let mut overlapping = committee.clone();
        let moved = overlapping.side(side)[0];
        match other {
            Side::A => overlapping.a.push(moved),
            Side::B => overlapping.b.push(moved),
        }
        assert!(overlapping_is_refused(&scene, overlapping));
    }
}

fn overlapping_is_refused(scene: &Scene, committee: crate::client::Committee) -> bool {
    use super::harness::{CHAIN, PRICE, QUERY, client_key};
    use super::toy::{MODEL, ToyRun};
    use crate::client::{Config, Pass, Session, StartError};
    use rand::{SeedableRng, rngs::StdRng};
    let mut rng = StdRng::seed_from_u64(5);
    let preparation = std::sync::Arc::new(scene.toy.prepare(&mut rng));
    let config = Config {
        chain: CHAIN,
        query: QUERY,
        model: MODEL,
        price_per_token: PRICE,
        client_key: client_key(),
        ahead: 1,
        open_receipt: false,
    };
    let passes = vec![Pass { run: ToyRun::new(&scene.toy, PROMPT), tokens: 16 }];
    let session = Session::new(config, scene.toy.lane.clone(), committee, preparation, passes, rng);
    matches!(session, Err(StartError::Overlap(_)))
}
