//! The facades inside a dedicated worker in a headless browser, against a native peer.
//!
//! Needs `cargo run --example peer -- 47821` beside it; the test driver starts one.
#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test
// Some bodies are only for native runs.
#[allow(dead_code)]
mod common;

use nesa_platform::{
    net::{DialError, NetConfig, Network, StreamLimits},
    storage::Store,
    time::Instant,
};
use nesa_wire::Protocol;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

#[wasm_bindgen_test]
async fn echoes_over_websocket() {
    let network = Network::start(NetConfig::client([21; 32])).await.unwrap();
    let before = Instant::now();
    let peer = network.dial(common::PEER).await.unwrap();
    let dial = before.elapsed().as_millis();
    common::echoes(&network, common::PEER).await;
    common::parallel_streams(&network, common::PEER, 12).await;

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
async fn a_worker_refuses_webrtc_direct_and_goes_on() {
    let network = Network::start(NetConfig::client([23; 32])).await.unwrap();
    let peer = network.dial(common::PEER).await.unwrap();
    let mut stream = network.open(peer, Protocol::Chunks).await.unwrap();
    let addresses = stream.ask(b"").await.unwrap();
    let addresses = String::from_utf8(addresses.to_vec()).unwrap();
    let direct = addresses.lines().find(|a| a.contains("webrtc-direct")).unwrap();
    network.shutdown().await;

    // `RTCPeerConnection` does not exist here, whatever transports this crate was built with.
    let network = Network::start(NetConfig::client([24; 32])).await.unwrap();
    assert!(matches!(network.dial(direct).await, Err(DialError::Unreachable { .. })));
    assert_eq!(network.dial(common::PEER).await.unwrap(), peer);
    network.shutdown().await;
}

#[wasm_bindgen_test]
async fn a_native_peer_reaches_this_worker_through_its_relay() {
    let network = Network::start(NetConfig::client([22; 32])).await.unwrap();
    let _echo = common::serve_echo(&network, StreamLimits::default());
    let address = network.listen_relay(common::PEER).await.unwrap();
    let peer = network.dial(common::PEER).await.unwrap();
    let mut stream = network.open(peer, Protocol::Chunks).await.unwrap();
    let answer = stream.ask(address.as_bytes()).await.unwrap();
    assert_eq!(answer, &b"ok"[..]);
    network.shutdown().await;
}

#[wasm_bindgen_test]
async fn two_workers_meet_through_a_relay() {
    common::through_a_relay(common::PEER).await;
}

#[wasm_bindgen_test]
async fn a_long_computation_lets_events_in() {
    let heard = std::rc::Rc::new(std::cell::Cell::new(false));
    let hear = heard.clone();
    let _timer = nesa_platform::task::spawn(async move {
        nesa_platform::time::sleep(std::time::Duration::from_millis(1)).await;
        hear.set(true);
    });
    let before = Instant::now();
    let mut turns = 0u32;
    while !heard.get() {
        nesa_platform::task::yield_now().await;
        turns += 1;
    }
    for _ in 0..1000 {
        nesa_platform::task::yield_now().await;
    }
    wasm_bindgen_test::console_log!("{} turns in {:?}", turns + 1000, before.elapsed());
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
