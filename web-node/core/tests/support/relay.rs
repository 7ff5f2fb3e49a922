//! A circuit relay that writes down everything it can see.
//!
//! It stands where a real relay stands, behind the encryption of its own two connections, and
//! records the bytes of every substream in both directions.

use futures::{AsyncRead, AsyncWrite, StreamExt as _};
use libp2p::{
    Multiaddr, SwarmBuilder, Transport as _,
    core::{
        muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox},
        upgrade,
    },
    identify, multiaddr, noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

/// One direction of one substream.
type Tape = Arc<Mutex<Vec<u8>>>;

/// What the relay saw, one tape for each direction of each substream.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<Tape>>>);

impl Record {
    fn tape(&self) -> Tape {
        let tape = Tape::default();
        self.0.lock().unwrap().push(tape.clone());
        tape
    }

    /// The tapes so far.
    pub(crate) fn tapes(&self) -> Vec<Vec<u8>> {
        let tapes = self.0.lock().unwrap();
        tapes.iter().map(|tape| tape.lock().unwrap().clone()).collect()
    }

    /// Bytes on all tapes.
    pub(crate) fn len(&self) -> usize {
        self.tapes().iter().map(Vec::len).sum()
    }

    /// Whether any tape holds `bytes`.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        self.tapes().iter().any(|tape| tape.windows(bytes.len()).any(|window| window == bytes))
    }
}

struct RecordingMuxer {
    inner: StreamMuxerBox,
    record: Record,
}

impl RecordingMuxer {
    fn wrap(&self, inner: SubstreamBox) -> RecordingStream {
        RecordingStream { inner, read: self.record.tape(), written: self.record.tape() }
    }
}

impl StreamMuxer for RecordingMuxer {
    type Substream = RecordingStream;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<RecordingStream>> {
        Pin::new(&mut self.inner).poll_inbound(cx).map_ok(|stream| self.wrap(stream))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<RecordingStream>> {
        Pin::new(&mut self.inner).poll_outbound(cx).map_ok(|stream| self.wrap(stream))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

struct RecordingStream {
    inner: SubstreamBox,
    read: Tape,
    written: Tape,
}

impl AsyncRead for RecordingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(count)) = &polled {
            self.read.lock().unwrap().extend_from_slice(&buf[..*count]);
        }
        polled
    }
}

impl AsyncWrite for RecordingStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &polled {
            self.written.lock().unwrap().extend_from_slice(&buf[..*count]);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay: relay::Behaviour,
}

/// Starts the relay, and returns its address with what it will have seen.
pub(crate) async fn start() -> (String, Record) {
    let record = Record::default();
    let recording = record.clone();
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|key| {
            libp2p_websocket::Config::new(tcp::tokio::Transport::new(tcp::Config::default()))
                .upgrade(upgrade::Version::V1Lazy)
                .authenticate(noise::Config::new(key).unwrap())
                .multiplex(yamux::Config::default())
                .map(move |(peer, muxer), _| {
                    let inner = StreamMuxerBox::new(muxer);
                    let record = recording.clone();
                    (peer, StreamMuxerBox::new(RecordingMuxer { inner, record }))
                })
        })
        .unwrap()
        .with_behaviour(|key| Behaviour {
            identify: identify::Behaviour::new(identify::Config::new(
                "/test/1".into(),
                key.public(),
            )),
            ping: ping::Behaviour::default(),
            relay: relay::Behaviour::new(
                key.public().to_peer_id(),
                relay::Config {
                    max_circuit_bytes: 0,
                    max_circuit_duration: Duration::from_secs(600),
                    ..relay::Config::default()
                },
            ),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0/ws".parse().unwrap()).unwrap();
    let address: Multiaddr = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address.with(multiaddr::Protocol::P2p(*swarm.local_peer_id()));
        }
    };
    swarm.add_external_address(address.clone());
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    (address.to_string(), record)
}
