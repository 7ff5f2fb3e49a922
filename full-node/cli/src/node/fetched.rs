//! Models that a compute node serves without having a file of them: found on the chain, their pieces fetched from
//! several peers and kept in the node's data directory.
//!
//! ```text
//!   name ─proven record─▶ digest ─▶ header, from any peer ─▶ larder ─▶ pieces, before the node registers
//! ```

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use nesa_chain::{action::Lane, keys, record::ModelRecord};
use nesa_light::{
    AskError, LightClient,
    models::{ModelStore, NetworkSource, PieceSource, holders},
};
use nesa_model::Header;
use nesa_node::Larder;
use nesa_platform::{net::Network as Swarm, storage::Store};
use nesa_primitives::Hash;

use crate::{
    failure::{Code, Failure},
    local::layout::{Network, NodeEntry},
};

/// How long the chain, or a peer with a header, is waited for before the log says so once more.
const WAIT: Duration = Duration::from_secs(10);
/// Pause between two tries.
const RETRY: Duration = Duration::from_secs(1);

/// Which models, from where, and how much of them.
#[derive(Debug)]
pub(crate) struct Wish {
    /// Names or digests.
    pub(crate) models: Vec<String>,
    /// Bytes of pieces to keep at most.
    pub(crate) keep: u64,
    /// Addresses of peers beside those that are known.
    pub(crate) from: Vec<String>,
}

/// Where the node stands.
pub(super) struct Ground<'a> {
    pub(super) network: &'a Network,
    pub(super) entry: &'a NodeEntry,
    pub(super) light: &'a LightClient,
    pub(super) swarm: &'a Swarm,
    pub(super) store: &'a Store,
}

/// Finds the models and opens what the node has of them. Waits for the chain and for a peer that has the headers.
///
/// # Errors
/// When a model is none of the network, or a float model.
pub(super) async fn open(wish: &Wish, ground: &Ground<'_>) -> Result<Larder> {
    let mut digests: Vec<Hash> = Vec::new();
    for asked in &wish.models {
        let digest = ground.find(asked).await?;
        if !digests.contains(&digest) {
            digests.push(digest);
        }
    }
    let mut peers = wish.from.clone();
    for validator in &ground.network.validators {
        peers.push(ground.network.websocket_address(validator.p2p_port, &validator.peer)?);
    }
    for digest in &digests {
        let known = ground.ask(|| holders(ground.light, digest, &ground.entry.node)).await;
        peers.extend(known.into_iter().filter(|peer| !wish.from.contains(peer)));
    }
    peers.dedup();
    tracing::info!(node = ground.entry.name, peers = peers.len(), "fetches models");
    let sources: Vec<Arc<dyn PieceSource>> = peers
        .into_iter()
        .map(|peer| Arc::new(NetworkSource::new(ground.swarm.clone(), peer)) as _)
        .collect();
    let mut headers = Vec::new();
    for digest in &digests {
        headers.push(ground.header(digest, &sources).await);
    }
    Ok(Larder::new(headers, ground.store.clone(), sources, wish.keep))
}

impl Ground<'_> {
    /// The digest of a model of the network, by name or digest, as the chain proves it.
    async fn find(&self, asked: &str) -> Result<Hash> {
        let named = self.network.models.iter().filter(|model| model.name == asked);
        let mut digests: Vec<Hash> = named.map(|model| model.digest).collect();
        digests.extend(asked.parse::<Hash>());
        let offered: Vec<&str> =
            self.network.models.iter().map(|model| model.name.as_str()).collect();
        let unusable = |problem: String, next: String| -> anyhow::Error {
            Failure::new(Code::Usage, problem, next).into()
        };
        let [digest] = digests[..] else {
            let problem = match digests.len() {
                0 => format!("no model {asked:?} on this network"),
                several => format!("{several} models are called {asked:?}"),
            };
            return Err(unusable(problem, format!("the network has {}", offered.join(", "))));
        };
        let found =
            self.ask(|| self.light.record::<ModelRecord>(keys::model(&digest), "model", 0)).await.0;
        let Some(record) = found else {
            let problem = format!("the model {asked:?} is not registered on the chain");
            return Err(unusable(problem, format!("the network has {}", offered.join(", "))));
        };
        if asked != record.name.as_str() && asked.parse() != Ok(digest) {
            let problem = format!("got the name {}, expected {asked}", record.name.as_str());
            return Err(unusable(problem, "name the model by its digest".to_owned()));
        }
        if record.lanes == Lane::Float.bit() {
            let problem = format!("{asked} is a float model: peers hold no checked pieces of it");
            return Err(unusable(problem, "ask its owner for the ONNX file".to_owned()));
        }
        Ok(digest)
    }

    /// What the chain answers, however long that takes.
    async fn ask<T, F: Future<Output = Result<T, AskError>>>(&self, ask: impl Fn() -> F) -> T {
        loop {
            let asked = match self.light.ready(WAIT).await {
                Ok(_) => ask().await,
                Err(error) => Err(error),
            };
            match asked {
                Ok(answer) => return answer,
                Err(error) => {
                    tracing::warn!(node = self.entry.name, %error, "the chain does not answer yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// A model's header, from the store or any peer, however long that takes.
    async fn header(&self, digest: &Hash, sources: &[Arc<dyn PieceSource>]) -> Arc<Header> {
        let mut told = None;
        loop {
            // Another one each time: peers that gave something wrong may be others by then.
            let store = ModelStore::new(self.store.clone());
            match store.header(digest, sources).await {
                Ok(header) => return header,
                Err(error) => {
                    let error = error.to_string();
                    if told.as_ref() != Some(&error) {
                        tracing::warn!(
                            node = self.entry.name,
                            error,
                            "no peer gives the header yet"
                        );
                        told = Some(error);
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}
