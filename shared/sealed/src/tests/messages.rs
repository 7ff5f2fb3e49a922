use super::harness::*;
use crate::{
    MAX_STEP,
    client::Link,
    message::*,
    opening::{Choice, Opening},
};
use bytes::Bytes;
use commonware_codec::Encode as _;
use nesa_chain::ShardVoucher;
use nesa_crypto::{
    SecretKey,
    seal::{Binding, Role},
};
use nesa_model::decoder::ShardPlan;
use nesa_primitives::{Amount, Hash, decode_exact};
use proptest::prelude::*;

const LIMITS: Limits = Limits { rows: 400 };

fn hashes() -> impl Strategy<Value = Vec<Hash>> {
    proptest::collection::vec(any::<[u8; 32]>().prop_map(Hash), 0..9)
}

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        proptest::collection::vec(any::<u32>(), 0..9).prop_map(Input::Tokens),
        bytes(400).prop_map(Input::Rows),
    ]
}

fn want() -> impl Strategy<Value = Want> {
    prop_oneof![Just(Want::Digests), Just(Want::Rows), Just(Want::Last), Just(Want::All)]
}

fn requests() -> impl Strategy<Value = Request> {
    prop_oneof![
        (any::<u32>(), any::<u32>(), input(), want(), 0..4usize).prop_map(
            |(seq, position, input, want, count)| {
                let receipts = vec![client_key().sign(COMMITMENT_TAG, &CHAIN, &[]); count];
                Request::Step(Step { seq, position, input, want, receipts })
            }
        ),
        any::<u32>().prop_map(|tokens| Request::Truncate { tokens }),
        any::<u64>().prop_map(|total| {
            let node = node_key(Link { shard: 0, seat: 0 }).public();
            let voucher =
                ShardVoucher::sign(&client_key(), &CHAIN, QUERY, (1, 2), node, Amount(total));
            Request::Voucher(voucher)
        }),
        (any::<[u8; 32]>(), proptest::option::of(any::<u32>())).prop_map(|(blind, tokens)| {
            let signature = client_key().sign(COMMITMENT_TAG, &CHAIN, &[]);
            let end = tokens.map(|tokens| nesa_trace::End { tokens, signature });
            Request::Finish { blind: Hash(blind), end }
        }),
    ]
}

fn responses() -> impl Strategy<Value = Response> {
    let tokens = proptest::collection::vec(any::<u32>(), 0..9);
    prop_oneof![
        Just(Response::Accept),
        (any::<u32>(), hashes(), tokens, bytes(400)).prop_map(|(seq, digests, tokens, rows)| {
            Response::Stepped(Stepped { seq, digests, tokens, rows })
        }),
        any::<u32>().prop_map(|tokens| Response::Truncated { tokens }),
        (any::<[u8; 32]>(), any::<u32>()).prop_map(|(root, served_tokens)| {
            let signature = client_key().sign(COMMITMENT_TAG, &CHAIN, &root);
            Response::Commit(Commitment { blinded_root: Hash(root), served_tokens, signature })
        }),
        Just(Response::Refused(Refusal::Unpaid)),
    ]
}

proptest! {
    #[test]
    fn messages_survive(request in requests(), response in responses()) {
        prop_assert_eq!(decode_exact::<Request>(&request.encode(), &LIMITS).unwrap(), request);
        prop_assert_eq!(decode_exact::<Response>(&response.encode(), &LIMITS).unwrap(), response);
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        if let Ok(request) = decode_exact::<Request>(&bytes, &LIMITS) {
            prop_assert_eq!(&request.encode()[..], &bytes[..]);
        }
        if let Ok(response) = decode_exact::<Response>(&bytes, &LIMITS) {
            prop_assert_eq!(&response.encode()[..], &bytes[..]);
        }
        if let Ok(frame) = decode_exact::<Frame>(&bytes, &FrameLimits { sealed: 300 }) {
            prop_assert_eq!(&frame.encode()[..], &bytes[..]);
        }
        if let Ok(opening) = decode_exact::<Opening>(&bytes, &()) {
            prop_assert_eq!(&opening.encode()[..], &bytes[..]);
        }
    }
}

#[test]
fn limits_hold_on_every_list() {
    let step = |input| {
        let step = Step { seq: 0, position: 0, input, want: Want::Rows, receipts: Vec::new() };
        decode_exact::<Request>(&Request::Step(step).encode(), &LIMITS)
    };
    assert!(step(Input::Rows(vec![0; 400].into())).is_ok());
    assert!(step(Input::Rows(vec![0; 401].into())).is_err());
    assert!(step(Input::Tokens(vec![0; MAX_STEP])).is_ok());
    assert!(step(Input::Tokens(vec![0; MAX_STEP + 1])).is_err());
    let stepped = |digests, tokens, rows: usize| {
        let (digests, tokens) = (vec![Hash::ZERO; digests], vec![0; tokens]);
        let stepped = Stepped { seq: 0, digests, tokens, rows: vec![0; rows].into() };
        decode_exact::<Response>(&Response::Stepped(stepped).encode(), &LIMITS)
    };
    assert!(stepped(MAX_STEP, MAX_STEP, 400).is_ok());
    assert!(stepped(MAX_STEP + 1, 0, 0).is_err());
    assert!(stepped(0, MAX_STEP + 1, 0).is_err());
    assert!(stepped(0, 0, 401).is_err());
    let sealed = Frame::Sealed(vec![0; 301].into()).encode();
    assert!(decode_exact::<Frame>(&sealed, &FrameLimits { sealed: 300 }).is_err());
    // The largest honest messages fit the frame that is read.
    let limits = Limits::of_width(32);
    let rows = Request::Step(Step {
        seq: 0,
        position: 0,
        input: Input::Rows(vec![0; limits.rows].into()),
        want: Want::Rows,
        receipts: vec![client_key().sign(COMMITMENT_TAG, &CHAIN, &[]); MAX_STEP],
    });
    assert!(nesa_crypto::seal::Sealer::frame_len(rows.encode().len()) + 16 <= limits.frame());
}

#[test]
fn an_opening_is_bound_to_everything_it_says() {
    let role = Role { shard: 0, seat: 1 };
    let node = node_key(Link { shard: 0, seat: 1 }).public();
    let binding =
        Binding { chain: CHAIN, query: QUERY, model: Hash([3; 32]), node, role, epoch: 1 };
    let plan = ShardPlan::from_cuts(vec![0, 2, 4]).unwrap();
    let choice = Choice { temperature: 1, top_k: 2, top_p: 3, seed: [4; 32] };
    let opening = Opening::sign(&client_key(), &binding, (1, Hash([6; 32])), plan, 40, choice);
    assert_eq!(decode_exact::<Opening>(&opening.encode(), &()).unwrap(), opening);
    let key = client_key().public();
    assert!(opening.verify(&key, &binding).is_ok());
    let stranger = SecretKey::from_seed(&[5; 32]).public();
    assert!(opening.verify(&stranger, &binding).is_err());
    let others = [
        Binding { query: Hash([9; 32]), ..binding },
        Binding { model: Hash([9; 32]), ..binding },
        Binding { node: stranger, ..binding },
        Binding { role: Role { shard: 1, seat: 1 }, ..binding },
        Binding { epoch: 2, ..binding },
    ];
    assert!(others.iter().all(|other| opening.verify(&key, other).is_err()));
    let bent = [
        Opening { plan: ShardPlan::from_cuts(vec![0, 1, 4]).unwrap(), ..opening.clone() },
        Opening { max_tokens: 41, ..opening.clone() },
        Opening { replica: 0, ..opening.clone() },
        Opening { salt: Hash::ZERO, ..opening.clone() },
        Opening { admission: Some(opening.signature), ..opening.clone() },
        Opening { choice: Choice { seed: [5; 32], ..choice }, ..opening.clone() },
    ];
    assert!(bent.iter().all(|bent| bent.verify(&key, &binding).is_err()));
    // A spare needs the word that it was asked, and that word is for one place and one node.
    let plan = ShardPlan::from_cuts(vec![0, 2, 4]).unwrap();
    let spare = Opening::sign(&client_key(), &binding, (0, Hash([6; 32])), plan, 40, choice);
    assert!(spare.admission.is_some() && spare.verify(&key, &binding).is_ok());
    let none = Opening { admission: None, ..spare.clone() };
    assert!(none.verify(&key, &binding).is_err());
    assert_eq!(decode_exact::<Opening>(&spare.encode(), &()).unwrap(), spare);
}
