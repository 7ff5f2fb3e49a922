//! Bounded memory for the caches of sequences.

use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that may be promised at once.
#[derive(Debug)]
pub(crate) struct Memory {
    free: Mutex<usize>,
}

/// A promise of bytes; given back when dropped.
#[derive(Debug)]
pub(crate) struct Promise {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(bytes) })
    }

    /// Promises `bytes`, unless so much is not free.
    pub(crate) fn promise(self: &Arc<Self>, bytes: usize) -> Option<Promise> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(bytes)?;
        Some(Promise { memory: self.clone(), bytes })
    }

    /// Bytes that are not promised.
    pub(crate) fn free(&self) -> usize {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Promise {
    /// How many bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut free = self.memory.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = free.saturating_add(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::Memory;

    #[test]
    fn no_more_is_promised_than_there_is_and_it_comes_back() {
        let memory = Memory::new(100);
        let first = memory.promise(60).unwrap();
        assert!(memory.promise(41).is_none());
        let second = memory.promise(40).unwrap();
        assert!(memory.promise(1).is_none());
        drop(first);
        assert!(memory.promise(61).is_none());
        assert!(memory.promise(60).is_some());
        drop(second);
        assert!(memory.promise(100).is_some());
    }
}
