//! What a claim pays, at once.
//!
//! ```text
//! held ── new total − claimed before ──split──> operator, owner, validators, treasury
//!     └── the rest stays, until the deadline
//! ```
//!
//! A payment only ever takes what the client has signed away and the side's budget holds, and
//! nothing closes the query before its deadline. So paying early takes no right from anybody: a
//! server that was replaced can still commit, claim, and have its unpaid increment burned.

use super::{Call, TxError, money};
use crate::{
    fees, keys,
    query::QueryRecord,
    record::{Coins, ModelRecord},
    state::Overlay,
};
use nesa_primitives::{Address, Amount};

const OVERFLOW: TxError = TxError::Overflow { what: "a payment" };

/// Who is paid, and what it had before.
pub(super) struct Payee {
    pub(super) operator: Address,
    pub(super) claimed: Amount,
    pub(super) earned: Amount,
}

/// Pays what a voucher's `total` adds to the payee's claims, and returns all that it has earned. The
/// caller has checked that it adds something, and that the commit and the budget cover it, and
/// writes the claim into the record afterwards.
pub(super) fn pay(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    record: &mut QueryRecord,
    payee: &Payee,
    total: Amount,
) -> Result<Amount, TxError> {
    let shares = &call.params.shares;
    let before = fees::split(payee.claimed, shares).ok_or(OVERFLOW)?;
    let after = fees::split(total, shares).ok_or(OVERFLOW)?;
    let due = after.beyond(&before).ok_or(OVERFLOW)?;
    let earned = payee.earned.checked_add(due.compute).ok_or(OVERFLOW)?;
    let operator = payee.operator;
    let validators = &call.env.validators;
    // What did not divide evenly before is divided again, together with what is new.
    let undivided = undivided(record)?.checked_add(due.validators).ok_or(OVERFLOW)?;
    let each = undivided.ratio(1, validators.len() as u64).unwrap_or(Amount::ZERO);
    let handed = each.checked_mul(validators.len() as u64).ok_or(OVERFLOW)?;

    let model_key = keys::model(&record.model);
    overlay.require([model_key, keys::supply(), keys::account(&operator)])?;
    let model: ModelRecord = overlay.load("model", &model_key)?;
    overlay.require(
        std::iter::once(&model.owner).chain(validators).map(keys::account).collect::<Vec<_>>(),
    )?;

    let mut held = held(record);
    let mut credit = |to, amount| -> Result<(), TxError> {
        let coins = held.take(amount).ok_or(OVERFLOW)?;
        money::credit(overlay, to, record.denom, coins)
    };
    credit(&operator, due.compute)?;
    credit(&model.owner, due.owner)?;
    for validator in validators {
        credit(validator, each)?;
    }
    held.take(due.treasury).ok_or(OVERFLOW)?;
    money::absorb(overlay, record.denom, due.treasury, Amount::ZERO)?;

    let paid = &mut record.shares_paid;
    paid.owner = paid.owner.checked_add(due.owner).ok_or(OVERFLOW)?;
    paid.validators = paid.validators.checked_add(handed).ok_or(OVERFLOW)?;
    paid.treasury = paid.treasury.checked_add(due.treasury).ok_or(OVERFLOW)?;
    (record.held, record.held_faucet) = (held.amount, held.faucet);
    Ok(earned)
}

/// What an escrow still holds.
pub(super) const fn held(record: &QueryRecord) -> Coins {
    Coins { amount: record.held, faucet: record.held_faucet }
}

/// The validators' part of the claims that did not divide evenly, still held: less than one unit
/// for each of them.
pub(super) fn undivided(record: &QueryRecord) -> Result<Amount, TxError> {
    let unspent = record.unspent().ok_or(OVERFLOW)?;
    record.held.checked_sub(unspent).ok_or(OVERFLOW)
}
