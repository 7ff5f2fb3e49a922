//! How an accelerator stands: one record for all that is asked of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is known of an accelerator in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// As it calls itself.
    pub name: String,
    /// Stages whose weights it holds for masked products.
    pub placed: u32,
    /// Stages of all models.
    pub stages: u32,
    /// Bytes of these weights.
    pub bytes: u64,
    /// Shards of decoders on it.
    pub shards: u32,
    /// Sessions of the sealed lane whose caches are on it.
    pub sessions: u32,
    /// Bytes of these shards and caches.
    pub shard_bytes: u64,
    /// Why it is not used any more.
    pub dropped: Option<String>,
}

/// A standing that everybody who asks the accelerator shares: whoever finds it wrong ends its use for all.
#[derive(Clone, Default)]
pub(crate) struct Watch(Arc<Mutex<Standing>>);

impl Watch {
    /// Of an accelerator that nothing was asked of yet.
    pub(crate) fn of(name: String) -> Self {
        Self(Arc::new(Mutex::new(Standing { name, ..Standing::default() })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is not used any more.
    pub(crate) fn is_dropped(&self) -> bool {
        self.lock().dropped.is_some()
    }

    /// The accelerator is not asked again.
    pub(crate) fn drop_for(&self, reason: &str) {
        let mut standing = self.lock();
        if standing.dropped.is_none() {
            let accelerator = &standing.name;
            tracing::warn!(accelerator, reason, "the accelerator is not used any more");
            standing.dropped = Some(reason.to_owned());
        }
    }
}
