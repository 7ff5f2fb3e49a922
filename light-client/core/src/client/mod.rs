//! The light client's driver: asks peers, lets [`HeaderSync`] judge, follows the head.
//!
//! One value, cheap to clone, native and in the browser alike. Every question goes to the peers in
//! order of how well they have answered so far; a peer is dropped only for an answer that is
//! provably wrong, never for silence, staleness or a refusal.
//!
//! ```text
//!   peers ──bytes──> judge (decode) ──> sync (verdict) ─┬─ follow: the head grows, listeners hear
//!     ▲                                                 ├─ proofs: state, seeds, headers, blocks
//!     └── order, standing, dropped for Invalid ─────────┴─ transactions: submitted, included
//! ```

mod error;
mod event;
mod follow;
mod judge;
mod peers;
mod proofs;
mod transactions;

pub use error::AskError;
pub use event::{Event, VerifiedRow};
pub use judge::to_wire;
pub use peers::PeerStatus;
pub use proofs::{Proven, ProvenEntry};
pub use transactions::Included;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use nesa_chain::{header::Header, trust::TrustRoot};
use nesa_platform::{
    random, task,
    time::{self, Instant},
};
use nesa_primitives::{Hash, Verdict};

use crate::{
    checkpoint::CheckpointStore,
    peer::SharedPeer,
    sync::{Certified, Conflict, HeaderSync},
};
use peers::Slot;

/// Pause before the peers are tried again when none of them serves.
const RETRY: Duration = Duration::from_millis(700);

struct Inner {
    trust: TrustRoot,
    chain: Hash,
    sync: Mutex<HeaderSync>,
    peers: Mutex<Vec<Slot>>,
    listeners: Mutex<Vec<mpsc::Sender<Event>>>,
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    seeds: Mutex<HashMap<u64, Bytes>>,
    checkpoints: Option<CheckpointStore>,
    last_write: Mutex<Option<Instant>>,
}

/// A verified view of one chain. Clones share it.
#[derive(Clone)]
pub struct LightClient {
    inner: Arc<Inner>,
    /// Stops the follower when the last of the users' clones is gone; the follower has none.
    _follower: Option<Arc<task::Guard>>,
}

/// Locks without the poison: the data behind these locks is valid after any panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

impl LightClient {
    /// Follows the chain of `trust` through `peers`.
    ///
    /// A checkpoint of an earlier run is verified again before it is used.
    ///
    /// # Errors
    /// [`nesa_verify::TrustError`] when the trust root's group key is no key.
    pub async fn start(
        trust: TrustRoot,
        checkpoints: Option<CheckpointStore>,
        peers: Vec<SharedPeer>,
    ) -> Result<Self, nesa_verify::TrustError> {
        let mut sync = HeaderSync::new(&trust)?;
        if let Some(store) = &checkpoints
            && let Some(checkpoint) = store.load().await
        {
            match sync.restore(&mut random::rng(), checkpoint) {
                Verdict::Valid(advance) => tracing::debug!(height = advance.to, "checkpoint holds"),
                refused => tracing::warn!(?refused, "stored checkpoint refused; starting afresh"),
            }
        }
        let chain = trust.digest();
        let inner = Arc::new(Inner {
            chain,
            trust,
            sync: Mutex::new(sync),
            peers: Mutex::new(Vec::new()),
            listeners: Mutex::new(Vec::new()),
            waiting: Mutex::new(Vec::new()),
            seeds: Mutex::new(HashMap::new()),
            checkpoints,
            last_write: Mutex::new(None),
        });
        let client = Self { inner, _follower: None };
        for peer in peers {
            client.add_peer(peer);
        }
        let follower = client.clone();
        let follower = task::spawn(async move {
            loop {
                follower.follow_once().await;
                time::sleep(RETRY).await;
            }
        });
        let client = Self { _follower: Some(Arc::new(follower.abort_on_drop())), ..client };
        Ok(client)
    }

    /// The trust root this client follows.
    pub fn trust(&self) -> &TrustRoot {
        &self.inner.trust
    }

    /// Digest of the trust root: "the chain" in every signature.
    pub fn chain(&self) -> Hash {
        self.inner.chain
    }

    /// The newest verified header.
    pub fn head(&self) -> Option<Header> {
        lock(&self.inner.sync).tip().map(|tip| tip.header.clone())
    }

    /// Height of the newest verified header; 0 before the first.
    pub fn height(&self) -> u64 {
        self.head().map_or(0, |header| header.height())
    }

    /// Verified headers still in memory, oldest first.
    pub fn recent(&self) -> Vec<Certified> {
        lock(&self.inner.sync).recent().cloned().collect()
    }

    /// Evidence that the chain forked, if there is any.
    pub fn conflict(&self) -> Option<Conflict> {
        lock(&self.inner.sync).conflict().cloned()
    }

    /// The checks under this client's trust root.
    pub fn verifier(&self) -> nesa_verify::Verifier {
        lock(&self.inner.sync).verifier().clone()
    }

    /// Waits until the head is above `height`; gives the new height.
    pub async fn head_above(&self, height: u64) -> u64 {
        loop {
            let receiver = {
                // Registered under the same lock that the writer of the tip holds afterwards, so
                // that no advance falls between the look and the registration.
                let mut waiting = lock(&self.inner.waiting);
                let now = self.height();
                if now > height {
                    return now;
                }
                let (sender, receiver) = oneshot::channel();
                waiting.push(sender);
                receiver
            };
            // A closed channel only means that the head moved.
            let _ = receiver.await;
        }
    }

    /// Waits for the first verified header.
    ///
    /// # Errors
    /// [`AskError::Timeout`].
    pub async fn ready(&self, limit: Duration) -> Result<u64, AskError> {
        time::timeout(limit, self.head_above(0)).await.map_err(|_| AskError::Timeout {
            what: "a first verified header",
            ms: limit.as_millis() as u64,
        })
    }

    /// Waits for a head above `height`, but not longer than `limit`: a late head is no reason to
    /// stop looking.
    pub async fn head_or(&self, height: u64, limit: Duration) {
        let _ = time::timeout(limit, self.head_above(height)).await;
    }

    /// Wakes those who wait for the head. They look again themselves.
    fn wake(&self) {
        for waiter in lock(&self.inner.waiting).drain(..) {
            // A waiter that went away needs no waking.
            let _ = waiter.send(());
        }
    }
}
