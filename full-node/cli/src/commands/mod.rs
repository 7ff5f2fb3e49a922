//! One module per subcommand.

pub(crate) mod faucet;
pub(crate) mod float;
pub(crate) mod keys;
pub(crate) mod model;
pub(crate) mod node;
pub(crate) mod query;
pub(crate) mod receipt;
pub(crate) mod status;
pub(crate) mod up;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::local::{
    layout::{self, Network},
    scenario::Scenario,
};

/// How a command finds the network it talks to.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// HTTP address of a node, for example http://127.0.0.1:7070. Default: the local network's.
    #[arg(long, value_name = "URL")]
    pub(crate) rpc: Option<String>,
    /// Group key, genesis digest and chain id, in hexadecimal: what everything is checked against.
    /// Default: the local network's, read from its directory and from nobody else.
    #[arg(long, value_name = "HEX")]
    pub(crate) trust_root: Option<String>,
    /// Directory of a local network [default: $NESA_HOME/local].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

impl Target {
    /// The local network's directory.
    pub(crate) fn dir(&self) -> Result<PathBuf> {
        self.dir.clone().map_or_else(|| layout::default_dir(Scenario::Default), Ok)
    }

    /// The HTTP address: the one given, else the local network's.
    pub(crate) fn rpc(&self) -> Result<String> {
        if let Some(rpc) = &self.rpc {
            return Ok(rpc.trim_end_matches('/').to_owned());
        }
        let network = Network::load(&self.dir()?)?;
        network.rpc().ok_or_else(|| anyhow::anyhow!("the local network has no validator"))
    }

    /// The trust root in hexadecimal: the one given, else the local network's own file.
    pub(crate) fn trust_root_hex(&self) -> Result<String> {
        match &self.trust_root {
            Some(hex) => Ok(hex.trim().to_lowercase()),
            None => Ok(Network::load(&self.dir()?)?.trust_root),
        }
    }
}
