//! The server as a hostile client meets it: connections that never say what they want.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod still;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use nesa_rpc::{Config, Limits};
use still::Still;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

const REQUEST: &[u8] =
    b"GET /v1/bootstrap HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// A server with room for few connections and little patience.
async fn start(limits: Limits) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(async move {
        let config = Config { limits, ..Config::default() };
        nesa_rpc::serve(listener, Arc::new(Still), &config, async {
            let _ = stopped.await;
        })
        .await;
    });
    (address, stop, served)
}

async fn ask(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Reads until the other side closes.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset closes as well as an end.
    let _ = stream.read_to_end(&mut rest).await;
    rest
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let head = Duration::from_millis(150);
    let (address, _stop, _served) = start(Limits { connections: 8, head }).await;
    for start in
        [&b""[..], b"GET /v1/boot", b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\nx-a: b\r\n"]
    {
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(start).await.unwrap();
        let got = until_closed(&mut slow).await;
        assert!(!got.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&got));
    }
    assert!(ask(address).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_drop_now_and_then_does_not_keep_a_connection_open() {
    let head = Duration::from_millis(300);
    let (address, _stop, _served) = start(Limits { connections: 8, head }).await;
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let dripping = tokio::spawn(async move {
        write.write_all(b"GET /v1/status HTTP/1.1\r\n").await.unwrap();
        while write.write_all(b"x-a: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut rest = Vec::new();
    let _ = read.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    dripping.await.unwrap();
}

#[tokio::test]
async fn silent_connections_do_not_keep_others_out() {
    let head = Duration::from_millis(150);
    let (address, _stop, _served) = start(Limits { connections: 2, head }).await;
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert!(ask(address).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn no_more_connections_than_allowed_are_served_at_once() {
    // Patient with heads: the one slot stays taken until its holder leaves.
    let head = Duration::from_secs(600);
    let (address, _stop, _served) = start(Limits { connections: 1, head }).await;
    let holder = TcpStream::connect(address).await.unwrap();
    let waiting = tokio::spawn(ask(address));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished(), "a second connection was served");
    drop(holder);
    assert!(waiting.await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn stopping_ends_the_listener_and_idle_connections() {
    let head = Duration::from_millis(300);
    let (address, stop, served) = start(Limits { connections: 8, head }).await;
    assert!(ask(address).await.starts_with("HTTP/1.1 200"));
    let mut idle = TcpStream::connect(address).await.unwrap();
    stop.send(()).unwrap();
    served.await.unwrap();
    assert!(until_closed(&mut idle).await.is_empty());
    assert!(TcpStream::connect(address).await.is_err());
}
