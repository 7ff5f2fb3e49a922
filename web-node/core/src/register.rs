//! Making a node known on the chain, and keeping its addresses true.

use crate::metrics::{Counters, Phase};
use nesa_chain::{
    action::{Action, NodeAddress, RegisterNode, Unbond, UpdateNode},
    keys,
    limits::{MAX_NODE_ADDRESS_BYTES, MAX_NODE_ADDRESSES},
    record::NodeRecord,
};
use nesa_crypto::SecretKey;
use nesa_light::{AskError, accounts::Accounts};
use nesa_primitives::{Address, Amount, Denom, Hash};
use std::sync::Arc;

/// Transactions that the operator's account should always be able to pay for.
const RESERVE: u64 = 200;

/// Why a node is not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The chain could not be asked, or refused.
    #[error(transparent)]
    Chain(#[from] AskError),
    /// The operator's account does not hold the bond.
    #[error("the account holds {got} unes; the bond and fees take {needed}")]
    Funds {
        /// Proven balance.
        got: Amount,
        /// Bond and fees.
        needed: Amount,
    },
    /// Another operator has registered this node key.
    #[error("the node is registered by operator {0}")]
    Taken(Address),
    /// The node is on its way out.
    #[error("the node is unbonding; its key cannot serve again until the bond has returned")]
    Unbonding,
    /// There is no address at which clients could reach the node.
    #[error("the node cannot be reached: it listens nowhere and no relay took it")]
    Unreachable,
}

/// Registers one node.
pub(crate) struct Registrar {
    pub(crate) accounts: Accounts,
    pub(crate) operator: SecretKey,
    pub(crate) node: SecretKey,
    pub(crate) models: Vec<Hash>,
    pub(crate) bond: Amount,
    /// Whether the faucet of a local network may pay the bond.
    pub(crate) faucet: bool,
    pub(crate) counters: Arc<Counters>,
}

impl Registrar {
    /// Fetches the bond where that is allowed and needed.
    pub(crate) async fn fund(&self) -> Result<(), RegisterError> {
        if self.record().await?.is_some() {
            return Ok(());
        }
        let fee = self.accounts.params().await?.min_tx_fee;
        let reserve = fee.checked_mul(RESERVE).unwrap_or(Amount::ZERO);
        let needed = self.bond.checked_add(reserve).unwrap_or(self.bond);
        let owner = self.operator.public();
        let balance = |account: &nesa_chain::record::Account| account.balance(Denom::NES);
        let mut got = balance(&self.accounts.account(&owner).await?.account);
        if got < needed && self.faucet {
            self.counters.enter(Phase::Funding);
            let (_, funded) = self.accounts.fund(owner, Denom::NES).await?;
            got = balance(&funded.account);
        }
        if got < needed { Err(RegisterError::Funds { got, needed }) } else { Ok(()) }
    }

    /// Brings the chain's record of the node in line with `addresses`.
    pub(crate) async fn register(&self, addresses: Vec<String>) -> Result<(), RegisterError> {
        let wanted: Vec<NodeAddress> = addresses
            .iter()
            .filter(|address| address.len() <= MAX_NODE_ADDRESS_BYTES)
            .filter_map(|address| NodeAddress::new(address.as_str()).ok())
            .take(MAX_NODE_ADDRESSES)
            .collect();
        if wanted.is_empty() {
            return Err(RegisterError::Unreachable);
        }
        let fee = self.accounts.params().await?.min_tx_fee;
        let chain = self.accounts.light().chain();
        let (owner, node) = (self.operator.public(), self.node.public());
        let action = match self.record().await? {
            Some(record) if record.operator != owner => {
                return Err(RegisterError::Taken(record.operator));
            }
            Some(record) if record.release_ms.is_some() => return Err(RegisterError::Unbonding),
            Some(record) => {
                self.counters.registered(texts(&wanted), record.bond);
                if record.addresses == wanted {
                    return Ok(());
                }
                Action::UpdateNode(UpdateNode { node, addresses: wanted.clone() })
            }
            None => Action::RegisterNode(RegisterNode {
                node,
                bond: self.bond,
                models: self.models.clone(),
                addresses: wanted.clone(),
                proof: RegisterNode::prove(&self.node, &owner, &chain),
            }),
        };
        self.accounts.send_and_wait(&self.operator, action, fee).await?;
        let bond = self.record().await?.map_or(self.bond, |record| record.bond);
        self.counters.registered(texts(&wanted), bond);
        Ok(())
    }

    /// Takes the node out of future draws.
    pub(crate) async fn unbond(&self) -> Result<(), RegisterError> {
        let fee = self.accounts.params().await?.min_tx_fee;
        let action = Action::Unbond(Unbond { node: self.node.public() });
        self.accounts.send_and_wait(&self.operator, action, fee).await?;
        Ok(())
    }

    async fn record(&self) -> Result<Option<NodeRecord>, AskError> {
        let key = keys::node(&self.node.public());
        Ok(self.accounts.light().record::<NodeRecord>(key, "node", 0).await?.0)
    }
}

fn texts(addresses: &[NodeAddress]) -> Vec<String> {
    addresses.iter().map(|address| address.as_str().to_owned()).collect()
}
