//! Who may begin: a bound on queries at once, on bytes per hour, and on preparations, which nobody
//! pays for.

use crate::{limits::Limits, metrics::Counters};
use nesa_platform::time::Instant;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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
    /// Preparations begun since.
    preparations: u32,
    /// Preparations under way.
    preparing: u32,
}

impl Admission {
    pub(crate) fn new(limits: Limits, counters: Arc<Counters>) -> Arc<Admission> {
        let window = Window { began: Instant::now(), before: 0, preparations: 0, preparing: 0 };
        let window = Mutex::new(window);
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

    /// A place for one more preparation, unless a limit is reached.
    pub(crate) fn enter_preparation(self: &Arc<Self>) -> Option<PreparingPlace> {
        if self.is_closed() || !self.has_bytes() {
            return None;
        }
        let mut window = self.window();
        if window.preparing >= self.limits.preparations
            || window.preparations >= self.limits.preparations_per_hour
        {
            return None;
        }
        window.preparing += 1;
        window.preparations += 1;
        Some(PreparingPlace { admission: self.clone() })
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
        let mut window = self.window();
        if window.began.elapsed() >= HOUR {
            let preparing = window.preparing;
            *window = Window { began: Instant::now(), before: moved, preparations: 0, preparing };
        }
        moved.saturating_sub(window.before) < self.limits.bytes_per_hour
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The right to serve one preparation; given back when dropped.
pub(crate) struct PreparingPlace {
    admission: Arc<Admission>,
}

impl Drop for PreparingPlace {
    fn drop(&mut self) {
        let mut window = self.admission.window();
        window.preparing = window.preparing.saturating_sub(1);
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

    #[test]
    fn preparations_are_bounded_at_once_and_per_hour() {
        let limits = Limits { preparations: 1, preparations_per_hour: 2, ..Limits::default() };
        let admission = Admission::new(limits, Arc::default());
        let first = admission.enter_preparation().unwrap();
        assert!(admission.enter_preparation().is_none());
        // They take no place from queries.
        assert!(admission.enter().is_some());
        drop(first);
        drop(admission.enter_preparation().unwrap());
        assert!(admission.enter_preparation().is_none());
        let closed = Admission::new(Limits::default(), Arc::default());
        closed.close();
        assert!(closed.enter_preparation().is_none());
    }
}
