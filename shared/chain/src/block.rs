//! Blocks: a header and the signed transactions under its `tx_root`.

use crate::{
    header::{Context, Digest, Header, HeaderFields, MAX_HEADER_BYTES, StateCommitment, to_digest},
    tx::SignedTx,
};
use bytes::BufMut;
use commonware_codec::{
    Buf, Encode as _, EncodeSize, Error, FixedSize as _, RangeCfg, Read, ReadExt as _, Write,
};
use commonware_consensus::{
    Block as ConsensusBlock, BoundedBlock, CertifiableBlock, Heightable,
    types::{Epoch, Height, Round, View},
};
use commonware_cryptography::{Digest as _, Digestible, ed25519};
use nesa_crypto::merkle;
use nesa_primitives::Hash;

/// Most transactions in one block.
pub const MAX_BLOCK_TXS: usize = 512;
/// Most bytes that the transactions of one block take together, encoded.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// A header with its transactions. Its digest is the header's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The header, whose `tx_root` commits to the transactions.
    pub header: Header,
    /// The transactions in the order in which they are applied.
    pub txs: Vec<SignedTx>,
}

/// The Merkle leaves of a block: digests of the encoded signed transactions, in order.
pub fn tx_leaves(txs: &[SignedTx]) -> Vec<Hash> {
    txs.iter().map(|tx| merkle::leaf_hash(&tx.encode())).collect()
}

/// Merkle root over the encoded signed transactions, in order.
pub fn tx_root(txs: &[SignedTx]) -> Hash {
    merkle::root_of_hashes(&tx_leaves(txs))
}

impl Block {
    /// The first block. It holds no transactions and no state: the accounts of the genesis file
    /// are written when the block at height 1 is executed.
    ///
    /// `genesis` is the digest of the genesis file and becomes the parent, `leader` is any
    /// validator (no one proposed this block), `state` commits to the empty store.
    pub fn genesis(
        genesis: &Hash,
        leader: ed25519::PublicKey,
        timestamp_ms: u64,
        state: StateCommitment,
    ) -> Self {
        let parent = to_digest(genesis);
        let context = Context {
            round: Round::new(Epoch::zero(), View::zero()),
            leader,
            parent: (View::zero(), Digest::EMPTY),
        };
        let fields = HeaderFields {
            context,
            parent,
            height: 0,
            timestamp_ms,
            tx_root: tx_root(&[]),
            state,
            parent_seed: None,
            skipped_seeds: Vec::new(),
        };
        Self { header: Header::unsigned(fields), txs: Vec::new() }
    }

    /// Proof that the transaction at `index` is in this block; `None` when there is none.
    pub fn prove_tx(&self, index: usize) -> Option<merkle::Proof> {
        merkle::prove(&tx_leaves(&self.txs), index)
    }
}

impl Write for Block {
    fn write(&self, buf: &mut impl BufMut) {
        self.header.write(buf);
        self.txs.write(buf);
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        self.header.encode_size() + self.txs.encode_size()
    }
}

impl Read for Block {
    type Cfg = ();
    /// Refuses a body that is too large or that the header does not commit to: the digest covers
    /// the header alone, so the decoder is what binds the two.
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        let header = Header::read(buf)?;
        let count = usize::read_cfg(buf, &RangeCfg::from(0..=MAX_BLOCK_TXS))?;
        let mut txs = Vec::with_capacity(count);
        let mut bytes = 0;
        for _ in 0..count {
            let tx = SignedTx::read(buf)?;
            bytes += tx.encode_size();
            if bytes > MAX_BODY_BYTES {
                return Err(Error::Invalid("Block", "body too large"));
            }
            txs.push(tx);
        }
        if tx_root(&txs) != header.fields.tx_root {
            return Err(Error::Invalid("Block", "transactions do not match the header"));
        }
        Ok(Self { header, txs })
    }
}

impl Digestible for Block {
    type Digest = Digest;
    fn digest(&self) -> Digest {
        self.header.digest()
    }
}

impl Heightable for Block {
    fn height(&self) -> Height {
        Height::new(self.header.height())
    }
}

impl ConsensusBlock for Block {
    fn parent(&self) -> Digest {
        self.header.fields.parent
    }
}

impl CertifiableBlock for Block {
    type Context = Context;
    fn context(&self) -> Context {
        self.header.fields.context.clone()
    }
}

impl BoundedBlock for Block {
    fn max_encode_size(_: &()) -> usize {
        MAX_HEADER_BYTES + u64::SIZE * 2 + MAX_BODY_BYTES
    }
}
