//! The node as a whole: starting and stopping.

use crate::{
    admission::Admission,
    chunks,
    compute::{Beside, Cores, Processors, Stock, Threads, Watch},
    fault::Fault,
    float::{FloatEngine, FloatService},
    journal::Journal,
    larder::Larder,
    limits::Limits,
    metrics::{Counters, Metrics, Phase},
    models::{Models, OpenError, Source},
    prepare,
    presence::Presence,
    register::{RegisterError, Registrar},
    service::Service,
    settle::Settler,
    shard::{self, Evidence, OnChain, ShardNode, Shelf},
};
use nesa_chain::action::Lane;
use nesa_crypto::SecretKey;
use nesa_light::{LightClient, accounts::Accounts};
use nesa_model::artifact::Pieces;
use nesa_platform::{
    net::{AcceptError, Incoming, Network, StreamLimits},
    storage::Store,
    task::{self, Guard},
    time,
};
use nesa_primitives::{Address, Amount, Hash};
use nesa_wire::Protocol;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

/// How long stopping waits for the pause to be in a block.
const PAUSE: Duration = Duration::from_secs(5);
/// How long stopping waits for queries under way.
const GRACE: Duration = Duration::from_secs(20);
/// Streams that one peer may open to the lane: a few queries at once through one relay.
const PER_PEER: usize = 8;

/// What a node is made of.
pub struct NodeConfig {
    /// The network, whose identity must be the node key.
    pub network: Network,
    /// The node's own view of the chain.
    pub light: LightClient,
    /// Transactions of the operator; shared with whoever else sends for it on this device.
    pub accounts: Accounts,
    /// Where running totals are kept.
    pub store: Store,
    /// Pays the bond, commits and is paid.
    pub operator: SecretKey,
    /// Signs answers; also the libp2p identity.
    pub node: SecretKey,
    /// The models served, weights included: held, or read from where they lie as far as queries need them.
    pub models: Vec<Arc<dyn Pieces>>,
    /// Models served whose pieces are fetched.
    pub larder: Option<Arc<Larder>>,
    /// What runs float models, if any are served.
    pub floats: Option<Arc<dyn FloatEngine>>,
    /// Bond to post, in unes.
    pub bond: Amount,
    /// Relays to be reached through: multiaddresses ending in `/p2p/…`.
    pub relays: Vec<String>,
    /// Addresses to publish instead of those the network listens on; none publishes those.
    pub announce: Vec<String>,
    /// Whether to ask the faucet of a local network for the bond.
    pub faucet: bool,
    /// Whether to leave the draws when stopped, and come back with the next start: for nodes that
    /// come and go.
    pub pause_on_stop: bool,
    /// Whether to serve the models' weights as well.
    pub serve_weights: bool,
    /// A processor beside the CPU, for masked products and for shards.
    pub accelerator: Option<Beside>,
    /// The threads that compute what an accelerator does not.
    pub cores: Cores,
    /// What may be spent.
    pub limits: Limits,
    /// Misbehaviour of a test scenario.
    pub fault: Option<Fault>,
}

/// A node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The network runs under another key than the node's.
    #[error("the network's identity is {got}, the node key is {expected}")]
    Identity {
        /// The network's.
        got: Address,
        /// The node's.
        expected: Address,
    },
    /// There is nothing to serve.
    #[error("no model is given")]
    NoModel,
    /// A model cannot be opened or served masked.
    #[error(transparent)]
    Model(#[from] OpenError),
    /// The network accepts the lane's streams already.
    #[error(transparent)]
    Accept(#[from] AcceptError),
}

/// A running node. Dropping it stops serving at once; [`ComputeNode::stop`] lets queries end.
pub struct ComputeNode {
    address: Address,
    counters: Arc<Counters>,
    admission: Arc<Admission>,
    registrar: Arc<Registrar>,
    threads: Threads,
    pause_on_stop: bool,
    tasks: Vec<Guard>,
}

impl std::fmt::Debug for ComputeNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ComputeNode({})", self.address)
    }
}

impl ComputeNode {
    /// Starts serving. Funding and registration go on in the background and are tried again until
    /// they succeed; [`ComputeNode::metrics`] tells how far they are.
    pub async fn start(config: NodeConfig) -> Result<ComputeNode, StartError> {
        let NodeConfig { network, light, accounts, operator, node, .. } = config;
        let address = node.public();
        if network.address() != address {
            return Err(StartError::Identity { got: network.address(), expected: address });
        }
        let floats = config.floats.as_ref().map(|engine| engine.models()).unwrap_or_default();
        let here = config.models.into_iter().map(Source::new);
        let fetched = config.larder.iter().flat_map(Source::fetched);
        let sources: Vec<_> = here.chain(fetched).collect();
        if sources.is_empty() && floats.is_empty() {
            return Err(StartError::NoModel);
        }
        let models = Models::new(&sources).await?;
        let exact = sources.iter().map(|source| source.header().digest());
        let digests: Vec<Hash> = exact.chain(floats.iter().copied()).collect();
        let counters = Arc::new(Counters::default());
        let admission = Admission::new(config.limits, counters.clone());
        let journal = Journal::new(config.store.clone());
        let settler =
            Settler::new(accounts.clone(), operator.clone(), journal.clone(), counters.clone());
        let lane_limits =
            StreamLimits { total: config.limits.queries as usize * 4, per_peer: PER_PEER };
        let incoming = network.accept(Protocol::Masked, lane_limits)?;
        let mut tasks = Vec::new();
        // Decoders are served in shards too, to clients who accept that their nodes read the text.
        let is_decoder = |source: &&Arc<Source>| source.header().manifest().decoder().is_some();
        let decoders: Vec<Arc<Source>> = sources.iter().filter(is_decoder).cloned().collect();
        let has_decoders = !decoders.is_empty();
        let shelf = Arc::new(Shelf::over(decoders));
        let evidence = Evidence::new(config.store.clone(), config.limits.evidence_bytes);
        let ledger = OnChain {
            accounts: accounts.clone(),
            operator: operator.clone(),
            node: address,
            store: config.store.clone(),
            counters: counters.clone(),
            margin: config.limits.margin,
            lane: Lane::Sealed,
            shelf: shelf.clone(),
            evidence: Arc::new(evidence),
            defending: Arc::default(),
            fault: config.fault,
        };
        let (mut standing, mut beside, mut beside_shards) = (Watch::default(), None, None);
        if let Some(given) = config.accelerator {
            standing = Watch::of(given.accelerator.name());
            counters.accelerated(standing.clone());
            let (products, shards) = given.split(has_decoders);
            (beside, beside_shards) = (Some(products), shards);
        }
        if has_decoders || !floats.is_empty() {
            let recovering = ledger.clone();
            tasks.push(task::spawn(async move { recovering.recover().await }).abort_on_drop());
        }
        if let Some(engine) = config.floats.filter(|_| !floats.is_empty()) {
            let ledger = OnChain { lane: Lane::Float, ..ledger.clone() };
            let identity = (light.chain(), node.clone());
            let admission = admission.clone();
            let service = FloatService::new(identity, engine, ledger, config.limits, admission);
            tasks.push(service.serve(&network)?);
        }
        if has_decoders {
            let shards = ShardNode {
                chain: light.chain(),
                key: node.clone(),
                shelf,
                ledger: Arc::new(ledger),
                limits: config.limits,
                beside: beside_shards,
                cores: config.cores.clone(),
                fault: config.fault,
            };
            let admission = admission.clone();
            let counters = counters.clone();
            tasks.push(shard::serve_with(&network, shards, admission, counters, standing.clone())?);
        }
        if config.serve_weights {
            tasks.push(chunks::serve_sources(&network, sources, config.limits.weight_streams)?);
        }
        let models = Arc::new(models);
        let threads = Threads::counted(Stock::Node(models.clone()), counters.clone());
        let processors = match beside {
            Some(beside) => {
                let (mut processors, queue) =
                    Processors::beside(beside, threads.clone(), counters.clone(), standing);
                tasks.push(queue);
                for (digest, lane, open) in models.each() {
                    processors.place(digest, lane, open).await?;
                }
                processors
            }
            None => Processors::alone(threads.clone(), counters.clone()),
        };
        let processors = processors.with(config.cores);
        let preparer = prepare::Preparer {
            chain: light.chain(),
            node: address,
            models: models.clone(),
            admission: admission.clone(),
            counters: counters.clone(),
            fault: config.fault,
        };
        tasks.push(preparer.serve(&network, config.limits.preparations)?);
        let service = Arc::new(Service {
            light: light.clone(),
            key: node.clone(),
            models,
            processors,
            journal,
            settler: settler.clone(),
            counters: counters.clone(),
            admission: admission.clone(),
            limits: config.limits,
            fault: config.fault,
            live: Mutex::new(HashSet::new()),
        });
        tasks.push(task::spawn(accept(service, incoming, admission.clone())).abort_on_drop());
        let registrar = Arc::new(Registrar {
            accounts,
            operator,
            node,
            models: digests,
            bond: config.bond,
            faucet: config.faucet,
            counters: counters.clone(),
        });
        let presence = Presence {
            network,
            light,
            relays: config.relays,
            announce: config.announce,
            registrar: registrar.clone(),
            larder: config.larder,
            counters: counters.clone(),
        };
        tasks.push(task::spawn(presence.keep()).abort_on_drop());
        tasks.push(task::spawn(async move { settler.recover().await }).abort_on_drop());
        let pause_on_stop = config.pause_on_stop;
        Ok(ComputeNode { address, counters, admission, registrar, threads, pause_on_stop, tasks })
    }

    /// The node key.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The counters as they are now.
    pub fn metrics(&self) -> Metrics {
        self.counters.snapshot()
    }

    /// The threads beside the node's own: none, until it is given some.
    pub fn threads(&self) -> Threads {
        self.threads.clone()
    }

    /// Whether the node takes queries; false once stopped or, in a scenario, dead.
    pub fn is_open(&self) -> bool {
        !self.admission.is_closed()
    }

    /// Takes the node out of future draws; its bond returns after the unbonding time.
    pub async fn unbond(&self) -> Result<(), RegisterError> {
        self.registrar.unbond().await
    }

    /// Takes no more queries, and waits a little for those under way. Where the configuration says
    /// so, the node leaves the draws; where that fails, its registration lapses by itself.
    pub async fn stop(self) {
        self.admission.close();
        self.counters.enter(Phase::Stopping);
        if self.pause_on_stop {
            match time::timeout(PAUSE, self.registrar.pause()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::info!(%error, "the node could not pause"),
                Err(_) => tracing::info!("the node could not pause in time"),
            }
        }
        // Queries that outlast the wait lose at most one increment; the journal has the rest.
        let _ = time::timeout(GRACE, async {
            while self.metrics().active > 0 {
                time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        self.counters.enter(Phase::Stopped);
        self.threads.dismiss();
        drop(self.tasks);
    }
}

async fn accept(service: Arc<Service>, mut incoming: Incoming, admission: Arc<Admission>) {
    while let Some(stream) = incoming.next().await {
        if admission.is_closed() {
            return;
        }
        task::spawn(service.clone().serve(stream));
    }
}
