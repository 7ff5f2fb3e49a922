//! Who may begin: a bound on queries at once and on bytes per hour.

use crate::{limits::Limits, metrics::Counters};
use nesa_platform::time::Instant;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Admits queries within limits.
pub(crate) struct Admission {
    limits: Limits,
    counters: Arc<Counters>,
    /// Set when the node stops, or acts as if it had died.
    closed: AtomicBool,
    window: Mutex<Window>,
}

struct Window {
    began: Instant,
    /// Bytes moved when the window began.
    before: u64,
}

impl Admission {
    pub(crate) fn new(limits: Limits, counters: Arc<Counters>) -> Arc<Admission> {
        let window = Mutex::new(Window { began: Instant::now(), before: 0 });
        Arc::new(Admission { limits, counters, closed: AtomicBool::new(false), window })
    }

    /// A place for one more query, unless a limit is reached.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.is_closed() || !self.has_bytes() {
            return None;
        }
        let limit = self.limits.queries;
        self.counters
            .active
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |active| {
                (active < limit).then_some(active + 1)
            })
            .ok()?;
        Some(Place { admission: self.clone() })
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn has_bytes(&self) -> bool {
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let moved = load(&self.counters.bytes_in).saturating_add(load(&self.counters.bytes_out));
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.elapsed() >= HOUR {
            *window = Window { began: Instant::now(), before: moved };
        }
        moved.saturating_sub(window.before) < self.limits.bytes_per_hour
    }
}

/// The right to serve one query; given back when dropped.
pub(crate) struct Place {
    admission: Arc<Admission>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.counters.active.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(queries: u32, bytes_per_hour: u64) -> Arc<Admission> {
        let limits = Limits { queries, bytes_per_hour, ..Limits::default() };
        Admission::new(limits, Arc::default())
    }

    #[test]
    fn places_come_back() {
        let admission = admission(2, 100);
        let first = admission.enter().unwrap();
        let _second = admission.enter().unwrap();
        assert!(admission.enter().is_none());
        drop(first);
        assert!(admission.enter().is_some());
        admission.close();
        assert!(admission.enter().is_none());
    }

    #[test]
    fn bytes_are_bounded_per_hour() {
        let admission = admission(2, 100);
        Counters::add(&admission.counters.bytes_in, 60);
        assert!(admission.enter().is_some());
        Counters::add(&admission.counters.bytes_out, 40);
        assert!(admission.enter().is_none());
    }
}
