//! A validator as a thread: its own tokio runtime, authenticated connections to the other
//! validators, files in one directory.

use crate::{
    dealer::ValidatorKeys,
    engine::{self, CHANNELS, GOSSIP_CHANNEL},
    handle::{Request, ValidatorHandle, shared},
    mempool,
    node::{self, Identity, Options, StartError},
    service::Service,
    view::View,
};
use commonware_consensus::{Reporter, marshal::Update};
use commonware_cryptography::ChaCha20Poly1305;
use commonware_p2p::{
    Address as PeerAddress, AddressableManager as _, authenticated::lookup, max_message_size,
};
use commonware_runtime::{Handle, Quota, Runner as _, Spawner as _, Supervisor as _, tokio};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{NZU32, NZUsize, TryFromIterator as _, ordered::Map};
use futures::{
    FutureExt as _,
    channel::{mpsc, oneshot},
};
use nesa_chain::{block::Block, genesis::Genesis, header::ValidatorKey, limits::MAX_TX_BYTES};
use nesa_primitives::Address;
use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tracing::{error, info};

/// Messages a peer may send per second and channel. Inbound mailboxes are sized by this number
/// times the peers, for every channel, so it is kept small.
const MESSAGES_PER_SECOND: Quota = Quota::per_second(NZU32!(256));
/// Requests from handles that may wait.
const REQUESTS: usize = 256;

/// How to run one validator.
#[derive(Clone)]
pub struct ValidatorConfig {
    /// The chain it validates.
    pub genesis: Genesis,
    /// Its secret keys.
    pub keys: ValidatorKeys,
    /// Where its files lie. Survives kill -9 at any moment; must not be shared or copied while in
    /// use, since a validator that forgets its votes may contradict them.
    pub directory: PathBuf,
    /// Where it listens for the other validators.
    pub listen: SocketAddr,
    /// Where every validator of the genesis, itself included, can be reached.
    pub peers: Vec<(Address, SocketAddr)>,
    /// Bounds of the pool of waiting transactions.
    pub mempool: mempool::Limits,
}

/// Starts validators.
pub struct Validator;

/// Observes nothing.
#[derive(Clone)]
struct Nobody;

impl Reporter for Nobody {
    type Activity = Update<Block>;
    fn report(&mut self, _: Self::Activity) -> commonware_actor::Feedback {
        commonware_actor::Feedback::Ok
    }
}

impl Validator {
    /// Starts a validator in a thread of its own and returns once it takes requests.
    ///
    /// # Errors
    /// [`StartError`] when the keys, the addresses or the directory cannot be used.
    pub async fn start(config: ValidatorConfig) -> Result<ValidatorHandle, StartError> {
        let identity = Identity::new(config.genesis.clone(), config.keys.clone())?;
        let mut peers = Vec::new();
        for (address, socket) in &config.peers {
            let key = identity
                .participants
                .iter()
                .find(|key| key.as_ref() == address.as_bytes())
                .ok_or_else(|| StartError::Network(format!("{address} is no validator")))?;
            peers.push((key.clone(), PeerAddress::from(*socket)));
        }
        let peers = Map::try_from_iter(peers)
            .map_err(|_| StartError::Network("a validator stands there twice".into()))?;

        let chain = identity.chain;
        let (ready, started) = oneshot::channel();
        let (stop, stopping) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        std::thread::Builder::new().name("validator".into()).spawn(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                run(config, identity, peers, ready, stopping)
            }));
            let outcome = outcome.unwrap_or_else(|panic| {
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                Err(format!("an actor failed: {}", text.unwrap_or("without a message")))
            });
            let _ = ended.send(outcome);
        })?;
        let stopped =
            shared(end.map(|end| end.unwrap_or_else(|_| Err("the thread vanished".into()))));
        match started.await {
            Ok(Ok((view, requests))) => Ok(ValidatorHandle {
                chain,
                view,
                requests,
                stop: Arc::new(Mutex::new(Some(stop))),
                stopped,
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::Storage(
                stopped.await.err().unwrap_or_else(|| "ended while starting".into()),
            )),
        }
    }
}

type Ready = oneshot::Sender<Result<(View, mpsc::Sender<Request>), StartError>>;

fn run(
    config: ValidatorConfig,
    identity: Identity,
    peers: Map<ValidatorKey, PeerAddress>,
    ready: Ready,
    stopping: oneshot::Receiver<()>,
) -> Result<(), String> {
    // One worker: a validator is idle most of the time, and several share a machine.
    let runner = tokio::Runner::new(
        tokio::Config::new()
            .with_worker_threads(1)
            .with_max_blocking_threads(4)
            .with_tcp_nodelay(Some(true))
            .with_storage_directory(config.directory.clone()),
    );
    runner.start(async move |context| {
        let count = identity.participants.len();
        let participants = u32::try_from(count).map_err(|error| error.to_string())?;
        let max = max_message_size(&[engine::max_payload(participants), MAX_TX_BYTES]);
        let handshake = Cups::<_, ChaCha20Poly1305>::new(
            Sake {
                signer: identity.keys.identity.clone(),
                synchrony_bound: Duration::from_secs(5),
                max_handshake_age: Duration::from_secs(10),
                version: sake::Version::V1,
            },
            cups::Version::V1,
        );
        let namespace = [identity.trust.consensus_namespace().as_slice(), b" p2p"].concat();
        let set = NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        let mut network_config =
            lookup::Config::local(handshake, &namespace, config.listen, set, max, NZUsize!(512));
        network_config.tracked_peer_sets = NonZeroUsize::MIN;
        let (mut network, mut oracle) =
            lookup::Network::new(context.child("network"), network_config);
        oracle.track(0, peers);
        let channels: [_; CHANNELS as usize] =
            std::array::from_fn(|channel| network.register(channel as u64, MESSAGES_PER_SECOND));
        let gossip = network.register(GOSSIP_CHANNEL, MESSAGES_PER_SECOND);
        let network = network.start();

        let chain = identity.chain;
        let node = match node::start(
            context.child("node"),
            identity,
            Options { partition: "validator".into(), mempool: config.mempool },
            oracle.clone(),
            oracle,
            None::<Nobody>,
            channels,
            gossip,
        )
        .await
        {
            Ok(node) => node,
            Err(error) => {
                let text = error.to_string();
                let _ = ready.send(Err(error));
                return Err(text);
            }
        };
        let (requests, queue) = mpsc::channel(REQUESTS);
        let service = Service {
            clock: Arc::new(context.child("service")),
            marshal: node.engine.marshal,
            store: node.store,
            view: node.view.clone(),
            seeds: node.seeds,
            admission: node.admission,
            gossip: node.outbox,
            follower: node.follower,
        };
        let _answering = context.child("answering").spawn(move |_| service.run(queue));
        let _ = ready.send(Ok((node.view, requests)));
        info!(%chain, listen = %config.listen, "the validator runs");

        let mut actors = node.tasks;
        actors.extend(node.engine.children);
        actors.push(node.engine.root);
        actors.push(network);
        let failed = Handle::select(actors).fuse();
        let stopping = stopping.fuse();
        futures::pin_mut!(failed, stopping);
        futures::select! {
            // Dropping the last handle stops the validator too.
            _ = stopping => Ok(()),
            _ = failed => {
                error!("an actor of the validator ended");
                Err("an actor of the validator ended".to_owned())
            }
        }
    })
}
