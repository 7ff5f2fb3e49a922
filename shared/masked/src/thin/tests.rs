use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::{message::*, server::Received, *};
use crate::{Lane, client::Candidate, field::P, server::Weights};
use commonware_codec::Encode;
use nesa_kernels::Weight;
use nesa_primitives::{Address, Hash};

struct Ones;

impl Weights for Ones {
    fn weights(&self, stage: u16) -> Weight<'_> {
        Weight::Bytes(if stage == 4 { &[1; 12] } else { &[-3; 6] })
    }
}

fn lane() -> Lane {
    let stage = |id, k, n| crate::Stage { id, k, n, input_bits: 8, row_bound_bits: 20 };
    Lane::new(vec![stage(4, 4, 3), stage(1, 2, 3)]).unwrap()
}

fn preparers() -> [Candidate; 2] {
    [1u8, 2].map(|i| Candidate { node: Address([i; 32]), operator: Address([i + 10; 32]) })
}

fn values() -> impl Strategy<Value = FieldValues> {
    proptest::collection::vec(0..P, 1..40).prop_map(|v| FieldValues::new(v).unwrap())
}

fn request() -> impl Strategy<Value = PreparerRequest> {
    prop_oneof![
        any::<([u8; 32], [u8; 32], [u8; 32])>().prop_map(|(chain, model, node)| {
            PreparerRequest::Open { chain: Hash(chain), model: Hash(model), node: Address(node) }
        }),
        (any::<u16>(), any::<u32>(), values()).prop_map(|(stage, first, values)| {
            PreparerRequest::Rows(RowShare { stage, first, values })
        }),
    ]
}

fn response() -> impl Strategy<Value = PreparerResponse> {
    prop_oneof![
        Just(PreparerResponse::Accept),
        (any::<u16>(), any::<u32>(), values()).prop_map(|(stage, first, values)| {
            PreparerResponse::Columns(ColumnShare { stage, first, values })
        }),
        prop_oneof![Just(Refusal::Protocol), Just(Refusal::Unknown), Just(Refusal::Unavailable)]
            .prop_map(PreparerResponse::Refused),
    ]
}

proptest! {
    #[test]
    fn messages_come_back_and_are_the_only_encoding(up in request(), down in response()) {
        let (up_bytes, down_bytes) = (up.encode(), down.encode());
        prop_assert_eq!(decode_request(&up_bytes).unwrap(), up);
        prop_assert_eq!(decode_response(&down_bytes).unwrap(), down);
        prop_assert!(up_bytes.len() <= MAX_FRAME && down_bytes.len() <= MAX_FRAME);
        for cut in 0..up_bytes.len() {
            prop_assert!(decode_request(&up_bytes[..cut]).is_err());
        }
        prop_assert!(decode_request(&[&up_bytes[..], &[0]].concat()).is_err());
        prop_assert!(decode_response(&[&down_bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes: Vec<u8>) {
        if let Ok(message) = decode_request(&bytes) {
            prop_assert_eq!(&message.encode()[..], &bytes[..]);
        }
        if let Ok(message) = decode_response(&bytes) {
            prop_assert_eq!(&message.encode()[..], &bytes[..]);
        }
    }

    /// Any client at any time: bounded work, typed errors, and nothing after the first of them.
    #[test]
    fn preparers_survive_any_client(
        asks in proptest::collection::vec((0u16..6, 0u32..4, 1usize..5, any::<bool>()), 1..12),
    ) {
        let mut session = server::Session::new(Hash::ZERO, Hash::ZERO, Address([0; 32]), lane());
        let open = PreparerRequest::Open {
            chain: Hash::ZERO, model: Hash::ZERO, node: Address([0; 32]),
        };
        prop_assert!(session.receive(&open.encode()).is_ok());
        let mut works = 0;
        for (stage, first, count, reopen) in asks {
            let values = FieldValues::new(vec![7; count]).unwrap();
            let rows = PreparerRequest::Rows(RowShare { stage, first, values });
            let message = if reopen { open.clone() } else { rows };
            match session.receive(&message.encode()) {
                Ok(Received::Work(job)) => {
                    works += 1;
                    prop_assert!(!job.run(&Ones).unwrap().frames().is_empty());
                }
                Ok(_) => {}
                Err(error) => {
                    let _ = error.refusal();
                    prop_assert!(session.is_over());
                    prop_assert!(session.receive(&open.encode()).is_err());
                    break;
                }
            }
        }
        prop_assert!(works <= 2);
    }

    /// Any preparer at any time: an error or an unfinished preparation, never a panic, and never a
    /// preparation from answers that did not fit.
    #[test]
    fn clients_survive_any_preparer(
        answers in proptest::collection::vec((response(), any::<bool>()), 0..12),
        noise in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut rng = StdRng::seed_from_u64(1);
        let mut client =
            Preparing::new(Hash::ZERO, Hash::ZERO, lane(), preparers(), &mut rng).unwrap();
        let mut failed = client.received(0, &noise).is_err();
        for (answer, second) in answers {
            failed |= client.received(second.into(), &answer.encode()).is_err();
        }
        let complete = client.is_complete(0) && client.is_complete(1);
        prop_assert_eq!(client.finish().is_ok(), complete);
        prop_assert!(failed || !complete);
    }
}

#[test]
fn residues_beyond_the_field_are_refused() {
    assert!(FieldValues::new(vec![P - 1]).is_some());
    assert!(FieldValues::new(vec![P]).is_none());
    assert!(FieldValues::new(Vec::new()).is_none());
    assert!(FieldValues::new(vec![0; VALUES_PER_FRAME + 1]).is_none());
    let full = FieldValues::new(vec![P - 1; VALUES_PER_FRAME]).unwrap();
    let rows = RowShare { stage: u16::MAX, first: u32::MAX, values: full };
    let mut frame = PreparerRequest::Rows(rows).encode().to_vec();
    assert!(frame.len() <= MAX_FRAME);
    assert!(decode_request(&frame).is_ok());
    let last = frame.len() - 8;
    frame[last..].copy_from_slice(&P.to_le_bytes());
    assert!(decode_request(&frame).is_err());
}

/// A stage of more rows and columns than fit one frame goes in several, and comes back whole.
#[test]
fn wide_stages_travel_in_several_frames() {
    let (k, n) = (VALUES_PER_FRAME + 3, 2 * VALUES_PER_FRAME + 1);
    let stage = crate::Stage { id: 0, k: k as u32, n: n as u32, input_bits: 8, row_bound_bits: 31 };
    struct Sparse(Vec<i8>);
    impl Weights for Sparse {
        fn weights(&self, _: u16) -> Weight<'_> {
            Weight::Bytes(&self.0)
        }
    }
    // One row of ones, all else zero: s is r's coordinate of that row, everywhere.
    let mut weights = Sparse(vec![0; k * n]);
    let row = VALUES_PER_FRAME + 7;
    weights.0[row * k..(row + 1) * k].fill(1);
    let lane = Lane::new(vec![stage]).unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    let mut client =
        Preparing::new(Hash::ZERO, Hash::ZERO, lane.clone(), preparers(), &mut rng).unwrap();
    for which in [0, 1] {
        let node = preparers()[which].node;
        let mut server = server::Session::new(Hash::ZERO, Hash::ZERO, node, lane.clone());
        let (mut up, mut down) = (0, 0);
        while let Some(frame) = client.next_frame(which) {
            up += 1;
            match server.receive(&frame).unwrap() {
                Received::Work(job) => {
                    for frame in job.run(&weights).unwrap().frames() {
                        down += 1;
                        client.received(which, &frame).unwrap();
                    }
                }
                Received::Reply(frame) => client.received(which, &frame).unwrap(),
                Received::Quiet => {}
            }
        }
        assert_eq!((up, down), (4, 2));
    }
    let preparation = client.finish().unwrap();
    let secrets = preparation.stage(0).unwrap();
    assert!((0..k).all(|i| secrets.s.residue(i) == secrets.r.residue(row)));
}

#[test]
fn test_rows_are_uniform_within_the_stages_range() {
    let mut rng = StdRng::seed_from_u64(1);
    for (bits, limit) in [(4, 7), (8, 127), (12, 127), (16, 127)] {
        let stage = crate::Stage { id: 0, k: 500, n: 1, input_bits: bits, row_bound_bits: 20 };
        let x = test_rows(&stage, &mut rng);
        assert_eq!(x.len(), 16 * 500);
        let mut counts = vec![0u32; 2 * limit as usize + 1];
        for v in x {
            assert!((-limit..=limit).contains(&v));
            counts[(v + limit) as usize] += 1;
        }
        let mean = 8000.0 / counts.len() as f64;
        assert!(counts.iter().all(|&c| (f64::from(c) - mean).abs() < 6.0 * mean.sqrt()));
    }
}
