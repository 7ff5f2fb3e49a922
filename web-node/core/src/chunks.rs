//! Serving model weights: `/nesa/chunks/1`.
//!
//! Anybody may ask, and nobody needs to trust the server: the client checks every piece against
//! the model's digest. Of a model that the node itself fetches, it serves the pieces that it has.

use nesa_model::Artifact;
use nesa_platform::{
    net::{AcceptError, Network, Stream, StreamLimits},
    task::{self, Guard},
};
use nesa_primitives::Hash;
use nesa_wire::{
    Protocol,
    chunks::{Limits, Request, Response},
};
use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::models::Source;

/// A request is never longer than this, in bytes.
const MAX_REQUEST: usize = 64;
/// How long a client may be silent between two requests.
const IDLE: Duration = Duration::from_secs(60);
/// Streams of one client: it asks for several pieces at once.
const PER_CLIENT: usize = 8;

/// Serves the pieces of `artifacts` on `streams` streams at most, until the guard is dropped.
///
/// # Errors
/// [`AcceptError`] if something else on this network serves weights already.
pub fn serve(
    network: &Network,
    artifacts: Vec<Artifact>,
    streams: usize,
) -> Result<Guard, AcceptError> {
    let sources = artifacts.into_iter().map(|artifact| Source::new(Arc::new(artifact)));
    serve_sources(network, sources.collect(), streams)
}

/// [`serve`] of models from where they lie.
pub(crate) fn serve_sources(
    network: &Network,
    sources: Vec<Arc<Source>>,
    streams: usize,
) -> Result<Guard, AcceptError> {
    let limits = StreamLimits { total: streams, per_peer: PER_CLIENT };
    let mut incoming = network.accept(Protocol::Chunks, limits)?;
    let shelf: HashMap<Hash, Arc<Source>> =
        sources.into_iter().map(|source| (source.header().digest(), source)).collect();
    let shelf = Arc::new(shelf);
    let task = task::spawn(async move {
        while let Some(stream) = incoming.next().await {
            task::spawn(answer(stream, shelf.clone()));
        }
    });
    Ok(task.abort_on_drop())
}

async fn answer(mut stream: Stream, shelf: Arc<HashMap<Hash, Arc<Source>>>) {
    stream.set_idle(IDLE);
    loop {
        let frame = match stream.recv_up_to(MAX_REQUEST).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, peer = %stream.peer(), "a weight stream ended");
                return;
            }
        };
        let Ok(request) = nesa_wire::decode::<Request>(frame, &()) else { return };
        let response = nesa_wire::encode(&respond(&shelf, request).await);
        if stream.send(&response).await.is_err() {
            return;
        }
    }
}

async fn respond(shelf: &HashMap<Hash, Arc<Source>>, request: Request) -> Response {
    let (model, index) = match request {
        Request::Manifest { model } => (model, 0),
        Request::Chunk { model, index } => (model, index),
    };
    let piece = match shelf.get(&model) {
        Some(source) => source.lent(index as usize).await,
        None => Ok(None),
    };
    // Whoever asks for one too many learns no more than whoever asks after the file was changed.
    let piece =
        piece.inspect_err(|error| tracing::warn!(%error, %model, "a piece cannot be served"));
    let piece = piece.ok().flatten();
    match (piece, request) {
        (None, _) => Response::Unknown,
        (Some(data), _) if data.len() > Limits::default().chunk => Response::Unknown,
        (Some(data), Request::Manifest { .. }) => Response::Manifest(data),
        (Some(data), Request::Chunk { .. }) => {
            Response::Chunk { index, data, proof: bytes::Bytes::new() }
        }
    }
}
