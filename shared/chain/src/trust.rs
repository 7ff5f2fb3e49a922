//! The trust root: all that a client must be told by someone it trusts.

use commonware_codec::Encode;
use nesa_primitives::{ChainId, DecodeError, Hash, codec_struct, decode_exact, hex_array};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bytes of a compressed BLS12-381 G2 point: the validators' group key (variant `MinSig`).
pub const GROUP_KEY_BYTES: usize = 96;

/// Group key ‖ genesis digest ‖ chain id. Its digest is "the chain" in every
/// [`domain`](nesa_primitives::domain): hashes and signatures made under one trust root mean
/// nothing under another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustRoot {
    /// Key under which quorums certify blocks.
    #[serde(with = "hex_array")]
    pub group_key: [u8; GROUP_KEY_BYTES],
    /// Digest of the genesis.
    pub genesis: Hash,
    /// The chain's name.
    pub chain_id: ChainId,
}

codec_struct!(TrustRoot { group_key, genesis, chain_id });

/// Why a text is no trust root.
#[derive(Debug, Error)]
pub enum TrustRootError {
    /// Not hexadecimal.
    #[error("a trust root is hexadecimal: {0}")]
    Hex(#[from] hex::FromHexError),
    /// The bytes are no trust root.
    #[error("no trust root: {0}")]
    Decode(#[from] DecodeError),
}

impl TrustRoot {
    /// "The chain" in every domain.
    pub fn digest(&self) -> Hash {
        Hash::of("trust root", &Hash::ZERO, self)
    }

    /// Namespace under which validators sign: `"nesa/1 consensus " ‖ digest`.
    pub fn consensus_namespace(&self) -> Vec<u8> {
        [b"nesa/1 consensus ".as_slice(), &self.digest().0].concat()
    }

    /// The form scripts pass around: hex of the canonical bytes.
    pub fn to_hex(&self) -> String {
        hex::encode(self.encode())
    }

    /// Reads [`TrustRoot::to_hex`].
    ///
    /// # Errors
    /// [`TrustRootError`] for anything but the canonical form.
    pub fn from_hex(text: &str) -> Result<Self, TrustRootError> {
        Ok(decode_exact(&hex::decode(text.trim())?, &())?)
    }
}

impl std::str::FromStr for TrustRoot {
    type Err = TrustRootError;
    fn from_str(text: &str) -> Result<Self, TrustRootError> {
        Self::from_hex(text)
    }
}

impl std::fmt::Display for TrustRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}
