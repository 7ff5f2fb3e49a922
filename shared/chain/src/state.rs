//! Reading and writing state without I/O.
//!
//! A node keeps the state in an authenticated store whose reads are asynchronous; the rules are
//! synchronous and pure. They meet here: the rules read through a [`Reader`], which answers from
//! what was fetched or says which keys are missing; the node fetches those and runs the rules
//! again, from the start, with the same result as if all had been there.
//!
//! ```text
//!   fetch(tx.touches()) ──> apply(overlay, tx) ──Ok──> overlay.changes()
//!            ^                      │
//!            └──── Missing(keys) <──┘
//! ```

use crate::{keys::Key, limits::MAX_VALUE_BYTES};
use bytes::Bytes;
use commonware_codec::{Decode, Encode};
use nesa_primitives::decode_exact;
use std::collections::BTreeMap;
use thiserror::Error;

/// Keys that must be fetched before the rules can go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Error)]
#[error("{} keys have to be read first", .0.len())]
pub struct Missing(pub Vec<Key>);

/// Why a record could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// Fetch and run again.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The stored bytes are no such record: the store is damaged.
    #[error("record at {key} is damaged: {reason}")]
    Damaged {
        /// Where.
        key: Key,
        /// Why it does not decode.
        reason: String,
    },
    /// A record that must exist does not: the state was not made by these rules.
    #[error("record {what} at {key} does not exist")]
    Absent {
        /// Which record.
        what: &'static str,
        /// Where.
        key: Key,
    },
    /// A record grew beyond the store's limit.
    #[error("record at {key} has {got} bytes, at most {MAX_VALUE_BYTES} allowed")]
    TooLarge {
        /// Where.
        key: Key,
        /// Its encoded size.
        got: usize,
    },
}

/// Committed state, as far as it has been fetched.
pub trait Reader {
    /// The value at `key`; `Ok(None)` if it is known not to exist.
    ///
    /// # Errors
    /// [`Missing`] if it has not been fetched.
    fn get(&self, key: &Key) -> Result<Option<Bytes>, Missing>;
}

/// What has been fetched: present, or known to be absent. Anything else is missing.
impl Reader for BTreeMap<Key, Option<Bytes>> {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, Missing> {
        BTreeMap::get(self, key).cloned().ok_or_else(|| Missing(vec![*key]))
    }
}

/// A whole state: what is not there does not exist.
impl Reader for BTreeMap<Key, Bytes> {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, Missing> {
        Ok(BTreeMap::get(self, key).cloned())
    }
}

/// Writes on top of a [`Reader`].
pub struct Overlay<'a> {
    reader: &'a dyn Reader,
    changes: BTreeMap<Key, Option<Bytes>>,
    /// What each write since the start of an atomic part replaced.
    journal: Option<Vec<(Key, Option<Option<Bytes>>)>>,
}

impl<'a> Overlay<'a> {
    /// An overlay without changes.
    pub fn new(reader: &'a dyn Reader) -> Self {
        Self { reader, changes: BTreeMap::new(), journal: None }
    }

    /// An overlay that goes on from changes made earlier on the same reader.
    pub fn resume(reader: &'a dyn Reader, changes: BTreeMap<Key, Option<Bytes>>) -> Self {
        Self { reader, changes, journal: None }
    }

    /// All keys written, with their new values (`None`: deleted), in order of keys.
    pub const fn changes(&self) -> &BTreeMap<Key, Option<Bytes>> {
        &self.changes
    }

    /// [`Overlay::changes`], by value.
    pub fn into_changes(self) -> BTreeMap<Key, Option<Bytes>> {
        self.changes
    }

    /// The bytes at `key`, as written here or read below.
    ///
    /// # Errors
    /// [`Missing`] if the reader has not fetched it.
    pub fn get(&self, key: &Key) -> Result<Option<Bytes>, Missing> {
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.reader.get(key),
        }
    }

    /// Names every key that still has to be fetched, in one go.
    ///
    /// # Errors
    /// [`Missing`] with all of them.
    pub fn require(&self, keys: impl IntoIterator<Item = Key>) -> Result<(), Missing> {
        let mut missing = Vec::new();
        for key in keys {
            if let Err(Missing(more)) = self.get(&key) {
                missing.extend(more);
            }
        }
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() { Ok(()) } else { Err(Missing(missing)) }
    }

    /// The record at `key`, if there is one.
    ///
    /// # Errors
    /// [`StateError`] if it is missing or damaged.
    pub fn find<T: Decode<Cfg = ()> + Encode>(&self, key: &Key) -> Result<Option<T>, StateError> {
        let Some(bytes) = self.get(key)? else { return Ok(None) };
        let record = decode_exact(&bytes, &())
            .map_err(|error| StateError::Damaged { key: *key, reason: error.to_string() })?;
        Ok(Some(record))
    }

    /// The record at `key`, which must exist.
    ///
    /// # Errors
    /// [`StateError`] if it is missing, damaged or absent.
    pub fn load<T: Decode<Cfg = ()> + Encode>(
        &self,
        what: &'static str,
        key: &Key,
    ) -> Result<T, StateError> {
        self.find(key)?.ok_or(StateError::Absent { what, key: *key })
    }

    /// Writes a record.
    ///
    /// # Errors
    /// [`StateError::TooLarge`].
    pub fn store(&mut self, key: Key, record: &impl Encode) -> Result<(), StateError> {
        let bytes = record.encode();
        if bytes.len() > MAX_VALUE_BYTES {
            return Err(StateError::TooLarge { key, got: bytes.len() });
        }
        self.write(key, Some(bytes));
        Ok(())
    }

    /// Deletes the record at `key`.
    pub fn delete(&mut self, key: Key) {
        self.write(key, None);
    }

    fn write(&mut self, key: Key, value: Option<Bytes>) {
        let before = self.changes.insert(key, value);
        if let Some(journal) = &mut self.journal {
            journal.push((key, before));
        }
    }

    /// Runs `f`; if it fails, all it wrote is undone. Parts do not nest: an inner one belongs to
    /// the outer.
    ///
    /// # Errors
    /// Whatever `f` returns.
    pub fn atomically<T, E>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        if self.journal.is_some() {
            return f(self);
        }
        self.journal = Some(Vec::new());
        let result = f(self);
        let journal = self.journal.take().unwrap_or_default();
        if result.is_err() {
            for (key, before) in journal.into_iter().rev() {
                match before {
                    Some(change) => self.changes.insert(key, change),
                    None => self.changes.remove(&key),
                };
            }
        }
        result
    }
}
