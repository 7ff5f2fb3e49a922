//! Transactions: one action, one sender, one signature, one chain.

use crate::{
    action::{Action, AnswerDispute, CloseDispute, OpenDispute},
    keys,
    keys::Key,
    limits::MAX_TX_BYTES,
};
use commonware_codec::Encode;
use nesa_crypto::{
    SecretKey, Signature,
    sign::{VerifyError, verify_digest},
};
use nesa_primitives::{Address, Amount, DecodeError, Hash, codec_struct, decode_exact};
use serde::{Deserialize, Serialize};

const TAG: &str = "tx";

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tx {
    /// Digest of the trust root it is for: a transaction of one chain is refused on any other.
    pub chain: Hash,
    /// Whose money and whose nonce.
    pub sender: Address,
    /// Number of the sender's transactions before this one; each number is used once. 0, and not counted,
    /// for an action that has a [place](Action::place) of its own.
    pub nonce: u64,
    /// Fee in unes, for the block's leader.
    pub fee: Amount,
    /// What is asked for.
    pub action: Action,
}

codec_struct!(Tx { chain, sender, nonce, fee, action });

impl Tx {
    /// The transaction's id, which is also exactly what is signed. The signature is not part of
    /// it, so nobody can give a transaction a second id.
    pub fn id(&self) -> Hash {
        Hash::of(TAG, &self.chain, self)
    }

    /// Signs with the sender's key. A key that is not the sender's gives a transaction that every
    /// node refuses.
    pub fn sign(self, key: &SecretKey) -> SignedTx {
        let signature = key.sign_digest(&self.id());
        SignedTx { tx: self, signature }
    }

    /// The keys this transaction certainly reads, so that a node can fetch them at once. Others
    /// follow from what these hold; see [`Missing`](crate::state::Missing).
    pub fn touches(&self) -> Vec<Key> {
        let mut touched = vec![keys::params(), keys::account(&self.sender)];
        match &self.action {
            Action::Transfer(transfer) => {
                touched.extend([keys::account(&transfer.to), keys::supply()]);
            }
            Action::RegisterModel(model) => {
                touched.extend([keys::model(&model.digest), keys::nodes(), keys::supply()]);
            }
            Action::RegisterNode(node) => touched.extend([keys::node(&node.node), keys::nodes()]),
            Action::UpdateNode(update) => {
                touched.extend([keys::node(&update.node), keys::nodes()]);
            }
            Action::Unbond(unbond) => touched.extend([keys::node(&unbond.node), keys::nodes()]),
            Action::PayForQuery(pay) => {
                touched.extend([keys::model(&pay.model), keys::query(&self.id()), keys::supply()])
            }
            Action::Commit(commit) => touched.push(keys::query(&commit.query)),
            Action::Claim(claim) => touched.push(keys::query(&claim.query)),
            Action::CommitShard(commit) => touched.push(keys::query(&commit.query)),
            Action::Reveal(reveal) => touched.push(keys::query(&reveal.query)),
            Action::ClaimShard(claim) => touched.push(keys::query(&claim.query)),
            Action::ClaimServed(claim) => touched.push(keys::query(&claim.query)),
            Action::OpenDispute(OpenDispute { pair, .. })
            | Action::AnswerDispute(AnswerDispute { pair, .. })
            | Action::CloseDispute(CloseDispute { pair }) => {
                let dispute = keys::dispute(&pair.query, pair.shard, pair.left, pair.right);
                touched.extend([keys::query(&pair.query), dispute]);
            }
        }
        touched
    }
}

/// A transaction and its sender's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedTx {
    /// The transaction.
    pub tx: Tx,
    /// The sender's signature over its id.
    pub signature: Signature,
}

codec_struct!(SignedTx { tx, signature });

impl SignedTx {
    /// [`Tx::id`].
    pub fn id(&self) -> Hash {
        self.tx.id()
    }

    /// Checks the signature. The chain is checked by the rules, which know which one they run.
    ///
    /// # Errors
    /// [`VerifyError`] if the sender did not sign exactly this.
    pub fn verify(&self) -> Result<(), VerifyError> {
        verify_digest(&self.tx.sender, &self.id(), &self.signature)
    }

    /// Decodes at most [`MAX_TX_BYTES`] canonical bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_TX_BYTES {
            return Err(commonware_codec::Error::InvalidLength(bytes.len()).into());
        }
        decode_exact(bytes, &())
    }

    /// The canonical bytes, also a leaf of the block's transaction root.
    pub fn to_bytes(&self) -> bytes::Bytes {
        self.encode()
    }
}
