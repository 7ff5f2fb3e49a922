//! Making a node known on the chain, keeping its addresses true, and its registration alive.
//!
//! A registration lapses when the chain has not heard of the node for `lapse_epochs` snapshots, so
//! that nobody draws a node that is gone. A running node renews it in good time; one that was away
//! for longer comes back with its next renewal, and its bond was its own all the while.

use crate::metrics::{Counters, Phase};
use nesa_chain::{
    action::{Action, NodeAddress, RegisterNode, Unbond, UpdateNode},
    keys,
    limits::{MAX_NODE_ADDRESS_BYTES, MAX_NODE_ADDRESSES},
    params::Params,
    record::NodeRecord,
};
use nesa_crypto::SecretKey;
use nesa_light::{AskError, accounts::Accounts};
use nesa_primitives::{Address, Amount, Denom, Hash};
use std::sync::Arc;

/// Transactions that the operator's account should always be able to pay for.
const RESERVE: u64 = 200;
/// A registration is renewed when this part of its life is over, so that a renewal may fail a few
/// times without harm.
const RENEW_AFTER: u64 = 4;

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

    /// Brings the chain's record of the node in line with `addresses`, and renews it when it is time.
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
        let params = self.accounts.params().await?;
        let fee = params.min_tx_fee;
        let chain = self.accounts.light().chain();
        let (owner, node) = (self.operator.public(), self.node.public());
        let action = match self.record().await? {
            Some(record) if record.operator != owner => {
                return Err(RegisterError::Taken(record.operator));
            }
            Some(record) if record.release_ms.is_some() => return Err(RegisterError::Unbonding),
            Some(record) => {
                self.counters.registered(texts(&wanted), record.bond);
                let height = self.accounts.light().height();
                if record.addresses == wanted && !is_due(record.renewed_epoch, height, &params) {
                    return Ok(());
                }
                self.afford(fee).await?;
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

    /// Takes the node out of future draws for a while: its bond stays, and registering again brings it
    /// back.
    pub(crate) async fn pause(&self) -> Result<(), RegisterError> {
        let away = |record: &NodeRecord| record.addresses.is_empty() || record.release_ms.is_some();
        if self.record().await?.is_none_or(|record| away(&record)) {
            return Ok(());
        }
        let fee = self.accounts.params().await?.min_tx_fee;
        let update = UpdateNode { node: self.node.public(), addresses: Vec::new() };
        self.accounts.send_and_wait(&self.operator, Action::UpdateNode(update), fee).await?;
        Ok(())
    }

    /// Fetches a little more where renewals have used up what the account held.
    async fn afford(&self, fee: Amount) -> Result<(), RegisterError> {
        let owner = self.operator.public();
        let got = self.accounts.account(&owner).await?.account.balance(Denom::NES);
        if self.faucet && got < fee.checked_mul(RESERVE / 10).unwrap_or(fee) {
            self.accounts.fund(owner, Denom::NES).await?;
        }
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

/// Whether a node last heard of in `renewed_epoch` should renew its registration at `height`.
fn is_due(renewed_epoch: u64, height: u64, params: &Params) -> bool {
    let epoch = height.checked_div(params.snapshot_interval).unwrap_or(0);
    epoch.saturating_sub(renewed_epoch) >= params.lapse_epochs / RENEW_AFTER
}

fn texts(addresses: &[NodeAddress]) -> Vec<String> {
    addresses.iter().map(|address| address.as_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_renewed_long_before_it_lapses() {
        let params = Params::local(None);
        let at = |epoch: u64| epoch * params.snapshot_interval;
        assert!(!is_due(10, at(10), &params));
        assert!(!is_due(10, at(10 + params.lapse_epochs / RENEW_AFTER) - 1, &params));
        assert!(is_due(10, at(10 + params.lapse_epochs / RENEW_AFTER), &params));
        assert!(is_due(10, at(10 + params.lapse_epochs), &params));
        // A view of the chain that is behind the record asks for nothing.
        assert!(!is_due(10, at(3), &params));
    }
}
