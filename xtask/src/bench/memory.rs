//! Resident memory of every process of a local network, at rest and after a query.

use super::report;
use crate::workspace::{NATIVE_PROFILE, cargo, native_binary, target};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// Kibibytes of each process of a new network: ready, and after one query.
pub(crate) fn memory() -> Result<()> {
    cargo(&["build", "--locked", "--profile", NATIVE_PROFILE, "-p", "nesa"])?;
    let folder = target().join("bench/network");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let network = Network::start(&folder, &[])?;
    let ready = network.resident()?;
    let query = Command::new(native_binary("nesa"))
        .args(["query", "embed", "--json", "--text", "How much memory does a query take?", "--dir"])
        .arg(&folder)
        .env("NESA_HOME", folder.join("home"))
        .output()
        .context("could not start nesa query")?;
    ensure!(query.status.success(), "nesa query: {}", String::from_utf8_lossy(&query.stderr));
    let answer: Value = serde_json::from_slice(&query.stdout).context("nesa query: no JSON")?;
    let after = network.resident()?;
    let value = json!({
        "ready_kib": ready,
        "after_a_query_kib": after,
        "query": { "timings": answer["timings"], "bytes": answer["bytes"] },
    });
    report("memory", &value)
}

/// A local network, stopped when dropped.
pub(super) struct Network(Child);

impl Network {
    /// A new network in `folder`, with more arguments for `nesa up`; returns once it is ready.
    pub(super) fn start(folder: &Path, more: &[&str]) -> Result<Self> {
        let mut child = Command::new(native_binary("nesa"))
            .args(["up", "--port", "0", "--dir"])
            .arg(folder)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("could not start nesa up")?;
        let out = child.stdout.take().context("nesa up has no output")?;
        let network = Self(child);
        for line in BufReader::new(out).lines() {
            if line?.starts_with("READY ") {
                return Ok(network);
            }
        }
        bail!("nesa up ended before it was ready")
    }

    /// Resident kibibytes of the supervisor and of each child, by name (Linux).
    fn resident(&self) -> Result<Map<String, Value>> {
        let mut out = Map::new();
        let parent = self.0.id();
        for entry in fs::read_dir("/proc").context("memory is read from /proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let place = Path::new("/proc").join(pid.to_string());
            // A process may end while it is looked at.
            let (Ok(status), Ok(line)) =
                (fs::read_to_string(place.join("status")), fs::read(place.join("cmdline")))
            else {
                continue;
            };
            let field = |name: &str| {
                let value = status.lines().find_map(|l| l.strip_prefix(name))?;
                value.split_whitespace().next()?.parse::<u32>().ok()
            };
            let name = if pid == parent {
                "nesa up".to_owned()
            } else if field("PPid:") == Some(parent) {
                let words = line.split(|b| *b == 0).map(String::from_utf8_lossy);
                words
                    .skip_while(|w| w != "--name")
                    .nth(1)
                    .map_or_else(|| format!("child {pid}"), std::borrow::Cow::into_owned)
            } else {
                continue;
            };
            out.insert(name, field("VmRSS:").into());
        }
        Ok(out)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}
