//! `/nesa/chunks/1`: model weights by digest and index. Whoever asks checks them against the digest
//! it trusts, so any validator may serve them.

use std::{sync::Arc, time::Instant};

use commonware_codec::Encode as _;
use nesa_platform::net::{Incoming, Stream, StreamLimits};
use nesa_primitives::{Address, decode_exact};
use nesa_wire::chunks::{Request, Response};

use super::limiter::{Limiter, Rate};
use crate::node::model::ServedModels;

/// Streams served at once.
pub(crate) const STREAMS: StreamLimits = StreamLimits { total: 64, per_peer: 8 };
/// Units are chunks. A whole model may be fetched at once, then again a few times an hour.
const RATE: Rate = Rate { burst: 4_096.0, per_second: 64.0 };

/// The service of one validator.
pub(crate) struct ChunkService {
    models: Arc<ServedModels>,
    limiter: Limiter<Address>,
}

impl ChunkService {
    pub(crate) fn new(models: Arc<ServedModels>) -> Arc<Self> {
        Arc::new(Self { models, limiter: Limiter::new(RATE) })
    }

    /// Serves until the network stops.
    pub(crate) async fn run(self: Arc<Self>, mut incoming: Incoming) {
        while let Some(stream) = incoming.next().await {
            tokio::spawn(self.clone().converse(stream));
        }
    }

    async fn converse(self: Arc<Self>, mut stream: Stream) {
        let peer = stream.peer();
        while let Ok(Some(frame)) = stream.recv().await {
            let Ok(request) = decode_exact::<Request>(&frame, &()) else { return };
            let response = if self.limiter.take(peer, 1.0, Instant::now()) {
                self.models.answer(request)
            } else {
                Response::Busy
            };
            if stream.send(&response.encode()).await.is_err() {
                return;
            }
        }
    }
}
