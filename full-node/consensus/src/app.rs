//! The chain as consensus sees it: building blocks, judging blocks, and hearing which are final.

use crate::{
    engine::Runtime,
    execute::{BatchSource, ExecuteError, Execution, StepFailure},
    follower::Event,
    mempool::Mempool,
    seeds::Seeds,
    store::{self, Batch, Databases, Readers, Sealed},
};
use commonware_codec::EncodeSize as _;
use commonware_consensus::marshal::ancestry::Ancestry;
use commonware_glue::stateful::{self, Finality, Input, Proposed, db::DatabaseSet};
use commonware_runtime::Clock;
use commonware_storage::{mmr::Location, qmdb::sync::Target};
use commonware_utils::{SystemTimeExt as _, non_empty_range};
use futures::{StreamExt as _, channel::mpsc};
use nesa_chain::{
    block::{Block, MAX_BLOCK_TXS, MAX_BODY_BYTES, tx_root},
    genesis::Genesis,
    header::{Context, Header, HeaderFields, MAX_SKIPPED_SEEDS},
    rules::BlockEnv,
    tx::SignedTx,
};
use nesa_crypto::SecretKey;
use nesa_primitives::{Address, Hash};
use nesa_verify::{Scheme, Verifier};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tracing::{debug, warn};

/// Most a block's time may run ahead of its parent's. After a long standstill the chain's clock
/// catches up in steps of this size; it also bounds how long a dishonest leader can make others
/// wait for a time that has not come.
pub const MAX_TIME_STEP_MS: u64 = 60_000;
/// How far ahead of the local clock a block's time is taken at once; beyond it, the validator
/// waits. It never answers "invalid" because of its own clock.
pub const MAX_CLOCK_SKEW_MS: u64 = 1_000;
/// How often a waiting leader looks for transactions.
const POLL: Duration = Duration::from_millis(20);

/// The chain's rules as a state machine over the store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Application(Arc<Config>);

/// What an application is made of, and every clone of it shares.
pub(crate) struct Config {
    pub(crate) genesis: Genesis,
    pub(crate) genesis_block: Block,
    pub(crate) chain: Hash,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) validators: Arc<Vec<Address>>,
    pub(crate) key: SecretKey,
    pub(crate) seeds: Seeds,
    pub(crate) pool: Arc<Mutex<Mempool>>,
    /// Told of every block once its changes are in the finalized store.
    pub(crate) applied: mpsc::UnboundedSender<Event>,
}

impl Application {
    pub(crate) fn new(config: Config) -> Self {
        Self(Arc::new(config))
    }

    pub(crate) fn genesis_block(&self) -> Block {
        self.0.genesis_block.clone()
    }

    fn pool(&self) -> MutexGuard<'_, Mempool> {
        self.0.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn env(&self, context: &Context, height: u64, timestamp_ms: u64) -> BlockEnv {
        let mut leader = [0u8; 32];
        leader.copy_from_slice(context.leader.as_ref());
        BlockEnv {
            chain: self.0.chain,
            height,
            view: context.round.view().get(),
            timestamp_ms,
            leader: Address(leader),
            validators: self.0.validators.to_vec(),
        }
    }

    /// Waits until a block is due: soon if transactions wait, later if not. Returns its time.
    async fn due(&self, clock: &impl Clock, parent_ms: u64) -> u64 {
        let params = &self.0.genesis.params;
        loop {
            let now = clock.current().epoch().as_millis() as u64;
            let interval = if self.pool().is_empty() {
                params.idle_interval_ms
            } else {
                params.block_interval_ms
            };
            let due = parent_ms.saturating_add(interval);
            if now >= due {
                return now.min(parent_ms.saturating_add(MAX_TIME_STEP_MS)).max(parent_ms + 1);
            }
            clock.sleep(POLL.min(Duration::from_millis(due - now))).await;
        }
    }

    /// Starts a block: the genesis accounts before the first one, then what falls due.
    async fn begin<'a, E: Runtime>(
        &self,
        env: &BlockEnv,
        batch: &'a Batch<E>,
    ) -> Result<Execution<BatchSource<'a, E>>, ExecuteError> {
        let mut execution = Execution::new(BatchSource(batch));
        if env.height == 1 {
            execution.genesis(&self.0.genesis)?;
        }
        execution.begin_block(env).await?;
        Ok(execution)
    }

    /// Takes transactions from the pool as long as they apply and fit.
    async fn fill<E: Runtime>(
        &self,
        env: &BlockEnv,
        execution: &mut Execution<BatchSource<'_, E>>,
    ) -> Result<Vec<SignedTx>, ExecuteError> {
        let mut selection = self.pool().select();
        let mut txs = Vec::new();
        let mut bytes = 0;
        while txs.len() < MAX_BLOCK_TXS {
            let Some(tx) = selection.offer() else { break };
            let size = tx.encode_size();
            if bytes + size > MAX_BODY_BYTES {
                continue;
            }
            match execution.apply(env, &tx, &*self.0.verifier).await {
                Ok(()) => {
                    bytes += size;
                    txs.push(SignedTx::clone(&tx));
                    selection.accept();
                }
                Err(StepFailure::Rule(error)) => {
                    debug!(id = %tx.id(), %error, "a waiting transaction does not apply");
                    self.pool().failed(&tx);
                }
                Err(StepFailure::Failed(error)) => return Err(error),
            }
        }
        Ok(txs)
    }

    async fn build<E: Runtime>(
        &self,
        runtime: &E,
        context: Context,
        parent: &Header,
        batch: Batch<E>,
    ) -> Result<Option<(Block, Sealed<E>)>, ExecuteError> {
        let (parent_view, view) = (context.parent.0.get(), context.round.view().get());
        let parent_seed = match parent_view {
            0 => None,
            view => match self.0.seeds.get(view).await {
                Some(seed) => Some(seed),
                None => match self.0.seeds.wait(view).await {
                    Some(seed) => Some(seed),
                    None => return Ok(None),
                },
            },
        };
        let timestamp_ms = self.due(runtime, parent.timestamp_ms()).await;
        let height = parent.height() + 1;
        let env = self.env(&context, height, timestamp_ms);
        let mut execution = self.begin::<E>(&env, &batch).await?;
        let txs = self.fill::<E>(&env, &mut execution).await?;
        execution.end_block(&env).await?;
        let changes = execution.into_changes();
        let sealed = store::seal::<E>(batch, changes).await?;
        let fields = HeaderFields {
            skipped_seeds: self.0.seeds.between(parent_view, view, MAX_SKIPPED_SEEDS),
            context,
            parent: parent.digest(),
            height,
            timestamp_ms,
            tx_root: tx_root(&txs),
            state: store::commitment::<E>(&sealed),
            parent_seed,
        };
        let header = Header::sign(fields, &self.0.chain, &self.0.key);
        Ok(Some((Block { header, txs }, sealed)))
    }

    /// The rules that a block and its parent decide for ever.
    fn check(&self, header: &Header, parent: &Header) -> Result<(), String> {
        if !header.leader_signed(&self.0.chain) {
            return Err("the leader did not sign the header".into());
        }
        let (time, before) = (header.timestamp_ms(), parent.timestamp_ms());
        if time <= before || time > before.saturating_add(MAX_TIME_STEP_MS) {
            return Err(format!(
                "its time is {time} ms, expected more than {before} and at most {MAX_TIME_STEP_MS} more"
            ));
        }
        let verdict = self.0.verifier.verify_seeds(header);
        if !verdict.is_valid() {
            return Err(verdict.to_string());
        }
        Ok(())
    }

    async fn replay<E: Runtime>(
        &self,
        block: &Block,
        batch: Batch<E>,
    ) -> Result<Sealed<E>, ExecuteError> {
        let header = &block.header;
        let env = self.env(&header.fields.context, header.height(), header.timestamp_ms());
        let mut execution = self.begin::<E>(&env, &batch).await?;
        for (index, tx) in block.txs.iter().enumerate() {
            execution.apply(&env, tx, &*self.0.verifier).await.map_err(
                |failure| match failure {
                    StepFailure::Rule(error) => ExecuteError::Tx { index, error: Box::new(error) },
                    StepFailure::Failed(error) => error,
                },
            )?;
        }
        execution.end_block(&env).await?;
        let changes = execution.into_changes();
        store::seal::<E>(batch, changes).await
    }
}

impl<E: Runtime> stateful::Application<E> for Application {
    type SigningScheme = Scheme;
    type Context = Context;
    type Block = Block;
    type Databases = Databases<E>;
    type Captured = ();
    type Provider = ();
    type Input = ();

    async fn genesis(&mut self) -> Block {
        self.genesis_block()
    }

    async fn propose(
        &mut self,
        (runtime, context): (E, Context),
        mut ancestry: impl Ancestry<Block>,
        batch: Batch<E>,
        _input: Input<(), ()>,
    ) -> Option<Proposed<Self, E>> {
        let parent = ancestry.next().await?.inner_shared();
        match self.build(&runtime, context, &parent.header, batch).await {
            Ok(built) => built.map(|(block, merkleized)| Proposed { block, merkleized }),
            Err(error) => {
                warn!(%error, "no block was proposed");
                None
            }
        }
    }

    /// Linkage (height, parent digest, context, epoch) is checked by `Deferred`, the operations
    /// root and range by `Stateful`; everything else is checked here. The canonical root of the
    /// store is not covered by the sync targets, so comparing it is up to us.
    async fn process(
        &mut self,
        (runtime, _): (E, Context),
        mut ancestry: impl Ancestry<Block>,
        batch: Batch<E>,
        finality: Finality,
    ) -> Option<Sealed<E>> {
        let block = ancestry.next().await?.inner_shared();
        if finality == Finality::Candidate {
            let parent = ancestry.next().await?.inner_shared();
            if let Err(reason) = self.check(&block.header, &parent.header) {
                warn!(height = block.header.height(), reason, "a block was refused");
                return None;
            }
            loop {
                let now = runtime.current().epoch().as_millis() as u64;
                let ahead = block.header.timestamp_ms().saturating_sub(now);
                if ahead <= MAX_CLOCK_SKEW_MS {
                    break;
                }
                runtime.sleep(Duration::from_millis(ahead - MAX_CLOCK_SKEW_MS)).await;
            }
        }
        match self.replay::<E>(&block, batch).await {
            Ok(sealed) if store::commitment::<E>(&sealed) == block.header.fields.state => {
                Some(sealed)
            }
            Ok(_) => {
                warn!(height = block.header.height(), "a block leads to another state");
                None
            }
            Err(error) => {
                warn!(height = block.header.height(), %error, "a block could not be executed");
                None
            }
        }
    }

    async fn capture(
        &mut self,
        _context: (E, Context),
        _block: &Block,
        _batch: &Sealed<E>,
        _readers: Readers<E>,
    ) {
    }

    async fn finalized(
        &mut self,
        _context: (E, Context),
        block: &Block,
        _captured: (),
        _readers: Readers<E>,
    ) {
        let _ = self.0.applied.unbounded_send(Event::Applied(Arc::new(block.clone())));
    }

    fn sync_targets(block: &Block) -> <Databases<E> as DatabaseSet<E>>::SyncTargets {
        let state = &block.header.fields.state;
        Target::new(
            state.ops_root,
            non_empty_range!(Location::new(state.ops_start), Location::new(state.ops_end)),
        )
    }
}
