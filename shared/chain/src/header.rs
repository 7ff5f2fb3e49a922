//! Block headers: the only part of a block that a light client needs.
//!
//! Consensus orders the domain-separated BLAKE3 digest of the encoded header, so a finalization
//! certificate speaks about a header and never about a body:
//!
//! ```text
//! certificate ──> digest ──> header ─┬─> tx_root     ──> transactions of this block
//!                                    ├─> state.root  ──> accounts, nodes, queries after it
//!                                    ├─> parent      ──> the previous header
//!                                    └─> seeds       ──> randomness of the views since the parent's
//! ```
//!
//! The parent's seed is in the header because a block that was finalized through a descendant has
//! no certificate of its own, and the committee of a query is drawn from the seed of a view fixed
//! when the query is included. That view may also have been nullified, so a leader adds the seeds
//! of the skipped views it knows: whoever has the headers has the randomness. The leader's ed25519 signature is there because threshold votes
//! name nobody: two signed headers of one leader for one round are evidence.

use bytes::BufMut;
use commonware_codec::{
    Buf, Encode, EncodeSize, Error, FixedSize, Read, ReadExt, ReadRangeExt, Write,
};
use commonware_consensus::{
    Heightable,
    simplex::types::Context as SimplexContext,
    types::{Height, View},
};
use commonware_cryptography::{Digestible, blake3, ed25519};
use nesa_crypto::sign::{SecretKey, Signature, verify_strict};
use nesa_primitives::{Address, Hash};

/// Digest of blocks and of state: BLAKE3, 32 bytes.
pub type Digest = blake3::Digest;
/// The hasher behind [`Digest`].
pub type Hasher = blake3::Blake3;
/// A validator's ed25519 key: its name in consensus and the key that signs its headers.
pub type ValidatorKey = ed25519::PublicKey;
/// Round, leader, and parent (view, digest) under which a block was proposed.
pub type Context = SimplexContext<Digest, ValidatorKey>;

/// Bytes of a compressed BLS12-381 G1 point: the seed signature of one round (variant `MinSig`).
pub const SEED_BYTES: usize = 48;

/// Most seeds of skipped views in one header; each costs a validator one pairing check.
pub const MAX_SKIPPED_SEEDS: usize = 16;

/// Upper bound of an encoded header, in bytes.
pub const MAX_HEADER_BYTES: usize = 512 + MAX_SKIPPED_SEEDS * (8 + SEED_BYTES);

/// The threshold signature of one round: unique for the round, unpredictable without a quorum.
///
/// Kept as bytes so that decoding a header costs no curve arithmetic; `nesa_verify` checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeedSignature(pub [u8; SEED_BYTES]);

impl Write for SeedSignature {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.write(buf);
    }
}

impl FixedSize for SeedSignature {
    const SIZE: usize = SEED_BYTES;
}

impl Read for SeedSignature {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        Ok(Self(<[u8; SEED_BYTES]>::read(buf)?))
    }
}

/// Commitment to the authenticated store after the block was executed.
///
/// `root` is what key proofs verify against. `ops_root` and the range of operations are what a
/// validator needs to fetch the store from its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateCommitment {
    /// Canonical root of the store: inclusion and exclusion proofs end here.
    pub root: Digest,
    /// Root over the log of operations.
    pub ops_root: Digest,
    /// First operation of the log that is still live.
    pub ops_start: u64,
    /// Number of operations in the log.
    pub ops_end: u64,
}

impl Write for StateCommitment {
    fn write(&self, buf: &mut impl BufMut) {
        self.root.write(buf);
        self.ops_root.write(buf);
        self.ops_start.write(buf);
        self.ops_end.write(buf);
    }
}

impl FixedSize for StateCommitment {
    const SIZE: usize = Digest::SIZE * 2 + u64::SIZE * 2;
}

impl Read for StateCommitment {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        Ok(Self {
            root: Digest::read(buf)?,
            ops_root: Digest::read(buf)?,
            ops_start: u64::read(buf)?,
            ops_end: u64::read(buf)?,
        })
    }
}

/// Everything a header says before its leader signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderFields {
    /// Round, leader and parent under which consensus asked for the block.
    pub context: Context,
    /// Digest of the parent header; for the genesis block, the genesis digest.
    pub parent: Digest,
    /// Distance from the genesis block, whose height is 0.
    pub height: u64,
    /// Milliseconds since the Unix epoch; strictly greater than the parent's.
    pub timestamp_ms: u64,
    /// Merkle root over the encoded signed transactions, in order.
    pub tx_root: Hash,
    /// The store after the transactions.
    pub state: StateCommitment,
    /// Seed of the parent's view; absent only when the parent is the genesis block (or for it).
    pub parent_seed: Option<SeedSignature>,
    /// Seeds of views that were skipped between the parent's and this one, as `(view, seed)` in
    /// ascending order of views. At most [`MAX_SKIPPED_SEEDS`]; a leader adds those it knows.
    pub skipped_seeds: Vec<(u64, SeedSignature)>,
}

impl Write for HeaderFields {
    fn write(&self, buf: &mut impl BufMut) {
        self.context.write(buf);
        self.parent.write(buf);
        self.height.write(buf);
        self.timestamp_ms.write(buf);
        self.tx_root.write(buf);
        self.state.write(buf);
        self.parent_seed.write(buf);
        self.skipped_seeds.write(buf);
    }
}

impl EncodeSize for HeaderFields {
    fn encode_size(&self) -> usize {
        self.context.encode_size()
            + self.parent.encode_size()
            + self.height.encode_size()
            + self.timestamp_ms.encode_size()
            + self.tx_root.encode_size()
            + self.state.encode_size()
            + self.parent_seed.encode_size()
            + self.skipped_seeds.encode_size()
    }
}

impl Read for HeaderFields {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        Ok(Self {
            context: Context::read(buf)?,
            parent: Digest::read(buf)?,
            height: u64::read(buf)?,
            timestamp_ms: u64::read(buf)?,
            tx_root: Hash::read(buf)?,
            state: StateCommitment::read(buf)?,
            parent_seed: Option::<SeedSignature>::read(buf)?,
            skipped_seeds: Vec::read_range(buf, 0..=MAX_SKIPPED_SEEDS)?,
        })
    }
}

/// A header signed by the leader of its round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the leader signed.
    pub fields: HeaderFields,
    /// ed25519 signature of `fields.context.leader` over `fields`, bound to the chain.
    pub leader_signature: Signature,
}

/// Domain of the leaders' signatures.
const LEADER_DOMAIN: &str = "header leader";

impl Header {
    /// Signs `fields` with the leader's key for the chain whose trust root digest is `chain`.
    pub fn sign(fields: HeaderFields, chain: &Hash, key: &SecretKey) -> Self {
        let leader_signature = key.sign(LEADER_DOMAIN, chain, &fields.encode());
        Self { fields, leader_signature }
    }

    /// A header that nobody signed: only the genesis block has one.
    pub(crate) fn unsigned(fields: HeaderFields) -> Self {
        Self { fields, leader_signature: Signature([0; 64]) }
    }

    /// The address of the validator that led the round.
    pub fn leader(&self) -> Address {
        let mut bytes = [0u8; 32];
        bytes.copy_from_slice(self.fields.context.leader.as_ref());
        Address(bytes)
    }

    /// Whether the leader named in the header signed it for this chain.
    pub fn leader_signed(&self, chain: &Hash) -> bool {
        let message = self.fields.encode();
        verify_strict(&self.leader(), LEADER_DOMAIN, chain, &message, &self.leader_signature)
            .is_ok()
    }

    /// Digest of the encoded header: the value that consensus orders.
    ///
    /// It names no chain by itself. The chain's name is in the namespace of every certificate and
    /// of the leader's signature, and the first header's parent is the genesis digest.
    pub fn digest(&self) -> Digest {
        to_digest(&self.hash())
    }

    /// The same digest as a [`Hash`].
    pub fn hash(&self) -> Hash {
        Hash::of("header", &Hash::ZERO, self)
    }

    /// View of the round in which the block was proposed.
    pub fn view(&self) -> u64 {
        self.fields.context.round.view().get()
    }

    /// View of the parent block: the view that `parent_seed` belongs to.
    pub fn parent_view(&self) -> u64 {
        self.fields.context.parent.0.get()
    }

    /// The seeds that the header carries, as `(view, seed)` in ascending order of views.
    pub fn seeds(&self) -> impl Iterator<Item = (u64, &SeedSignature)> {
        let parent = self.fields.parent_seed.iter().map(|seed| (self.parent_view(), seed));
        parent.chain(self.fields.skipped_seeds.iter().map(|(view, seed)| (*view, seed)))
    }

    /// Whether the views of the skipped seeds lie, ascending, between the parent's and this one.
    pub fn skipped_in_order(&self) -> bool {
        let mut last = self.parent_view();
        self.fields.skipped_seeds.iter().all(|(view, _)| {
            let ascending = last < *view && *view < self.view();
            last = *view;
            ascending
        })
    }

    /// Distance from the genesis block.
    pub fn height(&self) -> u64 {
        self.fields.height
    }

    /// Milliseconds since the Unix epoch.
    pub fn timestamp_ms(&self) -> u64 {
        self.fields.timestamp_ms
    }

    /// Root of the store after the block, against which state proofs verify.
    pub fn state_root(&self) -> &Digest {
        &self.fields.state.root
    }

    /// Whether the block is the first of the chain, which no leader proposed.
    pub fn is_genesis(&self) -> bool {
        self.fields.height == 0 && self.fields.context.round.view() == View::zero()
    }
}

/// Converts a consensus digest to the chain's hash type.
pub fn to_hash(digest: &Digest) -> Hash {
    let mut bytes = [0u8; 32];
    bytes.copy_from_slice(digest.as_ref());
    Hash(bytes)
}

/// Converts a hash to a consensus digest.
pub fn to_digest(hash: &Hash) -> Digest {
    blake3::Digest(hash.0)
}

impl Write for Header {
    fn write(&self, buf: &mut impl BufMut) {
        self.fields.write(buf);
        self.leader_signature.write(buf);
    }
}

impl EncodeSize for Header {
    fn encode_size(&self) -> usize {
        self.fields.encode_size() + self.leader_signature.encode_size()
    }
}

impl Read for Header {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        Ok(Self { fields: HeaderFields::read(buf)?, leader_signature: Signature::read(buf)? })
    }
}

impl Digestible for Header {
    type Digest = Digest;
    fn digest(&self) -> Digest {
        Header::digest(self)
    }
}

impl Heightable for Header {
    fn height(&self) -> Height {
        Height::new(self.fields.height)
    }
}
