//! How much one peer may ask for: a token bucket per peer, bounded in number.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Buckets kept at once; full ones are forgotten first, because forgetting them changes nothing.
const MAX_BUCKETS: usize = 8192;

/// Rate and burst of one kind of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Units a peer may use at once.
    pub(crate) burst: f64,
    /// Units a peer regains per second.
    pub(crate) per_second: f64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// A token bucket per key.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    rate: Rate,
    buckets: Mutex<HashMap<K, Bucket>>,
}

impl<K: Eq + Hash + Copy> Limiter<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Takes `cost` units from `key`'s bucket at `now`; false when there are not enough.
    pub(crate) fn take(&self, key: K, cost: f64, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
            let rate = self.rate;
            buckets.retain(|_, bucket| refill(rate, *bucket, now) < rate.burst);
            if buckets.len() >= MAX_BUCKETS {
                return false;
            }
        }
        let fresh = Bucket { left: self.rate.burst, at: now };
        let bucket = buckets.entry(key).or_insert(fresh);
        let left = refill(self.rate, *bucket, now);
        let enough = left >= cost;
        *bucket = Bucket { left: if enough { left - cost } else { left }, at: now };
        enough
    }
}

fn refill(rate: Rate, bucket: Bucket, now: Instant) -> f64 {
    let seconds = now.saturating_duration_since(bucket.at).as_secs_f64();
    (bucket.left + seconds * rate.per_second).min(rate.burst)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: Rate = Rate { burst: 10.0, per_second: 2.0 };

    #[test]
    fn a_greedy_peer_is_held_back_and_others_are_not() {
        let limiter = Limiter::new(RATE);
        let start = Instant::now();
        assert!((0..10).all(|_| limiter.take(1, 1.0, start)));
        assert!(!limiter.take(1, 1.0, start));
        assert!(limiter.take(2, 10.0, start), "another peer has its own bucket");
        let later = start + Duration::from_secs(1);
        assert!(limiter.take(1, 2.0, later));
        assert!(!limiter.take(1, 1.0, later));
    }

    #[test]
    fn many_names_do_not_use_up_memory() {
        let limiter = Limiter::new(RATE);
        let start = Instant::now();
        for key in 0..MAX_BUCKETS {
            assert!(limiter.take(key, 5.0, start));
        }
        assert!(!limiter.take(usize::MAX, 1.0, start), "full of peers that used some");
        assert!(limiter.take(usize::MAX, 1.0, start + Duration::from_secs(60)));
    }
}
