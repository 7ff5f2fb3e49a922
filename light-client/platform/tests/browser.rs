//! The facades inside a dedicated worker in a headless browser, against a native peer.
//!
//! Needs `cargo run --example peer -- 47821` beside it; the test driver starts one.
#![cfg(target_family = "wasm")]
// Some bodies are only for native runs.
#[allow(dead_code)]
mod common;

use nesa_platform::{
    net::{NetConfig, Network, StreamLimits},
    storage::Store,
    time::Instant,
};
use nesa_wire::Protocol;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// The peer's fixed place: its key is `[42; 32]`.
const PEER: &str =
    "/ip4/127.0.0.1/tcp/47821/ws/p2p/12D3KooWBXu3uGPMkjjxViK6autSnFH5QaKJgTwW8CaSxYSD6yYL";

#[wasm_bindgen_test]
async fn echoes_over_websocket() {
    let network = Network::start(NetConfig::client([21; 32])).await.unwrap();
    let before = Instant::now();
    let peer = network.dial(PEER).await.unwrap();
    let dial = before.elapsed().as_millis();
    common::echoes(&network, PEER).await;
    common::parallel_streams(&network, PEER, 12).await;

    let mut stream = network.open(peer, Protocol::Echo).await.unwrap();
    let before = Instant::now();
    for _ in 0..50 {
        stream.ask(&[1; 1000]).await.unwrap();
    }
    let round = before.elapsed().as_secs_f64() * 1000.0 / 50.0;
    let payload = vec![7; 1 << 20];
    let before = Instant::now();
    for _ in 0..16 {
        stream.ask(&payload).await.unwrap();
    }
    let rate = 32.0 / before.elapsed().as_secs_f64();
    // Frames sent ahead of their echoes: both directions are busy at once.
    let (mut reader, mut writer) = stream.split();
    let before = Instant::now();
    let up = async {
        for _ in 0..32 {
            writer.send(&payload).await.unwrap();
        }
    };
    let down = async {
        for _ in 0..32 {
            reader.recv().await.unwrap().unwrap();
        }
    };
    futures::join!(up, down);
    let both = 64.0 / before.elapsed().as_secs_f64();
    wasm_bindgen_test::console_log!("sent ahead: {both:.1} MiB/s both ways");
    wasm_bindgen_test::console_log!(
        "dial {dial} ms, 1 kB round trip {round:.2} ms, 1 MiB echoes {rate:.1} MiB/s both ways"
    );
    network.shutdown().await;
}

#[wasm_bindgen_test]
async fn a_native_peer_reaches_this_worker_through_its_relay() {
    let network = Network::start(NetConfig::client([22; 32])).await.unwrap();
    let _echo = common::serve_echo(&network, StreamLimits::default());
    let address = network.listen_relay(PEER).await.unwrap();
    let peer = network.dial(PEER).await.unwrap();
    let mut stream = network.open(peer, Protocol::Chunks).await.unwrap();
    let answer = stream.ask(address.as_bytes()).await.unwrap();
    assert_eq!(answer, &b"ok"[..]);
    network.shutdown().await;
}

#[wasm_bindgen_test]
async fn two_workers_meet_through_a_relay() {
    common::through_a_relay(PEER).await;
}

#[wasm_bindgen_test]
async fn stores() {
    common::a_store_stores(&Store::memory()).await;
    let name = format!("test-{}", u64::from_le_bytes(nesa_platform::random::bytes()));
    let store = Store::open(&name).await.unwrap();
    common::a_store_stores(&store).await;
    let again = Store::open(&name).await.unwrap();
    assert_eq!(**again.get_secret("keys", "seed").await.unwrap().unwrap(), *b"secret");
}
