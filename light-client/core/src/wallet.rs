//! The user's key: born on this device, sealed at rest, exported only under a passphrase.
//!
//! | where | how it is kept |
//! |---|---|
//! | native | a file only the owner may read, sealed under the store's key |
//! | browser | IndexedDB, sealed under a WebCrypto key no script can read out |
//! | with a passphrase | besides, XChaCha20-Poly1305 under Argon2id of the passphrase |
//! | backup file | the passphrase's encryption alone |
//!
//! The key is erased from memory when the last [`Wallet`] is dropped.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use nesa_crypto::sign::SecretKey;
use nesa_platform::{
    random,
    storage::{StorageError, Store},
    task,
};
use nesa_primitives::{Address, Hash};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const NAMESPACE: &str = "wallet";
const KEY: &str = "key";
const ABOUT: &str = "about";
/// First words of a backup file, and what its encryption is bound to.
const FORMAT: &str = "nesa-wallet/1";
/// Memory of Argon2id in KiB (OWASP's first recommendation: 19 MiB, 2 passes, 1 lane).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// The most memory a backup file may ask this device to spend, in KiB.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
/// The most passes a backup file may ask for.
const MAX_PASSES: u32 = 16;
/// A backup file is a few hundred bytes.
const MAX_FILE_BYTES: usize = 4096;

/// Why a wallet could not be opened, made or kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalletError {
    /// Storage failed, or what it held was altered.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no key on this device.
    #[error("there is no key on this device")]
    Absent,
    /// The passphrase is not the one the key was locked with, or the file was altered.
    #[error("the passphrase does not open this key")]
    Passphrase,
    /// A passphrase is needed.
    #[error("this key is behind a passphrase")]
    Locked,
    /// The text is no backup file.
    #[error("not a wallet backup: {0}")]
    Backup(String),
}

/// An open key. Clones share nothing secret beyond the key itself; it does not print.
#[derive(Clone)]
pub struct Wallet {
    key: SecretKey,
}

impl Wallet {
    /// A new key.
    pub fn generate() -> Self {
        Self { key: SecretKey::generate(&mut random::rng()) }
    }

    /// The wallet of a known key.
    pub fn from_key(key: SecretKey) -> Self {
        Self { key }
    }

    /// Its account.
    pub fn address(&self) -> Address {
        self.key.public()
    }

    /// The signing key.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }
}

/// What is stored beside the key, none of it secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The account.
    pub address: Address,
    /// Whether a passphrase guards the key besides the store's own seal.
    pub passphrase: bool,
    /// Whether a backup was exported since the key was made.
    pub backed_up: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Backup {
    format: String,
    address: Address,
    memory_kib: u32,
    passes: u32,
    salt: String,
    nonce: String,
    sealed: String,
}

/// The one wallet of a store.
#[derive(Clone, Debug)]
pub struct WalletStore {
    store: Store,
}

impl WalletStore {
    /// The wallet kept in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// What is known without opening the key; `None` when there is no key.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn about(&self) -> Result<Option<About>, WalletError> {
        let Some(bytes) = self.store.get(NAMESPACE, ABOUT).await? else { return Ok(None) };
        Ok(serde_json::from_slice(&bytes).ok())
    }

    /// Opens the key, with its passphrase if it has one.
    ///
    /// # Errors
    /// [`WalletError::Absent`], [`WalletError::Locked`] without a passphrase where one is needed,
    /// [`WalletError::Passphrase`] for a wrong one.
    pub async fn open(&self, passphrase: Option<&str>) -> Result<Wallet, WalletError> {
        let about = self.about().await?.ok_or(WalletError::Absent)?;
        let secret = self.store.get_secret(NAMESPACE, KEY).await?.ok_or(WalletError::Absent)?;
        let wallet = if about.passphrase {
            let text =
                std::str::from_utf8(&secret).map_err(|_| StorageError::Tampered(KEY.to_owned()))?;
            unlock(text, passphrase.ok_or(WalletError::Locked)?).await?
        } else {
            let seed = Zeroizing::new(
                <[u8; 32]>::try_from(secret.as_slice())
                    .map_err(|_| StorageError::Tampered(KEY.to_owned()))?,
            );
            Wallet { key: SecretKey::from_seed(&seed) }
        };
        if wallet.address() == about.address {
            Ok(wallet)
        } else {
            Err(StorageError::Tampered(ABOUT.to_owned()).into())
        }
    }

    /// Opens the key, or makes one without a passphrase when there is none.
    ///
    /// # Errors
    /// As [`WalletStore::open`].
    pub async fn open_or_create(&self) -> Result<Wallet, WalletError> {
        match self.open(None).await {
            Err(WalletError::Absent) => {
                let wallet = Wallet::generate();
                self.keep(&wallet, None).await?;
                Ok(wallet)
            }
            opened => opened,
        }
    }

    /// Keeps `wallet` as the key of this device, replacing any other.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn keep(&self, wallet: &Wallet, passphrase: Option<&str>) -> Result<(), WalletError> {
        let secret: Zeroizing<Vec<u8>> = match passphrase {
            Some(passphrase) => Zeroizing::new(lock(wallet, passphrase).await?.into_bytes()),
            None => Zeroizing::new(wallet.key.seed().to_vec()),
        };
        self.store.put_secret(NAMESPACE, KEY, &secret).await?;
        self.write_about(&About {
            address: wallet.address(),
            passphrase: passphrase.is_some(),
            backed_up: false,
        })
        .await
    }

    async fn write_about(&self, about: &About) -> Result<(), WalletError> {
        let bytes = serde_json::to_vec(about)
            .map_err(|error| StorageError::Unavailable(error.to_string()))?;
        Ok(self.store.put(NAMESPACE, ABOUT, &bytes).await?)
    }

    /// The text of a backup file, encrypted under `passphrase`.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn export(&self, wallet: &Wallet, passphrase: &str) -> Result<String, WalletError> {
        let text = lock(wallet, passphrase).await?;
        if let Some(mut about) = self.about().await?
            && about.address == wallet.address()
        {
            about.backed_up = true;
            self.write_about(&about).await?;
        }
        Ok(text)
    }

    /// Reads a backup and makes it the key of this device, behind the same passphrase.
    ///
    /// # Errors
    /// [`WalletError::Backup`] or [`WalletError::Passphrase`].
    pub async fn import(&self, file: &str, passphrase: &str) -> Result<Wallet, WalletError> {
        let wallet = unlock(file, passphrase).await?;
        self.keep(&wallet, Some(passphrase)).await?;
        let about = About { address: wallet.address(), passphrase: true, backed_up: true };
        self.write_about(&about).await?;
        Ok(wallet)
    }

    /// Removes the key from this device.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn erase(&self) -> Result<(), WalletError> {
        self.store.delete(NAMESPACE, KEY).await?;
        Ok(self.store.delete(NAMESPACE, ABOUT).await?)
    }
}

/// Argon2id off the event loop: it takes tens of milliseconds.
async fn derive(
    passphrase: &str,
    salt: [u8; 16],
    memory_kib: u32,
    passes: u32,
) -> Result<Zeroizing<[u8; 32]>, WalletError> {
    let passphrase = Zeroizing::new(passphrase.to_owned());
    task::compute(move || {
        let parameters = Params::new(memory_kib, passes, LANES, Some(32))
            .map_err(|error| WalletError::Backup(error.to_string()))?;
        let mut key = Zeroizing::new([0u8; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
            .hash_password_into(passphrase.as_bytes(), &salt, key.as_mut())
            .map_err(|error| WalletError::Backup(error.to_string()))?;
        Ok(key)
    })
    .await
}

/// What the encryption is bound to: everything readable in the file.
fn context(address: &Address, memory_kib: u32, passes: u32) -> Hash {
    let mut hasher = nesa_primitives::domain("wallet backup", &Hash::ZERO);
    hasher.update(FORMAT.as_bytes());
    hasher.update(&address.0);
    hasher.update(&memory_kib.to_le_bytes());
    hasher.update(&passes.to_le_bytes());
    hasher.finalize().into()
}

async fn lock(wallet: &Wallet, passphrase: &str) -> Result<String, WalletError> {
    let (salt, nonce) = (random::bytes::<16>(), random::bytes::<24>());
    let key = derive(passphrase, salt, MEMORY_KIB, PASSES).await?;
    let address = wallet.address();
    let aad = context(&address, MEMORY_KIB, PASSES);
    let seed = wallet.key.seed();
    let sealed = XChaCha20Poly1305::new((&*key).into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: seed.as_slice(), aad: &aad.0 })
        .map_err(|_| WalletError::Passphrase)?;
    let backup = Backup {
        format: FORMAT.to_owned(),
        address,
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        salt: hex(&salt),
        nonce: hex(&nonce),
        sealed: hex(&sealed),
    };
    serde_json::to_string_pretty(&backup).map_err(|error| WalletError::Backup(error.to_string()))
}

async fn unlock(file: &str, passphrase: &str) -> Result<Wallet, WalletError> {
    let refused = |reason: &str| WalletError::Backup(reason.to_owned());
    if file.len() > MAX_FILE_BYTES {
        return Err(refused("too long"));
    }
    let backup: Backup =
        serde_json::from_str(file).map_err(|error| WalletError::Backup(error.to_string()))?;
    if backup.format != FORMAT {
        return Err(refused("another format"));
    }
    if backup.memory_kib > MAX_MEMORY_KIB || backup.passes > MAX_PASSES {
        return Err(refused("it asks for more memory or time than this device gives"));
    }
    let salt = unhex::<16>(&backup.salt).ok_or_else(|| refused("salt"))?;
    let nonce = unhex::<24>(&backup.nonce).ok_or_else(|| refused("nonce"))?;
    let sealed = unhex::<48>(&backup.sealed).ok_or_else(|| refused("sealed key"))?;
    let key = derive(passphrase, salt, backup.memory_kib, backup.passes).await?;
    let aad = context(&backup.address, backup.memory_kib, backup.passes);
    let seed = XChaCha20Poly1305::new((&*key).into())
        .decrypt(XNonce::from_slice(&nonce), Payload { msg: sealed.as_slice(), aad: &aad.0 })
        .map(Zeroizing::new)
        .map_err(|_| WalletError::Passphrase)?;
    let seed =
        Zeroizing::new(<[u8; 32]>::try_from(seed.as_slice()).map_err(|_| WalletError::Passphrase)?);
    let wallet = Wallet { key: SecretKey::from_seed(&seed) };
    if wallet.address() == backup.address { Ok(wallet) } else { Err(WalletError::Passphrase) }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Lower-case hex of exactly `N` bytes.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_survives_its_store() {
        let store = Store::memory();
        let wallets = WalletStore::new(store.clone());
        assert_eq!(wallets.open(None).await.err(), Some(WalletError::Absent));
        let made = wallets.open_or_create().await.unwrap();
        let again = WalletStore::new(store).open_or_create().await.unwrap();
        assert_eq!(made.address(), again.address());
        wallets.erase().await.unwrap();
        assert_eq!(wallets.about().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_passphrase_guards_the_key_and_a_backup_moves_it() {
        let wallets = WalletStore::new(Store::memory());
        let wallet = Wallet::generate();
        wallets.keep(&wallet, Some("correct horse")).await.unwrap();
        assert_eq!(wallets.open(None).await.err(), Some(WalletError::Locked));
        assert_eq!(wallets.open(Some("wrong")).await.err(), Some(WalletError::Passphrase));
        let opened = wallets.open(Some("correct horse")).await.unwrap();
        let file = wallets.export(&opened, "battery").await.unwrap();
        assert!(wallets.about().await.unwrap().unwrap().backed_up);
        let seed = hex(wallet.key.seed().as_slice());
        assert!(!file.contains(&seed));

        let other = WalletStore::new(Store::memory());
        assert_eq!(other.import(&file, "staple").await.err(), Some(WalletError::Passphrase));
        assert_eq!(other.import(&file, "battery").await.unwrap().address(), wallet.address());
        assert!(other.open(Some("battery")).await.is_ok());
    }

    #[tokio::test]
    async fn an_altered_backup_is_refused() {
        let wallets = WalletStore::new(Store::memory());
        let file = wallets.export(&Wallet::generate(), "p").await.unwrap();
        let stranger = Wallet::generate().address().to_string();
        let mut backup: serde_json::Value = serde_json::from_str(&file).unwrap();
        backup["address"] = stranger.into();
        assert!(wallets.import(&backup.to_string(), "p").await.is_err());
        let greedy = file.replace(&MEMORY_KIB.to_string(), "4000000000");
        assert!(matches!(wallets.import(&greedy, "p").await, Err(WalletError::Backup(_))));
        assert!(matches!(wallets.import("{}", "p").await, Err(WalletError::Backup(_))));
    }
}
