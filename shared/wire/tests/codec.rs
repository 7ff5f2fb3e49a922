//! Every message survives the wire, and no bytes from the wire can do more than be refused.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use bytes::Bytes;
use nesa_primitives::{Address, Denom, Hash};
use nesa_wire::{
    DecodeError,
    chain::{
        self, BlockAnswer, CertifiedHeader, MAX_REASON, Refusal, StateAnswer, StateEntry,
        TxLocation,
    },
    chunks, decode, encode,
};
use proptest::{collection::vec, option, prelude::*};

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash)
}

fn blob(most: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn chain_request() -> impl Strategy<Value = chain::Request> {
    use chain::Request::{
        Block, Faucet, Headers, Seed, State, Status, Submit, Subscribe, TxStatus,
    };
    prop_oneof![
        Just(Status),
        Just(Subscribe),
        (any::<u64>(), any::<u16>()).prop_map(|(from, max)| Headers { from, max }),
        vec(hash(), 0..chain::MAX_KEYS).prop_map(|keys| State { keys }),
        blob(300).prop_map(|transaction| Submit { transaction }),
        hash().prop_map(|id| TxStatus { id }),
        any::<u64>().prop_map(|view| Seed { view }),
        any::<u64>().prop_map(|height| Block { height }),
        (any::<[u8; 32]>(), any::<u32>())
            .prop_map(|(address, denom)| Faucet { address: Address(address), denom: Denom(denom) }),
    ]
}

fn head() -> impl Strategy<Value = CertifiedHeader> {
    (blob(300), option::of(blob(200)))
        .prop_map(|(header, finalization)| CertifiedHeader { header, finalization })
}

fn chain_response() -> impl Strategy<Value = chain::Response> {
    use chain::Response::{
        Block, Funded, Head, Headers, Refused, Seed, State, Status, Submitted, TxStatus,
    };
    let entry = (hash(), option::of(blob(100)), blob(300))
        .prop_map(|(key, value, proof)| StateEntry { key, value, proof });
    let refusal = prop_oneof![
        Just(Refusal::Invalid),
        Just(Refusal::Busy),
        Just(Refusal::Unavailable),
        Just(Refusal::Rejected),
    ];
    prop_oneof![
        (hash(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
            |(chain, height, view, timestamp_ms)| Status { chain, height, view, timestamp_ms }
        ),
        vec(head(), 0..5).prop_map(Headers),
        (blob(300), blob(200), vec(entry, 0..5)).prop_map(|(header, finalization, entries)| {
            State(StateAnswer { header, finalization, entries })
        }),
        hash().prop_map(|id| Submitted { id }),
        option::of((any::<u64>(), any::<u32>(), blob(200))).prop_map(|o| TxStatus(
            o.map(|(height, index, proof)| TxLocation { height, index, proof })
        )),
        option::of(blob(90)).prop_map(Seed),
        option::of((head(), vec(blob(200), 0..4)))
            .prop_map(|o| Block(o.map(|(head, transactions)| BlockAnswer { head, transactions }))),
        head().prop_map(Head),
        hash().prop_map(|id| Funded { id }),
        (refusal, ".{0,60}").prop_map(|(refusal, reason)| Refused { refusal, reason }),
    ]
}

fn chunk_response() -> impl Strategy<Value = chunks::Response> {
    use chunks::Response::{Busy, Chunk, Manifest, Unknown};
    prop_oneof![
        blob(500).prop_map(Manifest),
        (any::<u32>(), blob(500), blob(100)).prop_map(|(index, data, proof)| Chunk {
            index,
            data,
            proof
        }),
        Just(Unknown),
        Just(Busy),
    ]
}

/// Decodes `bytes` as every kind of message; whatever is accepted must be canonical.
fn accept_only_canonical(bytes: &Bytes) -> Result<(), TestCaseError> {
    let limits = chain::Limits::default();
    if let Ok(message) = decode::<chain::Request>(bytes.clone(), &limits) {
        prop_assert_eq!(&encode(&message), bytes);
    }
    if let Ok(message) = decode::<chain::Response>(bytes.clone(), &limits) {
        prop_assert_eq!(&encode(&message), bytes);
    }
    if let Ok(message) = decode::<chunks::Request>(bytes.clone(), &()) {
        prop_assert_eq!(&encode(&message), bytes);
    }
    if let Ok(message) = decode::<chunks::Response>(bytes.clone(), &chunks::Limits::default()) {
        prop_assert_eq!(&encode(&message), bytes);
    }
    Ok(())
}

proptest! {
    #[test]
    fn chain_requests_survive(message in chain_request()) {
        prop_assert_eq!(decode(encode(&message), &chain::Limits::default()), Ok(message));
    }

    #[test]
    fn chain_responses_survive(message in chain_response()) {
        prop_assert_eq!(decode(encode(&message), &chain::Limits::default()), Ok(message));
    }

    #[test]
    fn chunk_messages_survive(
        message in chunk_response(),
        model in hash(),
        index in option::of(any::<u32>()),
    ) {
        let limits = chunks::Limits::default();
        prop_assert_eq!(decode(encode(&message), &limits), Ok(message));
        let request = match index {
            Some(index) => chunks::Request::Chunk { model, index },
            None => chunks::Request::Manifest { model },
        };
        prop_assert_eq!(decode(encode(&request), &()), Ok(request));
    }

    #[test]
    fn random_bytes_are_refused_or_canonical(bytes in blob(400)) {
        accept_only_canonical(&bytes)?;
    }

    #[test]
    fn mutated_messages_are_refused_or_canonical(
        request in chain_request(),
        response in chain_response(),
        chunk in chunk_response(),
        at in any::<prop::sample::Index>(),
        xor in 1u8..,
        cut in any::<prop::sample::Index>(),
    ) {
        for bytes in [encode(&request), encode(&response), encode(&chunk)] {
            let mut changed = bytes.to_vec();
            *at.get_mut(&mut changed) ^= xor;
            accept_only_canonical(&changed.into())?;
            accept_only_canonical(&bytes.slice(..cut.index(bytes.len())))?;
            let longer = [&bytes[..], &[0]].concat();
            accept_only_canonical(&longer.into())?;
        }
    }
}

#[test]
fn limits_are_the_readers() {
    let limits = chain::Limits { keys: 2, transaction: 10, ..chain::Limits::default() };
    let too_many = chain::Request::State { keys: vec![Hash([0; 32]); 3] };
    let refused = decode::<chain::Request>(encode(&too_many), &limits);
    assert!(matches!(refused, Err(DecodeError::Malformed(_))));
    let too_long = chain::Request::Submit { transaction: vec![0; 11].into() };
    assert!(decode::<chain::Request>(encode(&too_long), &limits).is_err());
    // A length that the bytes do not hold is refused without reserving it.
    let lie = Bytes::from_static(&[0, 0xff, 0xff, 0x3f]);
    assert!(decode::<chunks::Response>(lie, &chunks::Limits::default()).is_err());
}

#[test]
fn reasons_are_cut_at_a_character() {
    let long = "ü".repeat(MAX_REASON);
    let refused = chain::Response::refused(Refusal::Busy, long);
    let chain::Response::Refused { reason, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!(reason.len(), MAX_REASON);
    assert_eq!(decode(encode(&refused), &chain::Limits::default()), Ok(refused));
}
