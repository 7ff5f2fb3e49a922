//! The client's signed running total: the only thing that pays a node for masked work.

use commonware_codec::EncodeFixed;
use nesa_crypto::{
    SecretKey, Signature,
    sign::{VerifyError, verify_strict},
};
use nesa_primitives::{Address, Amount, Hash, codec_struct};
use serde::{Deserialize, Serialize};

const TAG: &str = "voucher";

/// "For query Q, node N has earned `total` so far", signed by the query's ephemeral client key.
///
/// Totals only grow: the largest one claimed counts, so a replayed or older voucher changes
/// nothing, and a server risks at most the increment it is working on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// The `PayForQuery` transaction's id.
    pub query: Hash,
    /// The node that computed.
    pub node: Address,
    /// All it has earned in this query, before the split, in the query's denomination.
    pub total: Amount,
    /// By the query's `client_key`.
    pub signature: Signature,
}

codec_struct!(Voucher { query, node, total, signature });

/// Query, node and total: what is signed, 72 bytes.
fn message(query: &Hash, node: &Address, total: Amount) -> [u8; 72] {
    let mut bytes = [0u8; 72];
    bytes[..32].copy_from_slice(&query.0);
    bytes[32..64].copy_from_slice(&node.0);
    bytes[64..].copy_from_slice(&total.encode_fixed::<8>());
    bytes
}

const SHARD_TAG: &str = "shard voucher";

/// "For query Q, node N has earned `total` as replica R of shard S so far", signed by the query's
/// client key. As a [`Voucher`], but a node may sit in several shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardVoucher {
    /// The `PayForQuery` transaction's id.
    pub query: Hash,
    /// The shard served.
    pub shard: u8,
    /// Which replica of it.
    pub replica: u8,
    /// The node that computed.
    pub node: Address,
    /// All it has earned there, before the split, in the query's denomination.
    pub total: Amount,
    /// By the query's `client_key`.
    pub signature: Signature,
}

codec_struct!(ShardVoucher { query, shard, replica, node, total, signature });

impl ShardVoucher {
    /// Signs a total with the query's ephemeral key.
    pub fn sign(
        key: &SecretKey,
        chain: &Hash,
        query: Hash,
        (shard, replica): (u8, u8),
        node: Address,
        total: Amount,
    ) -> Self {
        let signature = Signature([0; 64]);
        let mut voucher = Self { query, shard, replica, node, total, signature };
        voucher.signature = key.sign(SHARD_TAG, chain, &voucher.message());
        voucher
    }

    /// Checks the signature against the query's `client_key`.
    ///
    /// # Errors
    /// [`VerifyError`] if it was made by another key, or for anything else.
    pub fn verify(&self, client_key: &Address, chain: &Hash) -> Result<(), VerifyError> {
        verify_strict(client_key, SHARD_TAG, chain, &self.message(), &self.signature)
    }

    /// Shard, replica, then what a [`Voucher`] signs.
    fn message(&self) -> [u8; 74] {
        let mut bytes = [0u8; 74];
        bytes[..2].copy_from_slice(&[self.shard, self.replica]);
        bytes[2..].copy_from_slice(&message(&self.query, &self.node, self.total));
        bytes
    }
}

impl Voucher {
    /// Signs a total with the query's ephemeral key.
    pub fn sign(key: &SecretKey, chain: &Hash, query: Hash, node: Address, total: Amount) -> Self {
        let signature = key.sign(TAG, chain, &message(&query, &node, total));
        Self { query, node, total, signature }
    }

    /// Checks the signature against the query's `client_key`.
    ///
    /// # Errors
    /// [`VerifyError`] if it was made by another key, or for another query, node, total or chain.
    pub fn verify(&self, client_key: &Address, chain: &Hash) -> Result<(), VerifyError> {
        let message = message(&self.query, &self.node, self.total);
        verify_strict(client_key, TAG, chain, &message, &self.signature)
    }
}
