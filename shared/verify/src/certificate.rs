//! Finalization certificates and round seeds under one group key.
//!
//! A certificate is two BLS12-381 threshold signatures of the round: the vote for the block's
//! digest and the seed. Its size does not depend on the number of validators, and checking it
//! needs only the group key of the [`TrustRoot`].
//!
//! What a valid certificate means: at least 2f+1 of 3f+1 validators of *this* chain (the
//! consensus namespace contains the digest of the trust root) voted to finalize this header, as
//! long as no quorum of key shares, today's or a past one, has leaked.

use commonware_codec::{Copying, DecodeExt as _, Encode as _, FixedSize as _};
use commonware_consensus::{
    simplex::{
        scheme::bls12381_threshold::vrf::{self, Seed, Seedable as _},
        types::{Finalization as SimplexFinalization, Subject, verify_certificates},
    },
    types::{Epoch, Round, View},
};
use commonware_cryptography::bls12381::primitives::variant::{MinSig, Variant};
use commonware_parallel::Sequential;
use nesa_chain::{
    header::{Digest, Header, MAX_HEADER_BYTES, SEED_BYTES, SeedSignature, ValidatorKey},
    rules::SeedVerifier,
    trust::TrustRoot,
};
use nesa_primitives::{DecodeError, Hash, Verdict, decode_exact};
use rand_core::CryptoRng;

/// The signature scheme of consensus: threshold BLS12-381 with a seed for every round.
pub type Scheme = vrf::Scheme<ValidatorKey, MinSig>;
/// A group public key: a compressed G2 point, 96 bytes.
pub type GroupKey = <MinSig as Variant>::Public;
/// Proof that a quorum finalized a header. 131 to 158 bytes encoded.
pub type Finalization = SimplexFinalization<Scheme, Digest>;

/// Upper bound of an encoded [`Finalization`], in bytes, for any number of validators.
pub const MAX_FINALIZATION_BYTES: usize = 192;

/// Why a trust root cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The group key is not a point of the prime-order subgroup of G2.
    #[error("the group key of the trust root is not a valid BLS12-381 key")]
    GroupKey,
}

/// A header that a quorum finalized, with what follows from its certificate.
///
/// Only [`Verifier`] makes one, so holding it is proof that the check was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedHeader {
    header: Header,
    digest: Digest,
    seed: Option<SeedSignature>,
}

impl VerifiedHeader {
    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The digest that consensus finalized.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The seed of `view`, if this header or its certificate shows it.
    ///
    /// The quorum that finalized the header has checked the seeds in it; [`Verifier::verify_seed`]
    /// checks one again.
    pub fn seed_of(&self, view: u64) -> Option<&SeedSignature> {
        if view == self.header.view() {
            return self.seed.as_ref();
        }
        self.header.seeds().find(|(of, _)| *of == view).map(|(_, seed)| seed)
    }

    /// Seed of the header's own view; absent when the header was finalized through a descendant.
    pub fn seed(&self) -> Option<&SeedSignature> {
        self.seed.as_ref()
    }

    /// Gives up the proof and keeps the header.
    pub fn into_header(self) -> Header {
        self.header
    }
}

/// Checks certificates and seeds of one chain.
#[derive(Debug, Clone)]
pub struct Verifier {
    chain: Hash,
    genesis: Hash,
    scheme: Scheme,
}

impl Verifier {
    /// A verifier that trusts `trust` and nothing else.
    ///
    /// # Errors
    /// [`TrustError::GroupKey`] when the group key is not a curve point of the right order.
    pub fn new(trust: &TrustRoot) -> Result<Self, TrustError> {
        let key =
            GroupKey::decode(Copying(&trust.group_key[..])).map_err(|_| TrustError::GroupKey)?;
        let scheme = Scheme::certificate_verifier(&trust.consensus_namespace(), key);
        Ok(Self { chain: trust.digest(), genesis: trust.genesis, scheme })
    }

    /// Digest of the trust root: the chain's name in every signature and hash.
    pub fn chain(&self) -> &Hash {
        &self.chain
    }

    /// Checks that a quorum finalized exactly this header.
    ///
    /// `rng` weighs the batched pairing check: were it predictable, two wrong signatures could be
    /// made to cancel. The seed of the *parent's* view inside the header is checked too.
    pub fn verify_header(
        &self,
        rng: &mut impl CryptoRng,
        header: &Header,
        finalization: &Finalization,
    ) -> Verdict<VerifiedHeader> {
        let digest = header.digest();
        if let Some(refusal) = mismatch(header, &digest, finalization) {
            return refusal;
        }
        if !finalization.verify(rng, &self.scheme, &Sequential) {
            return bad_certificate(header);
        }
        if let Some(refusal) = self.parent_seed(header, None) {
            return refusal;
        }
        Verdict::Valid(VerifiedHeader {
            header: header.clone(),
            digest,
            seed: Some(seed_of(finalization)),
        })
    }

    /// Checks many headers at once, about five times faster per header than one by one.
    ///
    /// Gives one verdict per item, in order, so a single forged item is named and its neighbours
    /// keep their verdicts. A header without a certificate is valid when the next item is valid
    /// and names it as its parent, and undecided otherwise.
    pub fn verify_batch(
        &self,
        rng: &mut impl CryptoRng,
        items: &[(Header, Option<Finalization>)],
    ) -> Vec<Verdict<VerifiedHeader>> {
        let digests: Vec<Digest> = items.iter().map(|(header, _)| header.digest()).collect();
        let mut verdicts: Vec<Option<Verdict<VerifiedHeader>>> = items
            .iter()
            .zip(&digests)
            .map(|((header, finalization), digest)| {
                finalization.as_ref().and_then(|f| mismatch(header, digest, f))
            })
            .collect();

        // One multi-pairing for every certificate that at least speaks about its header.
        let mut certified = Vec::new();
        let mut subjects = Vec::new();
        for (index, (_, finalization)) in items.iter().enumerate() {
            if let (Some(finalization), None) = (finalization, &verdicts[index]) {
                certified.push(index);
                subjects.push((
                    Subject::Finalize { proposal: &finalization.proposal },
                    &finalization.certificate,
                ));
            }
        }
        let valid = verify_certificates(rng, &self.scheme, &subjects, &Sequential);
        let mut seeds: Vec<Option<SeedSignature>> = vec![None; items.len()];
        for (index, valid) in certified.into_iter().zip(valid) {
            match (&items[index].1, valid) {
                (Some(finalization), true) => seeds[index] = Some(seed_of(finalization)),
                _ => verdicts[index] = Some(bad_certificate(&items[index].0)),
            }
        }

        // From the newest to the oldest, so that a certificate also vouches for its ancestors.
        for index in (0..items.len()).rev() {
            if verdicts[index].is_some() {
                continue;
            }
            let header = &items[index].0;
            let child = items.get(index + 1).zip(verdicts.get(index + 1).and_then(Option::as_ref));
            let vouched = matches!(child, Some(((child, _), Verdict::Valid(_)))
                if child.fields.parent == digests[index] && !header.is_genesis());
            let verdict = if seeds[index].is_none() && !vouched {
                Verdict::Undecided {
                    missing: format!(
                        "a certificate for height {} or a descendant",
                        header.height()
                    ),
                }
            } else {
                let known = index.checked_sub(1).and_then(|before| {
                    (digests[before] == header.fields.parent).then_some(seeds[before]).flatten()
                });
                self.parent_seed(header, known).unwrap_or_else(|| {
                    Verdict::Valid(VerifiedHeader {
                        header: header.clone(),
                        digest: digests[index],
                        seed: seeds[index],
                    })
                })
            };
            verdicts[index] = Some(verdict);
        }
        verdicts
            .into_iter()
            .map(|verdict| {
                verdict.unwrap_or_else(|| Verdict::Undecided { missing: "a verdict".into() })
            })
            .collect()
    }

    /// Checks the seed of `view` (48 bytes: the compressed threshold signature of the round).
    pub fn verify_seed(&self, view: u64, seed: &[u8]) -> Verdict<SeedSignature> {
        let what = "seed";
        let refused = |got: String| Verdict::Invalid {
            got,
            expected: format!("the threshold signature of view {view}"),
            what,
        };
        let Ok(bytes) = <[u8; SEED_BYTES]>::try_from(seed) else {
            return refused(format!("{} bytes", seed.len()));
        };
        let Ok(signature) = <MinSig as Variant>::Signature::decode(Copying(seed)) else {
            return refused("bytes that are no curve point".into());
        };
        let round = Round::new(Epoch::zero(), View::new(view));
        if Seed::<MinSig>::new(round, signature).verify(&self.scheme) {
            Verdict::Valid(SeedSignature(bytes))
        } else {
            refused("a signature of something else".into())
        }
    }

    /// Checks the seed of the parent's view that a header carries. `None` means it is right.
    ///
    /// `known` is that seed as a verified certificate gave it: the signature is unique, so equal
    /// bytes spare a pairing.
    fn parent_seed<T>(&self, header: &Header, known: Option<SeedSignature>) -> Option<Verdict<T>> {
        let view = header.parent_view();
        let what = "parent seed";
        match (view, &header.fields.parent_seed) {
            (0, None) => None,
            (0, Some(_)) => Some(Verdict::Invalid {
                got: "a seed".into(),
                expected: "none: the genesis block has no seed".into(),
                what,
            }),
            (_, None) => Some(Verdict::Invalid {
                got: "none".into(),
                expected: format!("the seed of view {view}"),
                what,
            }),
            (_, Some(seed)) if known.as_ref() == Some(seed) => None,
            (_, Some(seed)) => match self.verify_seed(view, &seed.0) {
                Verdict::Valid(_) => None,
                Verdict::Invalid { got, expected, .. } => {
                    Some(Verdict::Invalid { got, expected, what })
                }
                Verdict::Undecided { missing } => Some(Verdict::Undecided { missing }),
            },
        }
    }

    /// Checks all seeds that a header carries, without its certificate: the parent's, and those of
    /// skipped views, which must lie between the parent's view and the header's, ascending.
    pub fn verify_seeds(&self, header: &Header) -> Verdict<()> {
        if let Some(refusal) = self.parent_seed(header, None) {
            return refusal;
        }
        if !header.skipped_in_order() {
            return Verdict::invalid(
                "skipped seeds",
                "views out of order",
                format!("views between {} and {}", header.parent_view(), header.view()),
            );
        }
        for (view, seed) in &header.fields.skipped_seeds {
            let verdict = self.verify_seed(*view, &seed.0);
            if !verdict.is_valid() {
                return verdict.map(drop);
            }
        }
        Verdict::Valid(())
    }

    /// Checks that `child` extends `parent`: digest, height, view and time.
    pub fn verify_link(&self, parent: &Header, child: &Header) -> Verdict<()> {
        let refuse = |what, got: String, expected: String| Verdict::Invalid { got, expected, what };
        if child.fields.parent != parent.digest() {
            return refuse(
                "parent digest",
                child.fields.parent.to_string(),
                parent.digest().to_string(),
            );
        }
        if Some(child.height()) != parent.height().checked_add(1) {
            return refuse(
                "height",
                child.height().to_string(),
                format!("one more than {}", parent.height()),
            );
        }
        if child.parent_view() != parent.view() {
            return refuse(
                "parent view",
                child.parent_view().to_string(),
                parent.view().to_string(),
            );
        }
        if child.timestamp_ms() <= parent.timestamp_ms() {
            return refuse(
                "timestamp",
                child.timestamp_ms().to_string(),
                format!("more than {}", parent.timestamp_ms()),
            );
        }
        Verdict::Valid(())
    }

    /// Whether `header` is a first block that grew from the genesis of the trust root.
    pub fn verify_genesis(&self, header: &Header) -> Verdict<()> {
        let parent = nesa_chain::header::to_hash(&header.fields.parent);
        if header.is_genesis() && parent == self.genesis {
            return Verdict::Valid(());
        }
        Verdict::Invalid {
            got: parent.to_string(),
            expected: self.genesis.to_string(),
            what: "genesis digest",
        }
    }
}

impl SeedVerifier for Verifier {
    fn verify_seed(&self, view: u64, seed: &[u8]) -> bool {
        matches!(Verifier::verify_seed(self, view, seed), Verdict::Valid(_))
    }
}

/// Decodes a header from exactly `bytes`.
///
/// # Errors
/// [`DecodeError`] when the bytes are malformed, too many or not canonical.
pub fn decode_header(bytes: &[u8]) -> Result<Header, DecodeError> {
    limited(bytes, MAX_HEADER_BYTES)?;
    decode_exact(bytes, &())
}

/// Decodes a finalization certificate from exactly `bytes`.
///
/// # Errors
/// [`DecodeError`] when the bytes are malformed, too many or not canonical.
pub fn decode_finalization(bytes: &[u8]) -> Result<Finalization, DecodeError> {
    limited(bytes, MAX_FINALIZATION_BYTES)?;
    decode_exact(bytes, &())
}

fn limited(bytes: &[u8], limit: usize) -> Result<(), DecodeError> {
    if bytes.len() > limit {
        return Err(commonware_codec::Error::InvalidLength(bytes.len()).into());
    }
    Ok(())
}

/// Size of the group key in a trust root.
pub const GROUP_KEY_BYTES: usize = GroupKey::SIZE;

/// Seed inside a certificate that was verified.
fn seed_of(finalization: &Finalization) -> SeedSignature {
    let mut bytes = [0u8; SEED_BYTES];
    bytes.copy_from_slice(&finalization.seed().signature.encode());
    SeedSignature(bytes)
}

/// Refuses a certificate that speaks about something else than the header.
fn mismatch(
    header: &Header,
    digest: &Digest,
    finalization: &Finalization,
) -> Option<Verdict<VerifiedHeader>> {
    let proposal = &finalization.proposal;
    let context = &header.fields.context;
    if proposal.payload != *digest {
        return Some(Verdict::Invalid {
            got: proposal.payload.to_string(),
            expected: digest.to_string(),
            what: "certified digest",
        });
    }
    if proposal.round != context.round || proposal.parent != context.parent.0 {
        return Some(Verdict::Invalid {
            got: format!("{:?} on {:?}", proposal.round, proposal.parent),
            expected: format!("{:?} on {:?}", context.round, context.parent.0),
            what: "certified round",
        });
    }
    if proposal.round.epoch() != Epoch::zero() {
        return Some(Verdict::Invalid {
            got: format!("{:?}", proposal.round.epoch()),
            expected: "epoch 0: the chain has no key rotation yet".into(),
            what: "epoch",
        });
    }
    None
}

fn bad_certificate(header: &Header) -> Verdict<VerifiedHeader> {
    Verdict::Invalid {
        got: "signatures that do not verify".into(),
        expected: format!("vote and seed of view {} under the group key", header.view()),
        what: "certificate",
    }
}
