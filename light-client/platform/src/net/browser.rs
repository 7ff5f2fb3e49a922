//! The browser's swarm: WebSocket, relay client, and on a page webrtc-direct.

use super::{NetConfig, StartError, websocket::WebSockets};
use libp2p::{
    Swarm, SwarmBuilder, Transport as _,
    connection_limits::{self, ConnectionLimits},
    core::upgrade,
    identify,
    identity::Keypair,
    noise, ping, relay,
    swarm::NetworkBehaviour,
    yamux,
};
use std::time::Duration;

/// What peers are told this program is.
const AGENT: &str = concat!("/nesa-browser/", env!("CARGO_PKG_VERSION"));
/// A connection without a stream is closed after this.
const IDLE_CONNECTION: Duration = Duration::from_secs(120);
/// Connections of one peer.
const MAX_PER_PEER: u32 = 8;
/// Streams within one connection.
const MAX_STREAMS: usize = 256;

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay_client: relay::client::Behaviour,
    pub(super) stream: libp2p_stream::Behaviour,
}

pub(super) async fn build(
    keypair: Keypair,
    config: &NetConfig,
) -> Result<Swarm<Behaviour>, StartError> {
    let transport = |error: &dyn std::fmt::Display| StartError::Transport(error.to_string());
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_wasm_bindgen()
        .with_other_transport(|key| -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
            let ws = WebSockets
                .upgrade(upgrade::Version::V1Lazy)
                .authenticate(noise::Config::new(key)?)
                .multiplex(muxer());
            #[cfg(feature = "webrtc-page")]
            let ws = {
                use libp2p::{core::muxing::StreamMuxerBox, webrtc_websys};
                let rtc = webrtc_websys::Transport::new(webrtc_websys::Config::new(key)).boxed();
                let ws = ws.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
                rtc.or_transport(ws).map(|either, _| either.into_inner())
            };
            Ok(ws)
        })
        .map_err(|error| transport(&error))?
        .with_relay_client(noise::Config::new, muxer)
        .map_err(|error| transport(&error))?
        .with_behaviour(|key, relay_client| Behaviour {
            limits: connection_limits::Behaviour::new(
                ConnectionLimits::default()
                    .with_max_established(Some(config.max_connections))
                    .with_max_established_per_peer(Some(MAX_PER_PEER)),
            ),
            identify: identify::Behaviour::new(
                identify::Config::new("/nesa/1".into(), key.public())
                    .with_agent_version(AGENT.into()),
            ),
            ping: ping::Behaviour::default(),
            relay_client,
            stream: libp2p_stream::Behaviour::new(),
        })
        .map_err(|error| transport(&error))?
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(IDLE_CONNECTION))
        .build();
    Ok(swarm)
}

fn muxer() -> yamux::Config {
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(MAX_STREAMS);
    muxer
}
