//! The first state, and the trust root that follows from it.

use crate::{
    action::{ALL_LANES, NodeAddress},
    keys::{self, Key},
    limits::{
        MAX_DENOMS, MAX_GENESIS_ACCOUNTS, MAX_MODELS, MAX_NODE_ADDRESSES, MAX_NODE_MODELS,
        MAX_NODES, MAX_VALIDATORS, MAX_VALUE_BYTES, up_to,
    },
    params::{Params, ParamsError},
    record::{
        Account, Coin, DenomSupply, ModelRecord, NodeEntry, NodeRecord, NodeSet, Progress,
        Snapshot, Supply,
    },
    trust::{GROUP_KEY_BYTES, TrustRoot},
};
use bytes::Bytes;
use commonware_codec::Encode;
use nesa_primitives::{Address, Amount, ChainId, Denom, Hash, Text, codec_struct, hex_array};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Coins given to an address at the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenesisAccount {
    /// To whom.
    pub address: Address,
    /// What.
    pub balances: Vec<Coin>,
}

codec_struct!(GenesisAccount { address, balances: up_to(MAX_DENOMS) });

/// A node bonded from the start. The genesis vouches for it, so there is no proof by its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenesisNode {
    /// Who runs it.
    pub operator: Address,
    /// Its network key.
    pub node: Address,
    /// Its bond, in unes, issued in addition to the accounts.
    pub bond: Amount,
    /// Whether the bond counts as faucet coins.
    pub faucet_bond: bool,
    /// Digests of the models it serves; all must be in the genesis.
    pub models: Vec<Hash>,
    /// Where it can be reached; an operator can update it later.
    pub addresses: Vec<NodeAddress>,
}

codec_struct!(GenesisNode {
    operator,
    node,
    bond,
    faucet_bond,
    models: up_to(MAX_NODE_MODELS),
    addresses: up_to(MAX_NODE_ADDRESSES),
});

/// A stablecoin of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stablecoin {
    /// Its number; not 0.
    pub denom: Denom,
    /// Name for people.
    pub name: Text<16>,
}

codec_struct!(Stablecoin { denom, name });

/// All that a chain starts with. JSON for people; its digest is over the canonical encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// The chain's name.
    pub chain_id: ChainId,
    /// Key under which quorums certify blocks.
    #[serde(with = "hex_array")]
    pub group_key: [u8; GROUP_KEY_BYTES],
    /// The validators' ed25519 keys.
    pub validators: Vec<Address>,
    /// The chain's parameters.
    pub params: Params,
    /// First balances.
    pub accounts: Vec<GenesisAccount>,
    /// Models registered from the start.
    pub models: Vec<ModelRecord>,
    /// Nodes bonded from the start.
    pub nodes: Vec<GenesisNode>,
    /// Denominations beside NES.
    pub stablecoins: Vec<Stablecoin>,
    /// Earliest time of the first block, ms since the Unix epoch.
    pub timestamp_ms: u64,
}

codec_struct!(Genesis {
    chain_id,
    group_key,
    validators: up_to(MAX_VALIDATORS),
    params,
    accounts: up_to(MAX_GENESIS_ACCOUNTS),
    models: up_to(MAX_MODELS),
    nodes: up_to(MAX_NODES),
    stablecoins: up_to(MAX_DENOMS - 1),
    timestamp_ms,
});

/// Why a genesis makes no chain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GenesisError {
    /// A parameter breaks a promise.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// A list is longer than the format allows.
    #[error("{got} {what}, at most {max} allowed")]
    TooMany {
        /// Which list.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The most allowed.
        max: usize,
    },
    /// Something stands twice.
    #[error("{what} {which} stands twice")]
    Twice {
        /// What kind of thing.
        what: &'static str,
        /// Which one.
        which: String,
    },
    /// Something is named that is not there.
    #[error("{what} {which} is not in the genesis")]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// Which one.
        which: String,
    },
    /// A number is out of range.
    #[error("{what} of {which} is {got}, expected {expected}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// Of what.
        which: String,
        /// Its value.
        got: u64,
        /// What it must be.
        expected: &'static str,
    },
    /// The amounts of a denomination do not fit in 64 bits together.
    #[error("the supply of denomination {denom} overflows")]
    Overflow {
        /// Which.
        denom: Denom,
    },
}

fn unique<T: Ord + ToString>(
    what: &'static str,
    items: impl Iterator<Item = T>,
) -> Result<BTreeSet<T>, GenesisError> {
    let mut seen = BTreeSet::new();
    for item in items {
        let which = item.to_string();
        if !seen.insert(item) {
            return Err(GenesisError::Twice { what, which });
        }
    }
    Ok(seen)
}

fn at_most(what: &'static str, got: usize, max: usize) -> Result<(), GenesisError> {
    if got > max { Err(GenesisError::TooMany { what, got, max }) } else { Ok(()) }
}

impl Genesis {
    /// The digest that the trust root carries. It covers the group key but no namespace, since
    /// the namespace is derived from the trust root.
    pub fn digest(&self) -> Hash {
        Hash::of("genesis", &Hash::ZERO, self)
    }

    /// What clients are told.
    pub fn trust_root(&self) -> TrustRoot {
        TrustRoot {
            group_key: self.group_key,
            genesis: self.digest(),
            chain_id: self.chain_id.clone(),
        }
    }

    /// Checks everything and lays out the first state.
    ///
    /// # Errors
    /// The first [`GenesisError`].
    pub fn initial_state(&self) -> Result<BTreeMap<Key, Bytes>, GenesisError> {
        self.check_lists()?;
        let mut supply = self.first_supply();
        let mut issue = |denom: Denom, amount: Amount| -> Result<(), GenesisError> {
            let entry = supply.get_mut(denom).ok_or_else(|| GenesisError::Unknown {
                what: "denomination",
                which: denom.to_string(),
            })?;
            entry.issued =
                entry.issued.checked_add(amount).ok_or(GenesisError::Overflow { denom })?;
            Ok(())
        };
        let mut state = BTreeMap::new();
        for account in &self.accounts {
            let mut record = Account::default();
            for coin in &account.balances {
                issue(coin.denom, coin.amount)?;
                let sum = record
                    .balance(coin.denom)
                    .checked_add(coin.amount)
                    .ok_or(GenesisError::Overflow { denom: coin.denom })?;
                record.set_balance(coin.denom, sum);
            }
            if self.params.faucet == Some(account.address) {
                record.faucet = record.balance(Denom::NES);
            }
            state.insert(keys::account(&account.address), record.encode());
        }
        let mut set = NodeSet::default();
        for model in &self.models {
            if supply_lacks(&self.stablecoins, model.denom) {
                let which = model.denom.to_string();
                return Err(GenesisError::Unknown { what: "denomination", which });
            }
            set.models.push(model.digest);
            state.insert(keys::model(&model.digest), model.encode());
        }
        for node in &self.nodes {
            issue(Denom::NES, node.bond)?;
            set.entries.push(self.entry(node, &set)?);
            let faucet = if node.faucet_bond { node.bond } else { Amount::ZERO };
            let record = NodeRecord {
                operator: node.operator,
                node: node.node,
                bond: node.bond,
                faucet,
                models: node.models.clone(),
                addresses: node.addresses.clone(),
                score: 0,
                renewed_epoch: 0,
                release_ms: None,
            };
            state.insert(keys::node(&node.node), record.encode());
        }
        set.entries.sort_by_key(|entry| entry.node);
        let snapshot =
            Snapshot { epoch: 0, height: 0, timestamp_ms: self.timestamp_ms, set: set.clone() };
        let progress =
            Progress { next_bucket: self.timestamp_ms / self.params.bucket_ms, oldest_snapshot: 0 };
        state.insert(keys::nodes(), set.encode());
        state.insert(keys::snapshot(0), snapshot.encode());
        state.insert(keys::params(), self.params.encode());
        state.insert(keys::supply(), supply.encode());
        state.insert(keys::progress(), progress.encode());
        for value in state.values() {
            at_most("bytes in a record", value.len(), MAX_VALUE_BYTES)?;
        }
        Ok(state)
    }

    fn check_lists(&self) -> Result<(), GenesisError> {
        self.params.check()?;
        at_most("validators", self.validators.len(), MAX_VALIDATORS)?;
        at_most("accounts", self.accounts.len(), MAX_GENESIS_ACCOUNTS)?;
        at_most("models", self.models.len(), MAX_MODELS)?;
        at_most("nodes", self.nodes.len(), MAX_NODES)?;
        at_most("stablecoins", self.stablecoins.len(), MAX_DENOMS - 1)?;
        unique("validator", self.validators.iter().copied())?;
        unique("account", self.accounts.iter().map(|a| a.address))?;
        unique("model", self.models.iter().map(|m| m.digest))?;
        unique("node", self.nodes.iter().map(|n| n.node))?;
        let coins = unique("stablecoin", self.stablecoins.iter().map(|s| s.denom))?;
        if coins.contains(&Denom::NES) {
            return Err(GenesisError::Twice {
                what: "denomination",
                which: Denom::NES.to_string(),
            });
        }
        for model in &self.models {
            if model.lanes == 0 || model.lanes & !ALL_LANES != 0 {
                return Err(GenesisError::OutOfRange {
                    what: "lanes",
                    which: model.digest.to_string(),
                    got: model.lanes.into(),
                    expected: "known lanes, at least one",
                });
            }
        }
        Ok(())
    }

    fn first_supply(&self) -> Supply {
        let nes = Text::new("NES").unwrap_or_default();
        let named = std::iter::once((Denom::NES, nes))
            .chain(self.stablecoins.iter().map(|s| (s.denom, s.name.clone())));
        let mut denoms: Vec<DenomSupply> = named
            .map(|(denom, name)| DenomSupply {
                denom,
                name,
                issued: Amount::ZERO,
                burned: Amount::ZERO,
                treasury: Amount::ZERO,
            })
            .collect();
        denoms.sort_by_key(|d| d.denom);
        Supply { denoms }
    }

    fn entry(&self, node: &GenesisNode, set: &NodeSet) -> Result<NodeEntry, GenesisError> {
        let which = node.node.to_string();
        if node.bond < self.params.min_bond {
            let got = node.bond.0;
            let expected = "at least min_bond";
            return Err(GenesisError::OutOfRange { what: "bond", which, got, expected });
        }
        at_most("models of a node", node.models.len(), MAX_NODE_MODELS)?;
        at_most("addresses of a node", node.addresses.len(), MAX_NODE_ADDRESSES)?;
        let mut models = 0;
        for model in &node.models {
            models |= set
                .model_bit(model)
                .ok_or_else(|| GenesisError::Unknown { what: "model", which: model.to_string() })?;
        }
        Ok(NodeEntry {
            node: node.node,
            operator: node.operator,
            bond: node.bond,
            faucet_bond: node.faucet_bond,
            models,
            renewed_epoch: 0,
        })
    }
}

fn supply_lacks(stablecoins: &[Stablecoin], denom: Denom) -> bool {
    denom != Denom::NES && stablecoins.iter().all(|s| s.denom != denom)
}
