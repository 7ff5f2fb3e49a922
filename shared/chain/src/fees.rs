//! The arithmetic of prices, budgets and splits, all checked.

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

/// Each side's budget: half of the escrow, rounded down.
pub const fn side_budget(escrow: Amount) -> Amount {
    Amount(escrow.0 / 2)
}

/// One voucher's total, split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// To the node's operator, rounding included.
    pub compute: Amount,
    /// To the model's owner.
    pub owner: Amount,
    /// To the validators together.
    pub validators: Amount,
    /// To the treasury.
    pub treasury: Amount,
}

/// Splits a total by `shares`; the parts sum to it exactly. `None` only for shares that do not
/// sum to one hundred per cent.
pub fn split(total: Amount, shares: &Shares) -> Option<Split> {
    let part = |share: u32| total.ratio(share.into(), FULL.into());
    let (owner, validators, treasury) =
        (part(shares.owner)?, part(shares.validators)?, part(shares.treasury)?);
    let compute = total.checked_sub(owner)?.checked_sub(validators)?.checked_sub(treasury)?;
    Some(Split { compute, owner, validators, treasury })
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
