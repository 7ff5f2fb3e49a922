//! What the rest of the process sees of the finalized chain, and how it hears of new blocks.

use futures::channel::mpsc;
use nesa_chain::header::{Digest, Header};
use nesa_verify::Finalization;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Headers kept in memory; older ones come from disk.
const RECENT_HEADERS: usize = 1024;
/// Heads a subscriber may leave unread before it misses some.
const SUBSCRIBER_QUEUE: usize = 64;

/// A finalized block, as told to subscribers.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its header.
    pub header: Arc<Header>,
    /// Its certificate; absent when it was finalized through a descendant.
    pub finalization: Option<Finalization>,
    /// Transactions in it.
    pub transactions: usize,
}

/// New heads as they are finalized, as a `futures::Stream`. A subscriber that does not read misses
/// heads rather than slowing the validator down; heights tell it so.
pub type Subscription = mpsc::Receiver<Head>;

struct Inner {
    genesis: Head,
    recent: BTreeMap<u64, Head>,
    subscribers: Vec<mpsc::Sender<Head>>,
}

/// The finalized chain, shared between the follower that writes it and everyone who reads it.
#[derive(Clone)]
pub(crate) struct View(Arc<Mutex<Inner>>);

impl View {
    /// A view that so far has the genesis block only.
    pub(crate) fn new(genesis: Head) -> Self {
        let inner = Inner { genesis, recent: BTreeMap::new(), subscribers: Vec::new() };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a finalized block and tells the subscribers.
    pub(crate) fn push(&self, head: Head) {
        let mut inner = self.lock();
        inner.subscribers.retain_mut(|subscriber| match subscriber.try_send(head.clone()) {
            Ok(()) => true,
            Err(error) => error.is_full(),
        });
        inner.recent.insert(head.header.height(), head);
        while inner.recent.len() > RECENT_HEADERS {
            inner.recent.pop_first();
        }
    }

    /// The newest finalized block; the genesis block on a new chain.
    pub(crate) fn head(&self) -> Head {
        let inner = self.lock();
        inner.recent.last_key_value().map_or_else(|| inner.genesis.clone(), |(_, h)| h.clone())
    }

    /// The block at `height`, if it is recent or the first.
    pub(crate) fn at(&self, height: u64) -> Option<Head> {
        let inner = self.lock();
        if height == 0 { Some(inner.genesis.clone()) } else { inner.recent.get(&height).cloned() }
    }

    /// The newest block whose store has this root, if it is recent.
    pub(crate) fn with_root(&self, root: &Digest) -> Option<Head> {
        let inner = self.lock();
        inner.recent.values().rev().find(|head| head.header.state_root() == root).cloned()
    }

    /// From now on, every new head.
    pub(crate) fn subscribe(&self) -> Subscription {
        let (sender, receiver) = mpsc::channel(SUBSCRIBER_QUEUE);
        self.lock().subscribers.push(sender);
        receiver
    }
}
