//! From the page's origin to a followed chain and a checked model.
//!
//! The origin is trusted once: its first trust root is pinned when a header has been verified under
//! it, and from then on another one is refused. What the origin says besides (addresses, a model's
//! name) is only a hint.

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use futures::channel::mpsc::Receiver;
use nesa_chain::trust::TrustRoot;
use nesa_fingerprint::Card;
use nesa_light::{
    LightClient, NetworkPeer, QueryClient,
    accounts::Accounts,
    checkpoint::CheckpointStore,
    client::Event,
    models::{NetworkSource, PieceSource},
    peer::SharedPeer,
    search::VectorCache,
};
use nesa_messages::{ChainIdentity, NetworkPhase, Problem, RootSource};
use nesa_platform::{
    http,
    net::{NetConfig, Network},
    random, time,
};
use nesa_primitives::Hash;
use serde::Deserialize;

use crate::{
    app::{App, Chain},
    catalogue::MAX_OFFERED,
    problem::Shown as _,
};

/// A bootstrap is a few hundred bytes per peer, and some thousand per model that runs in floats.
const MAX_BOOTSTRAP_BYTES: usize = 512 << 10;
/// Peers of a bootstrap that are used.
const MAX_PEERS: usize = 16;
const FIRST_RETRY: Duration = Duration::from_millis(800);
const LAST_RETRY: Duration = Duration::from_secs(10);
pub(crate) const PINS: &str = "pins";
const ROOT: &str = "trust-root";

#[derive(Deserialize)]
struct Bootstrap {
    trust_root: String,
    chain_id: String,
    peers: Vec<String>,
    models: Vec<OfferedModel>,
    #[serde(default)]
    faucet: bool,
    #[serde(default)]
    floats: Vec<Card>,
}

#[derive(Deserialize)]
struct OfferedModel {
    digest: Hash,
}

/// Why there is no chain.
pub(crate) enum Stop {
    /// Wrong, and will stay wrong.
    Refused(Problem),
    /// Not now.
    Retry(Problem),
}

/// A network that answers.
struct Connected {
    chain: Chain,
    events: Receiver<Event>,
    /// Whether a peer's head is followed already.
    live: bool,
}

impl App {
    /// Starts the way to the network, or starts it over.
    pub(crate) fn reconnect(self: &Rc<Self>) {
        self.chain.replace(None);
        let boot = Self::run(self, |app| async move { app.boot_loop().await });
        self.boot.replace(Some(boot.abort_on_drop()));
    }

    /// The page was hidden or shown.
    pub(crate) fn visible(self: &Rc<Self>, visible: bool) {
        let offline = matches!(self.status.borrow().network, NetworkPhase::Offline { .. });
        if visible && offline {
            self.reconnect();
        }
        self.rest_threads(!visible);
    }

    /// Forgets the pinned chain, what was stored for it, and starts over.
    pub(crate) async fn forget_chain(self: Rc<Self>) {
        let store = self.store();
        let identity = self.status.borrow().identity.clone();
        if let Some(identity) = identity
            && let Ok(chain) = identity.digest.parse::<Hash>()
        {
            CheckpointStore::new(store.clone(), chain).forget().await;
        }
        if let Err(error) = store.delete(PINS, ROOT).await {
            self.port.fail(None, None, error.problem());
        }
        self.set_status(|status| status.identity = None);
        self.reconnect();
    }

    async fn boot_loop(self: Rc<Self>) {
        let mut pause = FIRST_RETRY;
        loop {
            match self.clone().connect().await {
                Ok(Connected { chain, events, live }) => {
                    pause = FIRST_RETRY;
                    self.chain.replace(Some(chain.clone()));
                    let resumed = Self::run(&self, |app| async move {
                        futures::join!(app.clone().look_at_models(), app.after_connect());
                    });
                    let loading = Self::run(&self, |app| {
                        let chain = chain.clone();
                        async move { app.model_loop(chain).await }
                    });
                    let _guards = (resumed.abort_on_drop(), loading.abort_on_drop());
                    if let Some(problem) = self.clone().follow(&chain, events, live).await {
                        return self.set_network(NetworkPhase::Refused { problem });
                    }
                }
                Err(Stop::Refused(problem)) => {
                    return self.set_network(NetworkPhase::Refused { problem });
                }
                Err(Stop::Retry(problem)) => {
                    let retry_ms = pause.as_millis() as u64;
                    self.set_network(NetworkPhase::Offline { retry_ms, problem });
                    time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_RETRY);
                }
            }
        }
    }

    async fn connect(self: Rc<Self>) -> Result<Connected, Stop> {
        self.set_network(NetworkPhase::Bootstrapping);
        let origin = self.origin.borrow().clone();
        let url = format!("{}/v1/bootstrap", origin.trim_end_matches('/'));
        let bytes = http::get(&url, MAX_BOOTSTRAP_BYTES).await.map_err(|error| {
            Stop::Retry(Problem::new(
                "no-bootstrap",
                format!("The network's address list could not be fetched: {error}."),
                "This page keeps trying.",
            ))
        })?;
        let bootstrap: Bootstrap = serde_json::from_slice(&bytes).map_err(|error| {
            Stop::Refused(Problem::new(
                "bad-bootstrap",
                format!("The origin answered with something else than an address list: {error}."),
                "Open this page from a node of the network.",
            ))
        })?;
        let source = self.check_pin(&bootstrap).await?;
        let trust = TrustRoot::from_hex(&bootstrap.trust_root).map_err(|error| {
            Stop::Refused(
                Problem::new(
                    "bad-trust-root",
                    "The trust root this origin offers is not one.",
                    "Open this page from a node of the network.",
                )
                .with(error.to_string(), "group key, genesis digest and chain id"),
            )
        })?;
        if trust.chain_id.as_str() != bootstrap.chain_id {
            return Err(Stop::Refused(
                Problem::new(
                    "wrong-chain",
                    "The origin names one chain and offers the trust root of another.",
                    "Open this page from a node of the network.",
                )
                .with(bootstrap.chain_id, trust.chain_id.as_str()),
            ));
        }
        let chain = trust.digest();
        self.set_status(|status| {
            status.identity = Some(ChainIdentity {
                chain_id: trust.chain_id.as_str().to_owned(),
                trust_root: bootstrap.trust_root.clone(),
                digest: chain.to_string(),
                source,
                // Keys come from a dealer until the chain has a distributed key generation.
                dealer: true,
                faucet: bootstrap.faucet,
            });
        });

        let peers: Vec<String> = bootstrap.peers.into_iter().take(MAX_PEERS).collect();
        self.set_network(NetworkPhase::Connecting { tried: 0 });
        // A fresh identity for each visit: nodes cannot link one visit's queries to another's.
        let network =
            Network::start(NetConfig::client(random::bytes())).await.map_err(|error| {
                Stop::Retry(Problem::new(
                    "no-network",
                    format!("The network could not be started: {error}."),
                    "Try a current browser.",
                ))
            })?;
        let shared: Vec<SharedPeer> = peers
            .iter()
            .map(|peer| Arc::new(NetworkPeer::new(network.clone(), peer)) as SharedPeer)
            .collect();
        let store = self.store();
        let checkpoints = CheckpointStore::new(store.clone(), chain);
        let light =
            LightClient::start(trust, Some(checkpoints), shared).await.map_err(|error| {
                Stop::Refused(
                    Problem::new(
                        "bad-group-key",
                        "The trust root's group key is no key.",
                        "Open this page from a node of the network.",
                    )
                    .with(error.to_string(), "a point of the right group"),
                )
            })?;
        let mut events = light.events();
        let live = self.first_header(&light, &mut events).await?;
        if let Err(error) = store.put(PINS, ROOT, bootstrap.trust_root.as_bytes()).await {
            tracing::warn!(%error, "the trust root was not pinned");
        }

        let sources: Vec<Arc<dyn PieceSource>> = peers
            .iter()
            .map(|peer| Arc::new(NetworkSource::new(network.clone(), peer)) as Arc<dyn PieceSource>)
            .collect();
        let accounts = Accounts::new(light.clone());
        let queries =
            QueryClient::new(light.clone(), network, accounts.clone(), store.clone(), sources)
                .with_text(self.text.clone());
        let cache = VectorCache::new(store);
        let offered = bootstrap.models.iter().take(MAX_OFFERED).map(|model| model.digest).collect();
        let cards = Rc::new(cards(bootstrap.floats));
        let chain = Chain { light, accounts, queries, cache, peers, offered, cards };
        Ok(Connected { chain, events, live })
    }

    async fn check_pin(&self, bootstrap: &Bootstrap) -> Result<RootSource, Stop> {
        let pinned = self.store().get(PINS, ROOT).await.ok().flatten();
        let Some(pinned) = pinned else { return Ok(RootSource::Origin) };
        let pinned = String::from_utf8_lossy(&pinned).into_owned();
        if pinned == bootstrap.trust_root {
            return Ok(RootSource::Pinned);
        }
        let name = |text: &str| {
            TrustRoot::from_hex(text).map_or_else(
                |_| "unreadable".to_owned(),
                |t| format!("{} ({})", t.chain_id, t.digest()),
            )
        };
        Err(Stop::Refused(
            Problem::new(
                "other-chain",
                "This origin now offers another chain than the one this device pinned.",
                "If the network was started anew on purpose, forget the pinned chain.",
            )
            .with(name(&bootstrap.trust_root), name(&pinned)),
        ))
    }
}

/// The cards that hold together; others are left out, and their models cannot be asked.
fn cards(told: Vec<Card>) -> BTreeMap<Hash, Card> {
    let checked = told.into_iter().take(MAX_OFFERED).filter_map(|card| {
        let model = card.plan.model;
        match card.check(&model) {
            Ok(()) => Some((model, card)),
            Err(error) => {
                tracing::warn!(%error, %model, "a card contradicts itself");
                None
            }
        }
    });
    checked.collect()
}
