//! What a transaction can ask for.

mod committee;
mod seed;

pub use committee::{
    AnswerDispute, ClaimServed, ClaimShard, CloseDispute, CommitShard, OpenDispute, Pair, Place,
    Reveal, Step,
};
pub use seed::SeedBytes;

use crate::{
    committee::Terms,
    limits::{MAX_NAME_BYTES, MAX_NODE_ADDRESS_BYTES, MAX_NODE_ADDRESSES, MAX_NODE_MODELS, up_to},
    voucher::Voucher,
};
use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, Read, ReadExt, Write};
use nesa_crypto::{
    SecretKey, Signature,
    sign::{VerifyError, verify_strict},
};
use nesa_primitives::{Address, Amount, Denom, Hash, Text, codec_struct, codec_tag};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A model's name.
pub type ModelName = Text<MAX_NAME_BYTES>;
/// A node's multiaddr as text.
pub type NodeAddress = Text<MAX_NODE_ADDRESS_BYTES>;

/// The two servers of a masked query: A gets the masked input, B the mask's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// Holds `x − PRG(seed)`.
    A,
    /// Holds the seed.
    B,
}

codec_tag!(Side { A = 0, B = 1 });

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// How a query's input is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// Two-server additive sharing of the linear layers.
    Masked,
    /// Encrypted to each node of the committee, which reads it.
    Sealed,
    /// Likewise, for models that run in floats: what replicas compute is near, not equal.
    Float,
}

codec_tag!(Lane { Masked = 1, Sealed = 2, Float = 3 });

impl Lane {
    /// The lane's bit in a model's `lanes`.
    pub const fn bit(self) -> u32 {
        match self {
            Self::Masked => 1,
            Self::Sealed => 2,
            Self::Float => 4,
        }
    }
}

/// All lanes that exist, as bits.
pub const ALL_LANES: u32 = Lane::Masked.bit() | Lane::Sealed.bit() | Lane::Float.bit();

/// How a query's answer is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verification {
    /// A secret random vector per weight matrix, checked by the client.
    Freivalds,
    /// Replicas of every shard that commit to traces, which must be equal.
    Committee,
    /// Replicas of a float model, whose fingerprints the client compares by calibrated error rates.
    Statistical,
}

codec_tag!(Verification { Freivalds = 1, Committee = 2, Statistical = 3 });

/// Moves money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Who gets it.
    pub to: Address,
    /// In what.
    pub denom: Denom,
    /// How much.
    pub amount: Amount,
}

codec_struct!(Transfer { to, denom, amount });

/// Registers a model; the sender becomes its owner and earns royalties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterModel {
    /// Digest of the compiled exact model.
    pub digest: Hash,
    /// Name for people; not unique.
    pub name: ModelName,
    /// Size of the compiled model, in bytes.
    pub bytes: u64,
    /// Denomination of the price.
    pub denom: Denom,
    /// Price of one padded token on one side.
    pub price_per_token: Amount,
    /// Lanes the model allows: bits of [`Lane::bit`].
    pub lanes: u32,
}

codec_struct!(RegisterModel { digest, name, bytes, denom, price_per_token, lanes });

/// Registers a compute node; the sender becomes its operator and posts the bond in NES.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterNode {
    /// The node's network key (ed25519, the key of its libp2p identity).
    pub node: Address,
    /// Bond, in unes.
    pub bond: Amount,
    /// Digests of the models it serves.
    pub models: Vec<Hash>,
    /// Where it can be reached.
    pub addresses: Vec<NodeAddress>,
    /// The node key's signature over operator and node: it agrees to this operator.
    pub proof: Signature,
}

codec_struct!(RegisterNode {
    node,
    bond,
    models: up_to(MAX_NODE_MODELS),
    addresses: up_to(MAX_NODE_ADDRESSES),
    proof,
});

const POSSESSION_TAG: &str = "node registration";

impl RegisterNode {
    /// The node key's consent to be run by `operator` on `chain`.
    pub fn prove(node: &SecretKey, operator: &Address, chain: &Hash) -> Signature {
        node.sign(POSSESSION_TAG, chain, &possession(&node.public(), operator))
    }

    /// Checks [`RegisterNode::prove`].
    ///
    /// # Errors
    /// [`VerifyError`] if the node key did not sign for this operator and chain.
    pub fn verify_proof(&self, operator: &Address, chain: &Hash) -> Result<(), VerifyError> {
        let message = possession(&self.node, operator);
        verify_strict(&self.node, POSSESSION_TAG, chain, &message, &self.proof)
    }
}

fn possession(node: &Address, operator: &Address) -> [u8; 64] {
    let mut bytes = [0u8; 64];
    bytes[..32].copy_from_slice(&node.0);
    bytes[32..].copy_from_slice(&operator.0);
    bytes
}

/// Replaces a node's addresses, and says that it is there: an update renews the registration, which
/// lapses otherwise, and brings back a node that had lapsed or paused. No addresses pause it: it is
/// out of future draws, its bond stays, and the next update brings it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateNode {
    /// The node.
    pub node: Address,
    /// Where it can be reached now; none while it pauses.
    pub addresses: Vec<NodeAddress>,
}

codec_struct!(UpdateNode { node, addresses: up_to(MAX_NODE_ADDRESSES) });

/// Takes a node out of future draws; its bond returns after the unbonding time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unbond {
    /// The node.
    pub node: Address,
}

codec_struct!(Unbond { node });

/// One server the client chose itself, its own node for example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The side it takes.
    pub side: Side,
    /// The node.
    pub node: Address,
}

codec_struct!(Named { side, node });

/// Escrows the fee of one query. Its transaction id names the query from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayForQuery {
    /// Digest of the model asked.
    pub model: Hash,
    /// How the input is hidden.
    pub lane: Lane,
    /// How the answer is checked.
    pub verification: Verification,
    /// All that is escrowed; half of it is each side's budget, or an equal part each replica's.
    pub max_fee: Amount,
    /// In the denomination of the model's price.
    pub denom: Denom,
    /// Hiding commitment to the request: a hash with 32 random bytes inside.
    pub commitment: Hash,
    /// Fresh ed25519 key that signs this query's vouchers.
    pub client_key: Address,
    /// Block time, in ms since the Unix epoch: of settlement, or of a committee's last commit; its
    /// later windows follow from it ([`Windows`](crate::committee::Windows)).
    pub deadline_ms: u64,
    /// Most padded tokens, over all batches.
    pub max_tokens: u32,
    /// A server chosen by the client; the other side is drawn. Only in the masked lane.
    pub named: Option<Named>,
    /// Shards and replicas: with committee verification, and only then.
    #[serde(default)]
    pub terms: Option<Terms>,
}

codec_struct!(PayForQuery {
    model,
    lane,
    verification,
    max_fee,
    denom,
    commitment,
    client_key,
    deadline_ms,
    max_tokens,
    named,
    terms,
});

/// A drawn server commits to what it answered. The first commit of a query brings the seed that
/// fixes the committee. Sent by the operator of the drawn node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The query.
    pub query: Hash,
    /// The side served.
    pub side: Side,
    /// Which candidate of the side, from 0.
    pub attempt: u8,
    /// Blinded root over the digests of its answers.
    pub blinded_root: Hash,
    /// Padded tokens served.
    pub served_tokens: u32,
    /// Seed of the query's draw view.
    pub seed: SeedBytes,
}

codec_struct!(Commit { query, side, attempt, blinded_root, served_tokens, seed });

/// Claims what the client's voucher says. Sent by the operator of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The query.
    pub query: Hash,
    /// The client's signed running total.
    pub voucher: Voucher,
}

codec_struct!(Claim { query, voucher });

/// What a transaction asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Action {
    /// Moves money.
    Transfer(Transfer),
    /// Registers a model.
    RegisterModel(RegisterModel),
    /// Registers a node.
    RegisterNode(RegisterNode),
    /// Replaces a node's addresses and renews it.
    UpdateNode(UpdateNode),
    /// Takes a node out.
    Unbond(Unbond),
    /// Escrows a query's fee.
    PayForQuery(PayForQuery),
    /// Commits to answers.
    Commit(Commit),
    /// Claims payment.
    Claim(Claim),
    /// Commits to a shard's trace.
    CommitShard(CommitShard),
    /// Opens such a commitment.
    Reveal(Reveal),
    /// Claims a replica's payment.
    ClaimShard(ClaimShard),
    /// Disputes two roots.
    OpenDispute(OpenDispute),
    /// Answers in a dispute.
    AnswerDispute(AnswerDispute),
    /// Ends one whose time is over.
    CloseDispute(CloseDispute),
    /// Claims what was served for a client that lied.
    ClaimServed(ClaimServed),
}

macro_rules! codec_action {
    ($($variant:ident = $tag:literal),* $(,)?) => {
        impl Write for Action {
            fn write(&self, buf: &mut impl BufMut) {
                match self { $( Self::$variant(inner) => { buf.put_u8($tag); inner.write(buf); } )* }
            }
        }
        impl EncodeSize for Action {
            fn encode_size(&self) -> usize {
                1 + match self { $( Self::$variant(inner) => inner.encode_size() ),* }
            }
        }
        impl Read for Action {
            type Cfg = ();
            fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
                match u8::read(buf)? {
                    $( $tag => Ok(Self::$variant(ReadExt::read(buf)?)), )*
                    other => Err(Error::InvalidEnum(other)),
                }
            }
        }
    };
}

codec_action!(
    Transfer = 0,
    RegisterModel = 1,
    RegisterNode = 2,
    UpdateNode = 3,
    Unbond = 4,
    PayForQuery = 5,
    Commit = 6,
    Claim = 7,
    CommitShard = 8,
    Reveal = 9,
    ClaimShard = 10,
    OpenDispute = 11,
    AnswerDispute = 12,
    CloseDispute = 13,
    ClaimServed = 14,
);

impl Action {
    /// The place that this fills by itself, for what is said in a dispute: its transaction carries no
    /// nonce. `None` for everything else, which its sender's nonces order.
    pub const fn place(&self) -> Option<Place> {
        let (pair, step) = match self {
            Self::OpenDispute(open) => (open.pair, Step::Open),
            Self::AnswerDispute(answer) => (answer.pair, Step::Answer(answer.round)),
            Self::CloseDispute(close) => (close.pair, Step::Close),
            _ => return None,
        };
        Some(Place { pair, step })
    }

    /// A short name for logs and lists.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Transfer(_) => "transfer",
            Self::RegisterModel(_) => "register-model",
            Self::RegisterNode(_) => "register-node",
            Self::UpdateNode(_) => "update-node",
            Self::Unbond(_) => "unbond",
            Self::PayForQuery(_) => "pay-for-query",
            Self::Commit(_) => "commit",
            Self::Claim(_) => "claim",
            Self::CommitShard(_) => "commit-shard",
            Self::Reveal(_) => "reveal",
            Self::ClaimShard(_) => "claim-shard",
            Self::OpenDispute(_) => "open-dispute",
            Self::AnswerDispute(_) => "answer-dispute",
            Self::CloseDispute(_) => "close-dispute",
            Self::ClaimServed(_) => "claim-served",
        }
    }
}
