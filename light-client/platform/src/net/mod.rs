//! Streams to authenticated peers: one facade over libp2p for both worlds.
//!
//! # Design
//!
//! ```text
//!   Network ──commands──▶ driver task (owns the swarm) ◀──events── libp2p
//!      │                        │
//!      ├─ open(peer, protocol) ─┴─▶ Stream  (frames, limits, time-outs)
//!      └─ accept(protocol) ───────▶ Incoming: a bounded queue of Streams
//! ```
//!
//! A peer is named by its chain address: the ed25519 key under which a node is registered is its
//! libp2p identity, so a stream to an address is a stream to that node, and the noise handshake
//! proves it. Through a relay the handshake runs end to end inside the circuit, and the relay
//! carries bytes that it can neither read nor change.
//!
//! Every accepted stream begins with one byte from the acceptor, which says that it took the
//! stream or that it is busy. Without it a stream that the acceptor's queue had no room for would
//! look open to the opener; with it, the opener tries again or is told.
//!
//! # How can I attack this?
//!
//! A peer can hold a bounded number of connections, streams and frame buffers, and each only while
//! it keeps moving bytes (see [`StreamLimits`], [`FrameError`]). A relay sees who talks to whom,
//! when, and how many bytes. Addresses are not looked up anywhere: whoever names a peer says where
//! it is, and a wrong place fails the handshake.

mod driver;
mod frames;
mod identity;
mod incoming;
mod permits;
mod stream;
mod swarm;
#[cfg(target_family = "wasm")]
#[path = "browser.rs"]
mod transport;
#[cfg(not(target_family = "wasm"))]
#[path = "native.rs"]
mod transport;
#[cfg(target_family = "wasm")]
mod websocket;

pub use frames::{FrameError, read_frame, write_frame};
pub use incoming::Incoming;
pub use permits::StreamLimits;
pub use stream::{IDLE, Reader, Stream, Writer};

use crate::storage::{StorageError, Store};
use driver::{Command, Shared};
use futures::{
    AsyncReadExt as _, SinkExt as _,
    channel::{mpsc, oneshot},
};
use nesa_primitives::Address;
use nesa_wire::Protocol;
use std::{sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// How long reaching a peer, or opening a stream to it, may take.
const REACH_LIMIT: Duration = Duration::from_secs(15);
/// How long an acceptor may take to say that it took a stream.
const ACCEPT_LIMIT: Duration = Duration::from_secs(10);
/// How often an opener tries again when the acceptor's queue had no room.
const OPEN_ATTEMPTS: u32 = 6;
/// The first byte of an accepted stream: taken.
const TAKEN: u8 = 1;
/// The first byte of an accepted stream: refused, the acceptor is at its limit.
const BUSY: u8 = 0;

/// The libp2p peer id of a node key, as multiaddresses spell it; `None` if the bytes are no point on
/// the curve.
pub fn peer_id(node: &Address) -> Option<String> {
    identity::peer_id(node).map(|id| id.to_string())
}

/// How a [`Network`] is set up.
pub struct NetConfig {
    /// The secret of the ed25519 node key.
    pub identity: Zeroizing<[u8; 32]>,
    /// Multiaddresses to listen on: `/ip4/…/tcp/PORT/ws`, `/ip4/…/udp/PORT/webrtc-direct`.
    /// Port 0 takes any free one. A browser can only listen through a relay.
    pub listen: Vec<String>,
    /// Whether to relay for others. Ignored in the browser.
    pub relay_server: bool,
    /// Where the webrtc-direct certificate is kept, so that addresses survive a restart.
    pub store: Option<Store>,
    /// The most connections at once, both directions together.
    pub max_connections: u32,
}

impl NetConfig {
    /// A peer that dials but does not listen.
    pub fn client(identity: [u8; 32]) -> NetConfig {
        NetConfig {
            identity: Zeroizing::new(identity),
            listen: Vec::new(),
            relay_server: false,
            store: None,
            max_connections: 256,
        }
    }
}

/// The network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listen address is not one, or not possible here.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        reason: String,
    },
    /// The transports could not be set up.
    #[error("cannot set up the transports: {0}")]
    Transport(String),
    /// The certificate could not be kept.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A peer could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Not a multiaddress that ends in an ed25519 peer id.
    #[error("{0:?} does not name a peer")]
    Address(String),
    /// Nobody answers there, or somebody else does.
    #[error("cannot reach {address}: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why, as far as the transport says.
        reason: String,
    },
    /// This network was shut down.
    #[error("the network was shut down")]
    Stopped,
}

/// A stream could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no connection to the peer and no address at which it answers.
    #[error("not connected to {0}")]
    NotConnected(Address),
    /// The peer does not speak the protocol.
    #[error("{peer} does not speak {protocol}")]
    Unsupported {
        /// Who.
        peer: Address,
        /// What it does not speak.
        protocol: Protocol,
    },
    /// The peer is at its limit.
    #[error("{0} is busy")]
    Busy(Address),
    /// The stream broke while it was being opened.
    #[error("opening a stream to {peer} failed: {reason}")]
    Broken {
        /// To whom.
        peer: Address,
        /// What went wrong.
        reason: String,
    },
}

/// Streams of this protocol are being accepted already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is being accepted already")]
pub struct AcceptError(pub Protocol);

/// What happened on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first connection to a peer.
    Connected {
        /// Who.
        peer: Address,
        /// Whether it runs through a relay.
        relayed: bool,
    },
    /// The last connection to a peer has ended.
    Disconnected {
        /// Who.
        peer: Address,
    },
    /// This peer can be reached at a new address.
    Listening {
        /// The address, with this peer's id.
        address: String,
    },
    /// An address stopped working. Relayed ones are tried again by themselves.
    ListenLost {
        /// The address, with this peer's id.
        address: String,
    },
}

/// A running network. Clones share it; it stops with [`Network::shutdown`] or its last clone.
#[derive(Clone)]
pub struct Network {
    local: Address,
    control: libp2p_stream::Control,
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Network({})", self.local)
    }
}

impl Network {
    /// Starts the swarm, and returns once every listener has its address.
    pub async fn start(config: NetConfig) -> Result<Network, StartError> {
        let keypair = identity::keypair(&config.identity);
        let local = Address(
            keypair
                .public()
                .try_into_ed25519()
                .map_err(|error| StartError::Transport(error.to_string()))?
                .to_bytes(),
        );
        let swarm = transport::build(keypair, &config).await?;
        let network = driver::start(swarm, local);
        for address in &config.listen {
            network
                .listen(address)
                .await
                .map_err(|reason| StartError::Listen { address: address.clone(), reason })?;
        }
        Ok(network)
    }

    /// This peer's node key.
    pub fn address(&self) -> Address {
        self.local
    }

    /// Where this peer can be reached, each address with its peer id.
    pub fn listen_addresses(&self) -> Vec<String> {
        self.shared.listening()
    }

    /// The peers with a live connection.
    pub fn peers(&self) -> Vec<Address> {
        self.shared.peers()
    }

    /// Whether there is a live connection to `peer`.
    pub fn is_connected(&self, peer: &Address) -> bool {
        self.shared.connected(peer)
    }

    /// Connects to the peer that `address` (a multiaddress ending in `/p2p/…`) names, and returns
    /// its node key. A connection that exists is used as it is. The address is remembered, so
    /// that [`Network::open`] can connect again.
    pub async fn dial(&self, address: &str) -> Result<Address, DialError> {
        let (multiaddr, _, peer) =
            identity::target(address).ok_or_else(|| DialError::Address(address.to_owned()))?;
        self.shared.remember(peer, multiaddr.clone());
        if self.shared.connected(&peer) {
            return Ok(peer);
        }
        self.connect(peer, vec![multiaddr]).await.map_err(|error| match error {
            Some(reason) => DialError::Unreachable { address: address.to_owned(), reason },
            None => DialError::Stopped,
        })?;
        Ok(peer)
    }

    /// Remembers that `peer` may answer at `address`, without connecting.
    pub fn know(&self, address: &str) -> Result<Address, DialError> {
        let (multiaddr, _, peer) =
            identity::target(address).ok_or_else(|| DialError::Address(address.to_owned()))?;
        self.shared.remember(peer, multiaddr);
        Ok(peer)
    }

    /// Becomes reachable through the relay at `address`, and returns the relayed address to
    /// publish. The reservation is renewed, and made again after a lost connection, by itself.
    pub async fn listen_relay(&self, address: &str) -> Result<String, DialError> {
        let (relay, _, _) =
            identity::target(address).ok_or_else(|| DialError::Address(address.to_owned()))?;
        let circuit = relay.with(libp2p::multiaddr::Protocol::P2pCircuit).to_string();
        self.listen(&circuit)
            .await
            .map_err(|reason| DialError::Unreachable { address: address.to_owned(), reason })
    }

    /// Opens a stream to `peer`, connecting first if an address is known.
    pub async fn open(&self, peer: Address, protocol: Protocol) -> Result<Stream, OpenError> {
        let Some(peer_id) = identity::peer_id(&peer) else {
            return Err(OpenError::NotConnected(peer));
        };
        if !self.shared.connected(&peer) {
            let known = self.shared.known(&peer);
            if known.is_empty() || self.connect(peer, known).await.is_err() {
                return Err(OpenError::NotConnected(peer));
            }
        }
        let broken = |reason: String| OpenError::Broken { peer, reason };
        let name = libp2p::StreamProtocol::new(protocol.name());
        let mut last = String::new();
        for attempt in 0..OPEN_ATTEMPTS {
            if attempt > 0 {
                crate::time::sleep(Duration::from_millis(5 << attempt)).await;
            }
            let mut control = self.control.clone();
            let opened =
                crate::time::timeout(REACH_LIMIT, control.open_stream(peer_id, name.clone())).await;
            let mut io = match opened {
                Ok(Ok(io)) => io,
                Ok(Err(libp2p_stream::OpenStreamError::UnsupportedProtocol(_))) => {
                    return Err(OpenError::Unsupported { peer, protocol });
                }
                Ok(Err(error)) => return Err(broken(error.to_string())),
                Err(elapsed) => return Err(broken(elapsed.to_string())),
            };
            let mut first = [0];
            match crate::time::timeout(ACCEPT_LIMIT, io.read_exact(&mut first)).await {
                Ok(Ok(())) if first[0] == TAKEN => {
                    let piece = self.shared.piece(&peer);
                    return Ok(Stream::new(peer, protocol, io, piece, None));
                }
                Ok(Ok(())) => return Err(OpenError::Busy(peer)),
                // The acceptor's queue had no room: it dropped the stream unseen.
                Ok(Err(error)) => last = error.to_string(),
                Err(elapsed) => return Err(broken(elapsed.to_string())),
            }
        }
        Err(broken(last))
    }

    /// Accepts streams of `protocol`, within `limits`, until the returned queue is dropped.
    pub fn accept(
        &self,
        protocol: Protocol,
        limits: StreamLimits,
    ) -> Result<Incoming, AcceptError> {
        let streams = self
            .control
            .clone()
            .accept(libp2p::StreamProtocol::new(protocol.name()))
            .map_err(|_| AcceptError(protocol))?;
        Ok(Incoming::new(protocol, limits, streams, self.shared.clone()))
    }

    /// What happens from now on. A subscriber that does not read loses the oldest events.
    pub fn events(&self) -> mpsc::Receiver<Event> {
        self.shared.subscribe()
    }

    /// Ends every connection to `peer`.
    pub async fn disconnect(&self, peer: Address) {
        let _ = self.commands.clone().send(Command::Disconnect(peer)).await;
    }

    /// Ends every connection and stops the swarm.
    pub async fn shutdown(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.clone().send(Command::Stop(done)).await.is_ok() {
            let _ = stopped.await;
        }
    }

    async fn connect(
        &self,
        peer: Address,
        addresses: Vec<libp2p::Multiaddr>,
    ) -> Result<(), Option<String>> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Dial { peer, addresses, reply };
        self.commands.clone().send(command).await.map_err(|_| None)?;
        match crate::time::timeout(REACH_LIMIT, answer).await {
            Ok(Ok(result)) => result.map_err(Some),
            Ok(Err(_)) => Err(None),
            Err(elapsed) => Err(Some(elapsed.to_string())),
        }
    }

    async fn listen(&self, address: &str) -> Result<String, String> {
        let address = address.parse().map_err(|error| format!("{error}"))?;
        let (reply, answer) = oneshot::channel();
        let stopped = || "the network was shut down".to_owned();
        self.commands
            .clone()
            .send(Command::Listen { address, reply })
            .await
            .map_err(|_| stopped())?;
        match crate::time::timeout(REACH_LIMIT, answer).await {
            Ok(result) => result.map_err(|_| stopped())?,
            Err(elapsed) => Err(elapsed.to_string()),
        }
    }
}
