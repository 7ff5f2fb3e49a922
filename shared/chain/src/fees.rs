//! The arithmetic of prices, budgets and splits, all checked.

use crate::committee::Terms;
use crate::params::{FULL, Params, Shares};
use nesa_primitives::Amount;

/// Price of `tokens` padded tokens on one side; `None` on overflow.
pub fn price(price_per_token: Amount, tokens: u32) -> Option<Amount> {
    price_per_token.checked_mul(tokens.into())
}

/// Least escrow of a query: on each side the price of the work and of one disputed increment.
///
/// With less, a client could dispute an increment that its escrow no longer covers, and so have
/// work for nothing. `None` on overflow.
pub fn min_escrow(price_per_token: Amount, max_tokens: u32, params: &Params) -> Option<Amount> {
    let work = price(price_per_token, max_tokens)?;
    let increment = price(price_per_token, max_tokens.min(params.increment_tokens))?;
    work.checked_add(increment)?.checked_mul(2)
}

/// Price of one padded token on one replica of one shard: the model's price shared out evenly over
/// the shards, rounded up.
pub fn shard_price(price_per_token: Amount, shards: usize) -> Amount {
    Amount(price_per_token.0.div_ceil((shards as u64).max(1)))
}

/// Least escrow of a committee's query: for each replica and each spare of each shard what
/// [`min_escrow`] asks for a side. `None` on overflow.
pub fn min_committee_escrow(
    price_per_token: Amount,
    max_tokens: u32,
    params: &Params,
    terms: &Terms,
) -> Option<Amount> {
    let each = shard_price(price_per_token, terms.shards());
    let work = price(each, max_tokens)?;
    let increment = price(each, max_tokens.min(params.increment_tokens))?;
    work.checked_add(increment)?.checked_mul(terms.parts() as u64)
}

/// Budget of one commit, a replica's or a spare's: an equal part of the escrow, rounded down.
pub fn replica_budget(escrow: Amount, terms: &Terms) -> Amount {
    Amount(escrow.0 / (terms.parts() as u64).max(1))
}

/// Each side's budget: half of the escrow, rounded down.
pub const fn side_budget(escrow: Amount) -> Amount {
    Amount(escrow.0 / 2)
}

/// One voucher's total, split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// To the node's operator.
    pub compute: Amount,
    /// To the model's owner.
    pub owner: Amount,
    /// To the validators together.
    pub validators: Amount,
    /// To the treasury.
    pub treasury: Amount,
}

/// Splits a total by `shares`; the parts sum to it exactly, each less than three units from its
/// exact share. `None` only for shares that do not sum to one hundred per cent.
///
/// A voucher is paid in steps, as its total grows. What a step pays is the difference of two
/// splits, so that any number of steps pays what one would; for that no part may shrink when the
/// total grows. Cutting one part after the other off what is left has this property, rounding each
/// share by itself has not: with `f(x) = ⌊x · p⌋` and `p ≤ 1`, both `f(x)` and `x − f(x)` grow with
/// `x`, and so does any chain of such cuts.
///
/// ```text
/// total ─┬─> compute (rounded up)
///        └─> rest ─┬─> owner (rounded up)
///                  └─> rest ─┬─> validators (rounded up)
///                            └─> treasury
/// ```
pub fn split(total: Amount, shares: &Shares) -> Option<Split> {
    let network = shares.validators.checked_add(shares.treasury)?;
    let others = network.checked_add(shares.owner)?;
    if others.checked_add(shares.compute)? != FULL {
        return None;
    }
    let (compute, rest) = cut(total, others, FULL)?;
    let (owner, rest) = cut(rest, network, others)?;
    let (validators, treasury) = cut(rest, shares.treasury, network)?;
    Some(Split { compute, owner, validators, treasury })
}

/// Cuts `⌊amount · part ÷ whole⌋` off an amount: what stays, and what was cut off.
fn cut(amount: Amount, part: u32, whole: u32) -> Option<(Amount, Amount)> {
    let off = if part == 0 { Amount::ZERO } else { amount.ratio(part.into(), whole.into())? };
    Some((amount.checked_sub(off)?, off))
}

impl Split {
    /// What is due beyond `paid`, part by part; `None` if a part of `paid` is larger.
    pub fn beyond(&self, paid: &Self) -> Option<Self> {
        Some(Self {
            compute: self.compute.checked_sub(paid.compute)?,
            owner: self.owner.checked_sub(paid.owner)?,
            validators: self.validators.checked_sub(paid.validators)?,
            treasury: self.treasury.checked_sub(paid.treasury)?,
        })
    }
}

/// What is burned for one server: the part of its served tokens that no voucher covers, at most
/// one increment. `None` on overflow.
pub fn disputed(
    price_per_token: Amount,
    served_tokens: u32,
    claimed: Amount,
    params: &Params,
) -> Option<Amount> {
    let served = price(price_per_token, served_tokens)?;
    let unpaid = served.checked_sub(claimed).unwrap_or(Amount::ZERO);
    Some(unpaid.min(price(price_per_token, params.increment_tokens)?))
}
