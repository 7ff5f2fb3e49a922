//! The faucet of a local network: a key that genesis endowed, held by the first validator.

use std::time::{Duration, Instant};

use nesa_chain::{
    action::{Action, Transfer},
    keys,
    params::Params,
    record::Account,
    tx::Tx,
};
use nesa_crypto::sign::SecretKey;
use nesa_primitives::{Address, Amount, Denom, Hash, decode_exact};
use tokio::sync::Mutex;

use super::limiter::{Limiter, Rate};
use crate::node::source::{Chain, ChainError};

/// What one funding pays, in NES.
const NES_PER_FUNDING: u64 = 1_000;
/// Fundings per address: five at once, then one every five minutes.
const PER_ADDRESS: Rate = Rate { burst: 5.0, per_second: 1.0 / 300.0 };
/// Fundings altogether: two hundred at once, then one a second.
const ALTOGETHER: Rate = Rate { burst: 200.0, per_second: 1.0 };
/// A payment that no block took for this long is lost; its nonce is used again.
const LOST_AFTER: Duration = Duration::from_secs(15);

/// Why nothing was paid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FaucetError {
    /// This address, or everyone together, asked too often.
    #[error("the faucet has given enough for now; ask again in some minutes")]
    Exhausted,
    /// The chain did not take the payment.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// Nonces handed out that the finalised state does not show yet.
struct Pending {
    next: u64,
    since: Instant,
}

/// Pays whoever asks, within limits.
pub(crate) struct Faucet {
    key: SecretKey,
    chain: Hash,
    fee: Amount,
    per_address: Limiter<Address>,
    altogether: Limiter<()>,
    pending: Mutex<Option<Pending>>,
}

impl Faucet {
    /// A faucet that pays from `key`'s account on `chain`, at the least fee.
    pub(crate) fn new(key: SecretKey, chain: Hash, params: &Params) -> Self {
        Self {
            key,
            chain,
            fee: params.min_tx_fee,
            per_address: Limiter::new(PER_ADDRESS),
            altogether: Limiter::new(ALTOGETHER),
            pending: Mutex::new(None),
        }
    }

    /// Sends one funding to `to`; returns the payment's id.
    pub(crate) async fn fund(
        &self,
        chain: &Chain,
        to: Address,
        denom: Denom,
    ) -> Result<Hash, FaucetError> {
        let now = Instant::now();
        if !self.per_address.take(to, 1.0, now) || !self.altogether.take((), 1.0, now) {
            return Err(FaucetError::Exhausted);
        }
        // One payment at a time, so that nonces follow each other.
        let mut pending = self.pending.lock().await;
        let final_nonce = self.final_nonce(chain).await?;
        let nonce = match &*pending {
            Some(p) if p.next > final_nonce && now.duration_since(p.since) < LOST_AFTER => p.next,
            _ => final_nonce,
        };
        let amount = Amount::nes(NES_PER_FUNDING).unwrap_or(Amount::ZERO);
        let tx = Tx {
            chain: self.chain,
            sender: self.key.public(),
            nonce,
            fee: self.fee,
            action: Action::Transfer(Transfer { to, denom, amount }),
        };
        let id = chain.submit(tx.sign(&self.key)).await?;
        *pending = Some(Pending { next: nonce + 1, since: now });
        tracing::info!(%to, %denom, %amount, %id, "faucet paid");
        Ok(id)
    }

    async fn final_nonce(&self, chain: &Chain) -> Result<u64, ChainError> {
        let key = keys::account(&self.key.public());
        let value = chain.values(vec![key]).await?.into_iter().next().flatten();
        Ok(match value {
            Some(bytes) => {
                let account: Account = decode_exact(&bytes, &())
                    .map_err(|error| ChainError::Unavailable(error.to_string()))?;
                account.nonce
            }
            None => 0,
        })
    }
}
