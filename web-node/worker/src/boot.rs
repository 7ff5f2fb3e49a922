//! From the page's origin to a followed chain and a checked model.
//!
//! The origin is trusted once: its first trust root is pinned when a header has been verified under
//! it, and from then on another one is refused. What the origin says besides (addresses, a model's
//! name) is only a hint.

use std::{rc::Rc, sync::Arc, time::Duration};

use futures::StreamExt as _;
use nesa_chain::{keys, record::ModelRecord, trust::TrustRoot};
use nesa_light::{
    LightClient, NetworkPeer, QueryClient,
    accounts::Accounts,
    checkpoint::CheckpointStore,
    client::Event,
    models::{LoadProgress, ModelStore, NetworkSource, PieceSource},
    peer::SharedPeer,
    search::VectorCache,
};
use nesa_messages::{
    ChainIdentity, ConflictView, FromWorker, ModelInfo, ModelPhase, NetworkPhase, PeerRow, Problem,
    RootSource,
};
use nesa_platform::{
    http,
    net::{NetConfig, Network},
    random, task,
    time::{self, Instant},
};
use nesa_primitives::Hash;
use serde::Deserialize;

use crate::{
    app::{App, Chain},
    problem::Shown as _,
    view,
};

/// A bootstrap is a few hundred bytes per peer.
const MAX_BOOTSTRAP_BYTES: usize = 64 << 10;
/// Peers of a bootstrap that are used.
const MAX_PEERS: usize = 16;
/// How long a first verified header may take before the next try.
const READY_LIMIT: Duration = Duration::from_secs(20);
const FIRST_RETRY: Duration = Duration::from_millis(800);
const LAST_RETRY: Duration = Duration::from_secs(10);
const PINS: &str = "pins";
const ROOT: &str = "trust-root";
/// Queries of an earlier visit are looked up again this often, and this many times: their deadlines
/// are minutes away at most.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const LOOKS: u32 = 120;
/// Rows of the first batch worth showing; more is history nobody scrolls to.
const SHOWN_ROWS: usize = 120;
/// Behind by this many headers is "syncing"; less is the ordinary rhythm of a live feed.
const SYNC_GAP: u64 = 8;

#[derive(Deserialize)]
struct Bootstrap {
    trust_root: String,
    chain_id: String,
    peers: Vec<String>,
    models: Vec<OfferedModel>,
    #[serde(default)]
    faucet: bool,
}

#[derive(Deserialize)]
struct OfferedModel {
    digest: Hash,
}

/// Why there is no chain.
enum Stop {
    /// Wrong, and will stay wrong.
    Refused(Problem),
    /// Not now.
    Retry(Problem),
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
                Ok((chain, model, events)) => {
                    pause = FIRST_RETRY;
                    self.chain.replace(Some(chain.clone()));
                    let resumed = Self::run(&self, |app| async move {
                        app.after_connect().await;
                    });
                    let loading = Self::run(&self, |app| {
                        let chain = chain.clone();
                        async move { app.model_loop(chain, model).await }
                    });
                    let _guards = (resumed.abort_on_drop(), loading.abort_on_drop());
                    if let Some(problem) = self.clone().follow(&chain, events).await {
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

    async fn connect(
        self: Rc<Self>,
    ) -> Result<(Chain, Option<Hash>, futures::channel::mpsc::Receiver<Event>), Stop> {
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
        self.first_header(&light, &mut events).await?;
        if let Err(error) = store.put(PINS, ROOT, bootstrap.trust_root.as_bytes()).await {
            tracing::warn!(%error, "the trust root was not pinned");
        }

        let sources: Vec<Arc<dyn PieceSource>> = peers
            .iter()
            .map(|peer| Arc::new(NetworkSource::new(network.clone(), peer)) as Arc<dyn PieceSource>)
            .collect();
        let accounts = Accounts::new(light.clone());
        let queries =
            QueryClient::new(light.clone(), network, accounts.clone(), store.clone(), sources);
        let cache = VectorCache::new(store);
        let model = bootstrap.models.first().map(|model| model.digest);
        Ok((Chain { light, accounts, queries, cache, peers }, model, events))
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

    /// Waits for the first verified header; tells a liar from a silence.
    async fn first_header(
        &self,
        light: &LightClient,
        events: &mut futures::channel::mpsc::Receiver<Event>,
    ) -> Result<(), Stop> {
        let start = Instant::now();
        let mut refused = None;
        while start.elapsed() < READY_LIMIT {
            if light.ready(Duration::from_millis(250)).await.is_ok() {
                return Ok(());
            }
            while let Ok(event) = events.try_recv() {
                match event {
                    Event::Dropped { what, got, expected, .. } => {
                        refused = Some((what, got, expected));
                    }
                    Event::Syncing { height, target } => {
                        self.set_network(NetworkPhase::Syncing { height, target });
                    }
                    _ => {}
                }
            }
            let peers = light.peers();
            let dropped = peers.iter().filter(|peer| peer.offence.is_some()).count();
            if let Some((what, got, expected)) = &refused
                && dropped == peers.len()
            {
                return Err(Stop::Refused(wrong_network(what, got, expected)));
            }
            let tried = peers.iter().filter(|peer| peer.failures > 0 || peer.rtt_ms.is_some());
            self.set_network(NetworkPhase::Connecting { tried: tried.count() as u32 });
        }
        Err(Stop::Retry(Problem::new(
            "no-peers",
            "No node of the network gave a header in time.",
            "Check your connection; this page keeps trying.",
        )))
    }

    /// Passes on what the light client sees, until the network proves to be wrong.
    async fn follow(
        self: Rc<Self>,
        chain: &Chain,
        mut events: futures::channel::mpsc::Receiver<Event>,
    ) -> Option<Problem> {
        let light = &chain.light;
        let rows: Vec<_> = light.recent().into_iter().rev().take(SHOWN_ROWS).collect();
        let blocks = rows.iter().rev().map(|item| view::block_row(item, 0.0, 1, None)).collect();
        self.port.send(&FromWorker::Blocks { blocks });
        self.set_status(|status| {
            status.network = NetworkPhase::Live;
            status.height = light.height();
            status.peers = peer_rows(light);
        });
        while let Some(event) = events.next().await {
            match event {
                Event::Headers(rows) => {
                    let now = time::now_ms();
                    let skip = rows.len().saturating_sub(SHOWN_ROWS);
                    let blocks = rows[skip..]
                        .iter()
                        .map(|row| {
                            view::block_row(&row.certified, row.checked_ms, row.batch, Some(now))
                        })
                        .collect();
                    self.port.send(&FromWorker::Blocks { blocks });
                    self.set_status(|status| {
                        status.height = light.height();
                        status.peers = peer_rows(light);
                    });
                }
                Event::Syncing { height, target } if target > height + SYNC_GAP => {
                    self.set_network(NetworkPhase::Syncing { height, target });
                }
                Event::Syncing { .. } => {}
                Event::Live { .. } => self.set_network(NetworkPhase::Live),
                Event::Offline { reason } => {
                    let problem = Problem::new(
                        "no-peers",
                        format!("No node of the network answers: {reason}."),
                        "This page keeps trying.",
                    );
                    self.set_network(NetworkPhase::Offline { retry_ms: 700, problem });
                }
                Event::Dropped { what, got, expected, .. } => {
                    if light.peers().iter().all(|peer| peer.offence.is_some()) {
                        return Some(wrong_network(&what, &got, &expected));
                    }
                }
                Event::Conflict(conflict) => {
                    let first = &conflict.ours.header;
                    let second = conflict.theirs.last().map_or(first, |item| &item.header);
                    self.port.send(&FromWorker::Conflict {
                        conflict: ConflictView {
                            height: first.height(),
                            first: first.hash().to_string(),
                            second: second.hash().to_string(),
                            peer: String::new(),
                        },
                    });
                    return Some(
                        Problem::new(
                            "fork",
                            "Two different final blocks of one height were seen.",
                            "Believe nothing from this network; the evidence is kept on this device.",
                        )
                        .with(second.hash().to_string(), first.hash().to_string()),
                    );
                }
            }
        }
        None
    }

    /// What waits for a connection: money proven, interrupted queries looked up.
    async fn after_connect(self: Rc<Self>) {
        self.refresh_wallet().await;
        for _ in 0..LOOKS {
            self.look_up_interrupted().await;
            if !self.has_open_ends() {
                break;
            }
            time::sleep(LOOK_AGAIN).await;
        }
        self.send_history().await;
    }

    /// Makes the model ready, trying again until it is.
    async fn model_loop(self: Rc<Self>, chain: Chain, digest: Option<Hash>) {
        let Some(digest) = digest else {
            let problem = Problem::new(
                "no-model",
                "This network offers no model.",
                "Ask its operator to register one.",
            );
            return self.set_model(ModelPhase::Failed { problem });
        };
        let known = self.prepared().is_some_and(|ready| ready.model.digest() == digest);
        if known {
            return;
        }
        loop {
            match self.clone().load_model(&chain, digest).await {
                Ok(()) => return,
                Err(problem) => self.set_model(ModelPhase::Failed { problem }),
            }
            time::sleep(Duration::from_secs(5)).await;
        }
    }

    async fn load_model(self: Rc<Self>, chain: &Chain, digest: Hash) -> Result<(), Problem> {
        let start = Instant::now();
        let (record, _) = chain
            .light
            .record::<ModelRecord>(keys::model(&digest), "model", 0)
            .await
            .map_err(|error| error.problem())?;
        let record = record.ok_or_else(|| {
            Problem::new(
                "model-not-registered",
                "The model this origin names is not registered on the chain.",
                "Open this page from another node.",
            )
            .with(digest.to_string(), "a registered model")
        })?;
        let app = self.clone();
        let last = std::cell::Cell::new(None::<LoadProgress>);
        let listener = move |progress: LoadProgress| {
            // Hundreds of pieces: tell the page about every hundredth part only.
            let step = |p: &LoadProgress| match *p {
                LoadProgress::Downloading { done, total } => (0, done * 100 / total.max(1)),
                LoadProgress::Preparing { done, total } => (1, (done * 100 / total.max(1)) as u64),
            };
            if last.get().as_ref().map(step) == Some(step(&progress)) {
                return;
            }
            last.set(Some(progress));
            app.set_model(match progress {
                LoadProgress::Downloading { done, total } => {
                    ModelPhase::Downloading { done, total }
                }
                LoadProgress::Preparing { done, total } => {
                    ModelPhase::Preparing { done: done as u32, total: total as u32 }
                }
            });
        };
        let prepared = ModelStore::new(self.store())
            .prepare(&digest, chain.queries.sources(), &listener)
            .await
            .map_err(|error| error.problem())?;
        let info = ModelInfo {
            name: record.name.as_str().to_owned(),
            digest: digest.to_string(),
            bytes: record.bytes,
            stages: prepared.lane.stages().len() as u32,
            max_tokens: prepared.model.max_tokens() as u32,
            licence: "Apache-2.0".to_owned(),
        };
        let took_ms = start.elapsed().as_secs_f64() * 1000.0;
        let cached = prepared.cached;
        self.prepared.replace(Some(prepared));
        self.set_status(|status| {
            status.model = Some(info);
            status.model_phase = ModelPhase::Ready { cached, took_ms };
        });
        task::yield_now().await;
        Ok(())
    }
}

fn wrong_network(what: &str, got: &str, expected: &str) -> Problem {
    Problem::new(
        "wrong-network",
        format!("Every node of this origin failed a check: {what}."),
        "Nothing private was sent. Open this page from a node of the network you trust.",
    )
    .with(got, expected)
}

fn peer_rows(light: &LightClient) -> Vec<PeerRow> {
    light
        .peers()
        .into_iter()
        .filter(|peer| peer.offence.is_none())
        .map(|peer| PeerRow {
            peer: peer.name.rsplit("/p2p/").next().unwrap_or_default().to_owned(),
            address: peer.name,
            headers: peer.headers,
            rtt_ms: peer.rtt_ms,
        })
        .collect()
}
