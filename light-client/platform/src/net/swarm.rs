//! What the native swarm and the browser's have in common: names, limits, and how a raw connection
//! becomes a secured one with streams in it.

use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId, Transport,
    connection_limits::{self, ConnectionLimits},
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade},
    identify,
    identity::Keypair,
    noise, yamux,
};

/// A connection without a stream is closed after this.
pub(super) const IDLE_CONNECTION: Duration = Duration::from_secs(120);
/// Connections of one peer: a direct one, relayed ones, and one that has not noticed its end.
const MAX_PER_PEER: u32 = 8;
/// Streams within one connection; a relay's connection to a volunteer carries one per circuit.
const MAX_STREAMS: usize = 256;

/// Adds the noise handshake under `key` and yamux streams to a transport of raw connections.
pub(super) fn secure<T>(
    transport: T,
    key: &Keypair,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    Ok(transport
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxer())
        .boxed())
}

/// Streams over one connection.
pub(super) fn muxer() -> yamux::Config {
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(MAX_STREAMS);
    muxer
}

/// At most `most` connections, a few of them to one peer; `pending` may be in their handshake.
pub(super) fn limits(most: u32, pending: Option<u32>) -> connection_limits::Behaviour {
    connection_limits::Behaviour::new(
        ConnectionLimits::default()
            .with_max_pending_incoming(pending)
            .with_max_established(Some(most))
            .with_max_established_per_peer(Some(MAX_PER_PEER)),
    )
}

/// Tells peers where this one listens and what `agent` it is.
pub(super) fn identity(key: &Keypair, agent: &str) -> identify::Behaviour {
    identify::Behaviour::new(
        identify::Config::new("/nesa/1".into(), key.public()).with_agent_version(agent.into()),
    )
}
