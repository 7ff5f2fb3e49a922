//! Resident memory of every process of a local network, at rest and after queries, and of those who ask.

use super::report;
use crate::workspace::{NATIVE_PROFILE, cargo, native_binary, target};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// Kibibytes of each process of a new network, ready and after queries of each lane, and of their clients.
pub(crate) fn memory() -> Result<()> {
    cargo(&["build", "--locked", "--profile", NATIVE_PROFILE, "-p", "nesa"])?;
    let folder = target().join("bench/network");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let network = Network::start(&folder, &[])?;
    let mut states = vec![json!({ "what": "ready", "resident_kib": network.resident()? })];
    let write = ["generate", "--chat", "--prompt", "What is a violin?", "--tokens", "64"];
    let sealed = ["--lane", "sealed", "--shards", "2", "--replicas", "3", "--deadline", "12"];
    let asked: [(&str, Vec<&str>); 3] = [
        ("a text embedded", vec!["embed", "--text", "How much memory does a query take?"]),
        ("a text written in the sealed lane", [&write[..], &sealed].concat()),
        ("a text written in the masked lane", write.to_vec()),
    ];
    for (what, query) in asked {
        let client = peak(&folder, &query).with_context(|| what.to_owned())?;
        let resident = network.resident()?;
        states.push(json!({ "what": what, "client_peak_kib": client, "resident_kib": resident }));
    }
    report("memory", &json!({ "after": states }))
}

/// Most memory that a client held while it asked, in kibibytes (Linux).
fn peak(folder: &Path, query: &[&str]) -> Result<u64> {
    let mut child = Command::new(native_binary("nesa"))
        .arg("query")
        .args(query)
        .args(["--json", "--dir"])
        .arg(folder)
        .env("NESA_HOME", folder.join("home"))
        .stdout(Stdio::null())
        .spawn()
        .context("could not start nesa query")?;
    let status = Path::new("/proc").join(child.id().to_string()).join("status");
    let mut most = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let now = field(&text, "VmHWM:").unwrap_or_default();
        most = most.max(now);
        thread::sleep(Duration::from_millis(10));
    };
    ensure!(ended.success(), "nesa query ended with {ended}");
    Ok(most)
}

/// A number of a process's status.
fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
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
            let name = if pid == parent {
                "nesa up".to_owned()
            } else if field(&status, "PPid:") == Some(parent.into()) {
                let words = line.split(|b| *b == 0).map(String::from_utf8_lossy);
                words
                    .skip_while(|w| w != "--name")
                    .nth(1)
                    .map_or_else(|| format!("child {pid}"), std::borrow::Cow::into_owned)
            } else {
                continue;
            };
            out.insert(name, field(&status, "VmRSS:").into());
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
