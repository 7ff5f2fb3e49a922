//! The browser's swarm: WebSocket, relay client, and on a page webrtc-direct.
//!
//! `RTCPeerConnection` exists on pages only, and the stock transport of webrtc-direct asks for the
//! window whatever it is told to dial. So that transport is there only where a window is, and is
//! asked only for what WebSocket does not take.

use super::{
    NetConfig, StartError,
    swarm::{self, IDLE_CONNECTION},
    websocket::WebSockets,
};
use libp2p::{
    Swarm, SwarmBuilder, connection_limits, identify, identity::Keypair, noise, ping, relay,
    swarm::NetworkBehaviour,
};

/// What peers are told this program is.
const AGENT: &str = concat!("/nesa-browser/", env!("CARGO_PKG_VERSION"));
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
            let ws = swarm::secure(WebSockets, key)?;
            #[cfg(feature = "webrtc-page")]
            let ws = {
                use libp2p::{Transport as _, core::transport::OptionalTransport, webrtc_websys};
                let rtc = match web_sys::window() {
                    Some(_) => OptionalTransport::some(
                        webrtc_websys::Transport::new(webrtc_websys::Config::new(key)).boxed(),
                    ),
                    None => OptionalTransport::none(),
                };
                ws.or_transport(rtc).map(|either, _| either.into_inner())
            };
            Ok(ws)
        })
        .map_err(|error| transport(&error))?
        .with_relay_client(noise::Config::new, swarm::muxer)
        .map_err(|error| transport(&error))?
        .with_behaviour(|key, relay_client| Behaviour {
            limits: swarm::limits(config.max_connections, None),
            identify: swarm::identity(key, AGENT),
            ping: ping::Behaviour::default(),
            relay_client,
            stream: libp2p_stream::Behaviour::new(),
        })
        .map_err(|error| transport(&error))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_CONNECTION))
        .build();
    Ok(swarm)
}
