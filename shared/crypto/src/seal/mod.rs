//! Sealed envelopes: hybrid public-key encryption to one node, for one query, model, role and epoch.
//!
//! ```text
//!   node's ed25519 key ──signs──> prekey (X-Wing, one per epoch)
//!                                    │ checked by the client: chain, signer, expiry
//!   client ── HPKE base mode ──> envelope ── info and AAD: the Binding ──> node
//!                └─ exporter ─> one key per direction ─> frames with counters
//! ```
//!
//! The suite is HPKE (RFC 9180) with X-Wing (X25519 and ML-KEM-768; draft-ietf-hpke-pq), HKDF-SHA256
//! and ChaCha20-Poly1305: what is recorded today stays closed unless both the curve and the lattice
//! fall. An envelope has exactly one recipient; a committee of `n` gets `n` envelopes.
//!
//! Lengths are padded to buckets ([`padded`]) before encryption, so an observer learns the bucket
//! only. Randomness and time are passed in. A node that drops a prekey can no longer open what was
//! sealed to it: that is the forward secrecy there is.

mod envelope;
mod padding;
mod prekey;
mod session;
#[cfg(test)]
mod tests;

pub use envelope::{Binding, ENVELOPE_OVERHEAD, Envelope, EnvelopeLimits, Opened, Role, Sealed};
pub use padding::{padded, unpad_len};
pub use prekey::{MAX_PREKEY_LIFE_MS, PREKEY_BYTES, Prekey, PrekeyError, PrekeySecret};
pub use session::{FRAME_OVERHEAD, Opener, Sealer};

use hpke::{aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::XWing};

type Kem = XWing;
type Kdf = HkdfSha256;
type Aead = ChaCha20Poly1305;

/// Why a sealed message was refused. It does not say which check failed: the sender may be hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not sealed to this key, for this binding and place in the stream; or changed on the way.
    #[error("the sealed message cannot be opened")]
    Refused,
    /// Longer than the format carries.
    #[error("a message of {got} bytes cannot be sealed, at most {max}")]
    Length {
        /// Bytes given.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The recipient's key is no point, or the counters of a stream are used up.
    #[error("the message cannot be sealed to this key")]
    Key,
}
