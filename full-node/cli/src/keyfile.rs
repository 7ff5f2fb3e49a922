//! Secret keys on disk: one JSON file per key, readable by its owner only.
//!
//! Born here from the operating system's randomness, kept in a 0600 file, erased by deleting the
//! file. The seed is never printed except by `nesa keys export`.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nesa_crypto::sign::SecretKey;
use nesa_primitives::Address;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    failure::{Code, Failure},
    files,
};

/// What the file says it is.
const KIND: &str = "nesa-key/1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    kind: String,
    address: Address,
    seed: String,
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

/// Where the key called `name` lives: `$NESA_HOME/keys/NAME.json`.
///
/// # Errors
/// When `name` could leave that folder.
pub(crate) fn path_of(name: &str) -> Result<PathBuf> {
    let fine = !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !fine {
        return Err(Failure::new(
            Code::Usage,
            format!("{name:?} is not a key name"),
            "use letters, digits, '-' and '_'",
        )
        .into());
    }
    Ok(files::home()?.join("keys").join(format!("{name}.json")))
}

/// Makes a fresh key and writes it to `path`.
pub(crate) fn create(path: &Path) -> Result<SecretKey> {
    let key = SecretKey::generate(&mut nesa_platform::random::rng());
    store(path, &key)?;
    Ok(key)
}

/// Writes `key` to `path`, 0600, atomically.
pub(crate) fn store(path: &Path, key: &SecretKey) -> Result<()> {
    if let Some(parent) = path.parent() {
        files::private_dir(parent)?;
    }
    let seed = key.seed();
    let file =
        KeyFile { kind: KIND.to_owned(), address: key.public(), seed: hex::encode(seed.as_ref()) };
    let text = Zeroizing::new(serde_json::to_string(&file)?);
    files::write_secret(path, text.as_bytes())
}

/// Reads the key at `path`.
///
/// # Errors
/// When the file is readable by others, is not a key, or its address is not its seed's.
pub(crate) fn load(path: &Path) -> Result<SecretKey> {
    let named = || format!("cannot read the key {}", path.display());
    let meta = std::fs::metadata(path).with_context(named)?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Failure::new(
            Code::Usage,
            format!("{} may be read by others (mode {mode:o})", path.display()),
            format!(
                "chmod 600 {}, and consider the key known if others use this machine",
                path.display()
            ),
        )
        .into());
    }
    anyhow::ensure!(meta.len() <= 4096, "{} is too large to be a key", path.display());
    let text = Zeroizing::new(std::fs::read_to_string(path).with_context(named)?);
    // The parser's message could quote the file, so it is not passed on.
    let file: KeyFile = serde_json::from_str(&text)
        .ok()
        .filter(|file: &KeyFile| file.kind == KIND)
        .with_context(|| format!("{} is not a key file of kind {KIND}", path.display()))?;
    let key =
        from_hex(&file.seed).with_context(|| format!("{} holds no valid seed", path.display()))?;
    anyhow::ensure!(
        key.public() == file.address,
        "{}: the address is not the seed's: got {}, expected {}",
        path.display(),
        file.address,
        key.public()
    );
    Ok(key)
}

/// Parses 64 hexadecimal digits as a seed.
pub(crate) fn from_hex(text: &str) -> Option<SecretKey> {
    let mut seed = Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(text.trim(), seed.as_mut()).ok()?;
    Some(SecretKey::from_seed(&seed))
}

/// Loads the key called `name`, making it first if there is none. True when it was made now.
pub(crate) fn load_or_create(name: &str) -> Result<(SecretKey, bool)> {
    let path = path_of(name)?;
    if path.exists() { Ok((load(&path)?, false)) } else { Ok((create(&path)?, true)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file_and_refuses_a_changed_one() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("keys").join("a.json");
        let key = create(&path).expect("made");
        assert_eq!(load(&path).expect("loads").public(), key.public());

        let other = create(&dir.path().join("b.json")).expect("made");
        let text = std::fs::read_to_string(&path).expect("readable");
        let changed = text.replace(&key.public().to_string(), &other.public().to_string());
        files::write_secret(&path, changed.as_bytes()).expect("written");
        let error = format!("{:#}", load(&path).err().expect("refused"));
        assert!(error.contains("expected"), "{error}");
        assert!(!error.contains(&hex::encode(key.seed().as_ref())), "no secret in an error");
    }

    #[test]
    fn a_key_others_can_read_is_refused() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.json");
        create(&path).expect("made");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("changed");
        assert!(load(&path).is_err());
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        assert!(path_of("../../etc/passwd").is_err());
        assert!(path_of("").is_err());
    }
}
