//! `DIR/network.json`: what every process of a local network needs to know, none of it secret.
//!
//! ```text
//! DIR/network.json   chain id, trust root, ports, public keys; written last, so its presence
//!                    means that the rest is complete
//! DIR/genesis.json   the first state
//! DIR/lock           held while the network runs
//! DIR/v0 … v3        validators: keys (0600), data, log
//! DIR/c0 …           compute nodes: keys (0600), data, log
//! ```

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nesa_platform::net;
use nesa_primitives::{Address, Hash};
use serde::{Deserialize, Serialize};

use super::scenario::Scenario;
use crate::{
    failure::{Code, Failure},
    files,
};

/// Version of `network.json`; another one is refused rather than misread.
const VERSION: u32 = 2;
/// Largest `network.json` read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The public description of a local network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    /// Version of this file's shape.
    pub(crate) version: u32,
    /// The chain's name, unique per directory.
    pub(crate) chain_id: String,
    /// Trust root, lower hexadecimal.
    pub(crate) trust_root: String,
    /// Says who made the group key.
    pub(crate) dealer: String,
    /// What the network rehearses.
    pub(crate) scenario: Scenario,
    /// Where HTTP and libp2p listen, and what clients are told; consensus stays on loopback.
    #[serde(default = "loopback")]
    pub(crate) listen: IpAddr,
    /// The models every compute node serves.
    pub(crate) models: Vec<ModelEntry>,
    /// Validators, `v0` first.
    pub(crate) validators: Vec<ValidatorEntry>,
    /// Compute nodes, `c0` first.
    pub(crate) nodes: Vec<NodeEntry>,
}

/// What a network listens on unless asked otherwise.
pub(crate) const fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// A compiled model of a local network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelEntry {
    /// Digest registered at genesis.
    pub(crate) digest: Hash,
    /// Name registered at genesis.
    pub(crate) name: String,
    /// Where the file was; `nesa up --model` overrides it.
    pub(crate) file: PathBuf,
}

/// One validator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValidatorEntry {
    /// Folder name: `v0`, `v1`, ….
    pub(crate) name: String,
    /// Consensus identity.
    pub(crate) address: Address,
    /// libp2p identity.
    pub(crate) peer: Address,
    /// Port of the consensus links.
    pub(crate) consensus_port: u16,
    /// Port of HTTP.
    pub(crate) http_port: u16,
    /// Port of libp2p over WebSocket (TCP) and webrtc-direct (UDP).
    pub(crate) p2p_port: u16,
}

/// One compute node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeEntry {
    /// Folder name: `c0`, `c1`, ….
    pub(crate) name: String,
    /// Who is paid; self-declared, two nodes may share one.
    pub(crate) operator: Address,
    /// libp2p identity and node key.
    pub(crate) node: Address,
    /// Port of libp2p over WebSocket (TCP) and webrtc-direct (UDP).
    pub(crate) p2p_port: u16,
}

impl Network {
    /// Path of the file inside `dir`.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join("network.json")
    }

    /// Reads `DIR/network.json`.
    ///
    /// # Errors
    /// When there is none (exit code 3, advising `nesa up`) or it is of another version.
    pub(crate) fn load(dir: &Path) -> Result<Self> {
        let path = Self::path(dir);
        let size = match std::fs::metadata(&path) {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Failure::new(
                    Code::Unavailable,
                    format!("there is no local network in {}", dir.display()),
                    "start one with `nesa up`, or name a network with --rpc and --trust-root",
                )
                .into());
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        anyhow::ensure!(size <= MAX_BYTES, "{} is too large to be one of ours", path.display());
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let network: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a network description", path.display()))?;
        if network.version != VERSION {
            return Err(Failure::new(
                Code::Usage,
                format!("{} has version {}, expected {VERSION}", path.display(), network.version),
                "use the nesa that made it, or another --dir",
            )
            .into());
        }
        Ok(network)
    }

    /// Writes `DIR/network.json` atomically.
    pub(crate) fn store(&self, dir: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        files::write(&Self::path(dir), text.as_bytes())
    }

    /// Describes a new network; the caller fills nothing in afterwards.
    pub(crate) fn version() -> u32 {
        VERSION
    }

    /// The HTTP address of the validator that serves the playground.
    pub(crate) fn rpc(&self) -> Option<String> {
        let first = self.validators.first()?;
        Some(format!("http://{}", SocketAddr::new(self.listen, first.http_port)))
    }

    /// What a process of this network listens on with libp2p: WebSocket and webrtc-direct.
    pub(crate) fn p2p_listen(&self, port: u16) -> Vec<String> {
        let ip = ip_part(self.listen);
        vec![format!("{ip}/tcp/{port}/ws"), format!("{ip}/udp/{port}/webrtc-direct")]
    }

    /// Multiaddress of a WebSocket port of this network, without the key behind it.
    pub(crate) fn websocket_part(&self, port: u16) -> String {
        format!("{}/tcp/{port}/ws", ip_part(self.listen))
    }

    /// Multiaddress of a libp2p port of this network.
    ///
    /// # Errors
    /// When the key is not on the curve.
    pub(crate) fn websocket_address(&self, port: u16, node: &Address) -> Result<String> {
        websocket_address(self.listen, port, node)
    }

    /// The validator called `name`.
    pub(crate) fn validator(&self, name: &str) -> Option<(usize, &ValidatorEntry)> {
        self.validators.iter().enumerate().find(|(_, entry)| entry.name == name)
    }

    /// The compute node called `name`.
    pub(crate) fn node(&self, name: &str) -> Option<(usize, &NodeEntry)> {
        self.nodes.iter().enumerate().find(|(_, entry)| entry.name == name)
    }
}

/// Multiaddress of a libp2p port at `ip`.
///
/// # Errors
/// When the key is not on the curve.
pub(crate) fn websocket_address(ip: IpAddr, port: u16, node: &Address) -> Result<String> {
    let peer = net::peer_id(node).context("a node key is not on the curve")?;
    Ok(format!("{}/tcp/{port}/ws/p2p/{peer}", ip_part(ip)))
}

/// The part of a multiaddress that names a host.
fn ip_part(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("/ip4/{ip}"),
        IpAddr::V6(ip) => format!("/ip6/{ip}"),
    }
}

/// Where a local network lives when `--dir` is not given: `$NESA_HOME/local`, with the scenario's
/// name appended for any but the default one.
pub(crate) fn default_dir(scenario: Scenario) -> Result<PathBuf> {
    let name = match scenario {
        Scenario::Default => "local".to_owned(),
        other => format!("local-{}", other.name()),
    };
    Ok(files::home()?.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_the_host_that_was_asked_for() {
        let node = nesa_crypto::SecretKey::from_seed(&[7; 32]).public();
        let four = websocket_address("192.0.2.7".parse().unwrap(), 4001, &node).unwrap();
        assert!(four.starts_with("/ip4/192.0.2.7/tcp/4001/ws/p2p/"), "{four}");
        let six = websocket_address("2001:db8::7".parse().unwrap(), 4001, &node).unwrap();
        assert!(six.starts_with("/ip6/2001:db8::7/tcp/4001/ws/p2p/"), "{six}");
    }
}
