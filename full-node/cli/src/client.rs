//! A light client for one command: network, trust root and store, as [`Target`] names them.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use nesa_chain::trust::TrustRoot;
use nesa_light::{LightClient, checkpoint::CheckpointStore, network_peer::NetworkPeer};
use nesa_platform::{
    net::{NetConfig, Network},
    storage::Store,
};
use nesa_primitives::Hash;

use crate::{
    commands::Target,
    failure::{Code, Failure},
    files, http,
};

/// How long the first verified header may take.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// A connected light client.
pub(crate) struct Client {
    /// The verified view of the chain.
    pub(crate) light: LightClient,
    /// The swarm behind it.
    pub(crate) network: Network,
    /// Where checkpoints, chunks and preparations are kept.
    pub(crate) store: Store,
    /// Multiaddresses of the peers asked.
    pub(crate) peers: Vec<String>,
    /// Models the node offers: digest and name, unverified.
    pub(crate) models: Vec<(Hash, String)>,
}

impl Client {
    /// Reads the bootstrap of the target's node, then follows the chain of the target's trust root.
    ///
    /// # Errors
    /// Exit code 1 when the node is on another chain than the trust root names; 3 when nothing
    /// answers.
    pub(crate) async fn connect(target: &Target) -> Result<Self> {
        let rpc = target.rpc()?;
        let trust = parse_trust_root(&target.trust_root_hex()?)?;
        let bootstrap = http::json(&format!("{rpc}/v1/bootstrap")).await?;
        let theirs = bootstrap["trust_root"].as_str().unwrap_or_default();
        let ours = trust.to_string();
        if theirs != ours {
            return Err(Failure::new(
                Code::Failed,
                format!("{rpc} is on another chain: got trust root {theirs}, expected {ours}"),
                "name the node's own network with --trust-root, from a source you trust",
            )
            .into());
        }
        let list = |name: &str| bootstrap[name].as_array().cloned().unwrap_or_default();
        let peers: Vec<String> =
            list("peers").iter().filter_map(|peer| peer.as_str().map(str::to_owned)).collect();
        let models = list("models")
            .iter()
            .filter_map(|model| {
                let digest = model["digest"].as_str()?.parse().ok()?;
                Some((digest, model["name"].as_str().unwrap_or_default().to_owned()))
            })
            .collect();
        let folder = files::home()?.join("light");
        files::private_dir(&folder)?;
        let place = folder.to_str().context("NESA_HOME is not valid UTF-8")?;
        let store = Store::open(place).await?;
        let network = Network::start(NetConfig::client(nesa_platform::random::bytes())).await?;
        let chain = trust.digest();
        let shared = peers
            .iter()
            .map(|peer| Arc::new(NetworkPeer::new(network.clone(), peer.clone())) as _)
            .collect();
        let checkpoints = CheckpointStore::new(store.clone(), chain);
        let light = LightClient::start(trust, Some(checkpoints), shared)
            .await
            .map_err(|error| Failure::new(Code::Usage, error.to_string(), "check --trust-root"))?;
        light.ready(READY_LIMIT).await.map_err(|error| {
            let offence = light.peers().into_iter().find_map(|peer| peer.offence);
            let (code, why) = match offence {
                Some(offence) => (Code::Failed, offence),
                None => (Code::Unavailable, error.to_string()),
            };
            Failure::new(code, why, "no header verified under this trust root; check --trust-root")
        })?;
        Ok(Self { light, network, store, peers, models })
    }

    /// Ends every connection.
    pub(crate) async fn stop(self) {
        self.network.shutdown().await;
    }
}

/// Parses a trust root, with advice.
pub(crate) fn parse_trust_root(hex: &str) -> Result<TrustRoot> {
    hex.parse().map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("not a trust root: {error}"),
            "give the hexadecimal text that `nesa up` prints as trust_root",
        )
        .into()
    })
}
