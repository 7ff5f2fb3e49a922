//! Settlement at the deadline: who gets what of an escrow.
//!
//! ```text
//! escrow ── side A: half ──> vouchers ──split──> operator, owner, validators, treasury
//!        │                └> disputed increments ──> burned
//!        ├─ side B: half    (the same)
//!        └─ the rest ──────────────────────────> payer
//! ```

use super::{BlockEnv, TxError, deadlines, money, queries::budget_left};
use crate::{
    action::Side,
    fees, keys,
    params::Params,
    query::{Payment, QueryRecord, Role, Settlement, Status},
    record::{Coins, Due, ModelRecord, NodeRecord},
    state::Overlay,
};
use nesa_primitives::{Amount, Hash};

const OVERFLOW: TxError = TxError::Overflow { what: "a settlement" };

/// Where an escrow will go, before anything is moved.
struct Plan {
    paid: Vec<Payment>,
    treasury: Amount,
    burned: Amount,
    returned: Amount,
}

/// Settles a query if it is still open. One that is gone or settled is left alone.
pub(super) fn settle(
    overlay: &mut Overlay<'_>,
    env: &BlockEnv,
    params: &Params,
    query: &Hash,
) -> Result<bool, TxError> {
    let key = keys::query(query);
    let Some(mut record) = overlay.find::<QueryRecord>(&key)? else { return Ok(false) };
    if !record.status.is_open() {
        return Ok(false);
    }
    let model: ModelRecord = overlay.load("model", &keys::model(&record.model))?;
    let plan = plan(&record, &model, env, params)?;

    let mut escrow = Coins { amount: record.escrow, faucet: record.escrow_faucet };
    for payment in &plan.paid {
        let coins = escrow.take(payment.amount).ok_or(OVERFLOW)?;
        money::credit(overlay, &payment.to, record.denom, coins)?;
    }
    escrow.take(plan.treasury).ok_or(OVERFLOW)?;
    escrow.take(plan.burned).ok_or(OVERFLOW)?;
    money::absorb(overlay, record.denom, plan.treasury, plan.burned)?;
    if escrow.amount != plan.returned {
        return Err(OVERFLOW);
    }
    money::credit(overlay, &record.payer, record.denom, escrow)?;
    raise_scores(overlay, &record)?;

    let settlement = Settlement {
        height: env.height,
        timestamp_ms: env.timestamp_ms,
        paid: plan.paid,
        treasury: plan.treasury,
        burned: plan.burned,
        returned: plan.returned,
    };
    record.status = if settlement.returned == record.escrow {
        Status::Expired(settlement)
    } else {
        Status::Settled(settlement)
    };
    overlay.store(key, &record)?;
    let forget_ms = env.timestamp_ms.saturating_add(params.query_retention_ms);
    deadlines::schedule_near(overlay, params, forget_ms, Due::Forget(*query))?;
    Ok(true)
}

fn plan(
    record: &QueryRecord,
    model: &ModelRecord,
    env: &BlockEnv,
    params: &Params,
) -> Result<Plan, TxError> {
    let mut paid: Vec<Payment> = Vec::new();
    let (mut owner, mut validators) = (Amount::ZERO, Amount::ZERO);
    let (mut treasury, mut burned) = (Amount::ZERO, Amount::ZERO);
    let mut spent = Amount::ZERO;
    let add = |sum: &mut Amount, more: Amount| -> Result<(), TxError> {
        *sum = sum.checked_add(more).ok_or(OVERFLOW)?;
        Ok(())
    };
    for commit in &record.commits {
        let split = fees::split(commit.claimed(), &params.shares).ok_or(OVERFLOW)?;
        if !split.compute.is_zero() {
            let to = commit.operator;
            paid.push(Payment { to, role: Role::Compute, amount: split.compute });
        }
        add(&mut owner, split.owner)?;
        add(&mut validators, split.validators)?;
        add(&mut treasury, split.treasury)?;
        add(&mut spent, commit.claimed())?;
    }
    for side in [Side::A, Side::B] {
        let mut left = budget_left(record, side, None)?;
        for commit in record.commits.iter().filter(|c| c.side == side) {
            let price = record.price_per_token;
            let disputed = fees::disputed(price, commit.served_tokens, commit.claimed(), params)
                .ok_or(OVERFLOW)?
                .min(left);
            left = left.checked_sub(disputed).ok_or(OVERFLOW)?;
            add(&mut burned, disputed)?;
        }
    }
    if !owner.is_zero() {
        paid.push(Payment { to: model.owner, role: Role::Owner, amount: owner });
    }
    let count = env.validators.len() as u64;
    let each = validators.ratio(1, count).unwrap_or(Amount::ZERO);
    let handed = each.checked_mul(count).ok_or(OVERFLOW)?;
    // What does not divide evenly goes to the treasury.
    add(&mut treasury, validators.checked_sub(handed).ok_or(OVERFLOW)?)?;
    if !each.is_zero() {
        let to_validator = |to| Payment { to, role: Role::Validator, amount: each };
        paid.extend(env.validators.iter().copied().map(to_validator));
    }
    add(&mut spent, burned)?;
    let returned = record.escrow.checked_sub(spent).ok_or(OVERFLOW)?;
    Ok(Plan { paid, treasury, burned, returned })
}

/// One more paid query for each node that was paid and is still registered.
fn raise_scores(overlay: &mut Overlay<'_>, record: &QueryRecord) -> Result<(), TxError> {
    for commit in record.commits.iter().filter(|c| !c.claimed().is_zero()) {
        let key = keys::node(&commit.node);
        if let Some(mut node) = overlay.find::<NodeRecord>(&key)? {
            node.score = node.score.saturating_add(1);
            overlay.store(key, &node)?;
        }
    }
    Ok(())
}

/// The keys a settlement will touch beside the query's own, as far as they are known by now.
pub(super) fn touches(record: &QueryRecord, env: &BlockEnv) -> Vec<crate::keys::Key> {
    let mut touched =
        vec![keys::model(&record.model), keys::account(&record.payer), keys::supply()];
    for commit in &record.commits {
        touched.push(keys::account(&commit.operator));
        touched.push(keys::node(&commit.node));
    }
    touched.extend(env.validators.iter().map(keys::account));
    touched
}
