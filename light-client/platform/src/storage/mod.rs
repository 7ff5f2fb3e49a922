//! Bytes that survive a restart, by namespace and key.
//!
//! Natively a namespace is a folder and a value a file, replaced by renaming, so that a process
//! killed at any point leaves either the old value or the new one. In the browser it is one
//! IndexedDB database whose handle is reopened when the browser takes it away.
//!
//! # Secrets
//!
//! [`Store::put_secret`] encrypts and authenticates a value and binds it to its place. In the
//! browser the key is a WebCrypto key that no script can read out, though a script of the same
//! origin could still *use* it; natively it is a file that only the owner may read, which protects
//! against a copied value but not against a copied directory. A value that was altered, or moved
//! to another place, reads as [`StorageError::Tampered`].
//!
//! # How can I attack this?
//!
//! Values stored by [`Store::put`] are neither encrypted nor authenticated. Whoever can write the
//! directory can change them, so callers check what they read, as they check what peers send.

use bytes::Bytes;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use zeroize::Zeroizing;

#[cfg(not(target_family = "wasm"))]
#[path = "directory.rs"]
mod imp;
#[cfg(target_family = "wasm")]
#[path = "browser.rs"]
mod imp;

/// The longest namespace or key, in bytes. File names have to hold a key in hex.
const MAX_NAME: usize = 100;

/// Reading or writing failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// A namespace is not made of 1 to 100 characters of `a-z 0-9 -`, or a key not of 1 to 100
    /// bytes.
    #[error("{0:?} cannot name a stored value")]
    Name(String),
    /// The directory or database cannot be used.
    #[error("storage failed: {0}")]
    Unavailable(String),
    /// The stored layout is newer than this program.
    #[error("storage has layout {found}, this program knows up to {known}")]
    Newer {
        /// The layout found.
        found: u32,
        /// The newest layout known.
        known: u32,
    },
    /// A secret was altered, moved, or written under another key.
    #[error("the stored secret {0:?} does not verify")]
    Tampered(String),
}

/// A place for bytes. Clones share it.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
}

#[derive(Clone)]
enum Backend {
    Memory(Arc<Mutex<BTreeMap<(String, String), Bytes>>>),
    Durable(imp::Durable),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.backend {
            Backend::Memory(_) => "Store(memory)",
            Backend::Durable(_) => "Store(durable)",
        })
    }
}

impl Store {
    /// Opens, and if need be creates or migrates, the store at `place`: a directory natively, a
    /// database name in the browser.
    pub async fn open(place: &str) -> Result<Store, StorageError> {
        Ok(Store { backend: Backend::Durable(imp::Durable::open(place).await?) })
    }

    /// A store that forgets everything when its last clone is dropped.
    pub fn memory() -> Store {
        Store { backend: Backend::Memory(Arc::default()) }
    }

    /// The value under `key`, if there is one.
    pub async fn get(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, StorageError> {
        check(namespace, key)?;
        match &self.backend {
            Backend::Memory(map) => {
                Ok(lock(map).get(&(namespace.to_owned(), key.to_owned())).cloned())
            }
            Backend::Durable(durable) => durable.get(namespace, key).await,
        }
    }

    /// The values under `keys`, in their order, read in one go: what many reads of `get` would give
    /// at one moment, without a transaction each.
    pub async fn get_many(
        &self,
        namespace: &str,
        keys: &[String],
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        for key in keys {
            check(namespace, key)?;
        }
        match &self.backend {
            Backend::Memory(map) => {
                let map = lock(map);
                let place = |key: &String| (namespace.to_owned(), key.clone());
                Ok(keys.iter().map(|key| map.get(&place(key)).cloned()).collect())
            }
            Backend::Durable(durable) => durable.get_many(namespace, keys).await,
        }
    }

    /// Stores `value` under `key`, replacing any other. When this returns, the value survives a
    /// killed process.
    pub async fn put(&self, namespace: &str, key: &str, value: &[u8]) -> Result<(), StorageError> {
        check(namespace, key)?;
        match &self.backend {
            Backend::Memory(map) => {
                lock(map)
                    .insert((namespace.to_owned(), key.to_owned()), Bytes::copy_from_slice(value));
                Ok(())
            }
            Backend::Durable(durable) => durable.put(namespace, key, value).await,
        }
    }

    /// Removes the value under `key`; that there is none is no error.
    pub async fn delete(&self, namespace: &str, key: &str) -> Result<(), StorageError> {
        check(namespace, key)?;
        match &self.backend {
            Backend::Memory(map) => {
                lock(map).remove(&(namespace.to_owned(), key.to_owned()));
                Ok(())
            }
            Backend::Durable(durable) => durable.delete(namespace, key).await,
        }
    }

    /// The keys of a namespace, in ascending order.
    pub async fn list(&self, namespace: &str) -> Result<Vec<String>, StorageError> {
        check(namespace, "-")?;
        match &self.backend {
            Backend::Memory(map) => Ok(lock(map)
                .keys()
                .filter(|(space, _)| space == namespace)
                .map(|(_, key)| key.clone())
                .collect()),
            Backend::Durable(durable) => durable.list(namespace).await,
        }
    }

    /// Stores `secret` encrypted and authenticated, bound to its namespace and key.
    pub async fn put_secret(
        &self,
        namespace: &str,
        key: &str,
        secret: &[u8],
    ) -> Result<(), StorageError> {
        check(namespace, key)?;
        match &self.backend {
            // Memory is already as private as the process.
            Backend::Memory(_) => self.put(namespace, key, secret).await,
            Backend::Durable(durable) => {
                let sealed = durable.seal(&place(namespace, key), secret).await?;
                durable.put(namespace, key, &sealed).await
            }
        }
    }

    /// The secret under `key`, if there is one. It is erased from memory when dropped.
    pub async fn get_secret(
        &self,
        namespace: &str,
        key: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StorageError> {
        let Some(stored) = self.get(namespace, key).await? else { return Ok(None) };
        match &self.backend {
            Backend::Memory(_) => Ok(Some(Zeroizing::new(stored.to_vec()))),
            Backend::Durable(durable) => {
                durable.unseal(&place(namespace, key), &stored).await.map(Some)
            }
        }
    }

    /// The 32-byte secret under `key`, drawn at random the first time.
    pub async fn secret_key(
        &self,
        namespace: &str,
        key: &str,
    ) -> Result<Zeroizing<[u8; 32]>, StorageError> {
        if let Some(found) = self.get_secret(namespace, key).await? {
            let array = <[u8; 32]>::try_from(found.as_slice())
                .map_err(|_| StorageError::Tampered(place(namespace, key)))?;
            return Ok(Zeroizing::new(array));
        }
        let fresh = Zeroizing::new(crate::random::bytes::<32>());
        self.put_secret(namespace, key, fresh.as_slice()).await?;
        Ok(fresh)
    }
}

/// A value's place as text: what a sealed value is bound to.
fn place(namespace: &str, key: &str) -> String {
    format!("{namespace}/{key}")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic elsewhere leaves a map of whole entries: still good to use.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn check(namespace: &str, key: &str) -> Result<(), StorageError> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if namespace.is_empty() || namespace.len() > MAX_NAME || !namespace.bytes().all(plain) {
        return Err(StorageError::Name(namespace.to_owned()));
    }
    if key.is_empty() || key.len() > MAX_NAME {
        return Err(StorageError::Name(key.to_owned()));
    }
    Ok(())
}
