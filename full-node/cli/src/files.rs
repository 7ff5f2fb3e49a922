//! Files that survive kill -9: written beside, flushed, then renamed over the old one.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Owner may read and write; nobody else anything. Keys and shares use it.
const SECRET: u32 = 0o600;
/// Public data.
const PUBLIC: u32 = 0o644;

/// Replaces `path` with `bytes` atomically, readable by everyone.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, PUBLIC)
}

/// Replaces `path` with `bytes` atomically, readable by its owner only from the first byte on.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, SECRET)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut name = path.file_name().context("a file path needs a name")?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let written = (|| -> std::io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder(path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Creates a folder (and its parents) that only its owner can enter.
pub(crate) fn private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create the folder {}", path.display()))
}

/// `$NESA_HOME`, or `~/.nesa`.
pub(crate) fn home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("NESA_HOME").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(home));
    }
    std::env::home_dir()
        .map(|home| home.join(".nesa"))
        .context("neither NESA_HOME nor HOME is set; set NESA_HOME to a folder of your own")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_private_and_replaced_whole() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("key");
        write_secret(&path, b"first, longer").expect("written");
        write_secret(&path, b"second").expect("written");
        assert_eq!(fs::read(&path).expect("readable"), b"second");
        let mode = fs::metadata(&path).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("listable").count(), 1, "no leftovers");
    }
}
