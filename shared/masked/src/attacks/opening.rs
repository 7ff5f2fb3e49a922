//! Opened queries: a stranger's check accepts the truth and nothing next to it.

use commonware_codec::Encode;
use nesa_chain::Side;
use nesa_primitives::{Address, Hash, decode_exact};
use rand::{SeedableRng, rngs::StdRng};

use super::harness::{CHAIN, Fault, QUERY, Scene, committee, link};
use super::toy::ToyRun;
use crate::{
    batch,
    client::{Link, Pass},
    message::{Limits, SeedBytes},
    opened::{OpenedError, OpenedPart, recheck},
};

fn prompt() -> Vec<i32> {
    (0..150).collect()
}

fn opened() -> (Scene, Vec<OpenedPart>) {
    // A lie on the way: the opened query then names two A nodes.
    let fault = Fault::Xor { stage: 7, part: 1, index: 0, bits: 1 };
    let scene = Scene { open_receipt: true, ..Scene::new() }.fault(Side::A, 0, fault);
    let story = scene.play(&[&prompt(), &[5; 16]]);
    let parts = story.transcript.unwrap().opened;
    assert_eq!(parts.len(), 3 * 4 + 3);
    (scene, parts)
}

fn node(link: Link) -> Option<Address> {
    committee().side(link.side).get(link.attempt as usize).map(|c| c.node)
}

fn check(scene: &Scene, first: &[i32], parts: &[OpenedPart]) -> Result<Vec<Vec<i32>>, OpenedError> {
    let preparation = scene.toy.prepare(&mut StdRng::seed_from_u64(4242));
    let pass = |p: &[i32]| Pass {
        run: ToyRun::new(&scene.toy, p),
        tokens: batch::bucket(p.len()).unwrap(),
    };
    let passes = vec![pass(first), pass(&[5; 16])];
    recheck(&CHAIN, &QUERY, &scene.toy.lane, &preparation, node, passes, parts)
}

#[test]
fn the_truth_is_accepted() {
    let (scene, parts) = opened();
    let outputs = check(&scene, &prompt(), &parts).unwrap();
    assert_eq!(outputs, [scene.toy.expected(&prompt()), scene.toy.expected(&[5; 16])]);
    let attempts: Vec<u8> = parts.iter().map(|p| p.a.link.attempt).collect();
    assert!(attempts.contains(&0) && attempts.contains(&1));
}

#[test]
fn anything_else_is_refused() {
    let (scene, parts) = opened();
    let mut other = prompt();
    other[149] += 1;
    assert!(matches!(check(&scene, &other, &parts), Err(OpenedError::Request(_, Side::A))));
    assert!(matches!(check(&scene, &prompt(), &parts[..14]), Err(OpenedError::Order { .. })));
    let extra = [parts.clone(), parts[..1].to_vec()].concat();
    assert!(matches!(check(&scene, &prompt(), &extra), Err(OpenedError::Order { .. })));
    for i in 0..parts.len() {
        let altered = |change: &dyn Fn(&mut OpenedPart)| {
            let mut parts = parts.clone();
            change(&mut parts[i]);
            check(&scene, &prompt(), &parts).is_err()
        };
        assert!(altered(&|p| p.seed = SeedBytes([1; 32])));
        assert!(altered(&|p| p.slot.part += 1));
        assert!(altered(&|p| p.a.link = link(Side::A, 2)));
        assert!(altered(&|p| p.b.link = link(Side::B, 1)));
        assert!(altered(&|p| p.a.request = Hash::ZERO));
        assert!(altered(&|p| p.b.signature.0[3] ^= 1));
        assert!(altered(&|p| core::mem::swap(&mut p.a, &mut p.b)));
        for which in [true, false] {
            assert!(altered(&|p| {
                let side = if which { &mut p.a } else { &mut p.b };
                let mut values = side.values.to_vec();
                values[7] ^= 4;
                side.values = values.into();
            }));
        }
    }
}

#[test]
fn opened_parts_encode_canonically() {
    let (scene, parts) = opened();
    let limits = Limits { payload: scene.toy.lane.max_message() };
    let bytes = parts[0].encode();
    let back: OpenedPart = decode_exact(&bytes, &limits).unwrap();
    assert!(back == parts[0]);
    for cut in 0..bytes.len() {
        assert!(decode_exact::<OpenedPart>(&bytes[..cut], &limits).is_err());
    }
    assert!(decode_exact::<OpenedPart>(&bytes, &Limits { payload: 3 }).is_err());
}
