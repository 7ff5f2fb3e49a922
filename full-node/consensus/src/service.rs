//! Answers what the handle asks, inside the validator's runtime.

use crate::{
    admission::Admission,
    engine::{Marshal, Runtime},
    follower::Event,
    handle::{
        CertifiedBlock, CertifiedHeader, MAX_HEADERS, MAX_STATE_KEYS, QueryError, Request,
        StateAnswer, SubmitError, TxLocation,
    },
    seeds::Seeds,
    store::Databases,
    view::View,
};
use bytes::Bytes;
use commonware_codec::Encode as _;
use commonware_consensus::types::Height;
use futures::{
    StreamExt as _,
    channel::{mpsc, oneshot},
};
use nesa_chain::{header::to_digest, keys::Key, tx::SignedTx};
use nesa_primitives::Hash;
use std::{sync::Arc, time::Duration};

/// Requests answered at the same time.
const CONCURRENT: usize = 32;
/// How often, and how long, a state query waits for a block with a certificate.
const RETRY: Duration = Duration::from_millis(50);
const RETRIES: usize = 60;

/// What answering needs.
pub(crate) struct Service<E: Runtime> {
    pub(crate) clock: Arc<E>,
    pub(crate) marshal: Marshal,
    pub(crate) store: Databases<E>,
    pub(crate) view: View,
    pub(crate) seeds: Seeds,
    pub(crate) admission: Admission<E>,
    pub(crate) gossip: mpsc::Sender<Bytes>,
    pub(crate) follower: mpsc::UnboundedSender<Event>,
}

impl<E: Runtime> Service<E> {
    /// Answers until every handle is gone.
    pub(crate) async fn run(self, requests: mpsc::Receiver<Request>) {
        requests.for_each_concurrent(CONCURRENT, |request| self.answer(request)).await;
    }

    async fn answer(&self, request: Request) {
        // A caller that no longer waits is no concern of ours.
        match request {
            Request::Submit(tx, reply) => drop(reply.send(self.submit(*tx).await)),
            Request::Headers { from, max, reply } => {
                drop(reply.send(self.headers(from, max).await));
            }
            Request::State(keys, reply) => drop(reply.send(self.state(keys).await)),
            Request::Seed(view, reply) => drop(reply.send(self.seeds.get(view).await)),
            Request::Block(height, reply) => drop(reply.send(self.block(height).await)),
            Request::Tx(id, reply) => drop(reply.send(self.tx(id).await)),
            Request::Metrics(reply) => drop(reply.send(self.clock.encode())),
        }
    }

    async fn submit(&self, tx: SignedTx) -> Result<Hash, SubmitError> {
        let bytes = tx.to_bytes();
        let id = self.admission.admit(tx).await?;
        // A full outbox only means that our own turn to propose has to come first.
        let _ = self.gossip.clone().try_send(bytes);
        Ok(id)
    }

    async fn headers(&self, from: u64, max: usize) -> Vec<CertifiedHeader> {
        let mut headers = Vec::new();
        let head = self.view.head();
        let to = from.saturating_add(max.min(MAX_HEADERS) as u64);
        for height in from..to.min(head.header.height() + 1) {
            if let Some(head) = self.view.at(height) {
                headers.push((head.header, head.finalization));
            } else if let Some(found) = self.block(height).await {
                headers.push((Arc::new(found.block.header.clone()), found.finalization));
            } else {
                break;
            }
        }
        headers
    }

    async fn block(&self, height: u64) -> Option<CertifiedBlock> {
        // Marshal may hold blocks that are final but not yet applied here.
        if height > self.view.head().header.height() {
            return None;
        }
        let height = Height::new(height);
        let block = self.marshal.get_block(height).await?.inner_shared();
        Some(CertifiedBlock { block, finalization: self.marshal.get_finalization(height).await })
    }

    async fn tx(&self, id: Hash) -> Option<TxLocation> {
        let (reply, answer) = oneshot::channel();
        self.follower.unbounded_send(Event::Locate(id, reply)).ok()?;
        let place = answer.await.ok().flatten()?;
        let found = self.block(place.height).await?;
        let proof = found.block.prove_tx(usize::try_from(place.index).ok()?)?;
        Some(TxLocation {
            height: place.height,
            index: place.index,
            header: Arc::new(found.block.header.clone()),
            finalization: found.finalization,
            proof: proof.encode(),
        })
    }

    async fn state(&self, keys: Vec<Key>) -> Result<StateAnswer, QueryError> {
        if keys.len() > MAX_STATE_KEYS {
            return Err(QueryError::TooMany { got: keys.len(), limit: MAX_STATE_KEYS });
        }
        for _ in 0..RETRIES {
            if let Some(answer) = self.state_now(&keys).await? {
                return Ok(answer);
            }
            self.clock.sleep(RETRY).await;
        }
        Err(QueryError::NotYet)
    }

    /// Answers if the store stands at a block with a certificate at this moment.
    async fn state_now(&self, keys: &[Key]) -> Result<Option<StateAnswer>, QueryError> {
        // Holding the guard keeps the store at one block while the proofs are made.
        let store = self.store.read().await;
        let Some(head) = self.view.with_root(&store.root()) else { return Ok(None) };
        let Some(finalization) = head.finalization else { return Ok(None) };
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            let digest = to_digest(key);
            let failed = |error: &dyn std::fmt::Display| QueryError::Store(error.to_string());
            let value = store.get(&digest).await.map_err(|error| failed(&error))?;
            let proof: Bytes = if value.is_some() {
                store.key_value_proof(digest).await.map_err(|error| failed(&error))?.encode()
            } else {
                store.exclusion_proof(&digest).await.map_err(|error| failed(&error))?.encode()
            };
            entries.push((*key, value, proof));
        }
        Ok(Some(StateAnswer { header: head.header, finalization, entries }))
    }
}
