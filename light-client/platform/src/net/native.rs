//! The native swarm: WebSocket and webrtc-direct, relay client and, if asked, relay server.

use super::{
    NetConfig, StartError,
    swarm::{self, IDLE_CONNECTION},
};
use crate::storage::Store;
use libp2p::{
    Swarm, SwarmBuilder, Transport as _, connection_limits,
    core::muxing::StreamMuxerBox,
    identify,
    identity::Keypair,
    noise, ping, relay,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    tcp,
};
use libp2p_webrtc::tokio::{Certificate, Transport as WebRtc};
use std::time::Duration;

/// What peers are told this program is.
const AGENT: &str = concat!("/nesa/", env!("CARGO_PKG_VERSION"));
/// Connections that may be in their handshake at once.
const MAX_PENDING: u32 = 64;
/// The longest WebSocket message. Peers write pieces well below it.
const MAX_MESSAGE: usize = 2 << 20;
/// Where the webrtc-direct certificate is kept.
const CERTIFICATE: (&str, &str) = ("network", "webrtc-certificate");

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay_client: relay::client::Behaviour,
    relay_server: Toggle<relay::Behaviour>,
    pub(super) stream: libp2p_stream::Behaviour,
}

pub(super) async fn build(
    keypair: Keypair,
    config: &NetConfig,
) -> Result<Swarm<Behaviour>, StartError> {
    let certificate = certificate(config.store.as_ref()).await?;
    let transport = |error: &dyn std::fmt::Display| StartError::Transport(error.to_string());
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_other_transport(|key| -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
            let rtc = WebRtc::new(key.clone(), certificate)
                .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
            let mut ws = libp2p_websocket::Config::new(tcp::tokio::Transport::new(
                tcp::Config::default().nodelay(true),
            ));
            ws.set_max_data_size(MAX_MESSAGE);
            let ws = swarm::secure(ws, key)?;
            Ok(rtc.or_transport(ws).map(|either, _| either.into_inner()))
        })
        .map_err(|error| transport(&error))?
        .with_relay_client(noise::Config::new, swarm::muxer)
        .map_err(|error| transport(&error))?
        .with_behaviour(|key, relay_client| Behaviour {
            limits: swarm::limits(config.max_connections, Some(MAX_PENDING)),
            identify: swarm::identity(key, AGENT),
            ping: ping::Behaviour::default(),
            relay_client,
            relay_server: config
                .relay_server
                .then(|| relay::Behaviour::new(key.public().to_peer_id(), relay_limits()))
                .into(),
            stream: libp2p_stream::Behaviour::new(),
        })
        .map_err(|error| transport(&error))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_CONNECTION))
        .build();
    Ok(swarm)
}

/// The stock limits of 128 KiB and two minutes are for hole punching; a volunteer's tab serves
/// whole queries through its circuits. What one peer may take stays bounded.
fn relay_limits() -> relay::Config {
    relay::Config {
        max_reservations: 256,
        max_reservations_per_peer: 2,
        reservation_duration: Duration::from_secs(60 * 60),
        // Many tabs share an address, and a reloaded page reserves anew: the limits above bound
        // what reservations cost.
        reservation_rate_limiters: Vec::new(),
        max_circuits: 512,
        max_circuits_per_peer: 32,
        max_circuit_duration: Duration::from_secs(6 * 60 * 60),
        max_circuit_bytes: 16 << 30,
        circuit_src_rate_limiters: Vec::new(),
    }
}

/// The certificate whose hash is part of a webrtc-direct address, kept across restarts.
async fn certificate(store: Option<&Store>) -> Result<Certificate, StartError> {
    let (space, key) = CERTIFICATE;
    if let Some(store) = store
        && let Some(pem) = store.get_secret(space, key).await?
    {
        return std::str::from_utf8(&pem)
            .map_err(|error| error.to_string())
            .and_then(|pem| Certificate::from_pem(pem).map_err(|error| error.to_string()))
            .map_err(StartError::Transport);
    }
    let fresh = Certificate::generate(&mut crate::random::rng())
        .map_err(|error| StartError::Transport(error.to_string()))?;
    if let Some(store) = store {
        store.put_secret(space, key, fresh.serialize_pem().as_bytes()).await?;
    }
    Ok(fresh)
}
