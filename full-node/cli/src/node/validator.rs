//! A validator process: consensus in a thread of its own; HTTP, libp2p services, relay and faucet
//! in this one.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use nesa_chain::keys;
use nesa_consensus::{Validator, ValidatorConfig, dealer::ValidatorKeys, mempool};
use nesa_platform::{
    net::{NetConfig, Network as Swarm},
    storage::Store,
};
use nesa_rpc::{Bootstrap, Model};
use nesa_wire::Protocol;
use tokio::{net::TcpListener, sync::watch};

use super::{
    float,
    model::{ModelFile, ServedModels},
    services::{
        chain::{self, ChainService},
        chunks::{self, ChunkService},
        faucet::Faucet,
        forger::Forger,
    },
    source::{Chain, HttpSource},
    supervised,
};
use crate::{
    failure::{Code, Failure},
    files, keyfile,
    local::{
        layout::{Network, ValidatorEntry},
        setup::{self, names},
    },
};

/// Most libp2p connections of a validator, relayed ones included.
const MAX_CONNECTIONS: u32 = 512;
/// Pause between two looks at whether the chain answers.
const READY_POLL: Duration = Duration::from_millis(50);
/// How long open HTTP requests may take to finish at the end.
const HTTP_GRACE: Duration = Duration::from_secs(2);

/// Runs the validator `name` of the network in `dir` until asked to stop.
pub(crate) fn run(dir: &Path, name: &str, www: Option<PathBuf>) -> Result<()> {
    let network = Network::load(dir)?;
    let Some((index, entry)) = network.validator(name) else {
        return Err(Failure::new(
            Code::Usage,
            format!("{} has no validator {name}", dir.display()),
            "names are v0, v1, … as in network.json",
        )
        .into());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(serve(dir, &network, index, entry, www));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(
    dir: &Path,
    network: &Network,
    index: usize,
    entry: &ValidatorEntry,
    www: Option<PathBuf>,
) -> Result<()> {
    let folder = dir.join(&entry.name);
    let data = folder.join(names::DATA);
    files::private_dir(&data)?;
    let (genesis, trust) = setup::load_genesis(dir, network)?;
    let listener = TcpListener::bind((network.listen, entry.http_port))
        .await
        .with_context(|| format!("cannot listen on {} port {}", network.listen, entry.http_port))?;

    let handle = Validator::start(ValidatorConfig {
        genesis: genesis.clone(),
        keys: validator_keys(&folder.join(names::VALIDATOR))?,
        directory: data.join("consensus"),
        listen: loopback(entry.consensus_port),
        peers: network
            .validators
            .iter()
            .map(|peer| (peer.address, loopback(peer.consensus_port)))
            .collect(),
        mempool: mempool::Limits::default(),
    })
    .await
    .context("cannot start the validator")?;
    let chain_source = Chain::new(handle.clone());

    let identity = keyfile::load(&folder.join(names::P2P))?;
    let place = data.join("net");
    let swarm = Swarm::start(NetConfig {
        identity: identity.seed(),
        listen: network.p2p_listen(entry.p2p_port),
        relay_server: true,
        store: Some(Store::open(place.to_str().context("the path is not valid UTF-8")?).await?),
        max_connections: MAX_CONNECTIONS,
    })
    .await?;

    let faucet_key = folder.join(names::FAUCET);
    let has_faucet =
        network.validators.iter().any(|peer| dir.join(&peer.name).join(names::FAUCET).exists());
    let faucet = if faucet_key.exists() {
        Some(Faucet::new(keyfile::load(&faucet_key)?, trust.digest(), &genesis.params))
    } else {
        None
    };
    let forger = network.scenario.forgery(index);
    if let Some(forgery) = forger {
        tracing::warn!(?forgery, "lies to light clients on purpose: the network is a rehearsal");
    }
    let forger = forger.map(|forgery| Forger::new(forgery, trust.clone())).transpose()?;
    // Float models are run where their file is: nobody fetches them in pieces.
    let exact = network.models.iter().filter(|entry| !float::is_float(&entry.file));
    let files = exact.map(|entry| ModelFile::open(&entry.file));
    let served = Arc::new(ServedModels::new(files.collect::<Result<Vec<_>>>()?));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(
        ChainService::new(chain_source.clone(), faucet, forger)
            .run(swarm.accept(Protocol::Chain, chain::STREAMS)?),
    );
    tasks.spawn(ChunkService::new(served).run(swarm.accept(Protocol::Chunks, chunks::STREAMS)?));

    let bootstrap = Bootstrap {
        trust_root: network.trust_root.clone(),
        chain_id: network.chain_id.clone(),
        peers: peers(network, index)?,
        models: network
            .models
            .iter()
            .map(|entry| Model { digest: entry.digest, name: entry.name.clone() })
            .collect(),
        faucet: has_faucet,
        floats: network
            .models
            .iter()
            .filter(|entry| float::is_float(&entry.file))
            .map(|entry| float::card(&entry.file))
            .collect::<Result<_>>()?,
    };
    let counted = swarm.clone();
    let floats = network.models.iter().filter(|entry| float::is_float(&entry.file));
    let floats = floats.map(|entry| (entry.digest, entry.file.clone())).collect();
    let peers = move || counted.peers().len();
    let source = HttpSource::new(chain_source.clone(), bootstrap, floats, peers);
    let (stop, stopping) = watch::channel(false);
    let config = nesa_rpc::Config { www, ..nesa_rpc::Config::default() };
    let http = tokio::spawn(async move {
        let until = async move {
            let mut stopping = stopping;
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        nesa_rpc::serve(listener, source, &config, until).await;
    });

    let ready = wait_for_chain(&chain_source);
    let running = async {
        ready.await;
        tracing::info!(validator = %entry.name, "serves");
        supervised::announce_ready();
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        asked = supervised::asked_to_stop() => asked,
        ended = handle.stopped() => match ended {
            Ok(()) => Ok(()),
            Err(reason) => Err(anyhow::anyhow!("the validator ended: {reason}")),
        },
        () = running => Ok(()),
    };

    stop.send_replace(true);
    if tokio::time::timeout(HTTP_GRACE, http).await.is_err() {
        tracing::debug!("open requests were cut off");
    }
    tasks.shutdown().await;
    swarm.shutdown().await;
    if let Err(reason) = handle.stop().await {
        tracing::warn!(reason, "the validator did not stop cleanly");
    }
    outcome
}

/// Addresses of every validator's libp2p services, this one's first.
fn peers(network: &Network, own: usize) -> Result<Vec<String>> {
    let count = network.validators.len();
    (0..count)
        .filter_map(|step| network.validators.get((own + step) % count))
        .map(|peer| network.websocket_address(peer.p2p_port, &peer.peer))
        .collect()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn validator_keys(path: &Path) -> Result<ValidatorKeys> {
    let bytes = zeroize::Zeroizing::new(
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
    );
    // The decoder's message says nothing about the bytes.
    ValidatorKeys::from_bytes(&bytes)
        .with_context(|| format!("{} holds no validator keys", path.display()))
}

/// Resolves once the chain has a finalised block whose state this validator can prove.
async fn wait_for_chain(chain: &Chain) {
    while chain.values(vec![keys::params()]).await.is_err() {
        tokio::time::sleep(READY_POLL).await;
    }
}
