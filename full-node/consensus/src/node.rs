//! Puts one validator together on any runtime and network: stores, pool, application, consensus,
//! follower, gossip. The tokio validator and the simulator both start here.

use crate::{
    admission::Admission,
    app::{self, Application},
    dealer::ValidatorKeys,
    engine::{self, CHANNELS, Engine, Runtime, Timeouts},
    follower::{Event, Follower},
    gossip,
    index::Index,
    mempool::{self, Mempool},
    seeds::Seeds,
    store::Databases,
    view::{Head, View},
};
use bytes::Bytes;
use commonware_codec::{Copying, DecodeExt as _};
use commonware_consensus::{Reporter, marshal::Update};
use commonware_cryptography::Digest as _;
use commonware_glue::stateful::db::DatabaseSet;
use commonware_p2p::{Blocker, Provider, Receiver, Sender};
use commonware_runtime::Handle;
use commonware_utils::{TryFromIterator as _, ordered::Set};
use futures::channel::{mpsc, oneshot};
use nesa_chain::{
    block::Block,
    genesis::{Genesis, GenesisError},
    header::{Digest, StateCommitment, ValidatorKey},
    trust::TrustRoot,
};
use nesa_primitives::{Address, Hash};
use nesa_verify::{Scheme, TrustError, Verifier};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Why a validator could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The group key is no key.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The genesis makes no chain.
    #[error("genesis: {0}")]
    Genesis(#[from] GenesisError),
    /// A validator's address in the genesis is no ed25519 key, or stands there twice.
    #[error("the validators of the genesis are not {0} different ed25519 keys")]
    Validators(usize),
    /// The keys are not those of a validator of this genesis.
    #[error("validator {0} has no share of this genesis' group key")]
    Keys(Address),
    /// The listening address or the peers cannot be used.
    #[error("network: {0}")]
    Network(String),
    /// The disk failed.
    #[error("storage: {0}")]
    Storage(String),
    /// The thread could not be started.
    #[error("thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What a validator is, apart from its runtime and network.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) genesis: Genesis,
    pub(crate) trust: TrustRoot,
    pub(crate) chain: Hash,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) validators: Arc<Vec<Address>>,
    pub(crate) participants: Set<ValidatorKey>,
    pub(crate) scheme: Scheme,
    pub(crate) keys: ValidatorKeys,
}

impl Identity {
    /// Checks that the keys belong to a validator of the genesis.
    pub(crate) fn new(genesis: Genesis, keys: ValidatorKeys) -> Result<Self, StartError> {
        let trust = genesis.trust_root();
        genesis.initial_state()?;
        let verifier = Arc::new(Verifier::new(&trust)?);
        let addresses: Vec<Address> = genesis.validators.clone();
        let count = addresses.len();
        let decoded: Vec<ValidatorKey> = addresses
            .iter()
            .map(|address| ValidatorKey::decode(Copying(&address.0[..])))
            .collect::<Result<_, _>>()
            .map_err(|_| StartError::Validators(count))?;
        let participants =
            Set::try_from_iter(decoded).map_err(|_| StartError::Validators(count))?;
        let me = keys.public();
        let stranger = || StartError::Keys(keys.address());
        if keys.group_key() != genesis.group_key
            || keys.sharing.total().get() as usize != count
            || participants.position(&me) != Some(usize::from(keys.share.index))
        {
            return Err(stranger());
        }
        let namespace = trust.consensus_namespace();
        let scheme = Scheme::signer(
            &namespace,
            participants.clone(),
            keys.sharing.clone(),
            keys.share.clone(),
        )
        .ok_or_else(stranger)?;
        Ok(Self {
            chain: trust.digest(),
            genesis,
            trust,
            verifier,
            validators: Arc::new(addresses),
            participants,
            scheme,
            keys,
        })
    }

    /// The block at height 0.
    pub(crate) fn genesis_block<E: Runtime>(&self) -> Result<Block, StartError> {
        let leader = self.participants.iter().next().cloned().ok_or(StartError::Validators(0))?;
        let empty = <Databases<E> as DatabaseSet<E>>::initial_sync_targets();
        let state = StateCommitment {
            root: Digest::EMPTY,
            ops_root: empty.root,
            ops_start: *empty.range.start(),
            ops_end: *empty.range.end(),
        };
        Ok(Block::genesis(&self.trust.genesis, leader, self.genesis.timestamp_ms, state))
    }
}

/// How a validator is run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) partition: String,
    pub(crate) mempool: mempool::Limits,
}

/// A validator's parts, running.
pub(crate) struct Node<E: Runtime> {
    pub(crate) engine: Engine<E>,
    pub(crate) view: View,
    pub(crate) seeds: Seeds,
    pub(crate) store: Databases<E>,
    pub(crate) admission: Admission<E>,
    pub(crate) follower: mpsc::UnboundedSender<Event>,
    pub(crate) outbox: mpsc::Sender<Bytes>,
    pub(crate) tasks: Vec<Handle<()>>,
}

/// Starts a validator; `updates` additionally hears of finalized blocks.
#[allow(clippy::too_many_arguments)] // what a runtime hands over, once, at the start
pub(crate) async fn start<E, B, P, M, S, V>(
    context: E,
    identity: Identity,
    options: Options,
    blocker: B,
    peers: P,
    updates: Option<M>,
    channels: [(S, V); CHANNELS as usize],
    (gossip_sender, gossip_receiver): (S, V),
) -> Result<Node<E>, StartError>
where
    E: Runtime,
    B: Blocker<PublicKey = ValidatorKey>,
    P: Provider<PublicKey = ValidatorKey>,
    M: Reporter<Activity = Update<Block>>,
    S: Sender<PublicKey = ValidatorKey>,
    V: Receiver<PublicKey = ValidatorKey>,
{
    let storage = |error: &dyn std::fmt::Display| StartError::Storage(error.to_string());
    let Options { partition, mempool } = options;
    let page_cache = engine::page_cache();
    let mut tasks = Vec::new();

    let (seeds, writer) = Seeds::start(context.child("seeds"), &partition, page_cache.clone())
        .await
        .map_err(|error| storage(&error))?;
    tasks.push(writer);
    let index = Index::open(context.child("index"), &partition, page_cache.clone())
        .await
        .map_err(|error| storage(&error))?;
    let pool = Arc::new(Mutex::new(Mempool::new(mempool)));
    let (follower, events) = mpsc::unbounded();
    let genesis_block = identity.genesis_block::<E>()?;
    let view = View::new(Head {
        header: Arc::new(genesis_block.header.clone()),
        finalization: None,
        transactions: 0,
    });

    // A leader pauses at most an idle interval; then its block has to travel.
    let idle = Duration::from_millis(identity.genesis.params.idle_interval_ms);
    let timeouts = Timeouts {
        leader: idle + Duration::from_millis(1_000),
        certification: idle + Duration::from_millis(2_000),
    };
    let app = Application::new(app::Config {
        genesis: identity.genesis.clone(),
        genesis_block,
        chain: identity.chain,
        verifier: identity.verifier.clone(),
        validators: identity.validators.clone(),
        key: identity.keys.secret_key(),
        seeds: seeds.clone(),
        pool: pool.clone(),
        applied: follower.clone(),
    });
    let running = engine::start(
        context.child("engine"),
        engine::Config {
            me: identity.keys.public(),
            scheme: identity.scheme.clone(),
            blocker,
            peers,
            app,
            seeds: seeds.clone(),
            partition,
            page_cache,
            timeouts,
            updates,
        },
        channels,
    )
    .await
    .map_err(|error| storage(&error))?;

    let following = Follower {
        marshal: running.marshal.clone(),
        view: view.clone(),
        seeds: seeds.clone(),
        pool: pool.clone(),
    };
    let (caught_up, ready) = oneshot::channel();
    let follow = context.child("follower");
    tasks.push(follow.spawn(move |_| following.run(index, events, caught_up)));
    let store = running.stateful.subscribe_databases().await;
    let admission = Admission {
        clock: Arc::new(context.child("admission")),
        chain: identity.chain,
        verifier: identity.verifier,
        validators: identity.validators,
        view: view.clone(),
        pool,
        store: store.clone(),
    };
    let (outbox, outgoing) = mpsc::channel(gossip::OUTBOX);
    tasks.push(context.child("gossip_out").spawn(move |_| gossip::send(gossip_sender, outgoing)));
    let incoming = admission.clone();
    tasks.push(
        context.child("gossip_in").spawn(move |_| gossip::receive(gossip_receiver, incoming)),
    );
    ready.await.map_err(|_| storage(&"the index of transactions"))?;
    Ok(Node { engine: running, view, seeds, store, admission, follower, outbox, tasks })
}
