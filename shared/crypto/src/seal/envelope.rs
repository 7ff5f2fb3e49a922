//! One sealed message to one node, and the keys that follow from it.

use bytes::Bytes;
use commonware_codec::{Encode as _, EncodeSize, Error, RangeCfg, Read, ReadExt as _, Write};
use hpke::{Deserializable as _, OpModeR, OpModeS, Serializable as _};
use nesa_primitives::{Address, Hash, codec_struct};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{
    Aead, Kdf, Kem, Prekey, PrekeySecret, SealError,
    padding::{pad, unpad},
    session::{Opener, Sealer, TAG},
};

/// Bytes of an encapsulated X-Wing key.
const ENCAPSULATED: usize = 1120;
/// Bytes that an envelope adds to its padded content.
pub const ENVELOPE_OVERHEAD: usize = ENCAPSULATED + TAG + 8;
/// Most bytes of content.
const MAX_CONTENT: usize = 1 << 24;

/// The part a node plays in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role {
    /// Which shard of the model, from 0.
    pub shard: u8,
    /// Which of the candidates drawn for it, from 0; spares count on.
    pub seat: u8,
}

codec_struct!(Role { shard, seat });

/// What an envelope is for. It opens under exactly this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The chain, as the digest of its trust root.
    pub chain: Hash,
    /// The paid query.
    pub query: Hash,
    /// Digest of the model.
    pub model: Hash,
    /// The recipient.
    pub node: Address,
    /// Its part.
    pub role: Role,
    /// Epoch of the prekey it is sealed to.
    pub epoch: u64,
}

codec_struct!(Binding { chain, query, model, node, role, epoch });

impl Binding {
    fn info(&self) -> Hash {
        Hash::of("sealed envelope", &self.chain, self)
    }
}

/// Limits of an envelope's decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeLimits {
    /// Bytes of ciphertext.
    pub ciphertext: usize,
}

/// An envelope as it travels.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    encapsulated: Bytes,
    ciphertext: Bytes,
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Envelope({} bytes)", self.ciphertext.len())
    }
}

/// What the sender has after sealing.
pub struct Sealed {
    /// To be sent.
    pub envelope: Envelope,
    /// Seals what the sender sends after it.
    pub sealer: Sealer,
    /// Opens what the recipient answers.
    pub opener: Opener,
}

/// What the recipient has after opening.
pub struct Opened {
    /// The content. Erased when dropped.
    pub content: Zeroizing<Vec<u8>>,
    /// Seals what the recipient answers.
    pub sealer: Sealer,
    /// Opens what the sender sends next.
    pub opener: Opener,
}

const FROM_SENDER: &[u8] = b"nesa/1 sealed session, from the sender";
const FROM_RECIPIENT: &[u8] = b"nesa/1 sealed session, from the recipient";

impl Envelope {
    /// Seals `content` to `prekey`, which the caller has verified, for `binding`.
    ///
    /// # Errors
    /// [`SealError::Length`] for content over 16 MiB, [`SealError::Key`] for a prekey that is not
    /// `binding`'s or holds no key.
    pub fn seal(
        prekey: &Prekey,
        binding: &Binding,
        content: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Sealed, SealError> {
        if content.len() > MAX_CONTENT {
            return Err(SealError::Length { got: content.len(), max: MAX_CONTENT });
        }
        if prekey.node != binding.node || prekey.epoch != binding.epoch {
            return Err(SealError::Key);
        }
        let public = prekey.public().ok_or(SealError::Key)?;
        let (encapsulated, mut context) = hpke::setup_sender_with_rng::<Aead, Kdf, Kem>(
            &OpModeS::Base,
            &public,
            &binding.info().0,
            rng,
        )
        .map_err(|_| SealError::Key)?;
        let plain = pad(content).map(Zeroizing::new);
        let length = SealError::Length { got: content.len(), max: MAX_CONTENT };
        let plain = plain.ok_or(length)?;
        let ciphertext = context.seal(&plain, &binding.encode()).map_err(|_| SealError::Key)?;
        let key = |label| export(|out| context.export(label, out));
        Ok(Sealed {
            envelope: Self {
                encapsulated: encapsulated.to_bytes().to_vec().into(),
                ciphertext: ciphertext.into(),
            },
            sealer: Sealer::new(key(FROM_SENDER)?),
            opener: Opener::new(key(FROM_RECIPIENT)?),
        })
    }

    /// Opens the envelope with the secret half of the prekey that `binding` names.
    ///
    /// # Errors
    /// [`SealError::Refused`], whatever is wrong.
    pub fn open(&self, secret: &PrekeySecret, binding: &Binding) -> Result<Opened, SealError> {
        let prekey = secret.prekey();
        if prekey.node != binding.node || prekey.epoch != binding.epoch {
            return Err(SealError::Refused);
        }
        let key = secret.secret().ok_or(SealError::Refused)?;
        let encapsulated = <Kem as hpke::Kem>::EncappedKey::from_bytes(&self.encapsulated)
            .map_err(|_| SealError::Refused)?;
        let mut context = hpke::setup_receiver::<Aead, Kdf, Kem>(
            &OpModeR::Base,
            &key,
            &encapsulated,
            &binding.info().0,
        )
        .map_err(|_| SealError::Refused)?;
        let plain =
            context.open(&self.ciphertext, &binding.encode()).map_err(|_| SealError::Refused)?;
        let content = unpad(plain).map(Zeroizing::new).ok_or(SealError::Refused)?;
        let key = |label| export(|out| context.export(label, out));
        Ok(Opened {
            content,
            sealer: Sealer::new(key(FROM_RECIPIENT)?),
            opener: Opener::new(key(FROM_SENDER)?),
        })
    }

    /// Bytes that travel.
    pub fn len(&self) -> usize {
        self.encode_size()
    }

    /// Never: an envelope has at least its encapsulated key.
    pub fn is_empty(&self) -> bool {
        false
    }
}

fn export(
    export: impl FnOnce(&mut [u8]) -> Result<(), hpke::HpkeError>,
) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let mut key = Zeroizing::new([0u8; 32]);
    export(key.as_mut()).map_err(|_| SealError::Key)?;
    Ok(key)
}

impl Write for Envelope {
    fn write(&self, buf: &mut impl bytes::BufMut) {
        buf.put_slice(&self.encapsulated);
        self.ciphertext.write(buf);
    }
}

impl EncodeSize for Envelope {
    fn encode_size(&self) -> usize {
        self.encapsulated.len() + self.ciphertext.encode_size()
    }
}

impl Read for Envelope {
    type Cfg = EnvelopeLimits;
    fn read_cfg(
        buf: &mut impl commonware_codec::Buf,
        limits: &EnvelopeLimits,
    ) -> Result<Self, Error> {
        let encapsulated = <[u8; ENCAPSULATED]>::read(buf)?;
        let ciphertext = Bytes::read_cfg(buf, &RangeCfg::from(..=limits.ciphertext))?;
        Ok(Self { encapsulated: encapsulated.to_vec().into(), ciphertext })
    }
}
