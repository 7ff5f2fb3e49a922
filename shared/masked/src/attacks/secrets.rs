//! The sealed preparation: nothing altered is accepted, nothing readable is stored. And hostile
//! clients of a server.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::harness::{Scene, key, link};
use super::toy::{MODEL, Toy};
use crate::{
    Lane,
    preparation::{Preparation, PrepareError, SealError},
    server::{ServeError, Session},
};
use nesa_chain::Side;
use nesa_primitives::Hash;

const KEY: [u8; 32] = [5; 32];

fn sealed() -> (Toy, Vec<Vec<u8>>) {
    let toy = Toy::new();
    let mut rng = StdRng::seed_from_u64(1);
    let blobs = toy.prepare(&mut rng).seal(&KEY, &mut rng);
    (toy, blobs)
}

#[test]
fn a_sealed_preparation_comes_back_whole() {
    let (toy, blobs) = sealed();
    let back = Preparation::unseal(MODEL, &toy.lane, &KEY, &blobs).unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    let original = toy.prepare(&mut rng);
    for i in 0..3 {
        let (a, b) = (back.stage(i).unwrap(), original.stage(i).unwrap());
        assert!((0..a.r.len()).all(|j| a.r.residue(j) == b.r.residue(j)));
        assert!((0..a.s.len()).all(|j| a.s.residue(j) == b.s.residue(j)));
        assert_eq!(a.bounds, b.bounds);
    }
}

#[test]
fn anything_altered_is_refused() {
    let (toy, blobs) = sealed();
    let refused = |model, lane: &Lane, key: &[u8; 32], blobs: &[Vec<u8>]| {
        matches!(Preparation::unseal(model, lane, key, blobs), Err(SealError))
    };
    for bit in 0..blobs[1].len() * 8 {
        let mut altered = blobs.clone();
        altered[1][bit / 8] ^= 1 << (bit % 8);
        assert!(refused(MODEL, &toy.lane, &KEY, &altered), "bit {bit}");
    }
    let mut swapped = blobs.clone();
    swapped.swap(0, 1);
    assert!(refused(MODEL, &toy.lane, &KEY, &swapped));
    assert!(refused(MODEL, &toy.lane, &KEY, &blobs[..2]));
    assert!(refused(Hash::ZERO, &toy.lane, &KEY, &blobs));
    assert!(refused(MODEL, &toy.lane, &[6; 32], &blobs));
    assert!(refused(MODEL, &toy.lane, &KEY, &[vec![], vec![], vec![]]));
    let mut stages = toy.lane.stages().to_vec();
    stages[2].row_bound_bits += 1;
    assert!(refused(MODEL, &Lane::new(stages).unwrap(), &KEY, &blobs));
}

#[test]
fn sealed_bytes_hold_no_secret_in_the_clear() {
    let (toy, blobs) = sealed();
    let preparation = toy.prepare(&mut StdRng::seed_from_u64(1));
    for (i, blob) in blobs.iter().enumerate() {
        let stage = preparation.stage(i).unwrap();
        for vector in [&stage.r, &stage.s] {
            for j in 0..vector.len() {
                let bytes = vector.residue(j).to_le_bytes();
                assert!(!blob.windows(8).any(|w| w == bytes));
            }
        }
    }
}

#[test]
fn two_preparations_share_nothing() {
    let toy = Toy::new();
    let mut rng = StdRng::seed_from_u64(1);
    let (a, b) = (toy.prepare(&mut rng), toy.prepare(&mut rng));
    for i in 0..3 {
        let (a, b) = (a.stage(i).unwrap(), b.stage(i).unwrap());
        assert!((0..a.r.len()).all(|j| a.r.residue(j) != b.r.residue(j)));
    }
}

#[test]
fn rows_stream_in_order_and_keep_the_bound() {
    let toy = Toy::new();
    let (stage, w) = (toy.lane.stages()[0], toy.matrix(0).to_vec());
    let mut rng = StdRng::seed_from_u64(1);
    let mut builder = Preparation::builder(MODEL, &toy.lane, &mut rng);
    assert_eq!(builder.rows(99, 0, &w), Err(PrepareError::UnknownStage(99)));
    builder.rows(0, 0, &w[..12]).unwrap();
    for (row, part) in [(0, &w[12..18]), (3, &w[18..24]), (2, &w[12..17]), (2, &[0; 60][..])] {
        assert!(matches!(builder.rows(0, row, part), Err(PrepareError::Rows { .. })));
    }
    builder.rows(0, 2, &w[12..]).unwrap();
    assert!(builder.progress() > 0.3 && builder.progress() < 1.0);
    assert!(matches!(
        builder.finish(),
        Err(PrepareError::Incomplete { stage: 7, got: 0, expected: 4 })
    ));
    // A model that promises too narrow an accumulator is caught before any share is sent.
    let narrow = Lane::new(vec![crate::Stage { row_bound_bits: 12, ..stage }]).unwrap();
    let refused = Preparation::from_weights(MODEL, &narrow, |_| &w, &mut rng);
    assert!(matches!(refused, Err(PrepareError::Bound { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any bytes at any time: a typed error or an answer, never a panic.
    #[test]
    fn servers_survive_any_client(
        frames in proptest::collection::vec(
            (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..200)), 1..6),
        side: bool,
    ) {
        let scene = Scene::new();
        let side = if side { Side::A } else { Side::B };
        let mut session =
            Session::new(scene.terms(link(side, 0)), scene.toy.lane.clone(), key(side, 0));
        for (kind, mut frame) in frames {
            if let Some(first) = frame.first_mut() {
                *first = kind % 6;
            }
            let _ = session.receive(&frame);
        }
        prop_assert_eq!(session.account().0, 0);
    }

    /// A client that is who it says, and then asks for anything: bounded work, typed errors.
    #[test]
    fn servers_survive_any_request(
        asks in proptest::collection::vec(
            (0u8..3, 0u32..3, 0u32..600, 0u16..9, 0u16..10, any::<bool>()), 1..30),
        side: bool,
    ) {
        use commonware_codec::Encode;
        use crate::message::{ClientMessage, Request, SeedBytes, Slot};
        use crate::server::Received;
        let scene = Scene::new();
        let side = if side { Side::A } else { Side::B };
        let mut session =
            Session::new(scene.terms(link(side, 0)), scene.toy.lane.clone(), key(side, 0));
        let node = key(side, 0).public();
        let open = crate::signing::sign_open(
            super::harness::CHAIN, super::harness::QUERY, MODEL, node, side, 0,
            &super::harness::client_key(),
        );
        prop_assert!(session.receive(&ClientMessage::Open(open).encode()).is_ok());
        let mut works = 0;
        for (kind, pass, tokens, stage, part, seed) in asks {
            let slot = Slot { pass, tokens, stage, part };
            let request = if seed {
                Request::Seed { slot, seed: SeedBytes([1; 32]) }
            } else {
                let len = scene.toy.lane.find(stage).map_or(0, |(_, s)| s.share_bytes(slot.rows()));
                Request::Share { slot, share: vec![0; len].into() }
            };
            let message =
                if kind == 0 { ClientMessage::Blame(request) } else { ClientMessage::Work(request) };
            match session.receive(&message.encode()) {
                Ok(Received::Work(job)) => {
                    works += 1;
                    prop_assert!(job.rows() <= crate::spec::ROWS_PER_PART);
                    let done = job.run(&scene.toy).unwrap();
                    session.complete(done);
                }
                Ok(_) => prop_assert!(false, "a request leads to work or an error"),
                Err(error) => {
                    prop_assert!(matches!(session.receive(&[3]), Err(ServeError::Closed)));
                    let _ = error.refusal();
                    break;
                }
            }
        }
        // One unpaid pass at most, and each of its slots four times at most.
        prop_assert!(session.account().0 <= 512);
        prop_assert!(works <= 4 * 3 * 8 + 8);
    }

    /// The messages of an honest client, damaged in one place.
    #[test]
    fn servers_survive_damaged_messages(seed: u64) {
        let scene = Scene::new();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut client = scene.session(&[&[1, 2, 3]]);
        let mut session =
            Session::new(scene.terms(link(Side::A, 0)), scene.toy.lane.clone(), key(Side::A, 0));
        for action in client.start() {
            if let crate::client::Action::Send { link, message } = action
                && link.side == Side::A
            {
                let mut bytes = message.to_vec();
                if rng.random() {
                    let len = bytes.len();
                    bytes[rng.random_range(0..len)] ^= 1 << rng.random_range(0..8);
                }
                match session.receive(&bytes) {
                    Ok(crate::server::Received::Work(job)) => {
                        let done = job.run(&scene.toy).unwrap();
                        session.complete(done);
                    }
                    Ok(_) | Err(ServeError::Closed) => {}
                    Err(_) => break,
                }
            }
        }
    }
}
