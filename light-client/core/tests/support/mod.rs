//! A chain dealt and signed inside the test: real certificates, real seeds, no network.
#![allow(dead_code)]

pub(crate) mod liars;

use commonware_codec::Encode as _;
use commonware_consensus::{
    simplex::{
        scheme::bls12381_threshold::vrf::Seedable as _,
        types::{Finalize, Proposal},
    },
    types::{Epoch, Round, View},
};
use commonware_cryptography::{
    Signer as _,
    bls12381::{
        dkg::feldman_desmedt,
        primitives::{sharing::Mode, variant::MinSig},
    },
    ed25519,
};
use commonware_math::algebra::Random as _;
use commonware_parallel::Sequential;
use commonware_utils::{N3f1, TryFromIterator as _, iter::NonEmpty, ordered::Set};
use nesa_chain::{
    header::{Context, Digest, Header, HeaderFields, SeedSignature, StateCommitment, to_digest},
    trust::TrustRoot,
};
use nesa_crypto::SecretKey;
use nesa_light::sync::Certified;
use nesa_primitives::{ChainId, Hash};
use nesa_verify::{Finalization, Scheme};
use rand::{SeedableRng as _, rngs::StdRng};

/// The keys of four validators, all in one hand.
pub(crate) struct Quorum {
    /// The trust root that follows from them.
    pub(crate) trust: TrustRoot,
    signers: Vec<Scheme>,
    identities: Vec<ed25519::PrivateKey>,
}

impl Quorum {
    /// Deals keys from `seed` for the chain `name`.
    pub(crate) fn deal(seed: u64, name: &str) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut identities: Vec<_> =
            (0..4).map(|_| ed25519::PrivateKey::random(&mut rng)).collect();
        identities.sort_by_key(|key| key.public_key());
        let players: Set<_> =
            Set::try_from_iter(identities.iter().map(|key| key.public_key())).unwrap();
        let (output, shares) = feldman_desmedt::deal::<MinSig, _, N3f1>(
            &mut rng,
            Mode::NonZeroCounter,
            players.clone(),
        )
        .unwrap();
        let sharing = output.public().clone();
        let mut group_key = [0; 96];
        group_key.copy_from_slice(&sharing.public().encode());
        let trust = TrustRoot {
            group_key,
            genesis: Hash::of_bytes("test genesis", &Hash::ZERO, name.as_bytes()),
            chain_id: ChainId::new(name).unwrap(),
        };
        let namespace = trust.consensus_namespace();
        let signers = shares
            .into_iter()
            .map(|(_, share)| {
                Scheme::signer(&namespace, players.clone(), sharing.clone(), share).unwrap()
            })
            .collect();
        Self { trust, signers, identities }
    }

    /// The same keys under another chain id: what a wrong chain id looks like.
    pub(crate) fn renamed(&self, name: &str) -> TrustRoot {
        TrustRoot { chain_id: ChainId::new(name).unwrap(), ..self.trust.clone() }
    }

    /// A header on top of `parent` in `view`; `salt` makes another one of the same place.
    pub(crate) fn header(&self, parent: Option<&Header>, view: u64, salt: u64) -> Header {
        self.block(parent, view, salt, Hash::ZERO)
    }

    /// The same, with the root of its transactions.
    pub(crate) fn block(
        &self,
        parent: Option<&Header>,
        view: u64,
        salt: u64,
        tx_root: Hash,
    ) -> Header {
        let (parent_digest, parent_view, height, time) = match parent {
            Some(parent) => {
                (parent.digest(), parent.view(), parent.height() + 1, parent.timestamp_ms())
            }
            None => (to_digest(&self.trust.genesis), 0, 1, 1_700_000_000_000),
        };
        let parent_seed = (parent_view > 0).then(|| SeedSignature(self.seed(parent_view)));
        let round = Round::new(Epoch::zero(), View::new(view));
        let leader = &self.identities[view as usize % self.identities.len()];
        let digest = |n: u64| -> Digest {
            to_digest(&Hash::of_bytes("test root", &Hash::ZERO, &n.to_le_bytes()))
        };
        let fields = HeaderFields {
            context: Context {
                round,
                leader: leader.public_key(),
                parent: (View::new(parent_view), parent_digest),
            },
            parent: parent_digest,
            height,
            timestamp_ms: time + 1000 + salt,
            tx_root,
            state: StateCommitment {
                root: digest(salt),
                ops_root: digest(salt + 1),
                ops_start: 0,
                ops_end: 1,
            },
            parent_seed,
            skipped_seeds: Vec::new(),
        };
        let mut secret = [0; 32];
        secret.copy_from_slice(&leader.encode());
        Header::sign(fields, &self.trust.digest(), &SecretKey::from_seed(&secret))
    }

    /// The certificate of three of the four for `header`.
    pub(crate) fn certify(&self, header: &Header) -> Finalization {
        self.finalize(Proposal::new(
            header.fields.context.round,
            header.fields.context.parent.0,
            header.digest(),
        ))
    }

    fn finalize(&self, proposal: Proposal<Digest>) -> Finalization {
        let votes: Vec<_> = self.signers[..3]
            .iter()
            .map(|signer| Finalize::sign(signer, proposal.clone()).unwrap())
            .collect();
        let (first, rest) = votes.split_first().unwrap();
        let votes = NonEmpty::new(first, rest.iter());
        Finalization::from_finalizes(&self.signers[0], votes, &Sequential).unwrap()
    }

    /// The seed of a view: unique, whatever was finalized in it.
    pub(crate) fn seed(&self, view: u64) -> [u8; 48] {
        let round = Round::new(Epoch::zero(), View::new(view));
        let any = to_digest(&Hash::ZERO);
        let seed = self.finalize(Proposal::new(round, View::zero(), any)).seed();
        let mut bytes = [0; 48];
        bytes.copy_from_slice(&seed.signature.encode());
        bytes
    }

    /// `length` headers from height 1, each with its own certificate, one view apart.
    pub(crate) fn chain(&self, length: u64) -> Vec<Certified> {
        let mut chain: Vec<Certified> = Vec::new();
        for view in 1..=length {
            let header = self.header(chain.last().map(|item| &item.header), view, 0);
            let finalization = Some(self.certify(&header));
            chain.push(Certified { header, finalization });
        }
        chain
    }
}
