//! The records of the state: accounts, models, nodes, snapshots and the bookkeeping of deadlines.
//!
//! Queries have a [module](crate::query) of their own.

use crate::{
    action::{ModelName, NodeAddress},
    limits::{
        BUCKETS_PER_PAGE, MAX_BUCKET_ENTRIES, MAX_DENOMS, MAX_MODELS, MAX_NODE_ADDRESSES,
        MAX_NODE_MODELS, MAX_NODES, up_to,
    },
};
use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, Read, ReadExt, Write};
use nesa_primitives::{Address, Amount, Denom, Hash, Text, codec_struct};
use serde::{Deserialize, Serialize};

/// A sum in one denomination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coin {
    /// In what.
    pub denom: Denom,
    /// How much.
    pub amount: Amount,
}

codec_struct!(Coin { denom, amount });

/// NES of which a part stems from the faucet.
///
/// The mark travels with the coins through transfers, fees, escrows and bonds. It exists for one
/// rule: a bond that holds faucet coins never buys a seat on side A. Whoever pays spends marked
/// coins first and whoever bonds uses clean coins first, so a stranger's gift of marked coins
/// cannot spoil an honest operator's bond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coins {
    /// All of it.
    pub amount: Amount,
    /// The part from the faucet.
    pub faucet: Amount,
}

impl Coins {
    /// Clean coins.
    pub const fn clean(amount: Amount) -> Self {
        Self { amount, faucet: Amount::ZERO }
    }

    /// Takes `amount` out, marked coins first; `None` if there is less.
    pub fn take(&mut self, amount: Amount) -> Option<Self> {
        let rest = self.amount.checked_sub(amount)?;
        let faucet = self.faucet.min(amount);
        self.faucet = self.faucet.checked_sub(faucet)?;
        self.amount = rest;
        Some(Self { amount, faucet })
    }

    /// Takes `amount` out, clean coins first; `None` if there is less.
    pub fn take_clean(&mut self, amount: Amount) -> Option<Self> {
        let rest = self.amount.checked_sub(amount)?;
        let clean = self.amount.checked_sub(self.faucet)?;
        let faucet = amount.checked_sub(clean).unwrap_or(Amount::ZERO);
        self.faucet = self.faucet.checked_sub(faucet)?;
        self.amount = rest;
        Some(Self { amount, faucet })
    }

    /// Puts coins in; `None` on overflow.
    #[must_use]
    pub fn put(&mut self, coins: Self) -> Option<()> {
        self.amount = self.amount.checked_add(coins.amount)?;
        self.faucet = self.faucet.checked_add(coins.faucet)?;
        Some(())
    }
}

/// What an address owns. An account that was never touched is an empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Transactions sent so far; the next one's nonce.
    pub nonce: u64,
    /// Sorted by denomination, none zero.
    pub balances: Vec<Coin>,
    /// Part of the NES balance that stems from the faucet.
    pub faucet: Amount,
}

impl Account {
    /// The balance in `denom`.
    pub fn balance(&self, denom: Denom) -> Amount {
        self.balances.iter().find(|c| c.denom == denom).map_or(Amount::ZERO, |c| c.amount)
    }

    /// Sets the balance in `denom`, keeping the list sorted and free of zeros.
    pub(crate) fn set_balance(&mut self, denom: Denom, amount: Amount) {
        match self.balances.binary_search_by_key(&denom, |c| c.denom) {
            Ok(place) if amount.is_zero() => {
                self.balances.remove(place);
            }
            Ok(place) => self.balances[place].amount = amount,
            Err(_) if amount.is_zero() => {}
            Err(place) => self.balances.insert(place, Coin { denom, amount }),
        }
    }
}

impl Write for Account {
    fn write(&self, buf: &mut impl BufMut) {
        self.nonce.write(buf);
        self.balances.write(buf);
        self.faucet.write(buf);
    }
}

impl EncodeSize for Account {
    fn encode_size(&self) -> usize {
        self.nonce.encode_size() + self.balances.encode_size() + self.faucet.encode_size()
    }
}

impl Read for Account {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        let account = Self {
            nonce: ReadExt::read(buf)?,
            balances: Vec::<Coin>::read_cfg(buf, &up_to(MAX_DENOMS))?,
            faucet: ReadExt::read(buf)?,
        };
        if !account.balances.is_sorted_by(|a, b| a.denom < b.denom)
            || account.balances.iter().any(|c| c.amount.is_zero())
        {
            return Err(Error::Invalid("Account", "balances not sorted or zero"));
        }
        if account.faucet > account.balance(Denom::NES) {
            return Err(Error::Invalid("Account", "more faucet coins than coins"));
        }
        Ok(account)
    }
}

/// A registered model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Digest of the compiled exact model.
    pub digest: Hash,
    /// Who registered it and earns royalties.
    pub owner: Address,
    /// Name for people.
    pub name: ModelName,
    /// Size of the compiled model, in bytes.
    pub bytes: u64,
    /// Denomination of the price.
    pub denom: Denom,
    /// Price of one padded token on one side.
    pub price_per_token: Amount,
    /// Lanes allowed.
    pub lanes: u32,
}

codec_struct!(ModelRecord { digest, owner, name, bytes, denom, price_per_token, lanes });

/// A registered compute node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Who runs it, is paid for it and gets the bond back.
    pub operator: Address,
    /// Its network key.
    pub node: Address,
    /// Its bond, in unes.
    pub bond: Amount,
    /// Part of the bond that stems from the faucet.
    pub faucet: Amount,
    /// Models it serves.
    pub models: Vec<Hash>,
    /// Where it can be reached.
    pub addresses: Vec<NodeAddress>,
    /// Settled queries it was paid for.
    pub score: u64,
    /// Epoch in which its operator last said that it is there: by registering or updating it.
    pub renewed_epoch: u64,
    /// When the bond returns, once the operator has asked for it (block time, ms).
    pub release_ms: Option<u64>,
}

codec_struct!(NodeRecord {
    operator,
    node,
    bond,
    faucet,
    models: up_to(MAX_NODE_MODELS),
    addresses: up_to(MAX_NODE_ADDRESSES),
    score,
    renewed_epoch,
    release_ms,
});

impl NodeRecord {
    /// Whether any of the bond stems from the faucet.
    pub const fn faucet_bond(&self) -> bool {
        !self.faucet.is_zero()
    }
}

/// What a draw needs to know of one node; 89 bytes encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Its network key.
    pub node: Address,
    /// Who runs it.
    pub operator: Address,
    /// Its weight in a draw: the bond, in unes.
    pub bond: Amount,
    /// Whether any of the bond stems from the faucet.
    pub faucet_bond: bool,
    /// Bit `i`: it serves model `i` of the set.
    pub models: u64,
    /// Epoch in which its operator last said that it is there.
    pub renewed_epoch: u64,
}

codec_struct!(NodeEntry { node, operator, bond, faucet_bond, models, renewed_epoch });

/// All models and all nodes that can be drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSet {
    /// Model digests in the order of registration.
    pub models: Vec<Hash>,
    /// Nodes sorted by key.
    pub entries: Vec<NodeEntry>,
}

codec_struct!(NodeSet { models: up_to(MAX_MODELS), entries: up_to(MAX_NODES) });

impl NodeSet {
    /// The bit of a model; `None` if it is not registered.
    pub fn model_bit(&self, model: &Hash) -> Option<u64> {
        let index = self.models.iter().position(|m| m == model)?;
        1u64.checked_shl(u32::try_from(index).ok()?)
    }

    /// Takes out the nodes that were last renewed more than `lapse_epochs` before `epoch`.
    pub(crate) fn lapse(&mut self, epoch: u64, lapse_epochs: u64) {
        self.entries.retain(|entry| entry.renewed_epoch.saturating_add(lapse_epochs) >= epoch);
    }

    /// The nodes that serve `model`, in order of their keys.
    pub fn serving(&self, model: &Hash) -> impl Iterator<Item = &NodeEntry> {
        let bit = self.model_bit(model).unwrap_or(0);
        self.entries.iter().filter(move |entry| entry.models & bit != 0)
    }
}

/// The node set as it was; draws use one at least a whole interval old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Height divided by the snapshot interval.
    pub epoch: u64,
    /// Height of the block after which it was taken.
    pub height: u64,
    /// Time of that block, ms.
    pub timestamp_ms: u64,
    /// The set.
    pub set: NodeSet,
}

codec_struct!(Snapshot { epoch, height, timestamp_ms, set });

/// Where one denomination's money is, apart from accounts, escrows and bonds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenomSupply {
    /// Which.
    pub denom: Denom,
    /// Name for people.
    pub name: Text<16>,
    /// All ever issued: the genesis supply.
    pub issued: Amount,
    /// Destroyed by disputes.
    pub burned: Amount,
    /// Held by the treasury.
    pub treasury: Amount,
}

codec_struct!(DenomSupply { denom, name, issued, burned, treasury });

/// All denominations, sorted; the first is NES.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supply {
    /// One entry each.
    pub denoms: Vec<DenomSupply>,
}

codec_struct!(Supply { denoms: up_to(MAX_DENOMS) });

impl Supply {
    /// The entry of a denomination.
    pub fn get(&self, denom: Denom) -> Option<&DenomSupply> {
        self.denoms.iter().find(|d| d.denom == denom)
    }

    pub(crate) fn get_mut(&mut self, denom: Denom) -> Option<&mut DenomSupply> {
        self.denoms.iter_mut().find(|d| d.denom == denom)
    }
}

/// Something that happens by itself at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A query is settled.
    Settle(Hash),
    /// A bond returns.
    Release(Address),
    /// A settled query leaves the state.
    Forget(Hash),
}

impl Write for Due {
    fn write(&self, buf: &mut impl BufMut) {
        let (tag, bytes) = match self {
            Self::Settle(query) => (0u8, &query.0),
            Self::Release(node) => (1, &node.0),
            Self::Forget(query) => (2, &query.0),
        };
        buf.put_u8(tag);
        buf.put_slice(bytes);
    }
}

impl commonware_codec::FixedSize for Due {
    const SIZE: usize = 33;
}

impl Read for Due {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        let tag = u8::read(buf)?;
        let bytes = <[u8; 32]>::read(buf)?;
        match tag {
            0 => Ok(Self::Settle(Hash(bytes))),
            1 => Ok(Self::Release(Address(bytes))),
            2 => Ok(Self::Forget(Hash(bytes))),
            other => Err(Error::InvalidEnum(other)),
        }
    }
}

/// Everything that falls due in one span of `bucket_ms`, in the order it was added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// What.
    pub due: Vec<Due>,
}

codec_struct!(Bucket { due: up_to(MAX_BUCKET_ENTRIES) });

const PAGE_WORDS: usize = (BUCKETS_PER_PAGE / 64) as usize;

/// Which buckets of a page hold anything, so that a long pause costs no walk over empty ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketPage {
    bits: [u64; PAGE_WORDS],
}

codec_struct!(BucketPage { bits });

impl BucketPage {
    /// Marks bucket `place` (within the page) as holding something, or not.
    pub(crate) fn set(&mut self, place: u64, holds: bool) {
        let (word, bit) = ((place / 64) as usize % PAGE_WORDS, place % 64);
        if holds {
            self.bits[word] |= 1 << bit;
        } else {
            self.bits[word] &= !(1 << bit);
        }
    }

    /// The first bucket at or after `place` that holds something.
    pub(crate) fn first_from(&self, place: u64) -> Option<u64> {
        (place..BUCKETS_PER_PAGE)
            .find(|p| self.bits[(p / 64) as usize % PAGE_WORDS] >> (p % 64) & 1 == 1)
    }

    /// Whether nothing is left in the page.
    pub(crate) fn is_empty(&self) -> bool {
        self.bits.iter().all(|word| *word == 0)
    }
}

/// How far the chain has worked off its deadlines and snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// All earlier buckets are empty.
    pub next_bucket: u64,
    /// All earlier snapshots are gone.
    pub oldest_snapshot: u64,
}

codec_struct!(Progress { next_bucket, oldest_snapshot });
