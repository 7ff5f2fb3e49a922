//! `nesa node`: one process of a network. `nesa up` runs these; so may an operator's init system.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{
    logging::{self, LogFormat},
    node::{compute, supervised, validator},
};

/// Run one process of a network: a validator or a compute node
#[derive(Debug, Args)]
pub(crate) struct Node {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Take part in consensus and serve HTTP, libp2p (chain, model chunks, relay) and the faucet
    Validator(ValidatorArgs),
    /// Serve masked products of a model, for pay
    Compute(Common),
}

#[derive(Debug, Args)]
struct ValidatorArgs {
    #[command(flatten)]
    common: Common,
    /// Folder of a built playground to serve at `/`.
    #[arg(long, value_name = "DIR")]
    www: Option<PathBuf>,
}

/// What every process needs.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Directory of the network, made by `nesa up`.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Which process of it: v0, v1, … or c0, c1, ….
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Shape of log lines.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// End when this process does.
    #[arg(long, value_name = "PID", hide = true)]
    supervisor: Option<u32>,
}

impl Common {
    fn begin(&self) -> Result<()> {
        supervised::bind_to(self.supervisor)?;
        logging::start("warn,nesa=info,nesa_node=info,nesa_consensus=info", self.log_format);
        Ok(())
    }
}

impl Node {
    pub(crate) fn run(self) -> Result<()> {
        match self.role {
            Role::Validator(args) => {
                args.common.begin()?;
                validator::run(&args.common.dir, &args.common.name, args.www)
            }
            Role::Compute(common) => {
                common.begin()?;
                compute::run(&common.dir, &common.name)
            }
        }
    }
}
