//! Both ends of a thin preparation survive any frames; what decodes is canonical.
#![no_main]

use commonware_codec::Encode;
use libfuzzer_sys::fuzz_target;
use nesa_crypto::prg::Seed;
use nesa_masked::{
    Lane, Stage,
    client::Candidate,
    server::{Weight, Weights},
    thin::{
        self, PreparerRequest, Preparing,
        server::{Received, Session},
    },
};
use nesa_primitives::Hash;

struct Ones;

impl Weights for Ones {
    fn weights(&self, _: u16) -> Weight<'_> {
        Weight::Bytes(&[1; 12])
    }
}

/// A generator that is not random: what is sent does not matter here.
struct Fixed(nesa_crypto::prg::Prg);

impl rand_core::TryRng for Fixed {
    type Error = core::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut word = [0];
        self.0.fill_u32(&mut word);
        Ok(word[0])
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(u64::from(self.try_next_u32()?) << 32 | u64::from(self.try_next_u32()?))
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill_bytes(out);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Fixed {}

fuzz_target!(|input: &[u8]| {
    if let Ok(message) = thin::decode_request(input) {
        assert_eq!(message.encode(), input);
    }
    if let Ok(message) = thin::decode_response(input) {
        assert_eq!(message.encode(), input);
    }
    let stage = |id| Stage { id, k: 4, n: 3, input_bits: 8, row_bound_bits: 12 };
    let Ok(lane) = Lane::new(vec![stage(0), stage(1)]) else { return };
    let node = [1; 32].into();
    let mut server = Session::new(Hash::ZERO, Hash::ZERO, node, lane.clone());
    let open = PreparerRequest::Open { chain: Hash::ZERO, model: Hash::ZERO, node };
    assert!(server.receive(&open.encode()).is_ok());
    let candidate = |i: u8| Candidate { node: [i; 32].into(), operator: [i + 10; 32].into() };
    let mut rng = Fixed(Seed::from_bytes([1; 32]).prg());
    let pair = [candidate(1), candidate(2)];
    let Ok(mut client) = Preparing::new(Hash::ZERO, Hash::ZERO, lane, pair, &mut rng) else {
        return;
    };
    // Frames are cut by a length byte each; its lowest bit says which preparer sends.
    let (mut rest, mut works) = (input, 0);
    while let Some((&len, tail)) = rest.split_first() {
        let (frame, next) = tail.split_at(tail.len().min(usize::from(len)));
        let _ = client.received(usize::from(len & 1), frame);
        if let Ok(Received::Work(job)) = server.receive(frame) {
            works += 1;
            assert!(job.run(&Ones).is_some_and(|done| !done.frames().is_empty()));
        }
        rest = next;
    }
    assert!(works <= 2);
    let complete = client.is_complete(0) && client.is_complete(1);
    assert_eq!(client.finish().is_ok(), complete);
});
