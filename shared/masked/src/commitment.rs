//! The blinded commitment of a server to all its answers.
//!
//! Its leaves are digests of live shares and their products. Whoever holds the other share could
//! test a guess of x against them, so nothing but the blinded root ever becomes public, and the
//! blind is 32 random bytes that only the client and this server know.

use nesa_crypto::merkle;
use nesa_primitives::{Hash, domain};

/// H(blind ‖ Merkle root of the leaf digests), in the order answered; a leaf is
/// [`Statement::leaf`](crate::message::Statement::leaf).
pub fn blinded_root(chain: &Hash, blind: &Hash, leaves: &[Hash]) -> Hash {
    let mut hasher = domain("masked commitment", chain);
    hasher.update(blind.as_ref());
    hasher.update(merkle::root_of_hashes(leaves).as_ref());
    hasher.finalize().into()
}
