//! A peer that answers questions about the chain: over libp2p, or in memory for tests.
//!
//! A peer is a source of bytes and nothing more; [`crate::LightClient`] judges what it says.

use std::sync::Arc;

use nesa_platform::{BoxFuture, MaybeSend, MaybeSync};
use nesa_wire::chain::{CertifiedHeader, Request, Response};

/// Why a peer gave no answer. None of these is an offence: links break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No connection, or it broke.
    #[error("no connection to {peer}: {reason}")]
    Connection {
        /// The peer's name.
        peer: String,
        /// What went wrong.
        reason: String,
    },
    /// The peer did not answer in time.
    #[error("{peer} did not answer within {ms} ms")]
    Timeout {
        /// The peer's name.
        peer: String,
        /// The limit.
        ms: u64,
    },
    /// The peer answered with bytes that are no message of the protocol.
    #[error("{peer} answered with malformed bytes: {reason}")]
    Malformed {
        /// The peer's name.
        peer: String,
        /// What the decoder said.
        reason: String,
    },
}

/// New heads as a peer reports them, until the link breaks.
#[cfg(not(target_family = "wasm"))]
pub type Heads = futures::stream::BoxStream<'static, Result<CertifiedHeader, PeerError>>;
/// New heads as a peer reports them, until the link breaks.
#[cfg(target_family = "wasm")]
pub type Heads = futures::stream::LocalBoxStream<'static, Result<CertifiedHeader, PeerError>>;

/// Something that answers `/nesa/chain/1`.
pub trait ChainPeer: MaybeSend + MaybeSync {
    /// A stable name for logs and the status page: the address dialled.
    fn name(&self) -> String;

    /// Asks one question.
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Response, PeerError>>;

    /// Subscribes to new heads.
    fn heads(&self) -> BoxFuture<'_, Result<Heads, PeerError>>;
}

/// A shared peer.
pub type SharedPeer = Arc<dyn ChainPeer>;
