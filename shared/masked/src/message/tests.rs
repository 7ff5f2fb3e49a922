use super::*;
use commonware_codec::Encode;
use proptest::prelude::*;

const LIMITS: Limits = Limits { payload: 100 };

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash)
}

fn signature() -> impl Strategy<Value = Signature> {
    proptest::array::uniform32(any::<u16>()).prop_map(|words| {
        let mut bytes = [0; 64];
        for (i, word) in words.into_iter().enumerate() {
            bytes[2 * i..2 * i + 2].copy_from_slice(&word.to_be_bytes());
        }
        Signature(bytes)
    })
}

fn slot() -> impl Strategy<Value = Slot> {
    any::<(u32, u32, u16, u16)>().prop_map(|(pass, tokens, stage, part)| Slot {
        pass,
        tokens,
        stage,
        part,
    })
}

fn side() -> impl Strategy<Value = Side> {
    any::<bool>().prop_map(|b| if b { Side::A } else { Side::B })
}

fn payload() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..=100).prop_map(Bytes::from)
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (slot(), payload()).prop_map(|(slot, share)| Request::Share { slot, share }),
        (slot(), any::<[u8; 32]>())
            .prop_map(|(slot, seed)| Request::Seed { slot, seed: SeedBytes(seed) }),
    ]
}

fn client_message() -> impl Strategy<Value = ClientMessage> {
    let open = (hash(), hash(), hash(), hash(), side(), any::<u8>(), signature()).prop_map(
        |(chain, query, model, node, side, attempt, signature)| {
            let node = Address(node.0);
            ClientMessage::Open(Open { chain, query, model, node, side, attempt, signature })
        },
    );
    let voucher =
        (hash(), hash(), any::<u64>(), signature()).prop_map(|(query, node, total, signature)| {
            let (node, total) = (Address(node.0), nesa_primitives::Amount(total));
            ClientMessage::Voucher(Voucher { query, node, total, signature })
        });
    prop_oneof![
        open,
        request().prop_map(ClientMessage::Work),
        request().prop_map(ClientMessage::Blame),
        voucher,
        hash().prop_map(|blind| ClientMessage::Finish { blind }),
    ]
}

fn server_message() -> impl Strategy<Value = ServerMessage> {
    let commit = (hash(), hash(), side(), any::<u8>(), hash(), any::<u32>(), signature()).prop_map(
        |(chain, query, side, attempt, blinded_root, served_tokens, signature)| {
            let c = SignedCommit {
                chain,
                query,
                side,
                attempt,
                blinded_root,
                served_tokens,
                signature,
            };
            ServerMessage::Commit(c)
        },
    );
    prop_oneof![
        Just(ServerMessage::Accept),
        (slot(), payload(), signature()).prop_map(|(slot, values, signature)| {
            ServerMessage::Product(Product { slot, values, signature })
        }),
        (slot(), payload()).prop_map(|(slot, values)| ServerMessage::Full { slot, values }),
        commit,
        prop_oneof![
            Just(Refusal::Protocol),
            Just(Refusal::NotDrawn),
            Just(Refusal::Unpaid),
            Just(Refusal::Unavailable)
        ]
        .prop_map(ServerMessage::Refused),
    ]
}

proptest! {
    #[test]
    fn client_messages_round_trip_within_their_limits(message in client_message()) {
        let bytes = message.encode();
        prop_assert!(bytes.len() <= LIMITS.payload + OVERHEAD);
        prop_assert_eq!(&decode_client(&bytes, &LIMITS).unwrap(), &message);
        for cut in 0..bytes.len() {
            prop_assert!(decode_client(&bytes[..cut], &LIMITS).is_err());
        }
        prop_assert!(decode_client(&[&bytes[..], &[0]].concat(), &LIMITS).is_err());
    }

    #[test]
    fn server_messages_round_trip_within_their_limits(message in server_message()) {
        let bytes = message.encode();
        prop_assert!(bytes.len() <= LIMITS.payload + OVERHEAD);
        prop_assert_eq!(&decode_server(&bytes, &LIMITS).unwrap(), &message);
        for cut in 0..bytes.len() {
            prop_assert!(decode_server(&bytes[..cut], &LIMITS).is_err());
        }
        prop_assert!(decode_server(&[&bytes[..], &[0]].concat(), &LIMITS).is_err());
    }

    #[test]
    fn any_bytes_decode_canonically_or_not_at_all(
        tag in 0u8..24,
        mut bytes in proptest::collection::vec(any::<u8>(), 1..400),
    ) {
        bytes[0] = tag;
        if let Ok(message) = decode_client(&bytes, &LIMITS) {
            prop_assert_eq!(message.encode(), bytes.clone());
        }
        if let Ok(message) = decode_server(&bytes, &LIMITS) {
            prop_assert_eq!(message.encode(), bytes.clone());
        }
        let _ = decode_open(&bytes);
    }

    #[test]
    fn mutated_messages_decode_canonically_or_not_at_all(
        message in client_message(), at: usize, bit in 0u8..8,
    ) {
        let mut bytes = message.encode().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(other) = decode_client(&bytes, &LIMITS) {
            prop_assert_ne!(&other, &message);
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    /// Sizes follow from shapes: equal slots and stages give equal sizes whatever is inside.
    #[test]
    fn sizes_do_not_depend_on_contents(slot in slot(), len in 0usize..=100, x: u8, y: u8) {
        let frame = |fill: u8| {
            let share = Bytes::from(vec![fill; len]);
            ClientMessage::Work(Request::Share { slot, share }).encode().len()
        };
        prop_assert_eq!(frame(x), frame(y));
    }
}

#[test]
fn payloads_beyond_the_limit_are_refused_before_they_are_read() {
    let slot = Slot { pass: 0, tokens: 1, stage: 0, part: 0 };
    let share = Bytes::from(vec![0; 101]);
    let bytes = ClientMessage::Work(Request::Share { slot, share }).encode();
    assert!(decode_client(&bytes, &LIMITS).is_err());
    assert!(decode_open(&bytes).is_err());
}
