//! The volunteer: this browser as a compute node, reached through a full node's relay.
//!
//! It runs under a network identity of its own, kept across visits because its bond hangs on it;
//! the queries of this browser use another one, so that serving and asking cannot be linked.

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use nesa_crypto::SecretKey;
use nesa_light::models::PieceSource;
use nesa_messages::{
    ActivityKind, DonateLimits, DonatePhase, DonateView, FromWorker, PoolView, Problem, ServingOn,
    Unes,
};
use nesa_node::{
    Beside, ComputeNode, Cores, FloatEngine, Larder, Limits, Metrics, NodeConfig, Phase, Team,
};
use nesa_platform::{
    net::{NetConfig, Network},
    storage::Store,
    task::Guard,
    time,
};
use nesa_primitives::{Address, Amount, UNES_PER_NES};

use crate::{
    app::{App, Chain},
    engine::{self, FloatWorkers},
    gpu::OnGpu,
    problem::{Shown as _, not_ready},
    threads::{self, PoolWorkers},
};

const NAMESPACE: &str = "donate";
const NODE_KEY: &str = "node";
/// What a volunteer posts where the chain asks for less: enough to be drawn among small bonds.
const BOND: Amount = Amount(10 * UNES_PER_NES);
/// Weights of language models that a tab keeps at most.
const KEPT_BYTES: u64 = 256 << 20;
/// Where they lie: apart from what this browser fetched for its own use, which it keeps when it stops serving.
const LARDER: &str = "nesa-served";
/// Memory for the caches of texts that others have written.
const CACHE_BYTES: usize = 128 << 20;
/// Storage for their inputs, as long as they may be disputed.
const EVIDENCE_BYTES: usize = 32 << 20;
/// The meter ticks this often.
const TICK: Duration = Duration::from_secs(1);
/// A page hidden for so long gives back the cores beside its own, until it is seen again.
const HIDDEN: Duration = Duration::from_secs(15 * 60);
const RESTING: &str = "the page has been hidden for long";

/// A serving node and its meter.
pub(crate) struct Donation {
    node: Option<ComputeNode>,
    network: Network,
    address: Address,
    limits: DonateLimits,
    /// Why no graphics processor was opened.
    no_gpu: Option<String>,
    /// Models that run in floats, and why some of those offered are not among them.
    floats: u32,
    no_floats: Option<String>,
    /// Language models, whose weights are fetched, and why some of those offered are not among them.
    texts: Option<Arc<Larder>>,
    no_texts: Option<String>,
    /// Why there are no threads beside the node's own.
    no_threads: Option<String>,
    _meter: Guard,
}

impl Donation {
    /// The node's key.
    pub(crate) fn address(&self) -> Address {
        self.address
    }
}

fn phase(phase: Phase) -> DonatePhase {
    match phase {
        Phase::Syncing | Phase::Fetching => DonatePhase::Loading,
        Phase::Funding => DonatePhase::Funding,
        Phase::Reserving => DonatePhase::Reserving,
        Phase::Registering => DonatePhase::Registering,
        Phase::Serving => DonatePhase::Serving,
        Phase::Stopping => DonatePhase::Stopping,
        Phase::Stopped => DonatePhase::Off,
    }
}

fn limits(limits: &DonateLimits) -> Limits {
    Limits {
        queries: limits.max_queries.max(1),
        bytes_per_hour: u64::from(limits.max_mb_per_hour).saturating_mul(1 << 20),
        cache_bytes: CACHE_BYTES,
        evidence_bytes: EVIDENCE_BYTES,
        ..Limits::default()
    }
}

/// Which processors serve, in the page's terms.
fn serving_on(metrics: &Metrics, donation: &Donation) -> ServingOn {
    let ms = |busy: Duration| busy.as_secs_f64() * 1000.0;
    let gpu = metrics.accelerator.clone().unwrap_or_default();
    let left_alone = gpu.placed == 0 && metrics.phase == Phase::Serving;
    let no_room = left_alone.then(|| "no weight fits into the memory you allow".to_owned());
    let because = donation.no_gpu.clone().or(gpu.dropped).or(no_room);
    let pool = metrics.pool.clone().unwrap_or_default();
    ServingOn {
        gpu: because.is_none().then_some(gpu.name),
        cpu_because: because,
        gpu_stages: gpu.placed,
        stages: gpu.stages.max(pool.stages),
        gpu_bytes: gpu.bytes,
        gpu_products: metrics.on_accelerator.products,
        gpu_ms: ms(metrics.on_accelerator.busy),
        cpu_products: metrics.on_cpu.products,
        cpu_ms: ms(metrics.on_cpu.busy),
        pool: PoolView {
            threads: pool.workers,
            because: donation.no_threads.clone().or(pool.ended),
            stages: pool.placed,
            bytes: pool.bytes,
            products: metrics.on_pool.products,
            ms: ms(metrics.on_pool.busy),
        },
    }
}

impl App {
    pub(crate) async fn donate(self: Rc<Self>, choices: DonateLimits) {
        if self.donation.borrow().is_some() {
            return self.donate_limits(choices);
        }
        let loading = DonateView {
            phase: DonatePhase::Loading,
            limits: choices.clone(),
            ..DonateView::default()
        };
        self.port.send(&FromWorker::Donate { donate: loading });
        if let Err(problem) = self.clone().serve(choices.clone()).await {
            let failed = DonateView {
                phase: DonatePhase::Failed,
                limits: choices,
                problem: Some(problem),
                ..DonateView::default()
            };
            self.port.send(&FromWorker::Donate { donate: failed });
        }
    }

    async fn serve(self: Rc<Self>, choices: DonateLimits) -> Result<(), Problem> {
        let chain = self.chain().ok_or_else(not_ready)?;
        let digest = self.prepared().ok_or_else(not_ready)?.model.digest();
        let (floats, no_floats) = match choices.floats {
            true => self.open_floats(&chain).await,
            false => (None, None),
        };
        let (texts, no_texts) = self.open_texts(&chain, choices.texts).await;
        let wallet = self.open_or_create_wallet().await?;
        let params = chain.accounts.params().await.map_err(|e| e.problem())?;
        let artifact = chain
            .queries
            .models()
            .artifact(&digest, chain.queries.sources(), &|_| {})
            .await
            .map_err(|e| e.problem())?;
        let store = self.store();
        let seed = store.secret_key(NAMESPACE, NODE_KEY).await.map_err(|e| e.problem())?;
        let key = SecretKey::from_seed(&seed);
        let network = Network::start(NetConfig::client(*seed)).await.map_err(|error| {
            Problem::new("no-network", format!("{error}."), "Try a current browser.")
        })?;
        let (accelerator, no_gpu) = match self.open_gpu(&choices).await {
            Ok(beside) => (Some(beside), None),
            Err(reason) => (None, Some(reason)),
        };
        let faucet = self.status.borrow().identity.as_ref().is_some_and(|i| i.faucet);
        let node = ComputeNode::start(NodeConfig {
            network: network.clone(),
            light: chain.light.clone(),
            accounts: chain.accounts.clone(),
            store,
            operator: wallet.key().clone(),
            node: key,
            models: vec![Arc::new(artifact)],
            larder: texts.clone(),
            floats: floats.clone().map(|engine| engine as Arc<dyn FloatEngine>),
            bond: params.min_bond.max(BOND),
            relays: chain.peers.clone(),
            announce: Vec::new(),
            faucet,
            pause_on_stop: true,
            serve_weights: false,
            accelerator,
            cores: Cores::default(),
            limits: limits(&choices),
            fault: None,
        })
        .await
        .map_err(|error| {
            Problem::new("no-node", format!("Serving could not begin: {error}."), "Try again.")
        })?;
        let address = node.address();
        let meter = Self::run(&self, |app| async move { app.meter().await });
        self.donation.replace(Some(Donation {
            node: Some(node),
            network,
            address,
            limits: choices,
            no_gpu,
            floats: floats.map_or(0, |engine| engine.models().len() as u32),
            no_floats,
            texts,
            no_texts,
            no_threads: None,
            _meter: meter.abort_on_drop(),
        }));
        self.send_donation();
        Self::run(&self, |app| async move { app.employ_threads().await });
        Ok(())
    }

    /// The language models of the network that fit, and why some do not. Who does not want them keeps none.
    async fn open_texts(
        &self,
        chain: &Chain,
        wanted: bool,
    ) -> (Option<Arc<Larder>>, Option<String>) {
        let store = match Store::open(LARDER).await {
            Ok(store) => store,
            Err(error) => return (None, wanted.then(|| error.to_string())),
        };
        let (mut headers, mut problem, mut bytes) = (Vec::new(), None, 0u64);
        for model in chain.offered.iter().filter(|_| wanted) {
            let header = chain.queries.models().header(model, chain.queries.sources()).await;
            match header {
                Ok(header) if header.manifest().decoder().is_none() => {}
                Ok(header) => {
                    let pieces = (0..header.piece_count()).filter_map(|at| header.piece_len(at));
                    let all = bytes.saturating_add(pieces.sum::<usize>() as u64);
                    if all > KEPT_BYTES {
                        problem = Some(format!("a tab keeps at most {} MB", KEPT_BYTES >> 20));
                        continue;
                    }
                    bytes = all;
                    headers.push(header);
                }
                Err(error) => problem = Some(error.to_string()),
            }
        }
        let none = headers.is_empty();
        let sources: Vec<Arc<dyn PieceSource>> = chain.queries.sources().to_vec();
        // Shared within this thread; natively it is shared between threads.
        #[allow(clippy::arc_with_non_send_sync)]
        let larder = Arc::new(Larder::new(headers, store, sources, KEPT_BYTES));
        if !none {
            return (Some(larder), problem);
        }
        // What an earlier choice has left here goes.
        if let Err(error) = larder.tidy().await {
            tracing::debug!(%error, "what was served before is still kept");
        }
        let offers_none = || "this network offers none".to_owned();
        (None, wanted.then(|| problem.unwrap_or_else(offers_none)))
    }

    /// The engine for models that run in floats, and why some of those offered are not served.
    async fn open_floats(&self, chain: &Chain) -> (Option<Arc<FloatWorkers>>, Option<String>) {
        let origin = self.origin.borrow().clone();
        let (mut files, mut problem) = (BTreeMap::new(), None);
        for model in chain.cards.keys() {
            match engine::fetch(&origin, model).await {
                Ok(file) => {
                    files.insert(*model, file);
                }
                Err(error) => problem = Some(error),
            }
        }
        if files.is_empty() {
            let none = "this network offers none".to_owned();
            return (None, Some(problem.unwrap_or(none)));
        }
        // Shared within this thread; the trait it is for is shared between threads natively.
        #[allow(clippy::arc_with_non_send_sync)]
        let engine = Arc::new(FloatWorkers::new(self.float.clone(), files));
        (Some(engine), problem)
    }

    /// The graphics processor, or why the processor's kernel serves alone.
    async fn open_gpu(&self, choices: &DonateLimits) -> Result<Beside, String> {
        if choices.max_gpu_mb == 0 {
            return Err("you allow the graphics processor no memory".to_owned());
        }
        let gpu = OnGpu::open(&self.adapter).await?;
        // Shared within this thread; the trait it is for is shared between threads natively.
        #[allow(clippy::arc_with_non_send_sync)]
        let accelerator = Arc::new(gpu);
        let memory = u64::from(choices.max_gpu_mb).saturating_mul(1 << 20);
        Ok(Beside { accelerator, shards: None, memory })
    }

    async fn meter(self: Rc<Self>) {
        let mut bonded = false;
        let mut earned = Amount::ZERO;
        loop {
            time::sleep(TICK).await;
            let Some(metrics) = self.send_donation() else { return };
            if !bonded && metrics.phase == Phase::Serving {
                bonded = true;
                let id = self.donation.borrow().as_ref().map(|d| d.address.0).unwrap_or_default();
                let change = format!("-{}", metrics.bond);
                let what = "Bond of this browser's node".to_owned();
                self.note(id.into(), ActivityKind::Bond, what, change, None).await;
                self.refresh_wallet().await;
            }
            if metrics.earned > earned {
                earned = metrics.earned;
                self.refresh_wallet().await;
            }
        }
    }

    /// Sends the meter; `None` when nothing is serving.
    fn send_donation(&self) -> Option<nesa_node::Metrics> {
        let (metrics, view) = {
            let donation = self.donation.borrow();
            let donation = donation.as_ref()?;
            let metrics = donation.node.as_ref()?.metrics();
            let problem = metrics.problem.as_ref().map(|reason| {
                Problem::new("node", format!("{reason}."), "It is tried again by itself.")
            });
            let view = DonateView {
                phase: phase(metrics.phase),
                node: Some(donation.address.to_string()),
                bond: Unes(metrics.bond.0),
                address: metrics.addresses.first().cloned(),
                layers: metrics.layers,
                queries: metrics.queries,
                active: metrics.active,
                bytes_in: metrics.bytes_in,
                bytes_out: metrics.bytes_out,
                vouchers: Unes(metrics.vouchers.0),
                earned: Unes(metrics.earned.0),
                peers: donation.network.peers().len() as u32,
                busy_ms: metrics.busy.as_secs_f64() * 1000.0,
                serving_ms: metrics.serving.as_secs_f64() * 1000.0,
                on: serving_on(&metrics, donation),
                floats: donation.floats,
                no_floats: donation.no_floats.clone(),
                texts: donation.texts.as_ref().map_or(0, |texts| texts.headers().len() as u32),
                no_texts: donation.no_texts.clone(),
                fetching: donation.texts.as_ref().and_then(|texts| {
                    let stocked = texts.stocked();
                    (!stocked.ready).then_some((stocked.done, stocked.total))
                }),
                limits: donation.limits.clone(),
                problem,
            };
            (metrics, view)
        };
        self.port.send(&FromWorker::Donate { donate: view });
        Some(metrics)
    }

    /// New limits: they hold from the next start, which this makes now if nothing is under way.
    pub(crate) fn donate_limits(self: &Rc<Self>, choices: DonateLimits) {
        let changed = {
            let mut donation = self.donation.borrow_mut();
            match donation.as_mut() {
                Some(donation) if donation.limits != choices => {
                    donation.limits = choices.clone();
                    true
                }
                _ => false,
            }
        };
        if !changed {
            return;
        }
        Self::run(self, |app| async move {
            app.clone().stop_serving().await;
            app.donate(choices).await;
        });
    }

    pub(crate) async fn donate_stop(self: Rc<Self>) {
        self.clone().stop_serving().await;
        let limits = DonateLimits::default();
        let off = DonateView { phase: DonatePhase::Off, limits, ..DonateView::default() };
        self.port.send(&FromWorker::Donate { donate: off });
    }

    /// Lets queries under way end, then closes the node's network.
    async fn stop_serving(self: Rc<Self>) {
        let (node, network) = {
            let mut donation = self.donation.borrow_mut();
            match donation.as_mut() {
                Some(donation) => (donation.node.take(), donation.network.clone()),
                None => return,
            }
        };
        if let Some(node) = node {
            node.stop().await;
        }
        network.shutdown().await;
        self.donation.replace(None);
    }
}

impl App {
    /// Starts the threads that the volunteer allows, as far as this device has cores, and brings them
    /// their slices; serving goes on meanwhile.
    async fn employ_threads(self: Rc<Self>) {
        let Some((threads, limits)) = self.donation.borrow().as_ref().and_then(|donation| {
            Some((donation.node.as_ref()?.threads(), donation.limits.clone()))
        }) else {
            return;
        };
        let count = limits.threads.min(threads::room());
        let refused = if limits.threads == 0 {
            Some("you lend one core".to_owned())
        } else if count == 0 {
            Some("this device has one core".to_owned())
        } else {
            match PoolWorkers::start(&self.pool, count).await {
                Ok(workers) => {
                    // Shared within this thread; the trait it is for is shared between threads natively.
                    #[allow(clippy::arc_with_non_send_sync)]
                    let workers = Arc::new(workers);
                    let memory = u64::from(limits.max_threads_mb).saturating_mul(1 << 20);
                    threads.employ(Team { workers, memory }).await;
                    None
                }
                Err(reason) => Some(reason),
            }
        };
        self.without_threads(refused);
    }

    fn without_threads(&self, reason: Option<String>) {
        if let Some(donation) = self.donation.borrow_mut().as_mut() {
            donation.no_threads = reason;
        }
        self.send_donation();
    }

    /// A page that nobody has seen for long gives the other cores back; one that is seen takes them again.
    pub(crate) fn rest_threads(self: &Rc<Self>, hidden: bool) {
        let waiting = hidden.then(|| {
            let rest = Self::run(self, |app| async move {
                time::sleep(HIDDEN).await;
                let threads =
                    app.donation.borrow().as_ref().and_then(|d| Some(d.node.as_ref()?.threads()));
                if let Some(threads) = threads {
                    threads.dismiss();
                    app.without_threads(Some(RESTING.to_owned()));
                }
            });
            rest.abort_on_drop()
        });
        self.hidden.replace(waiting);
        let resting = |donation: &Donation| donation.no_threads.as_deref() == Some(RESTING);
        if !hidden && self.donation.borrow().as_ref().is_some_and(resting) {
            self.without_threads(None);
            Self::run(self, |app| async move { app.employ_threads().await });
        }
    }
}
