//! Keys for a local network, dealt by one party.
//!
//! **The dealer knows the group secret and could forge certificates.** A network whose validators
//! do not trust one machine runs a distributed key generation instead; the interface says which
//! of the two happened. Everything here draws from the generator it is given, so the caller
//! decides where the randomness comes from.

use bytes::BufMut;
use commonware_codec::{
    Buf, Copying, DecodeExt as _, Encode as _, EncodeSize, Error as CodecError, Read, ReadExt as _,
    Write,
};
use commonware_consensus::simplex::types::{Finalize, Proposal};
use commonware_cryptography::{
    Signer as _,
    bls12381::{
        dkg::feldman_desmedt,
        primitives::{
            group::Share,
            sharing::{Mode, ModeVersion, Sharing},
            variant::MinSig,
        },
    },
    ed25519,
};
use commonware_parallel::Sequential;
use commonware_utils::{N3f1, NZU32, TryFromIterator as _, iter::NonEmpty, ordered::Set};
use nesa_chain::{
    header::{Header, ValidatorKey},
    trust::TrustRoot,
};
use nesa_crypto::sign::SecretKey;
use nesa_primitives::{Address, DecodeError, decode_exact};
use nesa_verify::{Finalization, Scheme};
use rand_core::CryptoRng;
use std::num::NonZeroU32;
use zeroize::Zeroizing;

/// Most validators of one network.
pub const MAX_VALIDATORS: NonZeroU32 = NZU32!(256);

/// Why keys could not be dealt.
#[derive(Debug, thiserror::Error)]
pub enum DealError {
    /// The number of validators is out of range.
    #[error("got {got} validators, expected 1 to {MAX_VALIDATORS}")]
    Count {
        /// The number asked for.
        got: u32,
    },
    /// The sharing of the group secret failed.
    #[error("the group secret could not be shared: {0}")]
    Sharing(String),
}

/// What one validator must keep secret, and the public polynomial it checks partial votes with.
#[derive(Clone)]
pub struct ValidatorKeys {
    /// Signs headers, votes' envelopes and the peer handshake. Names the validator.
    pub identity: ed25519::PrivateKey,
    /// This validator's share of the group secret.
    pub share: Share,
    /// The public polynomial; its constant term is the group key.
    pub sharing: Sharing<MinSig>,
}

impl ValidatorKeys {
    /// The public name of the validator.
    pub fn public(&self) -> ValidatorKey {
        self.identity.public_key()
    }

    /// The same key in the form that signs headers and transactions.
    pub fn secret_key(&self) -> SecretKey {
        let mut seed = Zeroizing::new([0u8; 32]);
        let encoded = Zeroizing::new(self.identity.encode().to_vec());
        seed.copy_from_slice(&encoded);
        SecretKey::from_seed(&seed)
    }

    /// The validator's address: the bytes of its public key.
    pub fn address(&self) -> Address {
        self.secret_key().public()
    }

    /// The group key: 96 bytes, the same for every validator of the network.
    pub fn group_key(&self) -> [u8; nesa_verify::certificate::GROUP_KEY_BYTES] {
        group_key(&self.sharing)
    }

    /// The encoding in which the keys lie in a validator's directory. Secret.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode().to_vec()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_exact(bytes, &())
    }
}

impl Write for ValidatorKeys {
    fn write(&self, buf: &mut impl BufMut) {
        self.identity.write(buf);
        self.share.write(buf);
        self.sharing.write(buf);
    }
}

impl EncodeSize for ValidatorKeys {
    fn encode_size(&self) -> usize {
        self.identity.encode_size() + self.share.encode_size() + self.sharing.encode_size()
    }
}

impl Read for ValidatorKeys {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, CodecError> {
        Ok(Self {
            identity: ed25519::PrivateKey::read(buf)?,
            share: Share::read(buf)?,
            sharing: Sharing::read_cfg(buf, &(MAX_VALIDATORS, ModeVersion::v0()))?,
        })
    }
}

/// A dealt network: the group key for its trust root, and the keys of each validator.
#[derive(Clone)]
pub struct Dealt {
    /// The group key, a compressed G2 point.
    pub group_key: [u8; nesa_verify::certificate::GROUP_KEY_BYTES],
    /// One entry per validator, in the order of their public keys.
    pub validators: Vec<ValidatorKeys>,
}

/// Deals keys for `count` validators; any `count - ⌊(count-1)/3⌋` of them sign for the group.
///
/// # Errors
/// [`DealError`] when the count is out of range.
pub fn deal(count: u32, mut rng: impl CryptoRng) -> Result<Dealt, DealError> {
    if count == 0 || count > MAX_VALIDATORS.get() {
        return Err(DealError::Count { got: count });
    }
    let mut identities = Vec::new();
    for _ in 0..count {
        let mut seed = Zeroizing::new([0u8; 32]);
        rng.fill_bytes(seed.as_mut());
        let key = ed25519::PrivateKey::decode(Copying(&seed[..]))
            .map_err(|error| DealError::Sharing(error.to_string()))?;
        identities.push(key);
    }
    identities.sort_by_key(|key| key.public_key());
    let players = Set::try_from_iter(identities.iter().map(|key| key.public_key()))
        .map_err(|_| DealError::Sharing("two validators drew the same key".into()))?;
    let (output, shares) =
        feldman_desmedt::deal::<MinSig, _, N3f1>(&mut rng, Mode::NonZeroCounter, players)
            .map_err(|error| DealError::Sharing(error.to_string()))?;
    let sharing = output.public().clone();
    let validators = identities
        .into_iter()
        .zip(shares)
        .map(|(identity, (_, share))| ValidatorKeys { identity, share, sharing: sharing.clone() })
        .collect();
    Ok(Dealt { group_key: group_key(&sharing), validators })
}

impl Dealt {
    /// The certificate that this group would give `header` on the chain of `trust`.
    ///
    /// Under the group's own trust root it verifies: that is what "its dealer could forge" means.
    /// Under any other it must be refused, which rehearsals with a forging validator show.
    ///
    /// # Errors
    /// [`DealError::Sharing`] when the shares do not sign together.
    pub fn certify(&self, trust: &TrustRoot, header: &Header) -> Result<Finalization, DealError> {
        let failed = |what: &str| DealError::Sharing(what.to_owned());
        let namespace = trust.consensus_namespace();
        let players = Set::try_from_iter(self.validators.iter().map(ValidatorKeys::public))
            .map_err(|_| failed("two validators of one key"))?;
        let context = &header.fields.context;
        let proposal = Proposal::new(context.round, context.parent.0, header.digest());
        let mut votes = Vec::with_capacity(self.validators.len());
        let mut schemes = Vec::with_capacity(self.validators.len());
        for keys in &self.validators {
            let (sharing, share) = (keys.sharing.clone(), keys.share.clone());
            let scheme = Scheme::signer(&namespace, players.clone(), sharing, share)
                .ok_or_else(|| failed("a share outside of its group"))?;
            let vote = Finalize::sign(&scheme, proposal.clone());
            votes.push(vote.ok_or_else(|| failed("a scheme that does not sign"))?);
            schemes.push(scheme);
        }
        let (Some(scheme), Some((first, rest))) = (schemes.first(), votes.split_first()) else {
            return Err(DealError::Count { got: 0 });
        };
        Finalization::from_finalizes(scheme, NonEmpty::new(first, rest.iter()), &Sequential)
            .map_err(|_| failed("votes that do not combine"))
    }
}

fn group_key(sharing: &Sharing<MinSig>) -> [u8; nesa_verify::certificate::GROUP_KEY_BYTES] {
    let mut bytes = [0u8; nesa_verify::certificate::GROUP_KEY_BYTES];
    bytes.copy_from_slice(&sharing.public().encode());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_consensus::types::{Epoch, Round, View};
    use nesa_chain::header::{Context, HeaderFields, StateCommitment, to_digest};
    use nesa_primitives::{ChainId, Hash};
    use rand::{SeedableRng as _, rngs::StdRng};

    #[test]
    fn keys_survive_their_file_and_agree_on_the_group() {
        let dealt = deal(4, StdRng::seed_from_u64(1)).unwrap();
        for keys in &dealt.validators {
            let again = ValidatorKeys::from_bytes(&keys.to_bytes()).unwrap();
            assert_eq!(again.public(), keys.public());
            assert_eq!(keys.address().as_bytes(), keys.public().as_ref());
            assert_eq!(again.group_key(), dealt.group_key);
            assert!(ValidatorKeys::from_bytes(&keys.to_bytes()[1..]).is_err());
        }
        assert!(dealt.validators.windows(2).all(|pair| pair[0].public() < pair[1].public()));
    }

    #[test]
    fn a_dealer_can_forge_its_own_chain_and_no_other() {
        let groups = [1, 2].map(|seed| deal(4, StdRng::seed_from_u64(seed)).unwrap());
        let own = TrustRoot {
            group_key: groups[0].group_key,
            genesis: Hash([7; 32]),
            chain_id: ChainId::new("forged").unwrap(),
        };
        let (genesis, keys) = (to_digest(&own.genesis), &groups[0].validators[0]);
        let fields = HeaderFields {
            context: Context {
                round: Round::new(Epoch::zero(), View::new(1)),
                leader: keys.public(),
                parent: (View::zero(), genesis),
            },
            parent: genesis,
            height: 1,
            timestamp_ms: 1,
            tx_root: Hash::ZERO,
            state: StateCommitment { root: genesis, ops_root: genesis, ops_start: 0, ops_end: 1 },
            parent_seed: None,
            skipped_seeds: Vec::new(),
        };
        let header = Header::sign(fields, &own.digest(), &keys.secret_key());
        let judge = |group: &Dealt| {
            let certificate = group.certify(&own, &header).unwrap();
            let verifier = nesa_verify::Verifier::new(&own).unwrap();
            verifier.verify_header(&mut StdRng::seed_from_u64(3), &header, &certificate)
        };
        assert!(judge(&groups[0]).is_valid());
        assert!(judge(&groups[1]).is_invalid());
    }

    #[test]
    fn an_empty_network_is_refused() {
        assert!(matches!(deal(0, StdRng::seed_from_u64(1)), Err(DealError::Count { got: 0 })));
    }
}
