//! Prekeys and envelopes: what happens before the node knows whether it serves a query.

use std::marker::PhantomData;

use bytes::Bytes;
use commonware_codec::{Encode, Read};
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

/// The door of the sealed lane.
pub type Door = DoorOf<Opening>;
/// What a frame at the sealed lane's door leads to.
pub type Greeting = GreetingOf<Opening>;
/// Who asks for a session of the sealed lane.
pub type Asked = AskedOf<Opening>;

/// A node's prekeys on one chain, for envelopes whose content is an `O`. Each lane has prekeys of its own.
pub struct DoorOf<O> {
    chain: Hash,
    identity: SecretKey,
    /// By age; the last is handed out.
    prekeys: Vec<PrekeySecret>,
    content: PhantomData<fn() -> O>,
}

/// What a frame leads to.
pub enum GreetingOf<O> {
    /// An answer.
    Reply(Bytes),
    /// An envelope was opened: somebody asks for a session.
    Asked(Box<AskedOf<O>>),
}

/// Who asks for a session, and for what. Nothing in it is proven but that it was sealed for this node.
pub struct AskedOf<O> {
    /// What the envelope was bound to.
    pub binding: Binding,
    /// Its content.
    pub opening: O,
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener,
}

impl<O: Read<Cfg = ()> + Encode> DoorOf<O> {
    /// A door of the node with this identity. Call [`Door::turn`] before use.
    pub fn new(chain: Hash, identity: SecretKey) -> Self {
        Self { chain, identity, prekeys: Vec::new(), content: PhantomData }
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
    pub fn receive(&self, bytes: &[u8]) -> Result<GreetingOf<O>, Refusal> {
        let limits = FrameLimits { sealed: 0 };
        let node = self.identity.public();
        match decode_exact::<Frame>(bytes, &limits).map_err(|_| Refusal::Protocol)? {
            Frame::Hello { chain, node: to } => {
                if chain != self.chain || to != node {
                    return Err(Refusal::NotDrawn);
                }
                let key = self.prekeys.last().ok_or(Refusal::Unavailable)?;
                Ok(GreetingOf::Reply(Frame::Prekey(key.prekey().clone()).encode()))
            }
            Frame::Open { binding, envelope } => {
                if binding.chain != self.chain || binding.node != node {
                    return Err(Refusal::NotDrawn);
                }
                let key = self.prekeys.iter().find(|key| key.prekey().epoch == binding.epoch);
                let key = key.ok_or(Refusal::Envelope)?;
                let opened = envelope.open(key, &binding).map_err(|_| Refusal::Envelope)?;
                let opening =
                    decode_exact::<O>(&opened.content, &()).map_err(|_| Refusal::Protocol)?;
                let (sealer, opener) = (opened.sealer, opened.opener);
                Ok(GreetingOf::Asked(Box::new(AskedOf { binding, opening, sealer, opener })))
            }
            _ => Err(Refusal::Protocol),
        }
    }
}
