//! Ed25519 signatures (RFC 8032) over domain-separated digests.
//!
//! What is signed is always a 32-byte digest `domain(tag, chain) ‖ message`, so a signature made
//! for one purpose or chain can never serve another. Verification is the strict one: it refuses
//! small-order keys and non-canonical encodings, so that every verifier gives the same answer and
//! nobody can turn one valid signature into another.

use bytes::BufMut;
use commonware_codec::{Buf, Error, FixedSize, Read, Write};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use nesa_primitives::{Address, Hash, hex_array};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use thiserror::Error as ThisError;
use zeroize::Zeroizing;

/// An ed25519 public key; the same bytes as an address.
pub type PublicKey = Address;

/// An ed25519 signature, shown as 128 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signature(#[serde(with = "hex_array")] pub [u8; 64]);

/// Why a signature was refused.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum VerifyError {
    /// The signer's address is not a point on the curve.
    #[error("{signer} is no ed25519 public key")]
    NoKey {
        /// The address given.
        signer: Address,
    },
    /// The signature was not made by this key over this message.
    #[error("not a signature by {signer} over this message")]
    Mismatch {
        /// The key it was expected from.
        signer: Address,
    },
}

/// An ed25519 secret key. Erased when dropped; has no `Debug` and no serialisation.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Draws a key from `rng`.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0u8; 32]);
        rng.fill_bytes(seed.as_mut());
        Self::from_seed(&seed)
    }

    /// The key of a 32-byte seed (the RFC 8032 "private key").
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, for storage under the caller's care.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public key, which is also the address.
    pub fn public(&self) -> PublicKey {
        Address(self.0.verifying_key().to_bytes())
    }

    /// Signs `message` (any bytes) for the purpose `tag` on `chain`.
    pub fn sign(&self, tag: &'static str, chain: &Hash, message: &[u8]) -> Signature {
        self.sign_digest(&Hash::of_bytes(tag, chain, message))
    }

    /// Signs a digest that already is domain-separated.
    pub fn sign_digest(&self, digest: &Hash) -> Signature {
        Signature(self.0.sign(&digest.0).to_bytes())
    }
}

/// Checks a signature made by [`SecretKey::sign`].
///
/// # Errors
/// [`VerifyError`] if the address is no key or the signature does not match.
pub fn verify_strict(
    signer: &PublicKey,
    tag: &'static str,
    chain: &Hash,
    message: &[u8],
    signature: &Signature,
) -> Result<(), VerifyError> {
    verify_digest(signer, &Hash::of_bytes(tag, chain, message), signature)
}

/// Checks a signature made by [`SecretKey::sign_digest`].
///
/// # Errors
/// [`VerifyError`] if the address is no key or the signature does not match.
pub fn verify_digest(
    signer: &PublicKey,
    digest: &Hash,
    signature: &Signature,
) -> Result<(), VerifyError> {
    verify_bytes(signer, &digest.0, signature)
}

/// Plain RFC 8032 verification, strict; every caller in the project goes through a digest.
fn verify_bytes(
    signer: &PublicKey,
    message: &[u8],
    signature: &Signature,
) -> Result<(), VerifyError> {
    let key =
        VerifyingKey::from_bytes(&signer.0).map_err(|_| VerifyError::NoKey { signer: *signer })?;
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0))
        .map_err(|_| VerifyError::Mismatch { signer: *signer })
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

impl FromStr for Signature {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex_array::parse(text).map(Self)
    }
}

impl Write for Signature {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.write(buf);
    }
}

impl FixedSize for Signature {
    const SIZE: usize = 64;
}

impl Read for Signature {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, cfg: &()) -> Result<Self, Error> {
        <[u8; 64]>::read_cfg(buf, cfg).map(Self)
    }
}

#[cfg(test)]
#[path = "sign_tests.rs"]
mod tests;
