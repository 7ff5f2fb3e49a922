//! What a listener hears.

use super::{LightClient, lock};
use crate::sync::{Certified, Conflict};
use futures::channel::mpsc;

/// Events waiting for a slow listener before the oldest listener misses some.
const EVENT_BUFFER: usize = 512;

/// A header that was just verified, for the blocks page.
#[derive(Clone, Debug)]
pub struct VerifiedRow {
    /// The header and its certificate.
    pub certified: Certified,
    /// This header's share of its batch's checking time, in milliseconds.
    pub checked_ms: f64,
    /// Headers verified together.
    pub batch: usize,
}

/// What a listener hears.
#[derive(Clone, Debug)]
pub enum Event {
    /// Headers, oldest first.
    Headers(Vec<VerifiedRow>),
    /// Following a peer's head; `target` is only its claim.
    Syncing {
        /// Verified here.
        height: u64,
        /// Claimed by the peer.
        target: u64,
    },
    /// The head is followed live.
    Live {
        /// Verified here.
        height: u64,
    },
    /// Nobody serves at the moment.
    Offline {
        /// Why.
        reason: String,
    },
    /// A peer was dropped for a provably wrong answer.
    Dropped {
        /// Who.
        peer: String,
        /// Which check failed.
        what: String,
        /// What arrived.
        got: String,
        /// What was expected.
        expected: String,
    },
    /// Two finalized headers of one height.
    Conflict(Box<Conflict>),
}

impl LightClient {
    /// What happens from now on. A listener that does not read misses events, never holds us up.
    pub fn events(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(EVENT_BUFFER);
        lock(&self.inner.listeners).push(sender);
        receiver
    }

    pub(super) fn emit(&self, event: &Event) {
        lock(&self.inner.listeners).retain_mut(|listener| match listener.try_send(event.clone()) {
            Ok(()) => true,
            Err(error) => !error.is_disconnected(),
        });
    }
}
