//! Every amount of a payment receipt, recomputed from the vouchers, the parameters and the model.

use super::{
    Failure,
    check::{Held, same},
    committee,
};
use nesa_chain::{
    action::Side,
    committee::Windows,
    fees,
    limits::MAX_VALIDATORS,
    params::Params,
    query::{CommitRecord, QueryRecord, Settlement},
};
use nesa_primitives::Amount;

fn overflow() -> Failure {
    Failure::new("amounts", "more than 2^64", "sums that fit")
}

fn add(a: Amount, b: Amount) -> Held<Amount> {
    a.checked_add(b).ok_or_else(overflow)
}

fn sub(a: Amount, b: Amount) -> Held<Amount> {
    a.checked_sub(b).ok_or_else(overflow)
}

/// Every claim was paid in the chain's shares; gives their sum before the split.
///
/// Until the deadline the validators' part may be short of what does not divide evenly among them:
/// less than one unit each. That is then still held, and goes to the treasury in the end.
pub(super) fn check_payments(record: &QueryRecord, params: &Params) -> Held<Amount> {
    let mut due = fees::Split::default();
    let mut claimed = Amount::ZERO;
    let masked = record.commits.iter().map(|commit| (commit.claimed(), commit.earned()));
    let sealed = record.sealed.iter().flat_map(|sealed| &sealed.commits);
    for (granted, earned) in masked.chain(sealed.map(|c| (c.claimed(), c.earned()))) {
        let split = fees::split(granted, &params.shares).ok_or_else(overflow)?;
        same("paid to an operator", earned, split.compute)?;
        due.owner = add(due.owner, split.owner)?;
        due.validators = add(due.validators, split.validators)?;
        due.treasury = add(due.treasury, split.treasury)?;
        claimed = add(claimed, granted)?;
    }
    let paid = &record.shares_paid;
    same("paid to the model's owner", paid.owner, due.owner)?;
    let undivided = due.validators.checked_sub(paid.validators);
    if undivided.is_none_or(|rest| rest.0 >= MAX_VALIDATORS as u64) {
        return Err(Failure::new("paid to the validators", paid.validators, due.validators));
    }
    let undivided = undivided.unwrap_or_default();
    if record.status.is_open() {
        same("treasury's share", paid.treasury, due.treasury)?;
        let unspent = sub(record.escrow, claimed)?;
        same("still held", record.held, add(unspent, undivided)?)?;
    } else {
        same("treasury's share", paid.treasury, add(due.treasury, undivided)?)?;
        same("still held", record.held, Amount::ZERO)?;
    }
    Ok(claimed)
}

/// The deadline burned what was disputed and returned the rest.
pub(super) fn check_settlement(
    record: &QueryRecord,
    settlement: &Settlement,
    params: &Params,
    proven_at: u64,
) -> Held<()> {
    let close_ms = close_ms(record, params);
    if settlement.height > proven_at || settlement.timestamp_ms < close_ms {
        return Err(Failure::new(
            "settlement",
            format!("block {} at {} ms", settlement.height, settlement.timestamp_ms),
            format!("after {close_ms} ms, at most block {proven_at}"),
        ));
    }
    let burned = burned(record, params)?;
    same("burned", settlement.burned, burned)?;
    let unspent = record.unspent().ok_or_else(overflow)?;
    same("returned to the payer", settlement.returned, sub(unspent, burned)?)
}

/// Disputed increments, each side's within what its budget leaves.
fn burned(record: &QueryRecord, params: &Params) -> Held<Amount> {
    let mut burned = Amount::ZERO;
    for side in [Side::A, Side::B] {
        let commits: Vec<&CommitRecord> =
            record.commits.iter().filter(|commit| commit.side == side).collect();
        let mut left = fees::side_budget(record.escrow);
        for commit in &commits {
            left = sub(left, commit.claimed())?;
        }
        for commit in commits {
            let price = record.price_per_token;
            let disputed = fees::disputed(price, commit.served_tokens, commit.claimed(), params)
                .ok_or_else(overflow)?
                .min(left);
            left = sub(left, disputed)?;
            burned = add(burned, disputed)?;
        }
    }
    match &record.sealed {
        None => Ok(burned),
        Some(sealed) => add(burned, committee::burned(record, sealed, params)?),
    }
}

/// When what is left returns: at the deadline, or at the close of a committee's query.
pub(super) fn close_ms(record: &QueryRecord, params: &Params) -> u64 {
    match &record.sealed {
        None => record.deadline_ms,
        Some(sealed) => Windows::of(record.deadline_ms, sealed.terms.disclose, params).close_ms,
    }
}
