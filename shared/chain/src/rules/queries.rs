//! The life of a query before its deadline: escrow, commits, claims.
//!
//! What a claim pays is in [`super::pay`], what the deadline does in [`super::settle`].

use super::{Call, SeedVerifier, TxError, deadlines, money, pay, sealed, snapshot_epoch};
use crate::{
    action::{Claim, Commit, PayForQuery, Side},
    committee::{self, Committee, DRAW_DELAY_VIEWS, Windows},
    fees, keys,
    query::{ClaimRecord, CommitRecord, QueryRecord, Sealed, SharesPaid, Status},
    record::{Due, ModelRecord, Snapshot},
    state::Overlay,
};
use nesa_primitives::{Address, Amount, Denom, Hash};

/// `PayForQuery`: takes draw fee and escrow, fixes the view and the snapshot of the draw.
pub(super) fn open(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    pay: &PayForQuery,
) -> Result<(), TxError> {
    let (env, params) = (call.env, call.params);
    let model: ModelRecord = overlay
        .find(&keys::model(&pay.model))?
        .ok_or(TxError::UnknownModel { digest: pay.model })?;
    if model.lanes & pay.lane.bit() == 0 {
        return Err(TxError::Lanes { got: pay.lane.bit(), expected: model.lanes });
    }
    if pay.denom != model.denom {
        return Err(TxError::Denom { got: pay.denom, expected: model.denom });
    }
    if pay.max_tokens == 0 || pay.max_tokens > params.max_query_tokens {
        return Err(TxError::Tokens { got: pay.max_tokens, max: params.max_query_tokens });
    }
    check_deadline(call, pay.deadline_ms)?;
    let terms = sealed::terms(pay)?;
    let (price, least) = match terms {
        None => {
            (model.price_per_token, fees::min_escrow(model.price_per_token, pay.max_tokens, params))
        }
        Some(terms) => (
            fees::shard_price(model.price_per_token, terms.shards()),
            fees::min_committee_escrow(model.price_per_token, pay.max_tokens, params, terms),
        ),
    };
    let least = least.ok_or(TxError::Overflow { what: "the price" })?;
    if pay.max_fee < least {
        return Err(TxError::Escrow { got: pay.max_fee, expected: least });
    }
    let epoch = snapshot_epoch(env.height, params);
    let snapshot = snapshot(overlay, epoch)?;
    match terms {
        None => committee::possible(&snapshot.set, &pay.model, pay.named.as_ref())?,
        Some(terms) => committee::possible_shards(&snapshot.set, &pay.model, terms)?,
    }
    let draw_view = env
        .view
        .checked_add(DRAW_DELAY_VIEWS)
        .ok_or(TxError::Overflow { what: "the draw view" })?;

    let draw_fee = money::debit(overlay, &call.sender, Denom::NES, params.draw_fee)?;
    money::absorb(overlay, Denom::NES, draw_fee.amount, Amount::ZERO)?;
    let escrow = money::debit(overlay, &call.sender, pay.denom, pay.max_fee)?;
    let close_ms = terms.map_or(pay.deadline_ms, |terms| {
        Windows::of(pay.deadline_ms, terms.disclose, params).close_ms
    });
    deadlines::schedule(overlay, params, close_ms, Due::Settle(call.id))?;
    let record = QueryRecord {
        id: call.id,
        payer: call.sender,
        model: pay.model,
        lane: pay.lane,
        verification: pay.verification,
        denom: pay.denom,
        escrow: escrow.amount,
        escrow_faucet: escrow.faucet,
        draw_fee: draw_fee.amount,
        price_per_token: price,
        commitment: pay.commitment,
        client_key: pay.client_key,
        deadline_ms: pay.deadline_ms,
        max_tokens: pay.max_tokens,
        named: pay.named,
        included_height: env.height,
        included_view: env.view,
        included_ms: env.timestamp_ms,
        draw_view,
        snapshot_epoch: epoch,
        committee: None,
        commits: Vec::new(),
        sealed: terms.cloned().map(Sealed::new),
        held: escrow.amount,
        held_faucet: escrow.faucet,
        shares_paid: SharesPaid::default(),
        status: Status::Open,
    };
    overlay.store(keys::query(&call.id), &record)?;
    Ok(())
}

fn check_deadline(call: &Call<'_>, deadline_ms: u64) -> Result<(), TxError> {
    let earliest = call.env.timestamp_ms.saturating_add(call.params.min_deadline_ms);
    let latest = call.env.timestamp_ms.saturating_add(call.params.max_deadline_ms);
    if (earliest..=latest).contains(&deadline_ms) {
        Ok(())
    } else {
        Err(TxError::Deadline { got: deadline_ms, earliest, latest })
    }
}

pub(super) fn snapshot(overlay: &Overlay<'_>, epoch: u64) -> Result<Snapshot, TxError> {
    overlay.find(&keys::snapshot(epoch))?.ok_or(TxError::NoSnapshot { epoch })
}

/// A query that is not settled.
pub(super) fn open_query(overlay: &Overlay<'_>, query: &Hash) -> Result<QueryRecord, TxError> {
    let record: QueryRecord =
        overlay.find(&keys::query(query))?.ok_or(TxError::UnknownQuery { query: *query })?;
    if !record.status.is_open() {
        return Err(TxError::Settled { query: *query });
    }
    Ok(record)
}

/// An open query of the masked lane before its deadline.
fn masked_query(
    overlay: &Overlay<'_>,
    call: &Call<'_>,
    query: &Hash,
) -> Result<QueryRecord, TxError> {
    let record = open_query(overlay, query)?;
    if record.sealed.is_some() {
        return Err(TxError::OtherLane { query: *query });
    }
    if call.env.timestamp_ms > record.deadline_ms {
        return Err(TxError::Late { got: call.env.timestamp_ms, expected: record.deadline_ms });
    }
    Ok(record)
}

/// `Commit`: the first one draws the committee from the seed it brings.
pub(super) fn commit(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    commit: &Commit,
    seeds: &dyn SeedVerifier,
) -> Result<(), TxError> {
    let mut record = masked_query(overlay, call, &commit.query)?;
    if !seeds.verify_seed(record.draw_view, &commit.seed.0) {
        return Err(TxError::Seed { view: record.draw_view });
    }
    let drawn = match record.committee.take() {
        Some(drawn) => drawn,
        None => draw(overlay, &record, &commit.seed.0)?,
    };
    let seats = drawn.side(commit.side).len();
    let seat = *drawn.seat(commit.side, commit.attempt).ok_or(TxError::Seat {
        side: commit.side,
        got: commit.attempt,
        max: seats,
    })?;
    record.committee = Some(drawn);
    if seat.operator != call.sender {
        return Err(TxError::Operator { got: call.sender, expected: seat.operator });
    }
    let taken = |c: &CommitRecord| c.side == commit.side && c.attempt == commit.attempt;
    if record.commits.iter().any(taken) {
        return Err(TxError::Committed { side: commit.side, attempt: commit.attempt });
    }
    if commit.served_tokens > record.max_tokens {
        return Err(TxError::Served { got: commit.served_tokens, max: record.max_tokens });
    }
    record.commits.push(CommitRecord {
        side: commit.side,
        attempt: commit.attempt,
        node: seat.node,
        operator: seat.operator,
        blinded_root: commit.blinded_root,
        served_tokens: commit.served_tokens,
        height: call.env.height,
        claim: None,
    });
    overlay.store(keys::query(&commit.query), &record)?;
    Ok(())
}

fn draw(overlay: &Overlay<'_>, record: &QueryRecord, seed: &[u8]) -> Result<Committee, TxError> {
    let snapshot = snapshot(overlay, record.snapshot_epoch)?;
    let named = record.named.as_ref();
    Ok(committee::derive(seed, &record.id, &snapshot.set, &record.model, named)?)
}

/// `Claim`: pays what the client's signed total says beyond what was paid before.
pub(super) fn claim(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    claim: &Claim,
) -> Result<(), TxError> {
    let voucher = &claim.voucher;
    if voucher.query != claim.query {
        return Err(TxError::VoucherQuery { got: voucher.query, expected: claim.query });
    }
    let mut record = masked_query(overlay, call, &claim.query)?;
    voucher.verify(&record.client_key, &call.env.chain).map_err(TxError::Voucher)?;
    let place = record
        .commits
        .iter()
        .position(|c| c.node == voucher.node)
        .ok_or(TxError::NotCommitted { node: voucher.node })?;
    check_claim(&record, place, &call.sender, voucher.total)?;
    let commit = &record.commits[place];
    let (operator, claimed, earned) = (commit.operator, commit.claimed(), commit.earned());
    let payee = pay::Payee { operator, claimed, earned };
    let earned = pay::pay(overlay, call, &mut record, &payee, voucher.total)?;
    record.commits[place].claim =
        Some(ClaimRecord { voucher: voucher.clone(), earned, height: call.env.height });
    overlay.store(keys::query(&claim.query), &record)?;
    Ok(())
}

fn check_claim(
    record: &QueryRecord,
    place: usize,
    sender: &Address,
    total: Amount,
) -> Result<(), TxError> {
    let commit = &record.commits[place];
    if commit.operator != *sender {
        return Err(TxError::Operator { got: *sender, expected: commit.operator });
    }
    let claimed = commit.claimed();
    if total <= claimed {
        return Err(TxError::VoucherNotLarger { got: total, expected: claimed });
    }
    let worth = fees::price(record.price_per_token, commit.served_tokens)
        .ok_or(TxError::Overflow { what: "the work's price" })?;
    if total > worth {
        return Err(TxError::VoucherAboveServed { got: total, expected: worth });
    }
    let left = budget_left(record, commit.side, Some(place))?;
    if total > left {
        return Err(TxError::Budget { side: commit.side, got: total, expected: left });
    }
    Ok(())
}

/// What a side's budget holds after all claims but that of commit `except`.
pub(super) fn budget_left(
    record: &QueryRecord,
    side: Side,
    except: Option<usize>,
) -> Result<Amount, TxError> {
    let mut left = fees::side_budget(record.escrow);
    for (i, commit) in record.commits.iter().enumerate() {
        if commit.side == side && Some(i) != except {
            left = left
                .checked_sub(commit.claimed())
                .ok_or(TxError::Overflow { what: "a side's claims" })?;
        }
    }
    Ok(left)
}
