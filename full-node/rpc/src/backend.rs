//! What the HTTP interface needs from a node. The validator implements it; tests use a small one.

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use nesa_chain::{
    keys::Key,
    tx::{SignedTx, Tx},
};
use nesa_fingerprint::Card;
use nesa_primitives::Hash;
use serde::Serialize;

/// What a client needs before it can speak libp2p. Untrusted: a client that was given a trust root
/// elsewhere refuses a bootstrap that names another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bootstrap {
    /// Trust root, lower hexadecimal.
    pub trust_root: String,
    /// The chain's name.
    pub chain_id: String,
    /// Multiaddresses of nodes that answer `/nesa/chain/1`, each ending in `/p2p/…`.
    pub peers: Vec<String>,
    /// Models that compute nodes of this network serve.
    pub models: Vec<Model>,
    /// True when a faucet answers on this network.
    pub faucet: bool,
    /// What whoever asks must know of models that run in floats; they have no header to fetch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub floats: Vec<Card>,
}

/// One model of a [`Bootstrap`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Model {
    /// Digest of the compiled model.
    pub digest: Hash,
    /// Its registered name.
    pub name: String,
}

/// A finalised block as shown to people and scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockView {
    /// Height; the genesis block is 0.
    pub height: u64,
    /// Consensus view.
    pub view: u64,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// BLAKE3 of the header.
    pub digest: Hash,
    /// The parent's digest.
    pub parent: Hash,
    /// Merkle root over the transactions.
    pub tx_root: Hash,
    /// Root of the authenticated store after this block.
    pub state_root: Hash,
    /// The leader's ed25519 key, hexadecimal.
    pub leader: String,
    /// The header's codec bytes, hexadecimal, so that a reader can check the rest.
    pub header: String,
    /// The finalisation certificate's codec bytes, hexadecimal; absent when the block was finalised
    /// through a descendant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finalization: Option<String>,
    /// The transactions, where the block's body is at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transactions: Option<Vec<TransactionView>>,
}

/// A transaction of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransactionView {
    /// Its id.
    pub id: Hash,
    /// The transaction, decoded: chain, sender, nonce, fee, action.
    pub tx: Tx,
    /// The signed transaction's codec bytes, hexadecimal.
    pub bytes: String,
}

/// A counter or gauge of the process, in the Prometheus text format's terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Name, with unit: `nesa_height`, `nesa_peers`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// Its value now.
    pub value: f64,
}

/// The node could not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackendError {
    /// It is starting, stopping or overloaded.
    #[error("the node cannot answer now: {0}")]
    Unavailable(String),
    /// The chain's rules refuse the transaction.
    #[error("the transaction is refused: {0}")]
    Refused(String),
}

/// A running node, as seen by HTTP handlers. All data is public.
pub trait Backend: Send + Sync + 'static {
    /// What a client needs to start.
    fn bootstrap(&self) -> Bootstrap;
    /// The file of a model that runs in floats, for who wants to serve it; `None` for any other.
    fn float_model(&self, model: Hash) -> BoxFuture<'_, Result<Option<Bytes>, BackendError>>;
    /// Digest of the trust root: "the chain" of every domain separation.
    fn chain(&self) -> Hash;
    /// The last finalised block, without its transactions.
    fn head(&self) -> BoxFuture<'_, Result<BlockView, BackendError>>;
    /// The finalised block at `height`, `None` if there is none yet or it was pruned.
    fn block(&self, height: u64) -> BoxFuture<'_, Result<Option<BlockView>, BackendError>>;
    /// Values of state keys at the last finalised block, in the order asked.
    fn state(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, BackendError>>;
    /// Offers a transaction; returns its id once it waits for inclusion.
    fn submit(&self, tx: SignedTx) -> BoxFuture<'_, Result<Hash, BackendError>>;
    /// Finalised blocks from now on, without their transactions.
    fn blocks(&self) -> BoxStream<'static, BlockView>;
    /// Figures of this process.
    fn metrics(&self) -> BoxFuture<'_, Vec<Metric>>;
    /// More figures, already in the Prometheus text format.
    fn engine_metrics(&self) -> BoxFuture<'_, String>;
}
