//! A page, unlike a worker, may dial webrtc-direct: for nodes that have no certificate for `wss:`.
//!
//! Needs the same native peer as `browser.rs`, and the feature `webrtc-page`.
#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test
#[allow(dead_code)]
mod common;

use nesa_platform::{
    net::{NetConfig, Network},
    time::Instant,
};
use nesa_wire::Protocol;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

#[wasm_bindgen_test]
async fn a_page_dials_webrtc_direct() {
    // The certificate's hash is part of the address, so the peer is asked for it.
    let asking = Network::start(NetConfig::client([31; 32])).await.unwrap();
    let peer = asking.dial(common::PEER).await.unwrap();
    let mut stream = asking.open(peer, Protocol::Chunks).await.unwrap();
    let addresses = stream.ask(b"").await.unwrap();
    let addresses = String::from_utf8(addresses.to_vec()).unwrap();
    let address = addresses.lines().find(|a| a.contains("webrtc-direct")).unwrap();

    let network = Network::start(NetConfig::client([32; 32])).await.unwrap();
    let before = Instant::now();
    assert_eq!(network.dial(address).await.unwrap(), peer);
    let dial = before.elapsed().as_millis();
    // Frames above 8 KiB would kill an unchunked stream.
    let mut stream = network.open(peer, Protocol::Echo).await.unwrap();
    for size in [1, 1000, 8 << 10, 20_000, 200_000] {
        let payload: Vec<u8> = (0..size as u32).map(|i| (i % 253) as u8).collect();
        assert_eq!(stream.ask(&payload).await.unwrap(), payload, "{size} bytes");
    }
    wasm_bindgen_test::console_log!("webrtc-direct: dial {dial} ms");
}
