//! The committee lane: commit to a trace, reveal it, be paid where the replicas agree.
//!
//! ```text
//! commit (blinded root) ──deadline──▶ reveal ──▶ all revealed roots of the shard equal,
//!                                               a strict majority revealed ──▶ claims are paid
//!                                               else ──▶ nothing is paid; see below
//! ```
//!
//! A node that a spare was put in for is paid what the client signed for, and nothing else; its part is
//! neither compared nor disputed. What the client used of it and did not sign for is burned like the rest, or
//! a client could have a text of every replica that it gives up in time.
//!
//! What is served is cheap to deny and cheap to feign, so what a mismatch costs whom is a choice.
//! Here it costs everybody a little: the replicas are not paid, and for each that revealed one
//! increment of the payer's escrow is burned, the rest returns. A client that feeds its replicas
//! different inputs to have the work for nothing still loses an increment for each of them; a node
//! that lies to spite the others takes their pay, loses its own, and gains nothing. With consent to
//! disclosure a dispute settles it instead; and where that shows that the client signed two inputs for
//! one place, the replicas of the shard are paid for all they served.

use super::{Call, SeedVerifier, TxError, pay, queries};
use crate::{
    action::{ClaimServed, ClaimShard, CommitShard, Lane, PayForQuery, Reveal, Verification},
    committee::{Admission, Terms, Windows, blind, derive_shards},
    fees, keys,
    params::Params,
    query::{Agreement, QueryRecord, Sealed, ShardClaim, ShardCommit, Unvouched},
    state::Overlay,
};
use nesa_primitives::{Amount, Hash};

const OVERFLOW: TxError = TxError::Overflow { what: "a replica's claims" };

/// The terms of a query, which exactly the committee lane has.
pub(super) fn terms(pay: &PayForQuery) -> Result<Option<&Terms>, TxError> {
    let (lane, verification) = (pay.lane, pay.verification);
    match (lane, verification) {
        (Lane::Masked, Verification::Freivalds) => match &pay.terms {
            None => Ok(None),
            Some(_) => Err(TxError::Terms { got: "some", expected: "none" }),
        },
        (Lane::Sealed, Verification::Committee) => {
            let none = TxError::Terms { got: "no", expected: "some" };
            let terms = pay.terms.as_ref().ok_or(none)?;
            terms.check()?;
            if pay.named.is_some() {
                return Err(TxError::NamedReplica);
            }
            Ok(Some(terms))
        }
        (Lane::Float, Verification::Statistical) => {
            let none = TxError::Terms { got: "no", expected: "some" };
            let terms = pay.terms.as_ref().ok_or(none)?;
            terms.check()?;
            if pay.named.is_some() {
                return Err(TxError::NamedReplica);
            }
            // Nothing can be disputed where honest replicas differ, and no model is cut.
            if terms.disclose || !terms.cuts.is_empty() {
                let (got, expected) = ("cuts or disclosure", "one shard without disclosure");
                return Err(TxError::Terms { got, expected });
            }
            if terms.replicas < 2 {
                return Err(TxError::Terms { got: "one replica", expected: "two at least" });
            }
            Ok(Some(terms))
        }
        _ => Err(TxError::Pair { lane, verification }),
    }
}

/// An open query of the committee lane: its record, its part of this lane, and its windows.
pub(super) fn sealed_query(
    overlay: &Overlay<'_>,
    call: &Call<'_>,
    query: &Hash,
) -> Result<(QueryRecord, Sealed, Windows), TxError> {
    let mut record = queries::open_query(overlay, query)?;
    let sealed = record.sealed.take().ok_or(TxError::OtherLane { query: *query })?;
    let windows = Windows::of(record.deadline_ms, sealed.terms.disclose, call.params);
    Ok((record, sealed, windows))
}

/// Writes the record with its part of this lane.
pub(super) fn store(
    overlay: &mut Overlay<'_>,
    mut record: QueryRecord,
    sealed: Sealed,
) -> Result<(), TxError> {
    record.sealed = Some(sealed);
    overlay.store(keys::query(&record.id), &record)?;
    Ok(())
}

pub(super) fn after(call: &Call<'_>, expected: u64) -> Result<(), TxError> {
    let got = call.env.timestamp_ms;
    if got > expected { Ok(()) } else { Err(TxError::Early { got, expected }) }
}

pub(super) fn until(call: &Call<'_>, expected: u64) -> Result<(), TxError> {
    let got = call.env.timestamp_ms;
    if got <= expected { Ok(()) } else { Err(TxError::Late { got, expected }) }
}

/// The place of a replica's commit, which must be there.
pub(super) fn place(sealed: &Sealed, shard: u8, replica: u8) -> Result<usize, TxError> {
    sealed.place(shard, replica).ok_or(TxError::NoCommit { shard, replica })
}

fn by_operator(call: &Call<'_>, commit: &ShardCommit) -> Result<(), TxError> {
    if commit.operator == call.sender {
        Ok(())
    } else {
        Err(TxError::Operator { got: call.sender, expected: commit.operator })
    }
}

/// `CommitShard`: the first one draws the committee from the seed it brings.
pub(super) fn commit(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    commit: &CommitShard,
    seeds: &dyn SeedVerifier,
) -> Result<(), TxError> {
    let (record, mut sealed, windows) = sealed_query(overlay, call, &commit.query)?;
    until(call, windows.commit_ms)?;
    if !seeds.verify_seed(record.draw_view, &commit.seed.0) {
        return Err(TxError::Seed { view: record.draw_view });
    }
    let (shard, replica) = (commit.shard, commit.replica);
    let (shards, replicas) = (sealed.terms.shards(), sealed.terms.replicas);
    if usize::from(shard) >= shards || replica >= replicas {
        return Err(TxError::Replica { shard, replica, shards, replicas });
    }
    let drawn = match sealed.committee.take() {
        Some(drawn) => drawn,
        None => {
            let set = queries::snapshot(overlay, record.snapshot_epoch)?.set;
            derive_shards(&commit.seed.0, &record.id, &set, &record.model, &sealed.terms)?
        }
    };
    let seat = drawn.seat(shard, commit.seat).copied();
    // A replica's own candidate, or a spare: never another replica's.
    let seat = seat
        .filter(|_| commit.seat == replica || commit.seat >= replicas)
        .ok_or(TxError::ShardSeat { shard, replica, got: commit.seat })?;
    sealed.committee = Some(drawn);
    if seat.operator != call.sender {
        return Err(TxError::Operator { got: call.sender, expected: seat.operator });
    }
    let admission = Admission { query: record.id, shard, replica, node: seat.node };
    match &commit.admission {
        None if commit.seat == replica => {}
        None => return Err(TxError::Admission("none given")),
        Some(_) if commit.seat == replica => {
            return Err(TxError::Admission("given for the replica itself"));
        }
        Some(signature) => admission
            .verify(&record.client_key, &call.env.chain, signature)
            .map_err(|_| TxError::Admission("bad signature"))?,
    }
    if sealed.commits.iter().any(|c| c.shard == shard && c.operator == seat.operator) {
        return Err(TxError::CommittedShard { shard, replica });
    }
    if commit.served_tokens > record.max_tokens {
        return Err(TxError::Served { got: commit.served_tokens, max: record.max_tokens });
    }
    // A spare stands in for one replica. It puts whoever had the place before it out, whichever commits
    // first: what a node has computed by the time it is given up is no whole trace, and must not stand
    // against the others.
    let mut put_out = false;
    for c in sealed.commits.iter_mut().filter(|c| (c.shard, c.replica) == (shard, replica)) {
        c.put_out |= c.seat < commit.seat;
        put_out |= c.seat > commit.seat;
    }
    sealed.commits.push(ShardCommit {
        shard,
        replica,
        put_out,
        seat: commit.seat,
        node: seat.node,
        operator: seat.operator,
        blinded_root: commit.blinded_root,
        served_tokens: commit.served_tokens,
        height: call.env.height,
        root: None,
        liar: false,
        claim: None,
        unvouched: None,
    });
    store(overlay, record, sealed)
}

/// `Reveal`: after the last commit could come, before the reveals end.
pub(super) fn reveal(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    reveal: &Reveal,
) -> Result<(), TxError> {
    let (record, mut sealed, windows) = sealed_query(overlay, call, &reveal.query)?;
    after(call, windows.commit_ms)?;
    until(call, windows.reveal_ms)?;
    let (shard, replica) = (reveal.shard, reveal.replica);
    let place = place(&sealed, shard, replica)?;
    let commit = &mut sealed.commits[place];
    by_operator(call, commit)?;
    if commit.root.is_some() {
        return Err(TxError::Revealed { shard, replica });
    }
    let got = blind(&call.env.chain, &record.id, (shard, replica), &reveal.root, &reveal.blind);
    if got != commit.blinded_root {
        return Err(TxError::Reveal { got, expected: commit.blinded_root });
    }
    commit.root = Some(reveal.root);
    store(overlay, record, sealed)
}

/// `ClaimShard`: pays where the replicas of the shard agree, and who was put out in any case.
pub(super) fn claim(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    claim: &ClaimShard,
) -> Result<(), TxError> {
    let voucher = &claim.voucher;
    if voucher.query != claim.query {
        return Err(TxError::VoucherQuery { got: voucher.query, expected: claim.query });
    }
    let (mut record, mut sealed, windows) = sealed_query(overlay, call, &claim.query)?;
    after(call, windows.reveal_ms)?;
    until(call, windows.close_ms)?;
    voucher.verify(&record.client_key, &call.env.chain).map_err(TxError::Voucher)?;
    let (shard, replica) = (voucher.shard, voucher.replica);
    let none = TxError::NotCommitted { node: voucher.node };
    let place = sealed.place_of((shard, replica), &voucher.node).ok_or(none)?;
    let commit = &sealed.commits[place];
    by_operator(call, commit)?;
    check_claim(&record, &sealed, commit, voucher.total)?;
    let (operator, claimed, earned) = (commit.operator, commit.claimed(), commit.earned());
    let payee = pay::Payee { operator, claimed, earned };
    // What has been claimed counts in the record's sums.
    record.sealed = Some(sealed);
    let earned = pay::pay(overlay, call, &mut record, &payee, voucher.total)?;
    sealed = record.sealed.take().ok_or(OVERFLOW)?;
    sealed.commits[place].claim =
        Some(ShardClaim { voucher: voucher.clone(), earned, height: call.env.height });
    store(overlay, record, sealed)
}

/// `ClaimServed`: what a replica served is paid in full where the client lied to its shard.
///
/// The count of tokens is the replica's own, within its budget: a client that signs two inputs for one
/// place has nothing to set against it.
pub(super) fn claim_served(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    claim: &ClaimServed,
) -> Result<(), TxError> {
    let &ClaimServed { query, shard, replica } = claim;
    let (mut record, mut sealed, windows) = sealed_query(overlay, call, &query)?;
    until(call, windows.close_ms)?;
    let place = place(&sealed, shard, replica)?;
    let commit = &sealed.commits[place];
    by_operator(call, commit)?;
    if sealed.agreement(shard) != Agreement::ClientLied {
        return Err(TxError::ClientHonest { shard });
    }
    let worth = fees::price(record.price_per_token, commit.served_tokens).ok_or(OVERFLOW)?;
    let total = worth.min(fees::replica_budget(record.escrow, &sealed.terms));
    check_claim(&record, &sealed, commit, total)?;
    let (operator, claimed, earned) = (commit.operator, commit.claimed(), commit.earned());
    let payee = pay::Payee { operator, claimed, earned };
    // What has been claimed counts in the record's sums.
    record.sealed = Some(sealed);
    let earned = pay::pay(overlay, call, &mut record, &payee, total)?;
    sealed = record.sealed.take().ok_or(OVERFLOW)?;
    sealed.commits[place].unvouched = Some(Unvouched { total, earned, height: call.env.height });
    store(overlay, record, sealed)
}

fn check_claim(
    record: &QueryRecord,
    sealed: &Sealed,
    commit: &ShardCommit,
    total: Amount,
) -> Result<(), TxError> {
    let (shard, replica) = (commit.shard, commit.replica);
    if commit.root.is_none() && !commit.put_out {
        return Err(TxError::NotRevealed { shard, replica });
    }
    if commit.liar {
        return Err(TxError::Liar { shard, replica });
    }
    // The part of a node that was put out is compared with nothing: its client took it, signed for it, and
    // went to another. Float replicas reveal roots that differ in honest runs too: the client's voucher
    // alone says that it counted this one among those that agree. What it withholds is burned, not returned.
    let compared = record.verification == Verification::Committee && !commit.put_out;
    match sealed.agreement(shard) {
        _ if !compared => {}
        Agreement::Agreed(_) | Agreement::ClientLied | Agreement::Lengths => {}
        Agreement::Few { revealed, needed } => {
            return Err(TxError::FewReveals { shard, revealed, needed });
        }
        Agreement::Mismatch => return Err(TxError::Mismatch { shard }),
    }
    if total <= commit.claimed() {
        return Err(TxError::VoucherNotLarger { got: total, expected: commit.claimed() });
    }
    let worth = fees::price(record.price_per_token, commit.served_tokens).ok_or(OVERFLOW)?;
    if total > worth {
        return Err(TxError::VoucherAboveServed { got: total, expected: worth });
    }
    let budget = fees::replica_budget(record.escrow, &sealed.terms);
    if total > budget {
        return Err(TxError::ReplicaBudget { got: total, expected: budget });
    }
    Ok(())
}

/// What is burned at the close: for each replica that revealed and was not shown to have lied, and each
/// that was put out, the part of its served tokens that no claim covers, at most one increment.
pub(super) fn disputed(record: &QueryRecord, params: &Params) -> Result<Amount, TxError> {
    let Some(sealed) = &record.sealed else { return Ok(Amount::ZERO) };
    let budget = fees::replica_budget(record.escrow, &sealed.terms);
    let mut sum = Amount::ZERO;
    for commit in sealed.commits.iter().filter(|c| c.is_due()) {
        let left = budget.checked_sub(commit.claimed()).ok_or(OVERFLOW)?;
        let price = record.price_per_token;
        let disputed = fees::disputed(price, commit.served_tokens, commit.claimed(), params)
            .ok_or(OVERFLOW)?;
        sum = sum.checked_add(disputed.min(left)).ok_or(OVERFLOW)?;
    }
    Ok(sum)
}
