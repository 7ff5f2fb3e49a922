//! The handle through which the rest of the process uses a running validator.
//!
//! The validator runs on a runtime of its own. A handle only passes messages, so it works from any
//! executor, in any thread, and may be cloned freely.

use crate::{
    mempool::Refused,
    view::{Head, Subscription, View},
};
use bytes::Bytes;
use futures::{
    SinkExt as _,
    channel::{mpsc, oneshot},
    future::{BoxFuture, FutureExt as _, Shared},
};
use nesa_chain::{
    block::Block,
    header::{Header, SeedSignature},
    keys::Key,
    tx::SignedTx,
};
use nesa_primitives::Hash;
use nesa_verify::Finalization;
use std::sync::{Arc, Mutex};

/// Most keys in one [`ValidatorHandle::state`] call.
pub const MAX_STATE_KEYS: usize = 64;
/// Most headers in one [`ValidatorHandle::headers`] answer.
pub const MAX_HEADERS: usize = 256;

/// The validator has stopped, or it could not read its disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The validator has stopped.
    #[error("the validator has stopped")]
    Stopped,
    /// Nothing with a certificate is there yet: the chain has just started, or it stands still.
    #[error("no finalized block with a certificate yet")]
    NotYet,
    /// More was asked for than is served at once.
    #[error("{got} keys asked for, at most {limit} are served at once")]
    TooMany {
        /// Keys asked for.
        got: usize,
        /// Keys served at once.
        limit: usize,
    },
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(String),
}

/// Why a transaction was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The validator has stopped or cannot read its store.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The transaction is for another chain.
    #[error("the transaction is for chain {got}, this is {expected}")]
    Chain {
        /// The chain it names.
        got: Hash,
        /// This chain.
        expected: Hash,
    },
    /// The transaction is too long.
    #[error("the transaction has {got} bytes, at most {limit} are allowed")]
    TooLong {
        /// Its encoded length.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// The pool does not take it.
    #[error(transparent)]
    Pool(#[from] Refused),
    /// The chain's rules refuse it, on top of the state and the sender's waiting transactions.
    #[error("the rules refuse it: {0}")]
    Rules(String),
}

/// Values of some keys after one finalized block, with proofs.
#[derive(Clone, Debug)]
pub struct StateAnswer {
    /// The header whose `state.root` the proofs lead to.
    pub header: Arc<Header>,
    /// Its certificate.
    pub finalization: Finalization,
    /// For each key asked for, in that order: key, value, and an encoded proof of inclusion (where
    /// there is a value) or of absence, for [`nesa_verify::state::verify`].
    pub entries: Vec<(Key, Option<Bytes>, Bytes)>,
}

/// Where a transaction is in the finalized chain.
#[derive(Clone, Debug)]
pub struct TxLocation {
    /// Height of the block.
    pub height: u64,
    /// Index in the block.
    pub index: u32,
    /// Header of the block.
    pub header: Arc<Header>,
    /// Certificate of the block, if it has one of its own.
    pub finalization: Option<Finalization>,
    /// Encoded proof for [`nesa_verify::transaction::verify_inclusion`].
    pub proof: Bytes,
}

/// A finalized block with its certificate, if it has one of its own.
#[derive(Clone, Debug)]
pub struct CertifiedBlock {
    /// The block.
    pub block: Arc<Block>,
    /// Its certificate.
    pub finalization: Option<Finalization>,
}

/// A header with its certificate, if it has one of its own.
pub type CertifiedHeader = (Arc<Header>, Option<Finalization>);

/// A message to the validator's runtime.
pub(crate) enum Request {
    Submit(Box<SignedTx>, oneshot::Sender<Result<Hash, SubmitError>>),
    Headers { from: u64, max: usize, reply: oneshot::Sender<Vec<CertifiedHeader>> },
    State(Vec<Key>, oneshot::Sender<Result<StateAnswer, QueryError>>),
    Seed(u64, oneshot::Sender<Option<SeedSignature>>),
    Block(u64, oneshot::Sender<Option<CertifiedBlock>>),
    Tx(Hash, oneshot::Sender<Option<TxLocation>>),
    Metrics(oneshot::Sender<String>),
}

/// A running validator.
#[derive(Clone)]
pub struct ValidatorHandle {
    pub(crate) chain: Hash,
    pub(crate) view: View,
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) stop: Arc<Mutex<Option<oneshot::Sender<()>>>>,
    pub(crate) stopped: Shared<BoxFuture<'static, Result<(), String>>>,
}

impl ValidatorHandle {
    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, QueryError> {
        let (reply, answer) = oneshot::channel();
        self.requests.clone().send(request(reply)).await.map_err(|_| QueryError::Stopped)?;
        answer.await.map_err(|_| QueryError::Stopped)
    }

    /// Digest of the trust root that the validator serves.
    pub fn chain(&self) -> Hash {
        self.chain
    }

    /// The newest finalized block; the genesis block on a new chain.
    ///
    /// # Errors
    /// [`QueryError::Stopped`].
    pub fn head(&self) -> Result<Head, QueryError> {
        if self.requests.is_closed() { Err(QueryError::Stopped) } else { Ok(self.view.head()) }
    }

    /// Offers a transaction: checked against the rules and the newest state, put into the pool,
    /// and passed on to the other validators. The id it gets is its place in [`Self::tx`].
    ///
    /// # Errors
    /// [`SubmitError`]; the transaction is then not waiting here.
    pub async fn submit(&self, tx: SignedTx) -> Result<Hash, SubmitError> {
        self.ask(|reply| Request::Submit(Box::new(tx), reply)).await?
    }

    /// Finalized headers from height `from` upwards, at most `max` and never more than
    /// [`MAX_HEADERS`]; empty above the head. The last of them has a certificate unless the head
    /// itself has none.
    ///
    /// # Errors
    /// [`QueryError::Stopped`].
    pub async fn headers(&self, from: u64, max: usize) -> Result<Vec<CertifiedHeader>, QueryError> {
        self.ask(|reply| Request::Headers { from, max, reply }).await
    }

    /// Values and proofs for up to [`MAX_STATE_KEYS`] keys, all after one finalized block.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn state(&self, keys: Vec<Key>) -> Result<StateAnswer, QueryError> {
        self.ask(|reply| Request::State(keys, reply)).await?
    }

    /// The seed of a past view, also of one that was nullified; `None` if it is not known here.
    ///
    /// # Errors
    /// [`QueryError::Stopped`].
    pub async fn seed(&self, view: u64) -> Result<Option<SeedSignature>, QueryError> {
        self.ask(|reply| Request::Seed(view, reply)).await
    }

    /// The finalized block at `height`.
    ///
    /// # Errors
    /// [`QueryError::Stopped`].
    pub async fn block(&self, height: u64) -> Result<Option<CertifiedBlock>, QueryError> {
        self.ask(|reply| Request::Block(height, reply)).await
    }

    /// Where the transaction with this id is in the finalized chain, with a proof.
    ///
    /// # Errors
    /// [`QueryError::Stopped`].
    pub async fn tx(&self, id: Hash) -> Result<Option<TxLocation>, QueryError> {
        self.ask(|reply| Request::Tx(id, reply)).await
    }

    /// Every head from now on, as a stream.
    pub fn subscribe(&self) -> Subscription {
        self.view.subscribe()
    }

    /// The runtime's metrics in the Prometheus text format.
    ///
    /// # Errors
    /// [`QueryError::Stopped`].
    pub async fn metrics(&self) -> Result<String, QueryError> {
        self.ask(Request::Metrics).await
    }

    /// Stops the validator and waits until its thread has ended. Data on disk is complete at any
    /// moment anyway; stopping only spares the next start some work.
    ///
    /// # Errors
    /// What [`Self::stopped`] says.
    pub async fn stop(&self) -> Result<(), String> {
        let sender = self.stop.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(sender) = sender {
            let _ = sender.send(());
        }
        self.stopped().await
    }

    /// Resolves when the validator has ended, asked to or not.
    ///
    /// # Errors
    /// Why it ended, if nobody asked it to.
    pub async fn stopped(&self) -> Result<(), String> {
        self.stopped.clone().await
    }
}

/// A future that many may wait for.
pub(crate) fn shared(
    future: impl Future<Output = Result<(), String>> + Send + 'static,
) -> Shared<BoxFuture<'static, Result<(), String>>> {
    future.boxed().shared()
}
