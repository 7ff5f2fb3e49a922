//! Test bodies that run natively and in the browser's worker alike.

use nesa_platform::{
    net::{NetConfig, Network, StreamLimits},
    storage::{StorageError, Store},
    task::{self, Guard},
};
use nesa_wire::Protocol;

/// Where the native peer of the browser's tests (`examples/peer.rs`) listens: its key is `[42; 32]`.
pub(crate) const PEER: &str =
    "/ip4/127.0.0.1/tcp/47821/ws/p2p/12D3KooWBXu3uGPMkjjxViK6autSnFH5QaKJgTwW8CaSxYSD6yYL";

/// Serves echoes until the guard is dropped.
pub(crate) fn serve_echo(network: &Network, limits: StreamLimits) -> Guard {
    let mut incoming = network.accept(Protocol::Echo, limits).unwrap();
    task::spawn(async move {
        while let Some(mut stream) = incoming.next().await {
            task::spawn(async move {
                while let Ok(Some(frame)) = stream.recv().await {
                    if stream.send(&frame).await.is_err() {
                        return;
                    }
                }
            });
        }
    })
    .abort_on_drop()
}

/// Dials `address` and echoes frames of many sizes on one stream.
pub(crate) async fn echoes(network: &Network, address: &str) {
    let peer = network.dial(address).await.unwrap();
    assert!(network.is_connected(&peer));
    let mut stream = network.open(peer, Protocol::Echo).await.unwrap();
    assert_eq!(stream.peer(), peer);
    for size in [0, 1, 1000, 8 << 10, 70_000, 1 << 20] {
        let payload: Vec<u8> = (0..size as u32).map(|i| (i % 253) as u8).collect();
        assert_eq!(stream.ask(&payload).await.unwrap(), payload, "{size} bytes");
    }
    stream.close().await.unwrap();
    assert_eq!(stream.recv().await.unwrap(), None);
}

/// Many streams at once over one connection: none is lost.
pub(crate) async fn parallel_streams(network: &Network, address: &str, count: usize) {
    let peer = network.dial(address).await.unwrap();
    let jobs = (0..count).map(|i| async move {
        let mut stream = network.open(peer, Protocol::Echo).await.unwrap();
        let payload = vec![i as u8; 5000];
        assert_eq!(stream.ask(&payload).await.unwrap(), payload);
        stream.close().await.unwrap();
    });
    futures::future::join_all(jobs).await;
}

/// Two peers that know only a relay talk to each other through it.
pub(crate) async fn through_a_relay(relay: &str) {
    let hidden = Network::start(NetConfig::client([11; 32])).await.unwrap();
    let _echo = serve_echo(&hidden, StreamLimits::default());
    let address = hidden.listen_relay(relay).await.unwrap();
    assert!(address.contains("p2p-circuit"), "{address}");
    assert_eq!(hidden.listen_addresses(), std::slice::from_ref(&address));

    let caller = Network::start(NetConfig::client([12; 32])).await.unwrap();
    echoes(&caller, &address).await;
    // The far end of the circuit is the hidden peer, not the relay.
    assert!(caller.is_connected(&hidden.address()));
    caller.shutdown().await;
    hidden.shutdown().await;
}

/// What every store does, wherever it keeps its bytes.
pub(crate) async fn a_store_stores(store: &Store) {
    assert_eq!(store.get("space", "none").await.unwrap(), None);
    store.put("space", "b", b"2").await.unwrap();
    store.put("space", "a/ü", b"1").await.unwrap();
    store.put("space2", "c", b"3").await.unwrap();
    store.put("space", "b", b"two").await.unwrap();
    assert_eq!(store.get("space", "b").await.unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(store.list("space").await.unwrap(), ["a/ü", "b"]);
    let keys = ["b", "none", "a/ü"].map(String::from);
    let found = store.get_many("space", &keys).await.unwrap();
    assert_eq!(found, [Some("two".into()), None, Some("1".into())]);
    assert_eq!(store.get_many("space", &[]).await.unwrap(), Vec::<Option<bytes::Bytes>>::new());
    store.delete("space", "b").await.unwrap();
    store.delete("space", "b").await.unwrap();
    assert_eq!(store.list("space").await.unwrap(), ["a/ü"]);
    assert_eq!(store.list("nothing").await.unwrap(), Vec::<String>::new());

    let key = store.secret_key("keys", "mac").await.unwrap();
    assert_eq!(*store.secret_key("keys", "mac").await.unwrap(), *key);
    assert_ne!(*store.secret_key("keys", "other").await.unwrap(), *key);
    store.put_secret("keys", "seed", b"secret").await.unwrap();
    assert_eq!(**store.get_secret("keys", "seed").await.unwrap().unwrap(), *b"secret");

    for bad in ["", "UPPER", "a/b", "..", &"x".repeat(101)] {
        assert!(matches!(store.put(bad, "k", b"").await, Err(StorageError::Name(_))), "{bad}");
    }
    assert!(store.put("space", &"k".repeat(101), b"").await.is_err());
}
