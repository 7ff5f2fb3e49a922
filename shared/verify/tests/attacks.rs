//! Everything a liar could hand to a light client in place of a header, a certificate, a seed or a
//! state proof. A small network of four key holders makes the honest originals.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use commonware_codec::{Copying, DecodeExt as _, Encode as _};
use commonware_consensus::{
    simplex::{
        scheme::bls12381_threshold::vrf::Seedable as _,
        types::{Finalize, Proposal},
    },
    types::{Epoch, Round, View},
};
use commonware_cryptography::{
    Digest as _,
    bls12381::{
        dkg::feldman_desmedt,
        primitives::{sharing::Mode, variant::MinSig},
    },
};
use commonware_parallel::Sequential;
use commonware_utils::{N3f1, TryFromIterator as _, iter::NonEmpty, ordered::Set};
use nesa_chain::{
    block::tx_root,
    header::{
        Context, Digest, Header, HeaderFields, SeedSignature, StateCommitment, ValidatorKey,
        to_digest,
    },
    trust::TrustRoot,
};
use nesa_crypto::SecretKey;
use nesa_primitives::{ChainId, Hash, Verdict};
use nesa_verify::{
    Evidence, Finalization, Scheme, Verifier,
    certificate::{decode_finalization, decode_header},
    equivocation, state,
};
use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};
use std::sync::LazyLock;

type Items = Vec<(Header, Option<Finalization>)>;

/// Four key holders and the chain they certify.
struct Network {
    trust: TrustRoot,
    schemes: Vec<Scheme>,
    leader: SecretKey,
}

fn seed_of(finalization: &Finalization) -> SeedSignature {
    SeedSignature(finalization.seed().signature.encode().as_ref().try_into().unwrap())
}

impl Network {
    fn new(seed: u64, name: &str) -> Self {
        let keys: Vec<SecretKey> =
            (0..4u8).map(|i| SecretKey::from_seed(&[i + seed as u8; 32])).collect();
        let names: Vec<ValidatorKey> = keys
            .iter()
            .map(|key| ValidatorKey::decode(Copying(&key.public().0[..])).unwrap())
            .collect();
        let players = Set::try_from_iter(names).unwrap();
        let rng = StdRng::seed_from_u64(seed);
        let (output, shares) =
            feldman_desmedt::deal::<MinSig, _, N3f1>(rng, Mode::NonZeroCounter, players.clone())
                .unwrap();
        let trust = TrustRoot {
            group_key: output.public().public().encode().as_ref().try_into().unwrap(),
            genesis: Hash([3; 32]),
            chain_id: ChainId::new(name).unwrap(),
        };
        let schemes = shares
            .into_iter()
            .map(|(_, share)| {
                let namespace = trust.consensus_namespace();
                Scheme::signer(&namespace, players.clone(), output.public().clone(), share).unwrap()
            })
            .collect();
        Self { trust, schemes, leader: keys[0].clone() }
    }

    fn verifier(&self) -> Verifier {
        Verifier::new(&self.trust).unwrap()
    }

    fn certify(&self, header: &Header) -> Finalization {
        let context = &header.fields.context;
        let proposal = Proposal::new(context.round, context.parent.0, header.digest());
        let votes: Vec<_> = self.schemes[1..]
            .iter()
            .map(|scheme| Finalize::sign(scheme, proposal.clone()).unwrap())
            .collect();
        let votes = NonEmpty::try_new(votes.iter()).unwrap();
        Finalization::from_finalizes(&self.schemes[0], votes, &Sequential).unwrap()
    }

    fn sign(&self, fields: HeaderFields) -> Header {
        Header::sign(fields, &self.trust.digest(), &self.leader)
    }

    /// `length` linked blocks in views 1, 2, 4, 5, 6, …: view 3 was skipped.
    fn chain(&self, length: u64) -> Items {
        let mut items: Items = Vec::new();
        for height in 1..=length {
            let view = if height < 3 { height } else { height + 1 };
            let parent = items.last().cloned();
            let parent_digest =
                parent.as_ref().map_or(to_digest(&Hash([9; 32])), |(header, _)| header.digest());
            let parent_view = parent.as_ref().map_or(0, |(header, _)| header.view());
            let skipped = (parent_view + 1..view)
                .filter(|_| parent_view > 0)
                .map(|view| (view, self.seed(view)))
                .collect();
            let header = self.sign(HeaderFields {
                context: Context {
                    round: Round::new(Epoch::zero(), View::new(view)),
                    leader: ValidatorKey::decode(Copying(&self.leader.public().0[..])).unwrap(),
                    parent: (View::new(parent_view), parent_digest),
                },
                parent: parent_digest,
                height,
                timestamp_ms: 1_000 * height,
                tx_root: tx_root(&[]),
                state: StateCommitment {
                    root: Digest::EMPTY,
                    ops_root: Digest::EMPTY,
                    ops_start: 0,
                    ops_end: height,
                },
                parent_seed: parent.map(|(_, certificate)| seed_of(&certificate.unwrap())),
                skipped_seeds: skipped,
            });
            let certificate = self.certify(&header);
            items.push((header, Some(certificate)));
        }
        items
    }

    /// The seed of a view in which nothing was finalized: any certificate of the round has it.
    fn seed(&self, view: u64) -> SeedSignature {
        let round = Round::new(Epoch::zero(), View::new(view));
        let proposal = Proposal::new(round, View::zero(), Digest::EMPTY);
        let votes: Vec<_> = self.schemes[..3]
            .iter()
            .map(|scheme| Finalize::sign(scheme, proposal.clone()).unwrap())
            .collect();
        let votes = NonEmpty::try_new(votes.iter()).unwrap();
        seed_of(&Finalization::from_finalizes(&self.schemes[0], votes, &Sequential).unwrap())
    }
}

static NETWORK: LazyLock<Network> = LazyLock::new(|| Network::new(1, "attacked"));
static CHAIN: LazyLock<Items> = LazyLock::new(|| NETWORK.chain(6));

fn rng() -> StdRng {
    StdRng::seed_from_u64(42)
}

fn check(verifier: &Verifier, item: &(Header, Option<Finalization>)) -> Verdict<()> {
    verifier.verify_header(&mut rng(), &item.0, item.1.as_ref().unwrap()).map(drop)
}

fn refused_as(verdict: &Verdict<()>, expected: &str) {
    assert!(
        matches!(verdict, Verdict::Invalid { what, .. } if *what == expected),
        "expected a refusal of the {expected}: {verdict}"
    );
}

#[test]
fn the_honest_chain_verifies_one_by_one_linked_and_in_a_batch() {
    let verifier = NETWORK.verifier();
    for item in CHAIN.iter() {
        assert!(check(&verifier, item).is_valid());
        assert!(verifier.verify_seeds(&item.0).is_valid());
        assert!(item.0.leader_signed(&NETWORK.trust.digest()));
    }
    for pair in CHAIN.windows(2) {
        assert!(verifier.verify_link(&pair[0].0, &pair[1].0).is_valid());
    }
    let verdicts = verifier.verify_batch(&mut rng(), &CHAIN);
    assert!(verdicts.iter().all(Verdict::is_valid));
    // The skipped view's seed is known from the header that skipped it.
    let third = verdicts[2].clone().valid().unwrap();
    let seed = third.seed_of(3).unwrap();
    assert!(verifier.verify_seed(3, &seed.0).is_valid());
    assert_eq!(third.seed_of(4), third.seed());
}

#[test]
fn a_forged_header_is_refused() {
    let verifier = NETWORK.verifier();
    let (header, certificate) = CHAIN[3].clone();
    let forge = |change: fn(&mut HeaderFields)| {
        let mut fields = header.fields.clone();
        change(&mut fields);
        check(&verifier, &(NETWORK.sign(fields), certificate.clone()))
    };
    for verdict in [
        forge(|fields| fields.height += 1),
        forge(|fields| fields.timestamp_ms += 1),
        forge(|fields| fields.tx_root = Hash([1; 32])),
        forge(|fields| fields.state.root = to_digest(&Hash([1; 32]))),
        forge(|fields| fields.state.ops_end += 1),
        forge(|fields| fields.parent = to_digest(&Hash([1; 32]))),
        forge(|fields| fields.parent_seed = None),
        forge(|fields| fields.skipped_seeds = vec![(1, SeedSignature([0; 48]))]),
    ] {
        refused_as(&verdict, "certified digest");
    }
    // A certificate of another block of the same chain does not help.
    refused_as(&check(&verifier, &(header, CHAIN[4].1.clone())), "certified digest");
}

#[test]
fn a_certified_header_with_a_wrong_parent_seed_is_refused() {
    // Even a quorum cannot make a seed; only one that misbehaves would certify this.
    let verifier = NETWORK.verifier();
    let certified = |change: fn(&mut HeaderFields)| {
        let mut fields = CHAIN[3].0.fields.clone();
        change(&mut fields);
        let header = NETWORK.sign(fields);
        let certificate = NETWORK.certify(&header);
        check(&verifier, &(header, Some(certificate)))
    };
    let swapped = certified(|fields| fields.parent_seed = CHAIN[2].0.fields.parent_seed);
    refused_as(&swapped, "parent seed");
    refused_as(&certified(|fields| fields.parent_seed = None), "parent seed");
    let first = certified(|fields| fields.context.parent.0 = View::zero());
    refused_as(&first, "parent seed");

    // Seeds of skipped views are checked by validators; wrong or disordered ones are found.
    let mut fields = CHAIN[2].0.fields.clone();
    let honest = fields.skipped_seeds[0];
    fields.skipped_seeds = vec![(2, honest.1)];
    refused_as(&verifier.verify_seeds(&NETWORK.sign(fields.clone())), "skipped seeds");
    fields.skipped_seeds = vec![honest, honest];
    refused_as(&verifier.verify_seeds(&NETWORK.sign(fields.clone())), "skipped seeds");
    fields.skipped_seeds = vec![(3, CHAIN[3].0.fields.parent_seed.unwrap())];
    refused_as(&verifier.verify_seeds(&NETWORK.sign(fields)), "seed");
}

#[test]
fn a_swapped_seed_in_a_certificate_is_refused() {
    let verifier = NETWORK.verifier();
    let own = CHAIN[3].1.as_ref().unwrap().encode().to_vec();
    let other = CHAIN[4].1.as_ref().unwrap().encode().to_vec();
    // The seed signature is the certificate's tail.
    let mut swapped = own.clone();
    let tail = own.len() - 48;
    swapped[tail..].copy_from_slice(&other[other.len() - 48..]);
    let swapped = decode_finalization(&swapped).unwrap();
    refused_as(&check(&verifier, &(CHAIN[3].0.clone(), Some(swapped))), "certificate");
    // A seed is the seed of its own view only.
    let seed = &CHAIN[3].0.fields.parent_seed.unwrap().0;
    let view = CHAIN[2].0.view();
    assert!(verifier.verify_seed(view, seed).is_valid());
    refused_as(&verifier.verify_seed(view + 1, seed).map(drop), "seed");
    refused_as(&verifier.verify_seed(view, &seed[1..]).map(drop), "seed");
    refused_as(&verifier.verify_seed(view, &[0; 48]).map(drop), "seed");
    let rules: &dyn nesa_chain::rules::SeedVerifier = &verifier;
    assert!(rules.verify_seed(view, seed) && !rules.verify_seed(view + 1, seed));
}

#[test]
fn another_group_key_chain_name_or_genesis_is_refused() {
    let stranger = Network::new(50, "attacked");
    refused_as(&check(&stranger.verifier(), &CHAIN[3]), "certificate");
    // The same key holders under another name or genesis: the namespace differs.
    for change in [
        |trust: &mut TrustRoot| trust.chain_id = ChainId::new("other").unwrap(),
        |trust: &mut TrustRoot| trust.genesis = Hash([4; 32]),
    ] {
        let mut trust = NETWORK.trust.clone();
        change(&mut trust);
        let verifier = Verifier::new(&trust).unwrap();
        refused_as(&check(&verifier, &CHAIN[3]), "certificate");
        let seed = CHAIN[3].0.fields.parent_seed.unwrap();
        assert!(verifier.verify_seed(CHAIN[2].0.view(), &seed.0).is_invalid());
    }
    let mut trust = NETWORK.trust.clone();
    trust.group_key[95] ^= 1;
    assert!(Verifier::new(&trust).is_err());
    assert!(Verifier::new(&TrustRoot { group_key: [0; 96], ..trust }).is_err());
}

#[test]
fn a_batch_names_its_one_bad_item() {
    let verifier = NETWORK.verifier();
    for bad in 0..CHAIN.len() {
        let mut items = CHAIN.clone();
        let other = (bad + 1) % CHAIN.len();
        // A certificate with the right proposal and another's signatures.
        let mut bytes = items[bad].1.as_ref().unwrap().encode().to_vec();
        let foreign = CHAIN[other].1.as_ref().unwrap().encode();
        let tail = bytes.len() - 96;
        bytes[tail..].copy_from_slice(&foreign[foreign.len() - 96..]);
        items[bad].1 = Some(decode_finalization(&bytes).unwrap());
        let verdicts = verifier.verify_batch(&mut rng(), &items);
        for (index, verdict) in verdicts.iter().enumerate() {
            assert_eq!(verdict.is_invalid(), index == bad, "item {index}: {verdict}");
        }
    }
}

#[test]
fn a_descendant_vouches_for_a_header_without_a_certificate_and_nothing_else_does() {
    let verifier = NETWORK.verifier();
    let mut items = CHAIN.clone();
    items[2].1 = None;
    let verdicts = verifier.verify_batch(&mut rng(), &items);
    assert!(verdicts.iter().all(Verdict::is_valid));
    assert_eq!(verdicts[2].clone().valid().unwrap().seed(), None);
    // At the end of the batch nobody vouches.
    let last = verifier.verify_batch(&mut rng(), &items[..3]);
    assert!(matches!(&last[2], Verdict::Undecided { .. }));
    // A changed header is no parent of its successor.
    let mut fields = items[2].0.fields.clone();
    fields.tx_root = Hash([1; 32]);
    items[2].0 = NETWORK.sign(fields);
    let verdicts = verifier.verify_batch(&mut rng(), &items);
    assert!(matches!(&verdicts[2], Verdict::Undecided { .. }));
    assert!(verdicts[3].is_valid());
}

#[test]
fn links_and_the_first_block_are_checked() {
    let verifier = NETWORK.verifier();
    let (a, b, c) = (&CHAIN[0].0, &CHAIN[1].0, &CHAIN[2].0);
    refused_as(&verifier.verify_link(a, c), "parent digest");
    refused_as(&verifier.verify_link(b, a), "parent digest");
    let changed = |change: fn(&mut HeaderFields)| {
        let mut fields = b.fields.clone();
        change(&mut fields);
        verifier.verify_link(a, &NETWORK.sign(fields))
    };
    refused_as(&changed(|fields| fields.height += 1), "height");
    refused_as(&changed(|fields| fields.timestamp_ms = 1_000), "timestamp");
    refused_as(&changed(|fields| fields.context.parent.0 = View::zero()), "parent view");
    assert!(verifier.verify_genesis(a).is_invalid());
}

#[test]
fn two_headers_of_one_round_convict_their_leader_and_nothing_less_does() {
    let chain = NETWORK.trust.digest();
    let a = &CHAIN[3].0;
    let mut fields = a.fields.clone();
    fields.timestamp_ms += 1;
    let b = NETWORK.sign(fields.clone());
    let evidence = equivocation(&chain, a, &b).unwrap();
    assert!(evidence.holds(&chain));
    assert_eq!(equivocation(&chain, &b, a).unwrap(), evidence, "in either order");
    // One header twice, two rounds, another chain, or a signature by somebody else.
    assert_eq!(equivocation(&chain, a, a), None);
    assert_eq!(equivocation(&chain, a, &CHAIN[4].0), None);
    assert_eq!(equivocation(&Hash([1; 32]), a, &b), None);
    let forged = Header::sign(fields.clone(), &chain, &SecretKey::from_seed(&[200; 32]));
    assert_eq!(equivocation(&chain, a, &forged), None);
    let elsewhere = Header::sign(fields, &Hash([1; 32]), &NETWORK.leader);
    assert_eq!(equivocation(&chain, a, &elsewhere), None);
    assert!(!Evidence { first: a.clone(), second: forged }.holds(&chain));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_flipped_bit_of_a_header_or_certificate_never_verifies(
        at in any::<prop::sample::Index>(), bit in 0..8u8, of_header: bool,
    ) {
        let (header, certificate) = (&CHAIN[2].0, CHAIN[2].1.as_ref().unwrap());
        let (mut h, mut c) = (header.encode().to_vec(), certificate.encode().to_vec());
        let bytes = if of_header { &mut h } else { &mut c };
        let place = at.index(bytes.len());
        bytes[place] ^= 1 << bit;
        if let (Ok(header), Ok(certificate)) = (decode_header(&h), decode_finalization(&c)) {
            prop_assert!(!check(&NETWORK.verifier(), &(header, Some(certificate))).is_valid());
        }
    }

    #[test]
    fn truncated_or_longer_bytes_are_refused(cut in 0usize..400, extra in 0u8..) {
        let (header, certificate) = (&CHAIN[2].0, CHAIN[2].1.as_ref().unwrap());
        // Each by its own decoder: the beginning of a header may happen to be some certificate.
        let (header, certificate) = (header.encode(), certificate.encode());
        let longer = |bytes: &[u8]| [bytes, &[extra]].concat();
        prop_assert!(decode_header(&longer(&header)).is_err());
        prop_assert!(decode_finalization(&longer(&certificate)).is_err());
        prop_assert!(cut >= header.len() || decode_header(&header[..cut]).is_err());
        prop_assert!(cut >= certificate.len() || decode_finalization(&certificate[..cut]).is_err());
    }

    #[test]
    fn decoders_survive_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
        if let Ok(header) = decode_header(&bytes) {
            prop_assert!(header.encode() == bytes);
        }
        if let Ok(certificate) = decode_finalization(&bytes) {
            prop_assert!(certificate.encode() == bytes);
        }
        let key = Hash([1; 32]);
        prop_assert!(!state::verify(&Digest::EMPTY, &key, None, &bytes).is_valid());
        prop_assert!(!state::verify(&Digest::EMPTY, &key, Some(&bytes), &bytes).is_valid());
        prop_assert!(!NETWORK.verifier().verify_seed(1, &bytes).is_valid());
    }
}
