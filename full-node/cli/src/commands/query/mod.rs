//! `nesa query`: private, verified computations, with the light client that browsers run too.

mod classify;
mod documents;
mod embed;
mod float;
mod generate;
mod sealed;
mod search;
mod session;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use nesa_chain::action::{Named, Side};
use nesa_primitives::{Address, Amount, Hash};

use super::Target;

/// Ask a network: embed text, search documents, continue a prompt, or classify texts and pictures,
/// privately and verified
///
/// What is asked never leaves this machine: each linear layer's input is split into two shares, of which
/// each of two nodes of different operators sees one; every product they return is checked here.
/// What it costs is escrowed on the chain, and paid by signed running totals as soon as the nodes
/// claim them; the rest returns at the deadline. Without a key, one
/// is made under $NESA_HOME and funded by the local network's faucet.
#[derive(Debug, Args)]
pub(crate) struct Query {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Embed(embed::Embed),
    Search(search::Search),
    Generate(generate::Generate),
    Classify(classify::Classify),
    Float(float::Float),
}

/// Options that every query has.
#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    target: Target,
    /// Digest of the model [default: the only fitting one the network offers].
    #[arg(long, value_name = "HEX")]
    model: Option<Hash>,
    /// Name of the key that pays.
    #[arg(long, value_name = "NAME", default_value = "default")]
    key: String,
    /// Refuse to escrow more than this, in unes (1 NES = 1000000 unes).
    #[arg(long, value_name = "UNES")]
    max_fee: Option<Amount>,
    /// Seconds from payment to settlement [default: what fits the work].
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u64>,
    /// Choose the node of side A, by its key (see `nesa status`); side B is drawn.
    #[arg(long, value_name = "HEX", conflicts_with = "node_b")]
    node_a: Option<Address>,
    /// Choose the node of side B, by its key; side A is drawn.
    #[arg(long, value_name = "HEX")]
    node_b: Option<Address>,
    /// Who makes the secret vectors that check each layer: this machine, which downloads the model
    /// once, or two more nodes, which see uniform shares of them. What `thin` then assumes is in
    /// docs/masked-lane.md.
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    preparation: PreparationChoice,
    /// Where the payment receipt goes [default: $NESA_HOME/receipts/QUERY.json].
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Also write an opened receipt, from which anyone can check every layer again. It contains
    /// your text or pictures.
    #[arg(long, value_name = "FILE")]
    open_receipt: Option<PathBuf>,
    /// Wait until the deadline, when what was not spent has returned and what was disputed is
    /// burned, instead of only until both nodes are paid.
    #[arg(long)]
    until_settled: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Who makes s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum PreparationChoice {
    /// This machine, from hash-checked weights.
    #[default]
    Local,
    /// Two nodes of other operators than those that serve; the weights are not downloaded.
    Thin,
}

impl Common {
    fn named(&self) -> Option<Named> {
        let on = |side| move |node| Named { side, node };
        self.node_a.map(on(Side::A)).or(self.node_b.map(on(Side::B)))
    }

    fn deadline(&self) -> Option<Duration> {
        self.deadline.map(Duration::from_secs)
    }
}

impl Query {
    pub(crate) fn json(&self) -> bool {
        match &self.action {
            Action::Embed(embed) => embed.common.json,
            Action::Search(search) => search.common.json,
            Action::Generate(generate) => generate.common.json,
            Action::Classify(classify) => classify.common.json,
            Action::Float(float) => float.common.json,
        }
    }

    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(4)
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(async {
            match self.action {
                Action::Embed(embed) => embed.run().await,
                Action::Search(search) => search.run().await,
                Action::Generate(generate) => generate.run().await,
                Action::Classify(classify) => classify.run().await,
                Action::Float(float) => float.run().await,
            }
        });
        runtime.shutdown_timeout(Duration::from_millis(500));
        outcome
    }
}
