#![no_main]
//! Frames of `/nesa/shard/1`, what is under their seal, what is kept of it, envelopes, prekeys and shard plans.

use nesa_crypto::seal::{Binding, Envelope, EnvelopeLimits, Prekey};
use nesa_model::decoder::ShardPlan;
use nesa_sealed::{Opening, message, server::Given};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let limits = message::Limits { rows: 4096 };
    nesa_fuzz::canonical::<message::Frame>(data, &message::FrameLimits { sealed: 4096 });
    nesa_fuzz::canonical::<message::Request>(data, &limits);
    nesa_fuzz::canonical::<message::Response>(data, &limits);
    nesa_fuzz::canonical::<Given>(data, &limits);
    nesa_fuzz::canonical::<Opening>(data, &());
    nesa_fuzz::canonical::<Envelope>(data, &EnvelopeLimits { ciphertext: 2048 });
    nesa_fuzz::canonical::<Prekey>(data, &());
    nesa_fuzz::canonical::<Binding>(data, &());
    nesa_fuzz::canonical::<ShardPlan>(data, &());
});
