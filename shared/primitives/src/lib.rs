//! Hashes, amounts, addresses, domains and verdicts shared by every other crate.
//!
//! Nothing here does I/O, reads a clock or draws randomness. The rule of the house for bytes:
//! whatever is hashed, signed or sent is encoded with `commonware-codec`, and whatever is decoded
//! goes through [`decode_exact`], which refuses trailing bytes and any encoding but the canonical
//! one. JSON (serde) is for people and scripts only.

#![deny(missing_docs)]

mod address;
mod amount;
mod chain_id;
mod codec;
mod hash;
pub mod hex_array;
mod text;
mod verdict;

pub use address::Address;
pub use amount::{Amount, Denom, InNes, UNES_PER_NES};
pub use chain_id::{ChainId, ChainIdError, MAX_CHAIN_ID_BYTES};
pub use codec::{DecodeError, decode_exact};
pub use hash::{Hash, domain};
pub use text::{Text, TextError};
pub use verdict::Verdict;

#[doc(hidden)]
pub use bytes as __bytes;
#[doc(hidden)]
pub use commonware_codec as __codec;
