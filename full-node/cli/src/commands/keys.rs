//! `nesa keys`: the keys under `$NESA_HOME/keys`.

use std::io::Read;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    failure::{Code, Failure},
    files, keyfile,
    output::outln,
};

/// Make, list and move the keys that sign transactions
///
/// A key is a file under $NESA_HOME/keys that only you can read. `nesa query` uses the key called
/// `default` and makes it when it is missing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa keys new
  nesa keys list --json
  nesa keys export default > backup.txt
  nesa keys import restored < backup.txt")]
pub(crate) struct Keys {
    #[command(subcommand)]
    action: Action,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a new key
    New {
        /// Its name.
        #[arg(default_value = "default")]
        name: String,
    },
    /// List keys and their addresses
    List,
    /// Print the address of a key
    Show {
        /// Its name.
        #[arg(default_value = "default")]
        name: String,
    },
    /// Print the secret seed of a key; whoever has it can spend what the key owns
    Export {
        /// Its name.
        name: String,
    },
    /// Read a secret seed (64 hexadecimal digits) from standard input and keep it as a key
    Import {
        /// Its name.
        name: String,
    },
}

impl Keys {
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    pub(crate) fn run(self) -> Result<()> {
        match &self.action {
            Action::New { name } => {
                let path = unused(name)?;
                let key = keyfile::create(&path)?;
                self.show(name, &key.public().to_string());
            }
            Action::Show { name } => {
                let key = existing(name)?;
                self.show(name, &key.public().to_string());
            }
            Action::List => self.list()?,
            Action::Export { name } => {
                let key = existing(name)?;
                let seed = Zeroizing::new(hex::encode(key.seed().as_ref()));
                if self.json {
                    outln!("{}", json!({ "name": name, "seed": seed.as_str() }));
                } else {
                    outln!("{}", seed.as_str());
                }
            }
            Action::Import { name } => {
                let path = unused(name)?;
                let mut text = Zeroizing::new(String::new());
                std::io::stdin()
                    .take(256)
                    .read_to_string(&mut text)
                    .context("cannot read standard input")?;
                let key = keyfile::from_hex(&text).ok_or_else(|| {
                    Failure::new(
                        Code::Usage,
                        "standard input holds no seed",
                        "give 64 hexadecimal digits, as `nesa keys export` prints them",
                    )
                })?;
                keyfile::store(&path, &key)?;
                self.show(name, &key.public().to_string());
            }
        }
        Ok(())
    }

    fn show(&self, name: &str, address: &str) {
        if self.json {
            outln!("{}", json!({ "name": name, "address": address }));
        } else {
            outln!("{address}");
        }
    }

    fn list(&self) -> Result<()> {
        let folder = files::home()?.join("keys");
        let mut keys = Vec::new();
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).context("cannot list keys"),
        };
        for entry in entries.into_iter().flatten() {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json")
                && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            {
                let key = keyfile::load(&path)?;
                keys.push((name.to_owned(), key.public()));
            }
        }
        keys.sort();
        if self.json {
            let list: Vec<_> = keys
                .iter()
                .map(|(name, address)| json!({ "name": name, "address": address }))
                .collect();
            outln!("{}", json!({ "keys": list }));
        } else if keys.is_empty() {
            eprintln!("no keys yet; `nesa keys new` makes one");
        } else {
            for (name, address) in keys {
                outln!("{name:16} {address}");
            }
        }
        Ok(())
    }
}

fn unused(name: &str) -> Result<std::path::PathBuf> {
    let path = keyfile::path_of(name)?;
    if path.exists() {
        return Err(Failure::new(
            Code::Usage,
            format!("there is a key called {name} already"),
            "choose another name; a key is never overwritten",
        )
        .into());
    }
    Ok(path)
}

fn existing(name: &str) -> Result<nesa_crypto::sign::SecretKey> {
    let path = keyfile::path_of(name)?;
    if !path.exists() {
        return Err(Failure::new(
            Code::Usage,
            format!("there is no key called {name}"),
            format!("make one with `nesa keys new {name}`"),
        )
        .into());
    }
    keyfile::load(&path)
}
