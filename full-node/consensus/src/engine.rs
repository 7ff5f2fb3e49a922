//! One validator: p2p channels → block broadcast, marshal, stateful application, simplex.
//!
//! ```text
//!   votes ─┐                    ┌─> seeds
//!   certs ─┼─> simplex ─────────┤
//! resolver ┘      │ propose/verify
//!                 v
//! broadcast ─> deferred ─> stateful ─> application (rules over the store)
//! backfill ──> marshal ──────^   finalized blocks in order
//! ```
//!
//! Generic over the runtime and the network, so that the same code runs on tokio and under the
//! deterministic simulator.

use crate::{
    app::Application,
    archive,
    seeds::{SeedReporter, Seeds},
    store,
};
use commonware_broadcast::buffered;
use commonware_consensus::{
    Reporter, Reporters,
    marshal::{
        self, Update,
        core::{Actor as MarshalActor, Mailbox as MarshalMailbox},
        resolver::p2p as marshal_resolver,
        standard::{Deferred, Standard},
    },
    simplex::{
        self,
        config::{ForwardPolicy, SkipPolicy},
        elector::RoundRobin,
    },
    types::{Epoch, FixedEpocher, ViewDelta},
};
use commonware_cryptography::{Digested, Digestible as _, certificate::ConstantProvider};
use commonware_glue::stateful::{
    Config as StatefulConfig, Mailbox as StatefulMailbox, Stateful, SyncPlan, db::SyncEngineConfig,
};
use commonware_p2p::{Blocker, Provider, Receiver, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::{
    Clock, Handle, Metrics, Network, Spawner, Storage, buffer::paged::CacheRef,
};
use commonware_storage::{archive::prunable, translator::TwoCap};
use commonware_utils::{NZDuration, NZU16, NZU64, NZUsize};
use nesa_chain::{
    block::Block,
    header::{Digest, ValidatorKey},
};
use nesa_verify::Scheme;
use rand_core::CryptoRng;
use std::{
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

/// Bytes of each journal's write and replay buffer. About thirty of them live in a validator.
pub(crate) const IO_BUFFER: NonZeroUsize = NZUsize!(1 << 16);
/// Messages that may wait for one actor.
const MAILBOX: NonZeroUsize = NZUsize!(1024);
/// No rotation of keys yet: one epoch for ever.
const EPOCH_LENGTH: NonZeroU64 = NZU64!(u64::MAX);
/// Views behind the newest whose votes and certificates are kept.
const VIEW_RETENTION: ViewDelta = ViewDelta::new(256);
/// How long a peer may take to answer a request for a block or a certificate.
const FETCH: Duration = Duration::from_secs(2);

/// Whatever a validator needs of its runtime.
pub(crate) trait Runtime: Clock + CryptoRng + Spawner + Storage + Metrics + Network {}
impl<T: Clock + CryptoRng + Spawner + Storage + Metrics + Network> Runtime for T {}

/// Consensus channels, in the order in which [`start`] takes them: votes, certificates, resolver,
/// backfill, block broadcast.
pub(crate) const CHANNELS: u64 = 5;
/// The channel on which validators pass transactions on.
pub(crate) const GOSSIP_CHANNEL: u64 = CHANNELS;

/// How long consensus waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// For a leader's block. Longer than an idle leader pauses.
    pub(crate) leader: Duration,
    /// For a block to be certified.
    pub(crate) certification: Duration,
}

/// What one validator is made of.
pub(crate) struct Config<B, P, M> {
    pub(crate) me: ValidatorKey,
    pub(crate) scheme: Scheme,
    pub(crate) blocker: B,
    pub(crate) peers: P,
    pub(crate) app: Application,
    pub(crate) seeds: Seeds,
    pub(crate) partition: String,
    pub(crate) page_cache: CacheRef,
    pub(crate) timeouts: Timeouts,
    /// Observes finalized blocks in order; must acknowledge them. For the simulator.
    pub(crate) updates: Option<M>,
}

pub(crate) type Marshal = MarshalMailbox<Scheme, Standard<Block>>;

/// A running validator.
pub(crate) struct Engine<E: Runtime> {
    pub(crate) marshal: Marshal,
    pub(crate) stateful: StatefulMailbox<E, Application>,
    /// Consensus itself. Aborting it aborts every other actor.
    pub(crate) root: Handle<()>,
    pub(crate) children: Vec<Handle<()>>,
}

/// A store could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the archive of {what} could not be opened: {source}")]
pub(crate) struct OpenError {
    what: &'static str,
    source: commonware_storage::archive::Error,
}

/// The cache of file pages that all stores of a validator share: 8 MiB.
pub(crate) fn page_cache() -> CacheRef {
    CacheRef::new(NZU16!(4096), NZUsize!(2048))
}

/// Largest message that consensus sends between `validators` validators, in bytes.
pub(crate) fn max_payload(validators: u32) -> usize {
    let votes = simplex::max_payload_size::<Scheme, Digest>(validators);
    let blocks = marshal::max_payload_size::<Standard<Block>, Scheme>(validators, &());
    votes.max(blocks)
}

/// Starts a validator on its channels.
pub(crate) async fn start<E, B, P, M, S, V>(
    context: E,
    cfg: Config<B, P, M>,
    channels: [(S, V); CHANNELS as usize],
) -> Result<Engine<E>, OpenError>
where
    E: Runtime,
    B: Blocker<PublicKey = ValidatorKey>,
    P: Provider<PublicKey = ValidatorKey>,
    M: Reporter<Activity = Update<Block>>,
    S: Sender<PublicKey = ValidatorKey>,
    V: Receiver<PublicKey = ValidatorKey>,
{
    let [votes, certificates, resolver, backfill, broadcast] = channels;
    let Config { me, scheme, blocker, peers, app, seeds, partition, page_cache, .. } = cfg;
    let prefix = partition;
    let mut children = Vec::new();

    // Whole blocks to everyone; bodies are bounded by the block codec.
    let (buffer_engine, buffer) = buffered::Engine::new(
        context.child("buffer"),
        buffered::Config {
            public_key: me.clone(),
            mailbox_size: MAILBOX,
            deque_size: 16,
            priority: true,
            codec_config: (),
            peer_provider: peers.clone(),
            strategy: Sequential,
        },
    );
    children.push(buffer_engine.start(broadcast));

    let marshal_net = marshal_resolver::init(
        context.child("marshal_resolver"),
        marshal_resolver::Config {
            public_key: me.clone(),
            peer_provider: peers.clone(),
            blocker: blocker.clone(),
            mailbox_size: MAILBOX,
            fetch_timeout: NZDuration!(FETCH),
            fetch_retry_delay: Duration::from_millis(100),
            priority_requests: false,
            priority_responses: false,
        },
        backfill,
    );

    let plan = SyncPlan::init(context.child("plan"), prefix.clone()).await;
    let genesis = app.genesis_block();
    let genesis_digest = genesis.digest();
    let finalizations = prunable::Archive::init(
        context.child("finalizations"),
        archive::config(TwoCap, &prefix, "finalizations", archive::BLOCKS, page_cache.clone()),
    )
    .await
    .map_err(|source| OpenError { what: "finalizations", source })?;
    let blocks = prunable::Archive::init(
        context.child("blocks"),
        archive::config(TwoCap, &prefix, "blocks", archive::BLOCKS, page_cache.clone()),
    )
    .await
    .map_err(|source| OpenError { what: "blocks", source })?;
    let (marshal_actor, marshal, floor) = MarshalActor::<_, Standard<Block>, _, _, _, _, _>::init(
        context.child("marshal"),
        finalizations,
        blocks,
        marshal::Config {
            provider: ConstantProvider::new(scheme.clone()),
            epocher: FixedEpocher::new(EPOCH_LENGTH),
            start: plan.marshal_start(Digested::precomputed(genesis, genesis_digest)),
            partition_prefix: prefix.clone(),
            mailbox_size: MAILBOX,
            view_retention: VIEW_RETENTION,
            prunable_items_per_section: NZU64!(1024),
            page_cache: page_cache.clone(),
            replay_buffer: IO_BUFFER,
            key_write_buffer: IO_BUFFER,
            value_write_buffer: IO_BUFFER,
            block_codec_config: (),
            max_repair: NZUsize!(16),
            max_pending_acks: NZUsize!(16),
            strategy: Sequential,
        },
    )
    .await;

    let (stateful_actor, stateful) = Stateful::new(
        context.child("stateful"),
        StatefulConfig {
            application: app,
            db_config: store::config(&prefix, page_cache.clone()),
            provider: (),
            marshal: (marshal.clone(), floor),
            mailbox_size: MAILBOX,
            plan,
            resolvers: store::NoSync,
            sync_config: SyncEngineConfig {
                fetch_batch_size: NZU64!(64),
                apply_batch_size: NZU64!(1024),
                max_outstanding_requests: NZUsize!(8),
            },
            prune_config: None,
            strategy: Sequential,
        },
    );

    let automaton = Deferred::new(
        context.child("deferred"),
        stateful.clone(),
        marshal.clone(),
        FixedEpocher::new(EPOCH_LENGTH),
    );
    children.push(marshal_actor.start(
        Reporters::<StatefulMailbox<E, Application>, M>::from((stateful.clone(), cfg.updates)),
        buffer,
        marshal_net,
    ));
    children.push(stateful_actor.start());

    // Simplex takes the root context, so aborting its handle aborts every child above.
    let engine = simplex::Engine::new(
        context,
        simplex::Config {
            scheme,
            elector: <RoundRobin>::default(),
            blocker,
            automaton: automaton.clone(),
            relay: automaton.clone(),
            reporter: Reporters::from((automaton, SeedReporter(seeds))),
            strategy: Sequential,
            partition: format!("{prefix}-simplex"),
            mailbox_size: MAILBOX,
            epoch: Epoch::zero(),
            floor: simplex::Floor::Genesis(genesis_digest),
            replay_buffer: IO_BUFFER,
            write_buffer: IO_BUFFER,
            page_cache,
            leader_timeout: cfg.timeouts.leader,
            certification_timeout: cfg.timeouts.certification,
            timeout_retry: Duration::from_secs(1),
            view_retention: VIEW_RETENTION,
            skip: SkipPolicy::Enabled {
                timeout: cfg.timeouts.leader * 3,
                budget: simplex::SkipBudget::Participants,
            },
            fetch_timeout: NZDuration!(FETCH),
            fetch_retry_delay: Duration::from_millis(250),
            forward: ForwardPolicy::SilentVoters,
            track_historical_votes: false,
        },
    );
    let root = engine.start(votes, certificates, resolver);
    Ok(Engine { marshal, stateful, root, children })
}
