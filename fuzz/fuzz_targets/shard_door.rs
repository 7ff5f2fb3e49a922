#![no_main]
//! A node's door takes any first frame: it answers, or refuses, and opens nothing that was not sealed.

use std::cell::RefCell;

use nesa_crypto::SecretKey;
use nesa_primitives::Hash;
use nesa_sealed::server::{Door, Greeting};

/// Not random: the door is the same in every run.
struct Counter(u64);

impl rand_core::TryRng for Counter {
    type Error = std::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.try_next_u64().map(|v| v as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1);
        Ok(self.0)
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for byte in bytes {
            *byte = (self.try_next_u64()? >> 56) as u8;
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Counter {}

thread_local! {
    static DOOR: RefCell<Door> = {
        let mut door = Door::new(Hash([1; 32]), SecretKey::from_seed(&[2; 32]));
        door.turn(1_700_000_000_000, &mut Counter(1));
        RefCell::new(door)
    };
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    DOOR.with_borrow(|door| {
        if let Ok(Greeting::Asked(_)) = door.receive(data) {
            panic!("an envelope that nobody sealed was opened");
        }
    });
});
