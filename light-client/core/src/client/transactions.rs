//! Handing transactions to the network, and proving where they ended.

use std::time::Duration;

use bytes::Bytes;
use nesa_chain::tx::SignedTx;
use nesa_platform::time::{self, Instant};
use nesa_primitives::{Address, Denom, Hash, Verdict};
use nesa_wire::chain::{Request, Response};

use super::{AskError, LightClient, judge::unexpected, since};
use crate::{peer::SharedPeer, sync::Certified};

/// A transaction proven to be in a final block.
#[derive(Clone, Debug)]
pub struct Included {
    /// The block's header; its certificate may be a descendant's.
    pub header: Certified,
    /// Headers after it up to one with a certificate, empty when it has its own.
    pub descendants: Vec<Certified>,
    /// Place in the block.
    pub index: u64,
    /// Merkle proof against `header.tx_root`.
    pub proof: Bytes,
    /// What the check cost this device, in milliseconds.
    pub ms: f64,
}

impl LightClient {
    /// Hands a signed transaction, encoded, to the network.
    ///
    /// # Errors
    /// [`AskError::Rejected`] with the reason when every peer refuses it.
    pub async fn submit(&self, id: Hash, transaction: Bytes) -> Result<(), AskError> {
        self.decide(Request::Submit { transaction }, |response| match response {
            Response::Submitted { id: got } if got == id => Verdict::Valid(()),
            Response::Submitted { id: got } => Verdict::Invalid {
                got: got.to_string(),
                expected: id.to_string(),
                what: "id of a submitted transaction",
            },
            _ => unexpected("answer to a submission"),
        })
        .await
    }

    /// Asks a local network's faucet; gives the paying transaction's id.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn faucet(&self, address: Address, denom: Denom) -> Result<Hash, AskError> {
        self.decide(Request::Faucet { address, denom }, |response| match response {
            Response::Funded { id } => Verdict::Valid(id),
            _ => unexpected("answer of a faucet"),
        })
        .await
    }

    /// Where a transaction is, proven; `None` while no peer shows it in a final block.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn included(&self, tx: &SignedTx) -> Result<Option<Included>, AskError> {
        let mut outcome = AskError::unasked();
        for peer in self.order() {
            match self.included_at(&peer, tx).await {
                Ok(included) => return Ok(Some(included)),
                Err(error) => outcome = outcome.then(error)?,
            }
        }
        match outcome {
            AskError::Undecided { .. } => Ok(None),
            error => Err(error),
        }
    }

    /// Where one peer shows a transaction. The header it names is asked of every peer; the proof is
    /// this one's alone.
    async fn included_at(&self, peer: &SharedPeer, tx: &SignedTx) -> Result<Included, AskError> {
        let request = Request::TxStatus { id: tx.id() };
        let location = self
            .ask_one(peer, request, |response| match response {
                Response::TxStatus(Some(location)) => Verdict::Valid(location),
                Response::TxStatus(None) => Verdict::Undecided { missing: "inclusion".into() },
                _ => unexpected("transaction status"),
            })
            .await?;
        let (header, descendants) = self.header(location.height).await?;
        let start = Instant::now();
        let proof = location.proof;
        let verdict = nesa_verify::transaction::verify_inclusion(&header.header, tx, &proof);
        let index = self.act(peer, verdict)?;
        Ok(Included { ms: since(start), header, descendants, index, proof })
    }

    /// Waits until a transaction is in a final block, looking again at every new head.
    ///
    /// # Errors
    /// [`AskError::Timeout`] after `limit`.
    pub async fn wait_included(
        &self,
        tx: &SignedTx,
        limit: Duration,
    ) -> Result<Included, AskError> {
        let wait = async {
            loop {
                let seen = self.height();
                match self.included(tx).await {
                    Ok(Some(included)) => return Ok(included),
                    Ok(None) | Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => {}
                    Err(error) => return Err(error),
                }
                self.head_or(seen, Duration::from_millis(1500)).await;
            }
        };
        match time::timeout(limit, wait).await {
            Ok(result) => result,
            Err(_) => Err(AskError::Timeout {
                what: "inclusion of the transaction",
                ms: limit.as_millis() as u64,
            }),
        }
    }
}
