#![no_main]
//! Frames of `/nesa/chain/1` and `/nesa/chunks/1`, and the framing itself.

use bytes::BytesMut;
use nesa_wire::{chain, chunks, frame};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    nesa_fuzz::canonical::<chain::Request>(data, &chain::Limits::default());
    nesa_fuzz::canonical::<chain::Response>(data, &chain::Limits::default());
    nesa_fuzz::canonical::<chunks::Request>(data, &());
    nesa_fuzz::canonical::<chunks::Response>(data, &chunks::Limits::default());
    let mut input = BytesMut::from(data);
    while let Ok(Some(payload)) = frame::take(&mut input, 1024) {
        assert!(payload.len() <= 1024);
    }
});
