//! A [`ChainPeer`] over a libp2p stream.
//!
//! Questions and answers alternate on a stream, so several questions at once use several streams. A
//! stream is lent out for one question and comes back only after its answer: a caller that goes
//! away in between leaves a stream whose next frame would belong to another question, and that
//! stream is dropped.

use std::sync::{Mutex, OnceLock};

use commonware_codec::Encode as _;
use futures::StreamExt as _;
use nesa_platform::{
    BoxFuture,
    net::{Network, Stream},
};
use nesa_primitives::{Address, decode_exact};
use nesa_wire::{
    Protocol,
    chain::{Limits, Request, Response},
};

use crate::{
    client::lock,
    peer::{ChainPeer, Heads, PeerError},
};

/// Idle streams kept per peer.
const POOL: usize = 4;

/// A node reached at a multiaddress.
pub struct NetworkPeer {
    network: Network,
    address: String,
    node: OnceLock<Address>,
    idle: Mutex<Vec<Stream>>,
}

impl NetworkPeer {
    /// A peer at `address` (a multiaddress ending in `/p2p/…`), dialled when first asked.
    pub fn new(network: Network, address: impl Into<String>) -> Self {
        Self {
            network,
            address: address.into(),
            node: OnceLock::new(),
            idle: Mutex::new(Vec::new()),
        }
    }

    fn broken(&self, reason: impl std::fmt::Display) -> PeerError {
        PeerError::Connection { peer: self.address.clone(), reason: reason.to_string() }
    }

    async fn fresh(&self) -> Result<Stream, PeerError> {
        let node = match self.node.get() {
            Some(node) => *node,
            None => {
                let node =
                    self.network.dial(&self.address).await.map_err(|error| self.broken(error))?;
                *self.node.get_or_init(|| node)
            }
        };
        self.network.open(node, Protocol::Chain).await.map_err(|error| self.broken(error))
    }

    fn decode(&self, frame: &[u8]) -> Result<Response, PeerError> {
        decode_exact::<Response>(frame, &Limits::default()).map_err(|error| PeerError::Malformed {
            peer: self.address.clone(),
            reason: error.to_string(),
        })
    }

    async fn once(&self, mut stream: Stream, request: &[u8]) -> Result<Response, PeerError> {
        let frame = stream.ask(request).await.map_err(|error| self.broken(error))?;
        let response = self.decode(&frame)?;
        let mut idle = lock(&self.idle);
        if idle.len() < POOL {
            idle.push(stream);
        }
        Ok(response)
    }
}

impl ChainPeer for NetworkPeer {
    fn name(&self) -> String {
        self.address.clone()
    }

    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Response, PeerError>> {
        Box::pin(async move {
            let request = request.encode();
            let idle = lock(&self.idle).pop();
            if let Some(stream) = idle {
                // An idle stream may have died meanwhile; a fresh one decides.
                match self.once(stream, &request).await {
                    Err(PeerError::Connection { .. }) => {}
                    answered => return answered,
                }
            }
            let stream = self.fresh().await?;
            self.once(stream, &request).await
        })
    }

    fn heads(&self) -> BoxFuture<'_, Result<Heads, PeerError>> {
        Box::pin(async move {
            let mut stream = self.fresh().await?;
            stream.send(&Request::Subscribe.encode()).await.map_err(|error| self.broken(error))?;
            let address = self.address.clone();
            let heads = futures::stream::unfold(Some(stream), move |stream| {
                let address = address.clone();
                async move {
                    let mut stream = stream?;
                    let broken =
                        |reason: String| PeerError::Connection { peer: address.clone(), reason };
                    let head = match stream.recv().await {
                        Ok(Some(frame)) => {
                            match decode_exact::<Response>(&frame, &Limits::default()) {
                                Ok(Response::Head(head)) => Ok(head),
                                Ok(Response::Refused { reason, .. }) => Err(broken(reason)),
                                Ok(_) => Err(PeerError::Malformed {
                                    peer: address.clone(),
                                    reason: "not a head".into(),
                                }),
                                Err(error) => Err(PeerError::Malformed {
                                    peer: address.clone(),
                                    reason: error.to_string(),
                                }),
                            }
                        }
                        Ok(None) => return None,
                        Err(error) => Err(broken(error.to_string())),
                    };
                    let next = head.is_ok().then_some(stream);
                    Some((head, next))
                }
            });
            #[cfg(not(target_family = "wasm"))]
            let heads: Heads = heads.boxed();
            #[cfg(target_family = "wasm")]
            let heads: Heads = heads.boxed_local();
            Ok(heads)
        })
    }
}
