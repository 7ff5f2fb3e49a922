//! Who gives pieces of models: unchecked bytes from strangers.

use std::sync::Mutex;

use bytes::Bytes;
use commonware_codec::Encode as _;
use nesa_platform::{
    BoxFuture, MaybeSend, MaybeSync,
    net::{Network, Stream},
};
use nesa_primitives::{Hash, decode_exact};
use nesa_wire::{
    Protocol,
    chunks::{Limits, Request, Response},
};

use super::pieces::PARALLEL;
use crate::client::lock;

/// Gives pieces of models, unchecked.
pub trait PieceSource: MaybeSend + MaybeSync {
    /// A name for logs.
    fn name(&self) -> String;
    /// Piece `index` of `model`: 0 is the header, `i` is chunk `i − 1`. The error is in words.
    fn piece(&self, model: Hash, index: u32) -> BoxFuture<'_, Result<Bytes, String>>;
}

/// A node reached over libp2p that serves `/nesa/chunks/1`.
pub struct NetworkSource {
    network: Network,
    address: String,
    idle: Mutex<Vec<Stream>>,
}

impl NetworkSource {
    /// A source at `address` (a multiaddress ending in `/p2p/…`), dialled when first asked.
    pub fn new(network: Network, address: impl Into<String>) -> Self {
        Self { network, address: address.into(), idle: Mutex::new(Vec::new()) }
    }

    async fn ask(&self, request: &[u8]) -> Result<Bytes, String> {
        let idle = lock(&self.idle).pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => {
                let node =
                    self.network.dial(&self.address).await.map_err(|error| error.to_string())?;
                self.network
                    .open(node, Protocol::Chunks)
                    .await
                    .map_err(|error| error.to_string())?
            }
        };
        let answer = stream.ask(request).await.map_err(|error| error.to_string())?;
        let mut idle = lock(&self.idle);
        if idle.len() < PARALLEL {
            idle.push(stream);
        }
        Ok(answer)
    }
}

impl PieceSource for NetworkSource {
    fn name(&self) -> String {
        self.address.clone()
    }

    fn piece(&self, model: Hash, index: u32) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            let request = match index {
                0 => Request::Manifest { model },
                index => Request::Chunk { model, index },
            };
            let frame = self.ask(&request.encode()).await?;
            match decode_exact::<Response>(&frame, &Limits::default()) {
                Ok(Response::Manifest(data)) if index == 0 => Ok(data),
                Ok(Response::Chunk { index: got, data, .. }) if got == index => Ok(data),
                Ok(Response::Unknown) => Err("does not hold it".into()),
                Ok(Response::Busy) => Err("busy".into()),
                Ok(_) => Err("answered another question".into()),
                Err(error) => Err(error.to_string()),
            }
        })
    }
}
