//! Deciding whether a transaction may wait in the pool.

use crate::{
    engine::Runtime,
    execute::{Execution, StepFailure, StoreSource},
    handle::{QueryError, SubmitError},
    mempool::Mempool,
    store::Databases,
    view::View,
};
use commonware_codec::EncodeSize as _;
use commonware_utils::SystemTimeExt as _;
use nesa_chain::{limits::MAX_TX_BYTES, rules::BlockEnv, tx::SignedTx};
use nesa_primitives::{Address, Hash};
use nesa_verify::Verifier;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Checks transactions against the newest finalized state and puts them into the pool.
pub(crate) struct Admission<E: Runtime> {
    pub(crate) clock: Arc<E>,
    pub(crate) chain: Hash,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) validators: Arc<Vec<Address>>,
    pub(crate) view: View,
    pub(crate) pool: Arc<Mutex<Mempool>>,
    pub(crate) store: Databases<E>,
}

impl<E: Runtime> Clone for Admission<E> {
    fn clone(&self) -> Self {
        Self {
            clock: self.clock.clone(),
            chain: self.chain,
            verifier: self.verifier.clone(),
            validators: self.validators.clone(),
            view: self.view.clone(),
            pool: self.pool.clone(),
            store: self.store.clone(),
        }
    }
}

impl<E: Runtime> Admission<E> {
    fn pool(&self) -> MutexGuard<'_, Mempool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `tx` into the pool if the rules would take it next, after the sender's transactions
    /// that wait already. One that must wait for an earlier nonce is taken unjudged; one that has a place in
    /// a dispute waits for none.
    pub(crate) async fn admit(&self, tx: SignedTx) -> Result<Hash, SubmitError> {
        if tx.tx.chain != self.chain {
            return Err(SubmitError::Chain { got: tx.tx.chain, expected: self.chain });
        }
        let bytes = tx.encode_size();
        if bytes > MAX_TX_BYTES {
            return Err(SubmitError::TooLong { got: bytes, limit: MAX_TX_BYTES });
        }
        tx.verify().map_err(|error| SubmitError::Rules(error.to_string()))?;
        let nonce = self.judge(&tx).await?;
        let now = self.clock.current().epoch().as_millis() as u64;
        Ok(self.pool().insert(tx, bytes, nonce, now)?)
    }

    /// Tries the transaction on the newest state; returns the sender's nonce there.
    async fn judge(&self, tx: &SignedTx) -> Result<u64, SubmitError> {
        let head = self.view.head();
        let env = BlockEnv {
            chain: self.chain,
            height: head.header.height() + 1,
            view: head.header.view() + 1,
            timestamp_ms: self.clock.current().epoch().as_millis() as u64,
            leader: head.header.leader(),
            validators: self.validators.to_vec(),
        };
        let mut execution = Execution::new(StoreSource(&self.store));
        if !execution.has_genesis().await.map_err(failed)? {
            return Err(QueryError::NotYet.into());
        }
        let nonce = execution.nonce(&tx.tx.sender).await.map_err(failed)?;
        if tx.tx.action.place().is_some() {
            return match execution.apply(&env, tx, &*self.verifier).await {
                Ok(()) => Ok(nonce),
                Err(StepFailure::Rule(error)) => Err(SubmitError::Rules(error.to_string())),
                Err(StepFailure::Failed(error)) => Err(failed(error)),
            };
        }
        let waiting = self.pool().of_sender(&tx.tx.sender);
        let mut next = nonce;
        for earlier in waiting.iter().filter(|w| w.tx.nonce < tx.tx.nonce) {
            match execution.apply(&env, earlier, &*self.verifier).await {
                Ok(()) => next = earlier.tx.nonce + 1,
                Err(StepFailure::Rule(_)) => break,
                Err(StepFailure::Failed(error)) => return Err(failed(error)),
            }
        }
        if tx.tx.nonce != next {
            return Ok(nonce);
        }
        match execution.apply(&env, tx, &*self.verifier).await {
            Ok(()) => Ok(nonce),
            Err(StepFailure::Rule(error)) => Err(SubmitError::Rules(error.to_string())),
            Err(StepFailure::Failed(error)) => Err(failed(error)),
        }
    }
}

fn failed(error: crate::execute::ExecuteError) -> SubmitError {
    QueryError::Store(error.to_string()).into()
}
