//! The facades natively. The bodies are shared with `browser.rs`.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test
// Some bodies are only for the browser.
#[allow(dead_code)]
mod common;

use futures::StreamExt as _;
use nesa_platform::{
    http,
    net::{DialError, Event, FrameError, NetConfig, Network, OpenError, StreamLimits},
    storage::Store,
};
use nesa_primitives::Address;
use nesa_wire::Protocol;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn listener(seed: u8, listen: &[&str], relay_server: bool, store: Option<Store>) -> Network {
    let config = NetConfig {
        listen: listen.iter().map(|a| (*a).to_owned()).collect(),
        relay_server,
        store,
        ..NetConfig::client([seed; 32])
    };
    Network::start(config).await.unwrap()
}

const WS: &str = "/ip4/127.0.0.1/tcp/0/ws";
const RTC: &str = "/ip4/127.0.0.1/udp/0/webrtc-direct";

#[tokio::test]
async fn echoes_over_websocket() {
    let server = listener(1, &[WS], false, None).await;
    let _echo = common::serve_echo(&server, StreamLimits::default());
    let address = server.listen_addresses().remove(0);
    let client = Network::start(NetConfig::client([2; 32])).await.unwrap();
    common::echoes(&client, &address).await;
    common::parallel_streams(&client, &address, 12).await;
    assert_eq!(client.peers(), [server.address()]);
}

#[tokio::test]
async fn two_clients_meet_through_a_relay() {
    let relay = listener(3, &[WS], true, None).await;
    common::through_a_relay(&relay.listen_addresses()[0]).await;
}

#[tokio::test]
async fn a_restarted_node_keeps_its_webrtc_address() {
    let dir = tempfile::tempdir().unwrap();
    let open = || async { Store::open(dir.path().to_str().unwrap()).await.unwrap() };
    let hash = |network: &Network| {
        let address = network.listen_addresses().remove(0);
        address.split_once("/certhash/").unwrap().1.to_owned()
    };
    let first = listener(4, &[RTC], false, Some(open().await)).await;
    let before = hash(&first);
    first.shutdown().await;
    let second = listener(4, &[RTC], false, Some(open().await)).await;
    assert_eq!(hash(&second), before);
}

#[tokio::test]
async fn a_peer_with_another_key_is_not_accepted_in_its_place() {
    let server = listener(5, &[WS], false, None).await;
    let other = listener(6, &[], false, None).await;
    let real = server.listen_addresses().remove(0);
    let place = real.split_once("/p2p/").unwrap().0;
    let peer_id = {
        let elsewhere = listener(6, &[WS], false, None).await;
        elsewhere.listen_addresses()[0].split_once("/p2p/").unwrap().1.to_owned()
    };
    let client = Network::start(NetConfig::client([7; 32])).await.unwrap();
    let error = client.dial(&format!("{place}/p2p/{peer_id}")).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
    assert!(!client.is_connected(&other.address()));
    assert!(matches!(client.dial(place).await.unwrap_err(), DialError::Address(_)));
}

#[tokio::test]
async fn streams_are_limited_per_peer_and_say_so() {
    let server = listener(8, &[WS], false, None).await;
    let _echo = common::serve_echo(&server, StreamLimits { total: 10, per_peer: 2 });
    let address = server.listen_addresses().remove(0);
    let client = Network::start(NetConfig::client([9; 32])).await.unwrap();
    let peer = client.dial(&address).await.unwrap();
    let first = client.open(peer, Protocol::Echo).await.unwrap();
    let _second = client.open(peer, Protocol::Echo).await.unwrap();
    assert_eq!(client.open(peer, Protocol::Echo).await.unwrap_err(), OpenError::Busy(peer));
    // Another peer has its own share.
    let other = Network::start(NetConfig::client([10; 32])).await.unwrap();
    common::echoes(&other, &address).await;
    drop(first);
    let mut again = client.open(peer, Protocol::Echo).await;
    for _ in 0..50 {
        if again.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        again = client.open(peer, Protocol::Echo).await;
    }
    again.unwrap();
    let error = client.open(peer, Protocol::Chain).await.unwrap_err();
    assert_eq!(error, OpenError::Unsupported { peer, protocol: Protocol::Chain });
    let nobody = Address([0; 32]);
    assert_eq!(
        client.open(nobody, Protocol::Echo).await.unwrap_err(),
        OpenError::NotConnected(nobody)
    );
}

#[tokio::test]
async fn a_hostile_frame_ends_the_stream_and_nothing_else() {
    use futures::AsyncWriteExt as _;
    let server = listener(13, &[WS], false, None).await;
    let mut incoming = server.accept(Protocol::Chain, StreamLimits::default()).unwrap();
    let address = server.listen_addresses().remove(0);
    let client = Network::start(NetConfig::client([14; 32])).await.unwrap();
    let peer = client.dial(&address).await.unwrap();
    let mut raw = client.open(peer, Protocol::Chain).await.unwrap();
    raw.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    raw.flush().await.unwrap();
    let mut taken = incoming.next().await.unwrap();
    assert!(matches!(taken.recv().await.unwrap_err(), FrameError::TooLong(_)));
    let _echo = common::serve_echo(&server, StreamLimits::default());
    common::echoes(&client, &address).await;
}

#[tokio::test]
async fn connections_come_back_and_events_tell() {
    let server = listener(15, &[WS], false, None).await;
    let _echo = common::serve_echo(&server, StreamLimits::default());
    let address = server.listen_addresses().remove(0);
    let client = Network::start(NetConfig::client([16; 32])).await.unwrap();
    let mut events = client.events();
    let peer = client.dial(&address).await.unwrap();
    assert_eq!(events.next().await, Some(Event::Connected { peer, relayed: false }));
    client.disconnect(peer).await;
    assert_eq!(events.next().await, Some(Event::Disconnected { peer }));
    // The address is remembered: opening a stream connects again.
    let mut stream = client.open(peer, Protocol::Echo).await.unwrap();
    assert_eq!(stream.ask(b"again").await.unwrap(), &b"again"[..]);
}

#[tokio::test]
async fn a_lost_reservation_is_made_again() {
    let relay = listener(17, &[WS], true, None).await;
    let place = relay.listen_addresses().remove(0);
    let hidden = Network::start(NetConfig::client([18; 32])).await.unwrap();
    let _echo = common::serve_echo(&hidden, StreamLimits::default());
    let mut events = hidden.events();
    let address = hidden.listen_relay(&place).await.unwrap();
    let port_part = place.split_once("/p2p/").unwrap().0.to_owned();
    relay.shutdown().await;
    drop(relay);
    loop {
        if let Event::ListenLost { address: lost } = events.next().await.unwrap() {
            assert_eq!(lost, address);
            break;
        }
    }
    let _relay = listener(17, &[&port_part], true, None).await;
    loop {
        if let Event::Listening { address: found } = events.next().await.unwrap() {
            assert_eq!(found, address);
            break;
        }
    }
    let caller = Network::start(NetConfig::client([19; 32])).await.unwrap();
    common::echoes(&caller, &address).await;
}

#[tokio::test]
async fn stores() {
    common::a_store_stores(&Store::memory()).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).await.unwrap();
    common::a_store_stores(&store).await;
    let again = Store::open(dir.path().to_str().unwrap()).await.unwrap();
    assert_eq!(**again.get_secret("keys", "seed").await.unwrap().unwrap(), *b"secret");
}

/// Answers one HTTP request with `answer` and returns the address.
async fn http_server(answer: &'static [u8]) -> String {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/bootstrap", socket.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut connection, _) = socket.accept().await.unwrap();
        let mut request = [0; 1024];
        let _ = connection.read(&mut request).await;
        let _ = connection.write_all(answer).await;
    });
    url
}

#[tokio::test]
async fn get_is_bounded_and_strict() {
    let url = http_server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    assert_eq!(http::get(&url, 100).await.unwrap(), &b"{}"[..]);
    let url = http_server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}").await;
    assert!(matches!(http::get(&url, 100).await, Err(http::GetError::Connection { .. })));
    let url = http_server(b"HTTP/1.1 404 Not Found\r\n\r\n").await;
    assert!(matches!(http::get(&url, 100).await, Err(http::GetError::Status { status: 404, .. })));
    let url = http_server(b"HTTP/1.1 200 OK\r\n\r\n0123456789").await;
    assert!(matches!(http::get(&url, 9).await, Err(http::GetError::TooLong { limit: 9, .. })));
    assert!(matches!(
        http::get("https://localhost/", 9).await,
        Err(http::GetError::Address { .. })
    ));
}
