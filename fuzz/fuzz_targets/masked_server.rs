//! A server session survives any sequence of frames, after a valid opening.
#![no_main]

use commonware_codec::Encode;
use libfuzzer_sys::fuzz_target;
use nesa_chain::Side;
use nesa_crypto::sign::SecretKey;
use nesa_masked::{
    Lane, Stage,
    message::ClientMessage,
    server::{Received, Session, Terms, Weight, Weights},
    signing,
};
use nesa_primitives::{Amount, Hash};

struct Ones;

impl Weights for Ones {
    fn weights(&self, _: u16) -> Weight<'_> {
        Weight::Bytes(&[1; 12])
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let side = if first & 1 == 0 { Side::A } else { Side::B };
    let (client, node) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
    let stage = Stage { id: 0, k: 4, n: 3, input_bits: 8, row_bound_bits: 12 };
    let Ok(lane) = Lane::new(vec![stage]) else { return };
    let terms = Terms {
        chain: Hash::ZERO,
        query: Hash::ZERO,
        model: Hash::ZERO,
        client_key: client.public(),
        side,
        attempt: 0,
        price_per_token: Amount(1),
        budget: Amount(1000),
        max_tokens: 1000,
    };
    let mut session = Session::new(terms, lane, node.clone());
    let zero = Hash::ZERO;
    let open = signing::sign_open(zero, zero, zero, node.public(), side, 0, &client);
    assert!(session.receive(&ClientMessage::Open(open).encode()).is_ok());
    // Frames are cut by a length byte each.
    let mut rest = rest;
    while let Some((&len, tail)) = rest.split_first() {
        let (frame, next) = tail.split_at(tail.len().min(usize::from(len)));
        match session.receive(frame) {
            Ok(Received::Work(job)) => {
                if let Some(done) = job.run(&Ones) {
                    session.complete(done);
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
        rest = next;
    }
    let (served, paid) = session.account();
    assert!(served <= 1000 && paid == Amount::ZERO);
});
