//! The record of one query, from escrow to settlement.

mod sealed;

pub use sealed::{
    Agreement, DisputeEntry, DisputeRecord, Sealed, ShardClaim, ShardCommit, Unvouched,
};

use crate::{
    action::{Lane, Named, Side, Verification},
    committee::Committee,
    limits::{MAX_SEATS, up_to},
    voucher::Voucher,
};
use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, Read, ReadExt, Write};
use nesa_primitives::{Address, Amount, Denom, Hash, codec_struct};
use serde::{Deserialize, Serialize};

/// A server's accepted commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// The side.
    pub side: Side,
    /// Which candidate of the side.
    pub attempt: u8,
    /// The node.
    pub node: Address,
    /// Its operator.
    pub operator: Address,
    /// Blinded root over the digests of its answers.
    pub blinded_root: Hash,
    /// Padded tokens it says it served.
    pub served_tokens: u32,
    /// Height of the block that holds the commit.
    pub height: u64,
    /// The largest claim so far, paid in full.
    pub claim: Option<ClaimRecord>,
}

codec_struct!(CommitRecord {
    side,
    attempt,
    node,
    operator,
    blinded_root,
    served_tokens,
    height,
    claim,
});

impl CommitRecord {
    /// What has been claimed, before the split.
    pub fn claimed(&self) -> Amount {
        self.claim.as_ref().map_or(Amount::ZERO, |claim| claim.voucher.total)
    }

    /// What the operator has been paid: its part of [`CommitRecord::claimed`].
    pub fn earned(&self) -> Amount {
        self.claim.as_ref().map_or(Amount::ZERO, |claim| claim.earned)
    }
}

/// A claim that was paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// The client's running total.
    pub voucher: Voucher,
    /// What the operator has been paid for it, earlier claims of this query included.
    pub earned: Amount,
    /// Height of the block that holds the claim.
    pub height: u64,
}

codec_struct!(ClaimRecord { voucher, earned, height });

/// What has been paid out of an escrow to others than the nodes' operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharesPaid {
    /// To the model's owner.
    pub owner: Amount,
    /// To the validators of the blocks that hold the claims, in equal parts.
    pub validators: Amount,
    /// To the treasury.
    pub treasury: Amount,
}

codec_struct!(SharesPaid { owner, validators, treasury });

/// What became of the rest of an escrow at the deadline.
/// `Σ claimed + burned + returned = escrow`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Height of the settling block.
    pub height: u64,
    /// Its time, ms.
    pub timestamp_ms: u64,
    /// Disputed increments, destroyed.
    pub burned: Amount,
    /// Back to the payer.
    pub returned: Amount,
}

codec_struct!(Settlement { height, timestamp_ms, burned, returned });

/// How far a query has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Status {
    /// The deadline has not passed.
    Open,
    /// The rest of the escrow has been settled, after at least one payment or burn.
    Settled(Settlement),
    /// Nobody served it: the whole escrow went back.
    Expired(Settlement),
}

impl Status {
    /// The settlement, once there is one.
    pub const fn settlement(&self) -> Option<&Settlement> {
        match self {
            Self::Open => None,
            Self::Settled(settlement) | Self::Expired(settlement) => Some(settlement),
        }
    }

    /// Whether commits and claims may still come.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}

impl Write for Status {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Open => buf.put_u8(0),
            Self::Settled(settlement) => {
                buf.put_u8(1);
                settlement.write(buf);
            }
            Self::Expired(settlement) => {
                buf.put_u8(2);
                settlement.write(buf);
            }
        }
    }
}

impl EncodeSize for Status {
    fn encode_size(&self) -> usize {
        1 + self.settlement().map_or(0, EncodeSize::encode_size)
    }
}

impl Read for Status {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        match u8::read(buf)? {
            0 => Ok(Self::Open),
            1 => ReadExt::read(buf).map(Self::Settled),
            2 => ReadExt::read(buf).map(Self::Expired),
            other => Err(Error::InvalidEnum(other)),
        }
    }
}

/// All the chain knows of one query. Nothing in it lets anyone guess the prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryRecord {
    /// The `PayForQuery` transaction's id.
    pub id: Hash,
    /// Who paid and gets the rest back.
    pub payer: Address,
    /// Digest of the model asked.
    pub model: Hash,
    /// How the input is hidden.
    pub lane: Lane,
    /// How the answer is checked.
    pub verification: Verification,
    /// Denomination of all its amounts but the draw fee.
    pub denom: Denom,
    /// The escrow; half of it is each side's budget.
    pub escrow: Amount,
    /// Part of the escrow that stems from the faucet.
    pub escrow_faucet: Amount,
    /// What the draw cost, in unes.
    pub draw_fee: Amount,
    /// Price of one padded token on one side, as it was at inclusion; of a committee's query, on one
    /// replica of one shard.
    pub price_per_token: Amount,
    /// Hiding commitment to the request.
    pub commitment: Hash,
    /// Key that signs vouchers.
    pub client_key: Address,
    /// Block time of settlement, ms; of a committee's query, of its last commit.
    pub deadline_ms: u64,
    /// Most padded tokens.
    pub max_tokens: u32,
    /// A server the client chose.
    pub named: Option<Named>,
    /// Height of inclusion.
    pub included_height: u64,
    /// View of inclusion.
    pub included_view: u64,
    /// Time of inclusion, ms.
    pub included_ms: u64,
    /// View whose seed draws the committee.
    pub draw_view: u64,
    /// Epoch of the snapshot that is drawn from.
    pub snapshot_epoch: u64,
    /// The committee, once a commit has brought the seed.
    pub committee: Option<Committee>,
    /// Accepted commits, with their largest claims.
    pub commits: Vec<CommitRecord>,
    /// What only the committee lane has.
    pub sealed: Option<Sealed>,
    /// Still in escrow.
    pub held: Amount,
    /// Part of it that stems from the faucet.
    pub held_faucet: Amount,
    /// Paid to others than the nodes' operators.
    pub shares_paid: SharesPaid,
    /// How far it has come.
    pub status: Status,
}

impl QueryRecord {
    /// The sum of all claims, before the split: what the payer has spent on work so far. `None` on
    /// overflow, which the rules do not let happen.
    pub fn claimed(&self) -> Option<Amount> {
        let shards = self.sealed.iter().flat_map(|sealed| &sealed.commits);
        let mut claims =
            self.commits.iter().map(CommitRecord::claimed).chain(shards.map(ShardCommit::claimed));
        claims.try_fold(Amount::ZERO, Amount::checked_add)
    }

    /// The escrow less all claims: while the query is open, the most that can still return to the
    /// payer. `None` as for [`QueryRecord::claimed`].
    pub fn unspent(&self) -> Option<Amount> {
        self.escrow.checked_sub(self.claimed()?)
    }

    /// What the payer may still get back: [`QueryRecord::unspent`] before the deadline, nothing
    /// after.
    pub fn returnable(&self) -> Amount {
        let open = self.status.is_open();
        if open { self.unspent().unwrap_or_default() } else { Amount::ZERO }
    }
}

codec_struct!(QueryRecord {
    id,
    payer,
    model,
    lane,
    verification,
    denom,
    escrow,
    escrow_faucet,
    draw_fee,
    price_per_token,
    commitment,
    client_key,
    deadline_ms,
    max_tokens,
    named,
    included_height,
    included_view,
    included_ms,
    draw_view,
    snapshot_epoch,
    committee,
    commits: up_to(MAX_SEATS),
    sealed,
    held,
    held_faucet,
    shares_paid,
    status,
});
