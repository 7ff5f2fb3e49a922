//! The browser's store: one IndexedDB database with the object stores `entries` and `keys`.
//!
//! Version 1 of the schema had `entries` alone; version 2 adds `keys`, which holds the WebCrypto
//! key that seals secrets. Browsers, WebKit above all, may take the handle away at any time; every
//! operation therefore tries once more with a fresh handle before it fails.

use super::StorageError;
use bytes::Bytes;
use idb::{
    Database, DatabaseEvent as _, Error, Factory, KeyRange, ObjectStoreParams, Query, Transaction,
    TransactionMode,
};
use js_sys::{Array, Object, Reflect, Uint8Array};
use std::{cell::RefCell, rc::Rc};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AesGcmParams, Crypto, CryptoKey, SubtleCrypto};
use zeroize::Zeroizing;

const ENTRIES: &str = "entries";
const KEYS: &str = "keys";
/// The name of the sealing key inside `keys`.
const SEALING_KEY: &str = "sealing";
/// The schema described above.
pub(super) const SCHEMA: u32 = 2;
/// Bytes of the nonce in front of a sealed value (AES-GCM).
const NONCE: usize = 12;

#[derive(Clone)]
pub(super) struct Durable {
    inner: Rc<Inner>,
}

struct Inner {
    name: String,
    handle: RefCell<Option<Rc<Database>>>,
    /// The key that seals secrets, as long as the handle stands: a new handle may be another
    /// database, after its user cleared this one.
    sealing: RefCell<Option<CryptoKey>>,
}

impl Inner {
    /// Closes the handle; the next operation opens another.
    fn lose(&self) {
        self.sealing.take();
        if let Some(lost) = self.handle.take() {
            lost.close();
        }
    }
}

impl Durable {
    pub(super) async fn open(name: &str) -> Result<Durable, StorageError> {
        let (handle, sealing) = Default::default();
        let durable = Durable { inner: Rc::new(Inner { name: name.to_owned(), handle, sealing }) };
        durable.handle().await.map_err(unavailable)?;
        Ok(durable)
    }

    pub(super) async fn get(&self, space: &str, key: &str) -> Result<Option<Bytes>, StorageError> {
        let key = JsValue::from(super::place(space, key));
        let value = self
            .with(TransactionMode::ReadOnly, ENTRIES, async move |transaction| {
                let query = Query::from(key.clone());
                transaction.object_store(ENTRIES)?.get(query)?.await
            })
            .await?;
        Ok(value.map(|value| Uint8Array::new(&value).to_vec().into()))
    }

    pub(super) async fn get_many(
        &self,
        space: &str,
        keys: &[String],
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        let keys: Vec<JsValue> =
            keys.iter().map(|key| JsValue::from(super::place(space, key))).collect();
        let values = self
            .with(TransactionMode::ReadOnly, ENTRIES, async move |transaction| {
                let store = transaction.object_store(ENTRIES)?;
                // Every request is on its way before the first answer is waited for.
                let requests: Vec<_> = keys
                    .iter()
                    .map(|key| store.get(Query::from(key.clone())))
                    .collect::<Result<_, _>>()?;
                let mut values = Vec::with_capacity(requests.len());
                for request in requests {
                    values.push(request.await?);
                }
                Ok(values)
            })
            .await?;
        let bytes = |value| Uint8Array::new(&value).to_vec().into();
        Ok(values.into_iter().map(|value| value.map(bytes)).collect())
    }

    pub(super) async fn put(
        &self,
        space: &str,
        key: &str,
        value: &[u8],
    ) -> Result<(), StorageError> {
        let key = JsValue::from(super::place(space, key));
        let value = JsValue::from(Uint8Array::from(value));
        self.with(TransactionMode::ReadWrite, ENTRIES, async move |transaction| {
            transaction.object_store(ENTRIES)?.put(&value, Some(&key))?.await.map(|_| ())
        })
        .await
    }

    pub(super) async fn delete(&self, space: &str, key: &str) -> Result<(), StorageError> {
        let key = JsValue::from(super::place(space, key));
        self.with(TransactionMode::ReadWrite, ENTRIES, async move |transaction| {
            transaction.object_store(ENTRIES)?.delete(Query::from(key.clone()))?.await
        })
        .await
    }

    pub(super) async fn list(&self, space: &str) -> Result<Vec<String>, StorageError> {
        // '0' follows '/': the range holds exactly the keys that start with the namespace.
        let (lower, upper) = (format!("{space}/"), format!("{space}0"));
        let prefix = lower.clone();
        let keys = self
            .with(TransactionMode::ReadOnly, ENTRIES, async move |transaction| {
                let range = KeyRange::bound(
                    &JsValue::from(&lower),
                    &JsValue::from(&upper),
                    Some(false),
                    Some(true),
                )?;
                let query = Some(Query::from(range));
                transaction.object_store(ENTRIES)?.get_all_keys(query, None)?.await
            })
            .await?;
        let mut keys: Vec<String> = keys
            .iter()
            .filter_map(|key| key.as_string()?.strip_prefix(&prefix).map(str::to_owned))
            .collect();
        keys.sort();
        Ok(keys)
    }

    pub(super) async fn seal(&self, place: &str, secret: &[u8]) -> Result<Vec<u8>, StorageError> {
        let key = self.sealing_key().await?;
        let nonce = crate::random::bytes::<NONCE>();
        let promise = subtle()?
            .encrypt_with_object_and_u8_array(&parameters(&nonce, place), &key, secret)
            .map_err(crypto)?;
        let sealed = JsFuture::from(promise).await.map_err(crypto)?;
        Ok([nonce.as_slice(), &Uint8Array::new(&sealed).to_vec()].concat())
    }

    pub(super) async fn unseal(
        &self,
        place: &str,
        stored: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, StorageError> {
        let tampered = || StorageError::Tampered(place.to_owned());
        let (nonce, sealed) = stored.split_first_chunk::<NONCE>().ok_or_else(tampered)?;
        let key = self.sealing_key().await?;
        let promise = subtle()?
            .decrypt_with_object_and_u8_array(&parameters(nonce, place), &key, sealed)
            .map_err(crypto)?;
        let secret = JsFuture::from(promise).await.map_err(|_| tampered())?;
        Ok(Zeroizing::new(Uint8Array::new(&secret).to_vec()))
    }

    /// The key that seals secrets. It is not extractable, so it never becomes bytes.
    async fn sealing_key(&self) -> Result<CryptoKey, StorageError> {
        if let Some(key) = &*self.inner.sealing.borrow() {
            return Ok(key.clone());
        }
        let key = self.stored_key().await?;
        self.inner.sealing.replace(Some(key.clone()));
        Ok(key)
    }

    /// The stored key; made the first time.
    async fn stored_key(&self) -> Result<CryptoKey, StorageError> {
        let name = JsValue::from(SEALING_KEY);
        let key = name.clone();
        let stored = self
            .with(TransactionMode::ReadOnly, KEYS, async move |transaction| {
                transaction.object_store(KEYS)?.get(Query::from(key.clone()))?.await
            })
            .await?;
        if let Some(key) = stored {
            return key.dyn_into().map_err(crypto);
        }
        let algorithm = Object::new();
        set(&algorithm, "name", "AES-GCM".into());
        set(&algorithm, "length", 256.into());
        let usages = Array::of2(&"encrypt".into(), &"decrypt".into());
        let promise =
            subtle()?.generate_key_with_object(&algorithm, false, &usages).map_err(crypto)?;
        let fresh = JsFuture::from(promise).await.map_err(crypto)?;
        // Another tab may have stored its key meanwhile: whichever came first is the key.
        let key = self
            .with(TransactionMode::ReadWrite, KEYS, async move |transaction| {
                let store = transaction.object_store(KEYS)?;
                if let Some(first) = store.get(Query::from(name.clone()))?.await? {
                    return Ok(first);
                }
                store.put(&fresh, Some(&name))?.await?;
                Ok(fresh.clone())
            })
            .await?;
        key.dyn_into().map_err(crypto)
    }

    /// Runs `work` in a transaction and waits until that is committed.
    ///
    /// It runs in a task of its own: a transaction commits by itself as soon as nobody asks it for
    /// anything, so a caller that does not poll for a while would miss its end and wait forever.
    async fn with<T: 'static>(
        &self,
        mode: TransactionMode,
        store: &'static str,
        work: impl AsyncFn(&Transaction) -> Result<T, Error> + 'static,
    ) -> Result<T, StorageError> {
        let durable = self.clone();
        let (done, result) = futures::channel::oneshot::channel();
        wasm_bindgen_futures::spawn_local(async move {
            // A caller that went away needs no answer; what it asked for is done all the same.
            let _ = done.send(durable.run(mode, store, work).await);
        });
        result
            .await
            .unwrap_or_else(|_| Err(StorageError::Unavailable("the browser gave it up".into())))
    }

    async fn run<T>(
        &self,
        mode: TransactionMode,
        store: &str,
        work: impl AsyncFn(&Transaction) -> Result<T, Error>,
    ) -> Result<T, StorageError> {
        match self.attempt(mode, store, &work).await {
            Ok(value) => Ok(value),
            Err(error) => {
                tracing::debug!(%error, "reopening the database");
                self.inner.lose();
                self.attempt(mode, store, &work).await.map_err(unavailable)
            }
        }
    }

    async fn attempt<T>(
        &self,
        mode: TransactionMode,
        store: &str,
        work: &impl AsyncFn(&Transaction) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let handle = self.handle().await?;
        let transaction = handle.transaction(&[store], mode)?;
        let value = work(&transaction).await?;
        transaction.await?;
        Ok(value)
    }

    async fn handle(&self) -> Result<Rc<Database>, Error> {
        let current = self.inner.handle.borrow().clone();
        if let Some(handle) = current {
            return Ok(handle);
        }
        let mut database = open(&self.inner.name, SCHEMA).await?;
        // Let another tab migrate to a newer schema instead of blocking it.
        let inner = Rc::downgrade(&self.inner);
        database.on_version_change(move |_| {
            if let Some(inner) = inner.upgrade() {
                inner.lose();
            }
        });
        let handle = Rc::new(database);
        *self.inner.handle.borrow_mut() = Some(handle.clone());
        Ok(handle)
    }
}

/// Opens `name` at `version`, applying each step of the schema that it lacks.
pub(super) async fn open(name: &str, version: u32) -> Result<Database, Error> {
    let mut request = Factory::new()?.open(name, Some(version))?;
    request.on_upgrade_needed(move |event| {
        let (Ok(database), Ok(from)) = (event.database(), event.old_version()) else { return };
        for step in from + 1..=version {
            let store = match step {
                1 => ENTRIES,
                2 => KEYS,
                _ => continue,
            };
            if let Err(error) = database.create_object_store(store, ObjectStoreParams::new()) {
                tracing::warn!(%error, step, "a storage migration failed");
            }
        }
    });
    request.await
}

fn subtle() -> Result<SubtleCrypto, StorageError> {
    let crypto: Crypto = Reflect::get(&js_sys::global(), &"crypto".into())
        .and_then(|value| value.dyn_into())
        .map_err(self::crypto)?;
    Ok(crypto.subtle())
}

fn parameters(nonce: &[u8], place: &str) -> AesGcmParams {
    let parameters = AesGcmParams::new("AES-GCM", &Uint8Array::from(nonce));
    parameters.set_additional_data(&Uint8Array::from(place.as_bytes()));
    parameters
}

fn set(object: &Object, key: &str, value: JsValue) {
    // Setting a property of a fresh plain object cannot fail.
    let _ = Reflect::set(object, &key.into(), &value);
}

fn unavailable(error: Error) -> StorageError {
    StorageError::Unavailable(error.to_string())
}

fn crypto(error: JsValue) -> StorageError {
    StorageError::Unavailable(format!("WebCrypto: {error:?}"))
}
