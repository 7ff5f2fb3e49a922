//! The native store: `DIR/format`, `DIR/key`, and `DIR/<namespace>/<key in hex>`.

use super::StorageError;
use bytes::Bytes;
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use zeroize::Zeroizing;

/// The layout described above. Version 1 had no `key` file; it is added when version 1 is opened.
const FORMAT: u32 = 2;
/// Bytes of the nonce in front of a sealed value.
const NONCE: usize = 24;

#[derive(Clone)]
pub(super) struct Durable {
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    key: Zeroizing<[u8; 32]>,
    /// Makes the names of temporary files distinct within this process.
    writes: AtomicU64,
}

impl Durable {
    pub(super) async fn open(place: &str) -> Result<Durable, StorageError> {
        let directory = PathBuf::from(place);
        run(move || {
            create_private_dir(&directory)?;
            let found = match fs::read_to_string(directory.join("format")) {
                Ok(text) => text.trim().parse().map_err(|_| {
                    StorageError::Unavailable(format!("{text:?} is no storage format"))
                })?,
                Err(error) if error.kind() == ErrorKind::NotFound => 0,
                Err(error) => return Err(unavailable(error)),
            };
            if found > FORMAT {
                return Err(StorageError::Newer { found, known: FORMAT });
            }
            let key = device_key(&directory)?;
            if found != FORMAT {
                let text = format!("{FORMAT}\n");
                replace(&directory, &directory.join("format"), text.as_bytes(), "open")?;
            }
            let inner = Inner { directory, key, writes: AtomicU64::new(0) };
            Ok(Durable { inner: Arc::new(inner) })
        })
        .await
    }

    pub(super) async fn get(&self, space: &str, key: &str) -> Result<Option<Bytes>, StorageError> {
        let path = self.path(space, key);
        run(move || read(&path)).await
    }

    pub(super) async fn get_many(
        &self,
        space: &str,
        keys: &[String],
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        let paths: Vec<PathBuf> = keys.iter().map(|key| self.path(space, key)).collect();
        run(move || paths.iter().map(|path| read(path)).collect()).await
    }

    pub(super) async fn put(
        &self,
        space: &str,
        key: &str,
        value: &[u8],
    ) -> Result<(), StorageError> {
        let folder = self.inner.directory.join(space);
        let (path, value) = (self.path(space, key), value.to_vec());
        let mark = self.inner.writes.fetch_add(1, Ordering::Relaxed).to_string();
        run(move || {
            create_private_dir(&folder)?;
            replace(&folder, &path, &value, &mark)
        })
        .await
    }

    pub(super) async fn delete(&self, space: &str, key: &str) -> Result<(), StorageError> {
        let path = self.path(space, key);
        run(move || match fs::remove_file(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(unavailable(error)),
        })
        .await
    }

    pub(super) async fn list(&self, space: &str) -> Result<Vec<String>, StorageError> {
        let folder = self.inner.directory.join(space);
        run(move || {
            let entries = match fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(unavailable(error)),
            };
            let mut keys = Vec::new();
            for entry in entries {
                let name = entry.map_err(unavailable)?.file_name();
                // A temporary file left by a killed process is not hex and is passed over.
                if let Some(key) = name
                    .to_str()
                    .and_then(|name| hex::decode(name).ok())
                    .and_then(|raw| String::from_utf8(raw).ok())
                {
                    keys.push(key);
                }
            }
            keys.sort();
            Ok(keys)
        })
        .await
    }

    pub(super) async fn seal(&self, place: &str, secret: &[u8]) -> Result<Vec<u8>, StorageError> {
        let nonce = crate::random::bytes::<NONCE>();
        let payload = Payload { msg: secret, aad: place.as_bytes() };
        let sealed = XChaCha20Poly1305::new(self.inner.key.as_ref().into())
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| StorageError::Unavailable("sealing failed".into()))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    pub(super) async fn unseal(
        &self,
        place: &str,
        stored: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, StorageError> {
        let tampered = || StorageError::Tampered(place.to_owned());
        let (nonce, sealed) = stored.split_at_checked(NONCE).ok_or_else(tampered)?;
        let payload = Payload { msg: sealed, aad: place.as_bytes() };
        XChaCha20Poly1305::new(self.inner.key.as_ref().into())
            .decrypt(XNonce::from_slice(nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| tampered())
    }

    fn path(&self, space: &str, key: &str) -> PathBuf {
        self.inner.directory.join(space).join(hex::encode(key))
    }
}

/// Runs file operations off the reactor's threads.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    crate::task::compute(work).await
}

fn unavailable(error: std::io::Error) -> StorageError {
    StorageError::Unavailable(error.to_string())
}

/// A file's bytes; `None` when there is no such file.
fn read(path: &Path) -> Result<Option<Bytes>, StorageError> {
    match fs::read(path) {
        Ok(value) => Ok(Some(value.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unavailable(error)),
    }
}

fn create_private_dir(path: &Path) -> Result<(), StorageError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path).map_err(unavailable)
}

/// Writes a private file and renames it into place; both reach the disk before this returns.
fn replace(folder: &Path, path: &Path, value: &[u8], mark: &str) -> Result<(), StorageError> {
    let temporary = folder.join(format!(".{}-{mark}.tmp", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(&temporary).map_err(unavailable)?;
    file.write_all(value).map_err(unavailable)?;
    file.sync_all().map_err(unavailable)?;
    fs::rename(&temporary, path).map_err(unavailable)?;
    // Directories cannot be opened for syncing everywhere; where they can, the rename is synced.
    if let Ok(folder) = fs::File::open(folder) {
        folder.sync_all().map_err(unavailable)?;
    }
    Ok(())
}

/// The key under which this directory's secrets are sealed; made the first time.
fn device_key(directory: &Path) -> Result<Zeroizing<[u8; 32]>, StorageError> {
    let path = directory.join("key");
    match fs::read(&path).map(Zeroizing::new) {
        Ok(raw) => <[u8; 32]>::try_from(raw.as_slice())
            .map(Zeroizing::new)
            .map_err(|_| StorageError::Tampered("key".into())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = Zeroizing::new(crate::random::bytes::<32>());
            replace(directory, &path, key.as_slice(), "key")?;
            Ok(key)
        }
        Err(error) => Err(unavailable(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{StorageError, Store};

    fn open(path: &std::path::Path) -> impl Future<Output = Result<Store, StorageError>> {
        let place = path.to_str().unwrap().to_owned();
        async move { Store::open(&place).await }
    }

    #[tokio::test]
    async fn a_first_layout_is_migrated_and_a_newer_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("wallet")).unwrap();
        std::fs::write(dir.path().join("format"), "1\n").unwrap();
        std::fs::write(dir.path().join("wallet").join(hex::encode("name")), b"kept").unwrap();
        let store = open(dir.path()).await.unwrap();
        assert_eq!(store.get("wallet", "name").await.unwrap().as_deref(), Some(&b"kept"[..]));
        store.put_secret("wallet", "seed", b"secret").await.unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("format")).unwrap(), "2\n");

        std::fs::write(dir.path().join("format"), "3\n").unwrap();
        assert_eq!(open(dir.path()).await.unwrap_err(), StorageError::Newer { found: 3, known: 2 });
    }

    #[tokio::test]
    async fn a_killed_write_leaves_the_old_value() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await.unwrap();
        store.put("chain", "head", b"old").await.unwrap();
        // What a process killed between writing and renaming leaves behind.
        std::fs::write(dir.path().join("chain/.9-9.tmp"), b"half").unwrap();
        assert_eq!(store.list("chain").await.unwrap(), ["head"]);
        assert_eq!(store.get("chain", "head").await.unwrap().as_deref(), Some(&b"old"[..]));
    }

    #[tokio::test]
    async fn a_secret_is_not_readable_on_disk_and_not_movable() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await.unwrap();
        store.put_secret("wallet", "seed", b"correct horse").await.unwrap();
        let path = dir.path().join("wallet").join(hex::encode("seed"));
        let raw = std::fs::read(&path).unwrap();
        assert!(!raw.windows(7).any(|w| w == b"correct"));
        std::fs::copy(&path, dir.path().join("wallet").join(hex::encode("other"))).unwrap();
        assert_eq!(
            store.get_secret("wallet", "other").await.unwrap_err(),
            StorageError::Tampered("wallet/other".into())
        );
        let mut changed = raw;
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(&path, changed).unwrap();
        assert!(store.get_secret("wallet", "seed").await.is_err());
    }
}
