//! The running validator, in the terms of the wire and of HTTP.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use bytes::Bytes;
use commonware_codec::Encode as _;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};
use nesa_chain::{
    header::{Header, to_hash},
    keys::Key,
    tx::SignedTx,
};
use nesa_consensus::{CertifiedBlock, Head, QueryError, SubmitError, ValidatorHandle};
use nesa_primitives::Hash;
use nesa_rpc::{Backend, BackendError, BlockView, Bootstrap, Metric, TransactionView};
use nesa_verify::Finalization;
use nesa_wire::chain::{
    BlockAnswer, CertifiedHeader, Response, StateAnswer, StateEntry, TxLocation,
};

/// Why the validator did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ChainError {
    /// It has stopped, is starting, or its disk failed.
    #[error("{0}")]
    Unavailable(String),
    /// The rules refuse the transaction.
    #[error("{0}")]
    Refused(String),
}

impl From<QueryError> for ChainError {
    fn from(error: QueryError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<SubmitError> for ChainError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Query(error) => error.into(),
            refused => Self::Refused(refused.to_string()),
        }
    }
}

/// Answers from one validator. Clones share it.
#[derive(Clone)]
pub(crate) struct Chain {
    handle: ValidatorHandle,
}

impl Chain {
    pub(crate) fn new(handle: ValidatorHandle) -> Self {
        Self { handle }
    }

    pub(crate) async fn status(&self) -> Result<Response, ChainError> {
        let head = self.handle.head()?;
        Ok(Response::Status {
            chain: self.handle.chain(),
            height: head.header.height(),
            view: head.header.view(),
            timestamp_ms: head.header.timestamp_ms(),
        })
    }

    pub(crate) async fn headers(
        &self,
        from: u64,
        max: usize,
    ) -> Result<Vec<CertifiedHeader>, ChainError> {
        let headers = self.handle.headers(from, max).await?;
        Ok(headers.iter().map(|(header, finalization)| certified(header, finalization)).collect())
    }

    pub(crate) async fn state(&self, keys: Vec<Key>) -> Result<StateAnswer, ChainError> {
        let answer = self.handle.state(keys).await?;
        let entry = |(key, value, proof)| StateEntry { key, value, proof };
        Ok(StateAnswer {
            header: answer.header.encode(),
            finalization: answer.finalization.encode(),
            entries: answer.entries.into_iter().map(entry).collect(),
        })
    }

    /// Values without proofs, for this process's own use.
    pub(crate) async fn values(&self, keys: Vec<Key>) -> Result<Vec<Option<Bytes>>, ChainError> {
        let answer = self.handle.state(keys).await?;
        Ok(answer.entries.into_iter().map(|(_, value, _)| value).collect())
    }

    pub(crate) async fn submit(&self, tx: SignedTx) -> Result<Hash, ChainError> {
        Ok(self.handle.submit(tx).await?)
    }

    pub(crate) async fn transaction(&self, id: Hash) -> Result<Option<TxLocation>, ChainError> {
        let location = self.handle.tx(id).await?;
        Ok(location.map(|at| TxLocation { height: at.height, index: at.index, proof: at.proof }))
    }

    pub(crate) async fn seed(&self, view: u64) -> Result<Option<Bytes>, ChainError> {
        Ok(self.handle.seed(view).await?.map(|seed| seed.encode()))
    }

    pub(crate) async fn block(&self, height: u64) -> Result<Option<BlockAnswer>, ChainError> {
        let answer = |found: CertifiedBlock| BlockAnswer {
            head: certified(&found.block.header, &found.finalization),
            transactions: found.block.txs.iter().map(SignedTx::to_bytes).collect(),
        };
        Ok(self.handle.block(height).await?.map(answer))
    }

    /// New finalised heads. A reader that lags misses some; heights tell it so.
    pub(crate) fn heads(&self) -> BoxStream<'static, CertifiedHeader> {
        let certified = |head: Head| certified(&head.header, &head.finalization);
        self.handle.subscribe().map(certified).boxed()
    }
}

fn certified(header: &Header, finalization: &Option<Finalization>) -> CertifiedHeader {
    CertifiedHeader {
        header: header.encode(),
        finalization: finalization.as_ref().map(|certificate| certificate.encode()),
    }
}

/// The validator as the HTTP interface sees it.
pub(crate) struct HttpSource {
    chain: Chain,
    bootstrap: Bootstrap,
    /// Files of models that run in floats.
    floats: BTreeMap<Hash, PathBuf>,
    peers: Box<dyn Fn() -> usize + Send + Sync>,
}

impl HttpSource {
    /// `peers` counts the live libp2p connections.
    pub(crate) fn new(
        chain: Chain,
        bootstrap: Bootstrap,
        floats: BTreeMap<Hash, PathBuf>,
        peers: impl Fn() -> usize + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { chain, bootstrap, floats, peers: Box::new(peers) })
    }
}

fn view(header: &Header, finalization: &Option<Finalization>) -> BlockView {
    BlockView {
        height: header.height(),
        view: header.view(),
        timestamp_ms: header.timestamp_ms(),
        digest: header.hash(),
        parent: to_hash(&header.fields.parent),
        tx_root: header.fields.tx_root,
        state_root: to_hash(header.state_root()),
        leader: header.leader().to_string(),
        header: hex::encode(header.encode()),
        finalization: finalization.as_ref().map(|certificate| hex::encode(certificate.encode())),
        transactions: None,
    }
}

fn full_view(found: &CertifiedBlock) -> BlockView {
    let transaction = |signed: &SignedTx| TransactionView {
        id: signed.id(),
        tx: signed.tx.clone(),
        bytes: hex::encode(signed.to_bytes()),
    };
    BlockView {
        transactions: Some(found.block.txs.iter().map(transaction).collect()),
        ..view(&found.block.header, &found.finalization)
    }
}

impl From<ChainError> for BackendError {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::Unavailable(reason) => Self::Unavailable(reason),
            ChainError::Refused(reason) => Self::Refused(reason),
        }
    }
}

impl Backend for HttpSource {
    fn bootstrap(&self) -> Bootstrap {
        self.bootstrap.clone()
    }

    fn float_model(&self, model: Hash) -> BoxFuture<'_, Result<Option<Bytes>, BackendError>> {
        let file = self.floats.get(&model).cloned();
        async move {
            let Some(file) = file else { return Ok(None) };
            let read = tokio::fs::read(&file).await;
            let read = read.map_err(|error| BackendError::Unavailable(error.to_string()))?;
            Ok(Some(read.into()))
        }
        .boxed()
    }

    fn chain(&self) -> Hash {
        self.chain.handle.chain()
    }

    fn head(&self) -> BoxFuture<'_, Result<BlockView, BackendError>> {
        let head = self.chain.handle.head().map_err(ChainError::from);
        async move {
            let head = head?;
            Ok(view(&head.header, &head.finalization))
        }
        .boxed()
    }

    fn block(&self, height: u64) -> BoxFuture<'_, Result<Option<BlockView>, BackendError>> {
        async move {
            let found = self.chain.handle.block(height).await.map_err(ChainError::from)?;
            Ok(found.as_ref().map(full_view))
        }
        .boxed()
    }

    fn state(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, BackendError>> {
        async move { Ok(self.chain.values(keys).await?) }.boxed()
    }

    fn submit(&self, tx: SignedTx) -> BoxFuture<'_, Result<Hash, BackendError>> {
        async move { Ok(self.chain.submit(tx).await?) }.boxed()
    }

    fn blocks(&self) -> BoxStream<'static, BlockView> {
        self.chain.handle.subscribe().map(|head| view(&head.header, &head.finalization)).boxed()
    }

    fn metrics(&self) -> BoxFuture<'_, Vec<Metric>> {
        let gauge = |name, help, value| Metric { name, help, kind: "gauge", value };
        let mut figures =
            vec![gauge("nesa_peers", "Live libp2p connections.", (self.peers)() as f64)];
        if let Ok(head) = self.chain.handle.head() {
            let header = &head.header;
            figures.push(gauge("nesa_height", "Last finalised height.", header.height() as f64));
            figures.push(gauge("nesa_view", "Its consensus view.", header.view() as f64));
            let age = nesa_platform::time::now_ms().saturating_sub(header.timestamp_ms());
            figures.push(gauge("nesa_head_age_ms", "Age of the last finalised block.", age as f64));
        }
        async move { figures }.boxed()
    }

    fn engine_metrics(&self) -> BoxFuture<'_, String> {
        async move { self.chain.handle.metrics().await.unwrap_or_default() }.boxed()
    }
}
