//! Runs the chain's rules over a batch of the store.
//!
//! The rules are synchronous and pure; the store is neither. So a step runs against what has been
//! read so far, and when it misses a key, its writes are undone, the key is read, and the step
//! runs again. A transaction's own list of keys is read ahead, so that the usual step runs once.

use crate::{
    engine::Runtime,
    store::{Batch, Databases},
};
use bytes::Bytes;
use nesa_chain::{
    Params,
    genesis::{Genesis, GenesisError},
    header::{Digest, to_digest},
    keys::{self, Key},
    record::Account,
    rules::{self, BlockEnv, SeedVerifier, TxError},
    state::{Missing, Overlay, StateError},
    tx::SignedTx,
};
use nesa_primitives::Address;
use std::collections::BTreeMap;

/// Rounds of reading after which a step is given up: the rules would be asking in circles.
const MAX_ROUNDS: usize = 64;

/// Why a block could not be executed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    /// The store could not be read or merkleized.
    #[error("the store failed: {0}")]
    Store(String),
    /// The rules found the state damaged, or asked for keys without end.
    #[error(transparent)]
    State(#[from] StateError),
    /// The genesis makes no chain.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// What every block does by itself failed.
    #[error("beginning or ending a block: {0}")]
    Block(Box<TxError>),
    /// A transaction of the block breaks a rule.
    #[error("transaction {index}: {error}")]
    Tx {
        /// Its index in the block.
        index: usize,
        /// The rule.
        error: Box<TxError>,
    },
}

/// Something that state can be read from: a batch of a proposal, or the finalized store.
pub(crate) trait Source: Send + Sync {
    /// The values of keys, in order.
    fn read_many(
        &self,
        keys: &[&Digest],
    ) -> impl Future<Output = Result<Vec<Option<Bytes>>, String>> + Send;
}

/// A proposal being executed.
pub(crate) struct BatchSource<'a, E: Runtime>(pub(crate) &'a Batch<E>);
/// The finalized store.
pub(crate) struct StoreSource<'a, E: Runtime>(pub(crate) &'a Databases<E>);

impl<E: Runtime> Source for BatchSource<'_, E> {
    async fn read_many(&self, keys: &[&Digest]) -> Result<Vec<Option<Bytes>>, String> {
        self.0.get_many(keys).await.map_err(|error| error.to_string())
    }
}

impl<E: Runtime> Source for StoreSource<'_, E> {
    async fn read_many(&self, keys: &[&Digest]) -> Result<Vec<Option<Bytes>>, String> {
        self.0.read().await.get_many(keys).await.map_err(|error| error.to_string())
    }
}

/// State as read so far, with the changes of the steps that were run.
pub(crate) struct Execution<S> {
    source: S,
    fetched: BTreeMap<Key, Option<Bytes>>,
    changes: BTreeMap<Key, Option<Bytes>>,
}

/// Why a step did not succeed.
pub(crate) enum StepFailure {
    /// The rules refuse it. The state read so far and the changes made so far still stand.
    Rule(TxError),
    /// It could not be run.
    Failed(ExecuteError),
}

impl<S: Source> Execution<S> {
    /// Starts on the state in `source`.
    pub(crate) fn new(source: S) -> Self {
        Self { source, fetched: BTreeMap::new(), changes: BTreeMap::new() }
    }

    /// Writes the accounts, models and nodes that the chain starts with.
    pub(crate) fn genesis(&mut self, genesis: &Genesis) -> Result<(), ExecuteError> {
        let state = genesis.initial_state()?;
        self.changes.extend(state.into_iter().map(|(key, value)| (key, Some(value))));
        Ok(())
    }

    /// Works off what fell due before the block.
    pub(crate) async fn begin_block(&mut self, env: &BlockEnv) -> Result<(), ExecuteError> {
        self.fetch([keys::params(), keys::progress(), keys::supply(), keys::nodes()]).await?;
        self.must(|overlay| rules::begin_block(overlay, env).map(drop)).await
    }

    /// Takes a snapshot of the nodes if the height asks for one.
    pub(crate) async fn end_block(&mut self, env: &BlockEnv) -> Result<(), ExecuteError> {
        self.must(|overlay| rules::end_block(overlay, env)).await
    }

    /// Applies one transaction; nothing of it stays when it fails.
    pub(crate) async fn apply(
        &mut self,
        env: &BlockEnv,
        tx: &SignedTx,
        seeds: &(dyn SeedVerifier + Sync),
    ) -> Result<(), StepFailure> {
        self.fetch(tx.tx.touches()).await.map_err(StepFailure::Failed)?;
        self.step(|overlay| rules::apply(overlay, env, tx, seeds).map(drop)).await
    }

    /// Whether the records of genesis are there: they are written with the first block.
    pub(crate) async fn has_genesis(&mut self) -> Result<bool, ExecuteError> {
        let key = keys::params();
        self.fetch([key]).await?;
        self.must(|overlay| Ok(overlay.find::<Params>(&key)?.is_some())).await
    }

    /// The next nonce of an account; 0 for one that does not exist.
    pub(crate) async fn nonce(&mut self, address: &Address) -> Result<u64, ExecuteError> {
        let key = keys::account(address);
        self.fetch([key]).await?;
        self.must(|overlay| {
            let account: Option<Account> = overlay.find(&key)?;
            Ok(account.map_or(0, |account| account.nonce))
        })
        .await
    }

    /// All that was written.
    pub(crate) fn into_changes(self) -> BTreeMap<Key, Option<Bytes>> {
        self.changes
    }

    async fn fetch(&mut self, keys: impl IntoIterator<Item = Key>) -> Result<(), ExecuteError> {
        let wanted: BTreeMap<Key, Digest> = keys
            .into_iter()
            .filter(|key| !self.fetched.contains_key(key) && !self.changes.contains_key(key))
            .map(|key| (key, to_digest(&key)))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let digests: Vec<&Digest> = wanted.values().collect();
        let values = self.source.read_many(&digests).await.map_err(ExecuteError::Store)?;
        for (key, value) in wanted.into_keys().zip(values) {
            self.fetched.insert(key, value);
        }
        Ok(())
    }

    async fn step<T>(
        &mut self,
        run: impl Fn(&mut Overlay<'_>) -> Result<T, TxError>,
    ) -> Result<T, StepFailure> {
        for _ in 0..MAX_ROUNDS {
            let error = match self.try_step(&run) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(Missing(keys)) = error.missing().cloned() else {
                // A damaged state is no fault of the transaction that came across it.
                return Err(match error {
                    TxError::State(error) => StepFailure::Failed(error.into()),
                    error => StepFailure::Rule(error),
                });
            };
            self.fetch(keys).await.map_err(StepFailure::Failed)?;
        }
        Err(StepFailure::Failed(StateError::Missing(Missing::default()).into()))
    }

    fn try_step<T>(
        &mut self,
        run: impl Fn(&mut Overlay<'_>) -> Result<T, TxError>,
    ) -> Result<T, TxError> {
        let mut overlay = Overlay::resume(&self.fetched, std::mem::take(&mut self.changes));
        let result = overlay.atomically(run);
        self.changes = overlay.into_changes();
        result
    }

    async fn must<T>(
        &mut self,
        run: impl Fn(&mut Overlay<'_>) -> Result<T, TxError>,
    ) -> Result<T, ExecuteError> {
        self.step(run).await.map_err(|failure| match failure {
            StepFailure::Rule(error) => ExecuteError::Block(Box::new(error)),
            StepFailure::Failed(error) => error,
        })
    }
}
