//! Prekeys and envelopes: what happens before the node knows whether it serves a query.

use bytes::Bytes;
use commonware_codec::Encode as _;
use nesa_crypto::{
    SecretKey,
    seal::{Binding, Opener, PrekeySecret, Sealer},
};
use nesa_primitives::{Hash, decode_exact};
use rand_core::CryptoRng;

use crate::{
    message::{Frame, FrameLimits, Refusal},
    opening::Opening,
};

/// How long a prekey is handed out, in ms. It opens envelopes for one epoch more, and is then erased.
pub const EPOCH_MS: u64 = 60 * 60 * 1000;

/// A node's prekeys on one chain.
pub struct Door {
    chain: Hash,
    identity: SecretKey,
    /// By age; the last is handed out.
    prekeys: Vec<PrekeySecret>,
}

/// What a frame leads to.
pub enum Greeting {
    /// An answer.
    Reply(Bytes),
    /// An envelope was opened: somebody asks for a session.
    Asked(Box<Asked>),
}

/// Who asks for a session, and for what. Nothing in it is proven but that it was sealed for this node.
pub struct Asked {
    /// What the envelope was bound to.
    pub binding: Binding,
    /// Its content.
    pub opening: Opening,
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
}

impl Door {
    /// A door of the node with this identity. Call [`Door::turn`] before use.
    pub fn new(chain: Hash, identity: SecretKey) -> Self {
        Self { chain, identity, prekeys: Vec::new() }
    }

    /// Erases what is over at `now_ms`, and makes the prekey of a new epoch. To be called before a
    /// frame is taken; it does nothing while an epoch lasts.
    pub fn turn(&mut self, now_ms: u64, rng: &mut impl CryptoRng) {
        self.prekeys.retain(|key| key.prekey().until_ms > now_ms);
        let epoch = now_ms / EPOCH_MS;
        if self.prekeys.last().is_none_or(|key| key.prekey().epoch != epoch) {
            let until = epoch.saturating_add(2).saturating_mul(EPOCH_MS);
            let key = PrekeySecret::generate(&self.identity, &self.chain, epoch, until, rng);
            self.prekeys.push(key);
        }
    }

    /// Takes a frame of a stream without a session.
    ///
    /// # Errors
    /// The [`Refusal`] to send.
    pub fn receive(&self, bytes: &[u8]) -> Result<Greeting, Refusal> {
        let limits = FrameLimits { sealed: 0 };
        let node = self.identity.public();
        match decode_exact::<Frame>(bytes, &limits).map_err(|_| Refusal::Protocol)? {
            Frame::Hello { chain, node: to } => {
                if chain != self.chain || to != node {
                    return Err(Refusal::NotDrawn);
                }
                let key = self.prekeys.last().ok_or(Refusal::Unavailable)?;
                Ok(Greeting::Reply(Frame::Prekey(key.prekey().clone()).encode()))
            }
            Frame::Open { binding, envelope } => {
                if binding.chain != self.chain || binding.node != node {
                    return Err(Refusal::NotDrawn);
                }
                let key = self.prekeys.iter().find(|key| key.prekey().epoch == binding.epoch);
                let key = key.ok_or(Refusal::Envelope)?;
                let opened = envelope.open(key, &binding).map_err(|_| Refusal::Envelope)?;
                let opening =
                    decode_exact::<Opening>(&opened.content, &()).map_err(|_| Refusal::Protocol)?;
                let (sealer, opener) = (opened.sealer, opened.opener);
                Ok(Greeting::Asked(Box::new(Asked { binding, opening, sealer, opener })))
            }
            _ => Err(Refusal::Protocol),
        }
    }
}
