//! A node for tests that is only a few values.

use bytes::Bytes;
use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, ready},
    stream::{self, BoxStream},
};
use nesa_chain::{keys::Key, tx::SignedTx};
use nesa_primitives::Hash;
use nesa_rpc::{Backend, BackendError, BlockView, Bootstrap, Metric};

/// A node without a chain behind it.
pub(crate) struct Still;

impl Backend for Still {
    fn bootstrap(&self) -> Bootstrap {
        Bootstrap {
            floats: Vec::new(),
            trust_root: "00".into(),
            chain_id: "still".into(),
            peers: Vec::new(),
            models: Vec::new(),
            faucet: false,
        }
    }

    fn float_model(&self, _: Hash) -> BoxFuture<'_, Result<Option<Bytes>, BackendError>> {
        ready(Ok(None)).boxed()
    }

    fn chain(&self) -> Hash {
        Hash::ZERO
    }

    fn head(&self) -> BoxFuture<'_, Result<BlockView, BackendError>> {
        ready(Err(BackendError::Unavailable("it stands still".into()))).boxed()
    }

    fn block(&self, _: u64) -> BoxFuture<'_, Result<Option<BlockView>, BackendError>> {
        ready(Ok(None)).boxed()
    }

    fn state(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, BackendError>> {
        ready(Ok(vec![None; keys.len()])).boxed()
    }

    fn submit(&self, _: SignedTx) -> BoxFuture<'_, Result<Hash, BackendError>> {
        ready(Err(BackendError::Refused("nothing is taken".into()))).boxed()
    }

    fn blocks(&self) -> BoxStream<'static, BlockView> {
        stream::empty().boxed()
    }

    fn metrics(&self) -> BoxFuture<'_, Vec<Metric>> {
        ready(Vec::new()).boxed()
    }

    fn engine_metrics(&self) -> BoxFuture<'_, String> {
        ready(String::new()).boxed()
    }
}
