//! `nesa faucet`: money of a local network.

use anyhow::Result;
use clap::Args;
use nesa_light::accounts::Accounts;
use nesa_primitives::{Address, Denom};
use serde_json::json;

use super::Target;
use crate::{
    client::Client,
    keyfile,
    output::{self, outln},
};

/// Ask a local network's faucet for NES
///
/// Faucets exist on local and test networks only, and give each address a few times an hour.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa faucet                      funds the key called `default`
  nesa faucet --address 3f2a… --json")]
pub(crate) struct Faucet {
    #[command(flatten)]
    target: Target,
    /// Who receives it [default: the key called `default`].
    #[arg(long, value_name = "HEX")]
    address: Option<Address>,
    /// Denomination: 0 is NES, others are stablecoins.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    denom: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Faucet {
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    pub(crate) fn run(self) -> Result<()> {
        let address = match self.address {
            Some(address) => address,
            None => keyfile::load_or_create("default")?.0.public(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = Client::connect(&self.target).await?;
            let bar = output::progress(None, "asking the faucet");
            let accounts = Accounts::new(client.light.clone());
            let (id, funded) = accounts.fund(address, Denom(self.denom)).await?;
            let balance = funded.account.balance(Denom(self.denom));
            bar.finish_and_clear();
            if self.json {
                outln!("{}", json!({ "address": address, "transaction": id, "balance": balance }));
            } else {
                outln!("{address} now holds {balance} (proven here)");
            }
            client.stop().await;
            Ok(())
        })
    }
}
