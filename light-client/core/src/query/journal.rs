//! The life of every query on this device, so that a reload in mid-query loses no money from sight.
//!
//! A record is written before each step that cannot be taken back. It holds what is needed to find
//! out a query's fate and to open its commitment later; it never holds a mask, a share, a
//! Freivalds secret or the key that signs vouchers. A query that was interrupted is therefore not
//! resumed, which would risk using a mask twice: its escrow returns at the deadline.

use nesa_platform::storage::{StorageError, Store};
use nesa_primitives::{Amount, Hash};
use serde::{Deserialize, Serialize};

const NAMESPACE: &str = "queries";

/// How far a query came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fate")]
pub enum Fate {
    /// Paid, and under way when this was written.
    Running,
    /// Its answer was checked; payment is awaited.
    Answered,
    /// The nodes were paid; what is unspent returns at the deadline.
    Paid {
        /// Not spent and still in escrow.
        held: Amount,
    },
    /// The chain settled it.
    Settled {
        /// Returned to the payer.
        returned: Amount,
    },
    /// Given up; the escrow returns at the deadline.
    Failed {
        /// Why.
        reason: String,
    },
    /// This device went away in the middle; the escrow returns at the deadline.
    Interrupted,
}

/// One query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The query's id on the chain.
    pub query: Hash,
    /// The chain it was paid on.
    pub chain: Hash,
    /// When, in milliseconds since 1970.
    pub started_ms: u64,
    /// When its escrow returns, in milliseconds since 1970.
    pub deadline_ms: u64,
    /// What was escrowed.
    pub max_fee: Amount,
    /// How far it came.
    #[serde(flatten)]
    pub fate: Fate,
}

/// The journal of one chain's queries.
#[derive(Clone, Debug)]
pub struct Journal {
    store: Store,
    chain: Hash,
}

impl Journal {
    /// The journal of the chain with trust root digest `chain`.
    pub fn new(store: Store, chain: Hash) -> Self {
        Self { store, chain }
    }

    /// Writes or replaces one entry.
    ///
    /// # Errors
    /// [`StorageError`]; a query must not be paid for when its entry cannot be kept.
    pub async fn put(&self, entry: &Entry) -> Result<(), StorageError> {
        let bytes = serde_json::to_vec(entry)
            .map_err(|error| StorageError::Unavailable(error.to_string()))?;
        self.store.put(NAMESPACE, &entry.query.to_string(), &bytes).await
    }

    /// Every entry of this chain, oldest first. Entries that do not decode are left out.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn entries(&self) -> Result<Vec<Entry>, StorageError> {
        let mut entries = Vec::new();
        for key in self.store.list(NAMESPACE).await? {
            if let Some(bytes) = self.store.get(NAMESPACE, &key).await?
                && let Ok(entry) = serde_json::from_slice::<Entry>(&bytes)
                && entry.chain == self.chain
            {
                entries.push(entry);
            }
        }
        entries.sort_by_key(|entry| entry.started_ms);
        Ok(entries)
    }

    /// Marks every query that was running as interrupted; called once at start. Gives those.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn mark_interrupted(&self) -> Result<Vec<Entry>, StorageError> {
        let mut interrupted = Vec::new();
        for mut entry in self.entries().await? {
            if entry.fate == Fate::Running {
                entry.fate = Fate::Interrupted;
                self.put(&entry).await?;
                interrupted.push(entry);
            }
        }
        Ok(interrupted)
    }

    /// Removes one entry.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn delete(&self, query: &Hash) -> Result<(), StorageError> {
        self.store.delete(NAMESPACE, &query.to_string()).await
    }
}
