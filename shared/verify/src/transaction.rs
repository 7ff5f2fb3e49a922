//! Proof that a transaction is part of a block.

use commonware_codec::Encode as _;
use nesa_chain::{header::Header, tx::SignedTx};
use nesa_crypto::merkle::{self, Proof};
use nesa_primitives::{Verdict, decode_exact};

/// Longest inclusion proof accepted, in bytes.
pub const MAX_TX_PROOF_BYTES: usize = 2 * 1024;

/// Checks that `tx` is in the block of `header`, and returns its place in the block.
///
/// Blocks hold only transactions that could be applied, so inclusion is success.
pub fn verify_inclusion(header: &Header, tx: &SignedTx, proof: &[u8]) -> Verdict<u64> {
    let what = "transaction proof";
    if proof.len() > MAX_TX_PROOF_BYTES {
        return Verdict::invalid(what, format!("{} bytes", proof.len()), "a Merkle path");
    }
    let decoded: Proof = match decode_exact(proof, &()) {
        Ok(decoded) => decoded,
        Err(error) => return Verdict::invalid(what, error, "a Merkle path"),
    };
    match merkle::verify(&header.fields.tx_root, &tx.encode(), &decoded) {
        Ok(()) => Verdict::Valid(decoded.index),
        Err(error) => Verdict::invalid(what, error, header.fields.tx_root),
    }
}
