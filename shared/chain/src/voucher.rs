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
