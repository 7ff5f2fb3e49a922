//! Sending transactions: nonces that neither collide nor leave gaps, and waiting for inclusion.
//!
//! The next nonce is the larger of what the chain proves and what this device already used. Sends
//! of one account are serialised; after a refusal the chain's word counts again. What is said in a dispute
//! has no nonce: it waits for no other send, and none waits for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::lock::{Mutex as AsyncMutex, OwnedMutexGuard};
use nesa_chain::{
    action::Action,
    keys,
    params::Params,
    record::Account,
    tx::{SignedTx, Tx},
};
use nesa_crypto::SecretKey;
use nesa_platform::time;
use nesa_primitives::{Address, Amount, Denom, Hash};

use crate::{
    AskError, LightClient,
    client::{Included, lock},
};

/// Longest a transaction may wait for a block.
pub const INCLUSION_LIMIT: Duration = Duration::from_secs(30);
/// Longest a faucet's payment may take.
const FAUCET_LIMIT: Duration = Duration::from_secs(30);

/// An account with the height at which it was proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenAccount {
    /// The record; empty for an address that never received anything.
    pub account: Account,
    /// Height of the header it was proven against.
    pub height: u64,
}

/// A signed transaction that has not left this device yet.
pub struct Outgoing {
    light: LightClient,
    signed: SignedTx,
    /// The account's nonces, unless it needs none.
    next: Option<OwnedMutexGuard<Option<u64>>>,
}

impl Outgoing {
    /// The transaction.
    pub fn signed(&self) -> &SignedTx {
        &self.signed
    }

    /// Hands it to the network.
    ///
    /// # Errors
    /// [`AskError::Rejected`] with the chain's reason, or any other [`AskError`].
    pub async fn submit(mut self) -> Result<SignedTx, AskError> {
        let submitted = self.light.submit(self.signed.id(), self.signed.to_bytes()).await;
        if let Some(next) = &mut self.next {
            **next = submitted.is_ok().then_some(self.signed.tx.nonce + 1);
        }
        submitted.map(|()| self.signed)
    }
}

/// The next nonce of one sender, once it is known.
type NextNonce = Arc<AsyncMutex<Option<u64>>>;

/// Accounts as one light client sees them. Clones share the nonces.
#[derive(Clone)]
pub struct Accounts {
    light: LightClient,
    next: Arc<Mutex<HashMap<Address, NextNonce>>>,
}

impl Accounts {
    /// Accounts proven and used through `light`.
    pub fn new(light: LightClient) -> Self {
        Self { light, next: Arc::default() }
    }

    /// The client behind it.
    pub fn light(&self) -> &LightClient {
        &self.light
    }

    /// An account, proven. An absent record is proven absent and reads as empty.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn account(&self, address: &Address) -> Result<ProvenAccount, AskError> {
        let (record, proven) =
            self.light.record::<Account>(keys::account(address), "account", 0).await?;
        Ok(ProvenAccount {
            account: record.unwrap_or_default(),
            height: proven.header.header.height(),
        })
    }

    /// The chain's parameters, proven.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn params(&self) -> Result<Params, AskError> {
        let (record, _) = self.light.record::<Params>(keys::params(), "params", 0).await?;
        record.ok_or(AskError::Undecided { missing: "the chain's parameters".into() })
    }

    /// Signs one transaction with the next nonce; `fee` in unes, at least the chain's minimum.
    ///
    /// Other sends of the account wait until the result is submitted or dropped; not so for what has a
    /// [place](Action::place) of its own, which has no nonce.
    ///
    /// # Errors
    /// [`AskError`] when the account cannot be proven.
    pub async fn sign(
        &self,
        key: &SecretKey,
        action: Action,
        fee: Amount,
    ) -> Result<Outgoing, AskError> {
        let (sender, chain) = (key.public(), self.light.chain());
        if action.place().is_some() {
            let signed = Tx { chain, sender, nonce: 0, fee, action }.sign(key);
            return Ok(Outgoing { light: self.light.clone(), signed, next: None });
        }
        let slot = lock(&self.next).entry(sender).or_default().clone();
        let next = slot.lock_owned().await;
        let proven = self.account(&sender).await?.account.nonce;
        let nonce = next.map_or(proven, |used| used.max(proven));
        let signed = Tx { chain, sender, nonce, fee, action }.sign(key);
        Ok(Outgoing { light: self.light.clone(), signed, next: Some(next) })
    }

    /// Signs and submits one transaction.
    ///
    /// # Errors
    /// [`AskError::Rejected`] with the chain's reason, or any other [`AskError`].
    pub async fn send(
        &self,
        key: &SecretKey,
        action: Action,
        fee: Amount,
    ) -> Result<SignedTx, AskError> {
        self.sign(key, action, fee).await?.submit().await
    }

    /// [`Accounts::send`], then waits for proven inclusion.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn send_and_wait(
        &self,
        key: &SecretKey,
        action: Action,
        fee: Amount,
    ) -> Result<(SignedTx, Included), AskError> {
        let signed = self.send(key, action, fee).await?;
        match self.light.wait_included(&signed, INCLUSION_LIMIT).await {
            Ok(included) => Ok((signed, included)),
            Err(error) => {
                // It may have been dropped: do not build on its nonce.
                self.forget(&signed.tx.sender).await;
                Err(error)
            }
        }
    }

    /// Takes the chain's word for the next nonce again.
    pub async fn forget(&self, address: &Address) {
        let slot = lock(&self.next).get(address).cloned();
        if let Some(slot) = slot {
            *slot.lock().await = None;
        }
    }

    /// Asks the faucet of a local network and waits until the coins are proven to be there.
    ///
    /// # Errors
    /// [`AskError`]; `Undecided` or `NoPeer` where there is no faucet.
    pub async fn fund(
        &self,
        address: Address,
        denom: Denom,
    ) -> Result<(Hash, ProvenAccount), AskError> {
        let before = self.account(&address).await?.account.balance(denom);
        let id = self.light.faucet(address, denom).await?;
        let arrived = async {
            loop {
                let seen = self.light.height();
                match self.account(&address).await {
                    Ok(now) if now.account.balance(denom) > before => return Ok(now),
                    Ok(_) | Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => {}
                    Err(error) => return Err(error),
                }
                self.light.head_or(seen, Duration::from_millis(1500)).await;
            }
        };
        match time::timeout(FAUCET_LIMIT, arrived).await {
            Ok(account) => Ok((id, account?)),
            Err(_) => Err(AskError::Timeout {
                what: "the faucet's payment",
                ms: FAUCET_LIMIT.as_millis() as u64,
            }),
        }
    }
}
