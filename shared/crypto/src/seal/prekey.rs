//! Prekeys: what envelopes are sealed to, signed by the node's identity for one epoch.

use bytes::BufMut;
use commonware_codec::{Buf, Encode as _, EncodeSize, Error, Read, ReadExt as _, Write};
use hpke::{Deserializable as _, Kem as _, Serializable as _};
use nesa_primitives::{Address, Hash};
use rand_core::CryptoRng;
use std::fmt;
use thiserror::Error as ThisError;
use zeroize::Zeroizing;

use super::Kem;
use crate::{
    SecretKey, Signature,
    sign::{VerifyError, verify_strict},
};

/// Bytes of an X-Wing public key.
pub const PREKEY_BYTES: usize = 1216;
/// A client takes no prekey that would outlive this, in ms: a day.
pub const MAX_PREKEY_LIFE_MS: u64 = 24 * 60 * 60 * 1000;

const TAG: &str = "sealed prekey";

/// A node's public key for one epoch, signed by its identity for one chain.
#[derive(Clone, PartialEq, Eq)]
pub struct Prekey {
    /// Whose it is: the node's ed25519 key.
    pub node: Address,
    /// The node's own count of its prekeys.
    pub epoch: u64,
    /// The node drops the secret half at this time, in ms since 1970.
    pub until_ms: u64,
    /// X-Wing public key, [`PREKEY_BYTES`] long.
    key: Box<[u8; PREKEY_BYTES]>,
    signature: Signature,
}

/// A prekey that must not be sealed to.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum PrekeyError {
    /// It belongs to another node.
    #[error("the prekey is of node {got}, expected {expected}")]
    Node {
        /// The node it names.
        got: Address,
        /// The node wanted.
        expected: Address,
    },
    /// Its signature is not the node's over these fields, for this chain.
    #[error(transparent)]
    Signature(#[from] VerifyError),
    /// It has run out, or would live for too long.
    #[error("the prekey is good until {until_ms} ms, now is {now_ms} ms")]
    Time {
        /// Its end.
        until_ms: u64,
        /// The time given.
        now_ms: u64,
    },
    /// Its key is no X-Wing public key.
    #[error("the prekey holds no valid key")]
    Key,
}

impl Prekey {
    /// Checks that the prekey is `node`'s on `chain`, and good at `now_ms`.
    ///
    /// # Errors
    /// [`PrekeyError`] naming the first thing wrong.
    pub fn verify(&self, chain: &Hash, node: &Address, now_ms: u64) -> Result<(), PrekeyError> {
        if self.node != *node {
            return Err(PrekeyError::Node { got: self.node, expected: *node });
        }
        let (until_ms, latest) = (self.until_ms, now_ms.saturating_add(MAX_PREKEY_LIFE_MS));
        if until_ms <= now_ms || until_ms > latest {
            return Err(PrekeyError::Time { until_ms, now_ms });
        }
        verify_strict(node, TAG, chain, &self.signed(), &self.signature)?;
        self.public().map(|_| ()).ok_or(PrekeyError::Key)
    }

    pub(super) fn public(&self) -> Option<<Kem as hpke::Kem>::PublicKey> {
        <Kem as hpke::Kem>::PublicKey::from_bytes(&self.key[..]).ok()
    }

    fn signed(&self) -> Vec<u8> {
        signed(&self.node, self.epoch, self.until_ms, &self.key)
    }
}

/// What a prekey's signature covers, beside the chain.
fn signed(node: &Address, epoch: u64, until_ms: u64, key: &[u8; PREKEY_BYTES]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48 + PREKEY_BYTES);
    bytes.extend_from_slice(&node.0);
    bytes.extend_from_slice(&epoch.encode());
    bytes.extend_from_slice(&until_ms.encode());
    bytes.extend_from_slice(key);
    bytes
}

/// The secret half, with the signed public half beside it. No `Debug`, no serialisation; erased when
/// dropped. It lives in the node's memory alone: a node that restarts makes a new one.
pub struct PrekeySecret {
    /// The 32-byte seed of an X-Wing key.
    seed: Zeroizing<[u8; 32]>,
    prekey: Prekey,
}

impl PrekeySecret {
    /// Draws a key from `rng` and signs it for `epoch` of `chain`.
    pub fn generate(
        identity: &SecretKey,
        chain: &Hash,
        epoch: u64,
        until_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let mut ikm = Zeroizing::new([0u8; 32]);
        rng.fill_bytes(ikm.as_mut());
        let (secret, public) = Kem::derive_keypair(ikm.as_ref());
        let mut seed = Zeroizing::new([0u8; 32]);
        secret.write_exact(seed.as_mut());
        let mut key = Box::new([0u8; PREKEY_BYTES]);
        public.write_exact(&mut key[..]);
        let node = identity.public();
        let signature = identity.sign(TAG, chain, &signed(&node, epoch, until_ms, &key));
        Self { seed, prekey: Prekey { node, epoch, until_ms, key, signature } }
    }

    /// The signed public half.
    pub fn prekey(&self) -> &Prekey {
        &self.prekey
    }

    pub(super) fn secret(&self) -> Option<<Kem as hpke::Kem>::PrivateKey> {
        <Kem as hpke::Kem>::PrivateKey::from_bytes(self.seed.as_ref()).ok()
    }
}

impl fmt::Debug for Prekey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prekey({}, epoch {}, until {} ms)", self.node, self.epoch, self.until_ms)
    }
}

impl Write for Prekey {
    fn write(&self, buf: &mut impl BufMut) {
        self.node.write(buf);
        self.epoch.write(buf);
        self.until_ms.write(buf);
        buf.put_slice(&self.key[..]);
        self.signature.write(buf);
    }
}

impl EncodeSize for Prekey {
    fn encode_size(&self) -> usize {
        32 + 8 + 8 + PREKEY_BYTES + 64
    }
}

impl Read for Prekey {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        let node = Address::read(buf)?;
        let epoch = u64::read(buf)?;
        let until_ms = u64::read(buf)?;
        let mut key = Box::new([0u8; PREKEY_BYTES]);
        commonware_codec::util::at_least(buf, PREKEY_BYTES)?;
        buf.copy_to_slice(&mut key[..]);
        Ok(Self { node, epoch, until_ms, key, signature: Signature::read(buf)? })
    }
}
