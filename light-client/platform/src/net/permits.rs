//! How many streams a protocol serves at once, in all and for one peer.

use nesa_primitives::Address;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bounds on the streams that one protocol serves at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// For all peers together.
    pub total: usize,
    /// For one peer.
    pub per_peer: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        StreamLimits { total: 256, per_peer: 16 }
    }
}

/// Hands out permits within limits.
#[derive(Clone)]
pub(super) struct Permits {
    limits: StreamLimits,
    held: Arc<Mutex<HashMap<Address, usize>>>,
}

impl Permits {
    pub(super) fn new(limits: StreamLimits) -> Permits {
        Permits { limits, held: Arc::default() }
    }

    /// A permit for one more stream of `peer`, unless a limit is reached.
    pub(super) fn take(&self, peer: Address) -> Option<Permit> {
        let mut held = lock(&self.held);
        let mine = held.get(&peer).copied().unwrap_or(0);
        let all: usize = held.values().sum();
        if mine >= self.limits.per_peer || all >= self.limits.total {
            return None;
        }
        held.insert(peer, mine + 1);
        Some(Permit { peer, held: self.held.clone() })
    }
}

/// The right to serve one stream; given back when dropped.
pub(super) struct Permit {
    peer: Address,
    held: Arc<Mutex<HashMap<Address, usize>>>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        if let Some(count) = held.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.peer);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_come_back() {
        let permits = Permits::new(StreamLimits { total: 3, per_peer: 2 });
        let (a, b) = (Address([1; 32]), Address([2; 32]));
        let first = permits.take(a).unwrap();
        let _second = permits.take(a).unwrap();
        assert!(permits.take(a).is_none(), "over the peer's limit");
        let _third = permits.take(b).unwrap();
        assert!(permits.take(b).is_none(), "over the common limit");
        drop(first);
        assert!(permits.take(b).is_some());
    }
}
