//! The queue of accepted streams.

use super::{BUSY, Stream, StreamLimits, TAKEN, driver::Shared, identity, permits::Permits};
use crate::task::{self, Guard};
use futures::{AsyncWriteExt as _, StreamExt as _, channel::mpsc};
use nesa_wire::Protocol;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// Accepted streams that nobody has taken yet.
const QUEUE: usize = 64;
/// How long an opener may take to read the acceptor's first byte.
const GREETING_LIMIT: Duration = Duration::from_secs(10);

/// Streams that peers opened. Dropping it stops accepting.
pub struct Incoming {
    streams: mpsc::Receiver<Stream>,
    _task: Guard,
}

impl Incoming {
    pub(super) fn new(
        protocol: Protocol,
        limits: StreamLimits,
        mut accepted: libp2p_stream::IncomingStreams,
        shared: Arc<Shared>,
    ) -> Incoming {
        let permits = Permits::new(limits);
        let (queue, streams) = mpsc::channel(QUEUE);
        // Drains at once, because the swarm drops what it cannot hand over immediately.
        let task = task::spawn(async move {
            while let Some((peer, mut io)) = accepted.next().await {
                let Some(peer) = identity::address(&peer) else { continue };
                let permit = permits.take(peer);
                let (shared, mut queue) = (shared.clone(), queue.clone());
                task::spawn(async move {
                    let answer = if permit.is_some() { TAKEN } else { BUSY };
                    let greeting = async {
                        io.write_all(&[answer]).await?;
                        io.flush().await
                    };
                    let greeted = crate::time::timeout(GREETING_LIMIT, greeting).await;
                    match (greeted, permit) {
                        (Ok(Ok(())), Some(permit)) => {
                            let piece = shared.piece(&peer);
                            let stream = Stream::new(peer, protocol, io, piece, Some(permit));
                            if queue.try_send(stream).is_err() {
                                tracing::debug!(%protocol, %peer, "the accept queue is full");
                            }
                        }
                        (Ok(Ok(())), None) => {
                            tracing::debug!(%protocol, %peer, "a peer is at its stream limit");
                            let _ = io.close().await;
                        }
                        _ => {}
                    }
                });
            }
        });
        Incoming { streams, _task: task.abort_on_drop() }
    }

    /// The next stream; `None` once the network has stopped.
    pub async fn next(&mut self) -> Option<Stream> {
        self.streams.next().await
    }
}

impl futures::Stream for Incoming {
    type Item = Stream;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        Pin::new(&mut self.streams).poll_next(cx)
    }
}
