//! A compute node process: the same node that volunteers run in a tab, over a native network.

use std::{
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nesa_light::{LightClient, NetworkPeer, accounts::Accounts, checkpoint::CheckpointStore};
use nesa_model::artifact::Pieces;
use nesa_node::{ComputeNode, Cores, Fault, Larder, Limits, NodeConfig, Phase, ShardSteps};
use nesa_platform::{
    net::{self, NetConfig, Network as Swarm},
    storage::Store,
};
use nesa_primitives::Address;

use super::{
    fetched, float, gpu,
    model::ModelFile,
    report::{About, Report},
    supervised,
};
use crate::{
    failure::{Code, Failure},
    files, keyfile,
    local::{
        layout::{ModelEntry, Network, NodeEntry},
        scenario::Scenario,
        setup::{self, names},
    },
};

/// Most libp2p connections of a compute node.
const MAX_CONNECTIONS: u32 = 128;
/// Pause between two looks at the node's state.
const POLL: Duration = Duration::from_millis(100);
/// Time between two reports of the device or of a fetch, at least.
const REPORT: Duration = Duration::from_secs(1);
/// Time between two lines of the log about a fetch.
const FETCH_LINE: Duration = Duration::from_secs(10);
/// Which product of a query the liar spoils, and after how many the crashing node dies: past the
/// first layer, so that a query is well under way.
const FAULTY_PRODUCT: u64 = 5;

/// What the operator wishes for beside what the network says.
pub(crate) struct Wishes {
    /// Models to serve without a file of them.
    pub(crate) fetch: Option<fetched::Wish>,
    /// A graphics processor.
    pub(crate) gpu: Option<gpu::Wish>,
    /// Threads that share each product.
    pub(crate) threads: NonZeroUsize,
}

/// Runs the compute node `name` of the network in `dir` until asked to stop; it registers the addresses
/// `announce`, or those it listens on when there is none.
pub(crate) fn run(dir: &Path, name: &str, announce: &[String], wishes: Wishes) -> Result<()> {
    let network = Network::load(dir)?;
    let Some((index, entry)) = network.node(name) else {
        return Err(Failure::new(
            Code::Usage,
            format!("{} has no compute node {name}", dir.display()),
            "names are c0, c1, … as in network.json",
        )
        .into());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        // A device may hold up one for each of its two lanes.
        .max_blocking_threads(if wishes.gpu.is_some() { 4 } else { 2 })
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(serve(dir, &network, index, entry, announce, wishes));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(
    dir: &Path,
    network: &Network,
    index: usize,
    entry: &NodeEntry,
    announce: &[String],
    wishes: Wishes,
) -> Result<()> {
    let announce: Vec<String> =
        announce.iter().map(|address| announced(address, &entry.node)).collect::<Result<_>>()?;
    let folder = dir.join(&entry.name);
    let place = folder.join(names::DATA);
    files::private_dir(&place)?;
    let store = Store::open(place.to_str().context("the path is not valid UTF-8")?).await?;
    let (genesis, trust) = setup::load_genesis(dir, network)?;
    let operator = keyfile::load(&folder.join(names::OPERATOR))?;
    let key = keyfile::load(&folder.join(names::NODE))?;
    let swarm = Swarm::start(NetConfig {
        identity: key.seed(),
        listen: network.p2p_listen(entry.p2p_port),
        relay_server: false,
        store: Some(store.clone()),
        max_connections: MAX_CONNECTIONS,
    })
    .await?;

    let count = network.validators.len();
    let mut peers = Vec::new();
    for step in 0..count {
        let validator = &network.validators[(index + step) % count];
        let address = network.websocket_address(validator.p2p_port, &validator.peer)?;
        peers.push(Arc::new(NetworkPeer::new(swarm.clone(), address)) as _);
    }
    let checkpoints = CheckpointStore::new(store.clone(), trust.digest());
    let light = LightClient::start(trust, Some(checkpoints), peers).await?;
    let larder = match &wishes.fetch {
        Some(wish) => {
            let ground =
                fetched::Ground { network, entry, light: &light, swarm: &swarm, store: &store };
            Some(Arc::new(fetched::open(wish, &ground).await?))
        }
        None => None,
    };
    let is_fetched = |digest| {
        let mut headers = larder.iter().flat_map(|larder| larder.headers());
        headers.any(|header| header.digest() == digest)
    };
    let here: Vec<&ModelEntry> = network
        .models
        .iter()
        .filter(|model| !is_fetched(model.digest) && (larder.is_none() || is_there(model)))
        .collect();
    let exact = here.iter().filter(|entry| !float::is_float(&entry.file));
    let models = exact.map(|entry| Ok(Arc::new(ModelFile::open(&entry.file)?) as Arc<dyn Pieces>));
    let models: Vec<_> = models.collect::<Result<_>>()?;
    let bond = genesis
        .nodes
        .iter()
        .find(|node| node.node == entry.node)
        .map_or(genesis.params.min_bond, |node| node.bond);

    let fault = fault(network.scenario, index);
    if let Some(fault) = fault {
        tracing::warn!(?fault, "this node misbehaves on purpose: the network is a rehearsal");
    }
    let accelerator = match wishes.gpu {
        Some(wish) => {
            let fetched = larder.iter().flat_map(|larder| larder.headers());
            let mut headers = models.iter().map(|model| model.header()).chain(fetched);
            let decoders = headers.any(|header| header.manifest().decoder().is_some());
            Some(gpu::open(wish, decoders).await?)
        }
        None => None,
    };
    let files = here.iter().map(|entry| entry.file.as_path());
    let engine = float::Engine::open(files, fault == Some(Fault::Quantise))?;
    let node = ComputeNode::start(NodeConfig {
        network: swarm.clone(),
        accounts: Accounts::new(light.clone()),
        light,
        store,
        operator,
        node: key,
        models,
        larder: larder.clone(),
        floats: Some(Arc::new(engine)),
        bond,
        relays: Vec::new(),
        announce,
        faucet: false,
        pause_on_stop: false,
        serve_weights: true,
        accelerator,
        cores: Cores::new(wishes.threads)?,
        limits: Limits::default(),
        fault,
    })
    .await?;

    let outcome = tokio::select! {
        asked = supervised::asked_to_stop() => asked,
        died = watch(&node, &entry.name, &folder, larder.as_deref()) => Err(died),
    };
    let served = node.metrics();
    if served.accelerator.is_some() {
        let (gpu, cpu) = (served.on_accelerator, served.on_cpu);
        tracing::info!(
            node = entry.name,
            gpu = gpu.products,
            cpu = cpu.products,
            "products served"
        );
        let ShardSteps { on_accelerator: gpu, on_cpu: cpu, spilled } = served.steps;
        tracing::info!(node = entry.name, gpu, cpu, spilled, "steps of shards served");
    }
    if outcome.is_ok() {
        node.stop().await;
    }
    swarm.shutdown().await;
    outcome
}

/// Announces readiness once the node can be drawn; resolves if it dies by its scenario.
async fn watch(
    node: &ComputeNode,
    name: &str,
    folder: &Path,
    larder: Option<&Larder>,
) -> anyhow::Error {
    let (mut problem, mut device) = (None, Report::begin(folder, About::Device));
    let mut fetch = Fetching::begin(name, folder, larder);
    while node.metrics().phase != Phase::Serving {
        let now = node.metrics().problem;
        if now != problem {
            if let Some(text) = &now {
                tracing::warn!(node = name, problem = text, "not serving yet");
            }
            problem = now;
        }
        fetch.look(problem.as_deref());
        tokio::time::sleep(POLL).await;
    }
    tracing::info!(node = name, address = %node.address(), "serves");
    if let Some(gpu) = node.metrics().accelerator {
        let (held, of, bytes) = (gpu.placed, gpu.stages, gpu.bytes);
        tracing::info!(
            node = name,
            gpu = gpu.name,
            held,
            of,
            bytes,
            "serves on a graphics processor"
        );
    }
    device.device(&node.metrics());
    fetch.report(None);
    supervised::announce_ready();
    let mut reported = Instant::now();
    while node.is_open() {
        tokio::time::sleep(POLL).await;
        if reported.elapsed() >= REPORT {
            device.device(&node.metrics());
            fetch.report(None);
            reported = Instant::now();
        }
    }
    anyhow::anyhow!("died in the middle of a query, as its scenario wants")
}

/// Tells how far a fetch is.
struct Fetching<'a> {
    name: &'a str,
    larder: Option<&'a Larder>,
    models: Vec<String>,
    report: Report<'a>,
    reported: Option<Instant>,
    told: Instant,
}

impl<'a> Fetching<'a> {
    fn begin(name: &'a str, folder: &'a Path, larder: Option<&'a Larder>) -> Self {
        let headers = larder.iter().flat_map(|larder| larder.headers());
        let models = headers.map(|header| header.manifest().name().to_owned()).collect();
        let report = Report::begin(folder, About::Fetch);
        Self { name, larder, models, report, reported: None, told: Instant::now() }
    }

    /// Reports now and then while the node does not serve yet.
    fn look(&mut self, problem: Option<&str>) {
        let Some(larder) = self.larder else { return };
        if self.reported.is_none_or(|reported| reported.elapsed() >= REPORT) {
            self.report(problem);
            self.reported = Some(Instant::now());
        }
        let stocked = larder.stocked();
        if self.told.elapsed() >= FETCH_LINE && !stocked.ready {
            let (done, total, pieces) = (stocked.done, stocked.total, stocked.fetched);
            tracing::info!(node = self.name, done, total, pieces, "fetching, checking");
            self.told = Instant::now();
        }
    }

    fn report(&mut self, problem: Option<&str>) {
        if let Some(larder) = self.larder {
            self.report.fetch(&self.models, &larder.stocked(), problem);
        }
    }
}

/// Whether a model's file is where the network's description says.
fn is_there(model: &ModelEntry) -> bool {
    let there = model.file.is_file();
    if !there {
        tracing::warn!(model = model.name, file = %model.file.display(), "no file: it is not served");
    }
    there
}

/// An announced address, which must name `node` or nobody.
fn announced(address: &str, node: &Address) -> Result<String> {
    let peer = net::peer_id(node).context("a node key is not on the curve")?.to_string();
    let unusable = |message: String| {
        let next = "give a multiaddress such as /ip4/192.0.2.7/tcp/443/ws";
        Failure::new(Code::Usage, message, next)
    };
    if !address.starts_with('/') {
        return Err(unusable(format!("{address:?} is no address to announce")).into());
    }
    match address.rsplit_once("/p2p/") {
        None => Ok(format!("{}/p2p/{peer}", address.trim_end_matches('/'))),
        Some((_, named)) if *named == *peer => Ok(address.to_owned()),
        Some((_, named)) => {
            Err(unusable(format!("{address} names {named}, this node is {peer}")).into())
        }
    }
}

/// What node number `index` does wrong in `scenario`.
fn fault(scenario: Scenario, index: usize) -> Option<Fault> {
    if index != 0 {
        return None;
    }
    match scenario {
        Scenario::Default | Scenario::Forger | Scenario::Volunteers => None,
        Scenario::Liar => Some(Fault::FlipOneBit { product: FAULTY_PRODUCT }),
        Scenario::Hush => Some(Fault::LieAndHush { product: FAULTY_PRODUCT }),
        Scenario::Silent => Some(Fault::NeverAnswer),
        Scenario::Crash => Some(Fault::DieMidQuery { after: FAULTY_PRODUCT }),
        Scenario::Preparer => Some(Fault::BendPreparation { column: 0 }),
        Scenario::Quantised => Some(Fault::Quantise),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use super::*;

    #[test]
    fn an_announced_address_names_its_node() {
        let key = |seed| nesa_crypto::SecretKey::from_seed(&[seed; 32]).public();
        let (own, other) = (key(1), net::peer_id(&key(2)).unwrap());
        let whole = announced("/dns4/n.example/tcp/443/wss", &own).unwrap();
        assert_eq!(
            whole,
            format!("/dns4/n.example/tcp/443/wss/p2p/{}", net::peer_id(&own).unwrap())
        );
        assert_eq!(announced(&whole, &own).unwrap(), whole);
        let theirs = format!("/ip4/192.0.2.7/tcp/1/ws/p2p/{other}");
        for bad in [theirs.as_str(), "192.0.2.7:443", ""] {
            assert!(announced(bad, &own).is_err(), "{bad}");
        }
    }
}
