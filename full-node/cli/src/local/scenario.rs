//! Local networks in which something goes wrong on purpose, for tests and demonstrations.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::node::services::forger::Forgery;

/// What a local network rehearses. Chosen when its directory is made, because most scenarios need
/// genesis weights that make the drawing of the interesting node certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// Every node is honest.
    #[default]
    Default,
    /// Node c0 flips one bit in one response of each query, in a shard it turns the signs of one product;
    /// its bond makes it drawn first.
    Liar,
    /// Node c0 lies in a shard like the liar, and says nothing when it is disputed; its bond makes it
    /// drawn first.
    Hush,
    /// Node c0 accepts queries and never answers; its bond makes it drawn first.
    Silent,
    /// Node c0 dies in the middle of its first query; its bond makes it drawn first.
    Crash,
    /// Node c0 adds one to a coordinate of every thin preparation that it has part in; its bond makes
    /// it drawn first.
    Preparer,
    /// Node c0 runs float models with weights rounded to 8 bits and says that it runs the real ones; its
    /// bond makes it drawn first.
    Quantised,
    /// Three of the four validators lie to light clients: v0 forges headers, v1 gives certificates
    /// of another group, v2 swaps seeds. They are honest in consensus, and v3 in everything.
    Forger,
    /// Genesis nodes have so little bond that a volunteer with a faucet bond is drawn.
    Volunteers,
}

impl Scenario {
    /// The name used on the command line and in `network.json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Liar => "liar",
            Self::Hush => "hush",
            Self::Silent => "silent",
            Self::Crash => "crash",
            Self::Preparer => "preparer",
            Self::Quantised => "quantised",
            Self::Forger => "forger",
            Self::Volunteers => "volunteers",
        }
    }

    /// True when node c0 misbehaves, and so must be drawn for sure.
    pub(crate) fn favours_first_node(self) -> bool {
        matches!(
            self,
            Self::Liar | Self::Hush | Self::Silent | Self::Crash | Self::Preparer | Self::Quantised
        )
    }

    /// How validator number `index` lies to light clients, if it does.
    pub(crate) fn forgery(self, index: usize) -> Option<Forgery> {
        let lies = [Forgery::Header, Forgery::Certificate, Forgery::Seed];
        lies.get(index).copied().filter(|_| self == Self::Forger)
    }
}
