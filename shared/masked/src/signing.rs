//! Who signs what in the lane, each in its own domain of the chain.

use commonware_codec::{Encode, Write};
use nesa_chain::{Side, Voucher};
use nesa_crypto::sign::{SecretKey, Signature, verify_strict};
use nesa_primitives::{Address, Amount, Hash};

use crate::message::{Open, SignedCommit, Statement};

const OPEN: &str = "masked open";
const STATEMENT: &str = "masked statement";
const COMMIT: &str = "masked commit";

fn open_bytes(open: &Open) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192);
    open.query.write(&mut bytes);
    open.model.write(&mut bytes);
    open.node.write(&mut bytes);
    open.side.write(&mut bytes);
    open.attempt.write(&mut bytes);
    bytes
}

/// An opening for one node, signed by the query's client key.
pub fn sign_open(
    chain: Hash,
    query: Hash,
    model: Hash,
    node: Address,
    side: Side,
    attempt: u8,
    client_key: &SecretKey,
) -> Open {
    let blank = Signature([0; 64]);
    let mut open = Open { chain, query, model, node, side, attempt, signature: blank };
    open.signature = client_key.sign(OPEN, &chain, &open_bytes(&open));
    open
}

/// Whether the query's client key signed this opening.
pub fn open_is_signed(open: &Open, client_key: &Address) -> bool {
    verify_strict(client_key, OPEN, &open.chain, &open_bytes(open), &open.signature).is_ok()
}

/// A node's signature over one answer.
pub fn sign_statement(statement: &Statement, chain: &Hash, node: &SecretKey) -> Signature {
    node.sign(STATEMENT, chain, &statement.encode())
}

/// Whether `node` signed this answer. Nobody else can make it appear to have said it.
pub fn statement_is_signed(
    statement: &Statement,
    chain: &Hash,
    node: &Address,
    signature: &Signature,
) -> bool {
    verify_strict(node, STATEMENT, chain, &statement.encode(), signature).is_ok()
}

fn commit_bytes(commit: &SignedCommit) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(80);
    commit.query.write(&mut bytes);
    commit.side.write(&mut bytes);
    commit.attempt.write(&mut bytes);
    commit.blinded_root.write(&mut bytes);
    commit.served_tokens.write(&mut bytes);
    bytes
}

/// A node's commitment to everything it answered.
pub fn sign_commit(
    chain: Hash,
    query: Hash,
    side: Side,
    attempt: u8,
    blinded_root: Hash,
    served_tokens: u32,
    node: &SecretKey,
) -> SignedCommit {
    let signature = Signature([0; 64]);
    let mut commit =
        SignedCommit { chain, query, side, attempt, blinded_root, served_tokens, signature };
    commit.signature = node.sign(COMMIT, &chain, &commit_bytes(&commit));
    commit
}

/// Whether `node` signed this commitment.
pub fn commit_is_signed(commit: &SignedCommit, node: &Address) -> bool {
    verify_strict(node, COMMIT, &commit.chain, &commit_bytes(commit), &commit.signature).is_ok()
}

/// A running total for one node, signed by the query's client key.
pub fn sign_voucher(
    chain: &Hash,
    query: Hash,
    node: Address,
    total: Amount,
    client_key: &SecretKey,
) -> Voucher {
    Voucher::sign(client_key, chain, query, node, total)
}

/// Whether the query's client key signed this running total.
pub fn voucher_is_signed(voucher: &Voucher, chain: &Hash, client_key: &Address) -> bool {
    voucher.verify(client_key, chain).is_ok()
}
