//! Settlement at the deadline: what becomes of the rest of an escrow.
//!
//! ```text
//! held ─┬─ unpaid increments, within each side's budget ──> burned
//!       ├─ validators' part that did not divide evenly ───> treasury
//!       └─ the rest ──────────────────────────────────────> payer
//! ```
//!
//! Claims were paid when they came; see [`super::pay`].

use super::{BlockEnv, TxError, deadlines, dispute, money, pay, queries::budget_left, sealed};
use crate::{
    action::Side,
    fees, keys,
    params::Params,
    query::{QueryRecord, Settlement, Status},
    record::{Due, NodeRecord},
    state::Overlay,
};
use nesa_primitives::{Address, Amount, Hash};
use std::collections::BTreeSet;

const OVERFLOW: TxError = TxError::Overflow { what: "a settlement" };

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
    dispute::finish(overlay, params, &mut record)?;
    let burned = disputed(&record, params)?;
    let undivided = pay::undivided(&record)?;
    let mut held = pay::held(&record);
    held.take(undivided).ok_or(OVERFLOW)?;
    held.take(burned).ok_or(OVERFLOW)?;
    money::absorb(overlay, record.denom, undivided, burned)?;
    money::credit(overlay, &record.payer, record.denom, held)?;
    raise_scores(overlay, &record)?;

    let treasury = &mut record.shares_paid.treasury;
    *treasury = treasury.checked_add(undivided).ok_or(OVERFLOW)?;
    (record.held, record.held_faucet) = (Amount::ZERO, Amount::ZERO);
    let (height, timestamp_ms) = (env.height, env.timestamp_ms);
    let settlement = Settlement { height, timestamp_ms, burned, returned: held.amount };
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

/// The increments that were served and not paid for, each side's within its budget.
fn disputed(record: &QueryRecord, params: &Params) -> Result<Amount, TxError> {
    let mut sum = Amount::ZERO;
    for side in [Side::A, Side::B] {
        let mut left = budget_left(record, side, None)?;
        for commit in record.commits.iter().filter(|c| c.side == side) {
            let price = record.price_per_token;
            let disputed = fees::disputed(price, commit.served_tokens, commit.claimed(), params)
                .ok_or(OVERFLOW)?
                .min(left);
            left = left.checked_sub(disputed).ok_or(OVERFLOW)?;
            sum = sum.checked_add(disputed).ok_or(OVERFLOW)?;
        }
    }
    sum.checked_add(sealed::disputed(record, params)?).ok_or(OVERFLOW)
}

/// One more paid query for each node that was paid and is still registered.
fn raise_scores(overlay: &mut Overlay<'_>, record: &QueryRecord) -> Result<(), TxError> {
    for node in paid_nodes(record) {
        let key = keys::node(node);
        if let Some(mut node) = overlay.find::<NodeRecord>(&key)? {
            node.score = node.score.saturating_add(1);
            overlay.store(key, &node)?;
        }
    }
    Ok(())
}

/// The nodes that were paid, each once.
fn paid_nodes(record: &QueryRecord) -> BTreeSet<&Address> {
    let sides = record.commits.iter().filter(|c| !c.claimed().is_zero()).map(|c| &c.node);
    let shards = record.sealed.iter().flat_map(|sealed| &sealed.commits);
    sides.chain(shards.filter(|c| !c.claimed().is_zero()).map(|c| &c.node)).collect()
}

/// The keys a settlement will touch beside the query's own, as far as they are known by now.
pub(super) fn touches(record: &QueryRecord) -> Vec<crate::keys::Key> {
    let mut touched = vec![keys::account(&record.payer), keys::supply()];
    touched.extend(paid_nodes(record).into_iter().map(keys::node));
    touched
}
