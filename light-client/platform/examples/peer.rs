//! A native peer for the browser's tests: relays, echoes, and calls back.
//!
//! `peer PORT` listens on 127.0.0.1 with the fixed key that the tests know, prints `READY`, and
//! stays until its standard input closes.

use nesa_platform::{
    net::{NetConfig, Network, StreamLimits},
    task,
};
use nesa_wire::Protocol;
use tokio::io::AsyncReadExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).unwrap_or_default().parse()?;
    let config = NetConfig {
        listen: vec![
            format!("/ip4/127.0.0.1/tcp/{port}/ws"),
            format!("/ip4/127.0.0.1/udp/{port}/webrtc-direct"),
        ],
        relay_server: true,
        ..NetConfig::client([42; 32])
    };
    let network = Network::start(config).await?;
    let mut echoes = network.accept(Protocol::Echo, StreamLimits::default())?;
    task::spawn(async move {
        while let Some(mut stream) = echoes.next().await {
            task::spawn(async move {
                while let Ok(Some(frame)) = stream.recv().await {
                    if stream.send(&frame).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    // An empty frame: where this peer listens. A frame with an address: connect there, echo some
    // bytes, and tell how it went.
    let mut calls = network.accept(Protocol::Chunks, StreamLimits::default())?;
    let caller = network.clone();
    task::spawn(async move {
        while let Some(mut stream) = calls.next().await {
            let network = caller.clone();
            task::spawn(async move {
                while let Ok(Some(frame)) = stream.recv().await {
                    let address = String::from_utf8_lossy(&frame).into_owned();
                    let answer = if address.is_empty() {
                        network.listen_addresses().join("\n")
                    } else {
                        match call_back(&network, &address).await {
                            Ok(()) => "ok".to_owned(),
                            Err(error) => error.to_string(),
                        }
                    };
                    if stream.send(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    println!("READY");
    let mut sink = [0; 64];
    let mut input = tokio::io::stdin();
    while input.read(&mut sink).await? > 0 {}
    network.shutdown().await;
    Ok(())
}

async fn call_back(network: &Network, address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let peer = network.dial(address).await?;
    let mut stream = network.open(peer, Protocol::Echo).await?;
    let payload: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    for _ in 0..3 {
        if stream.ask(&payload).await? != payload {
            return Err("the echo differs".into());
        }
    }
    Ok(())
}
