//! Disputes of two replicas of one shard, with the user's consent to disclose a piece of it.
//!
//! ```text
//! open ──▶ round (step_ms): both answer ──▶ … ──▶ opening, judged here ──▶ ruling
//!                       └── one is silent ──▶ close: it has lied ─────────▶
//! ruling ──▶ liar: out, bond slashed (part to the other's operator, rest burned)
//!        └─▶ the others agree? they can claim
//! ```
//!
//! None of these transactions has a nonce: each fills a [`Place`](crate::action::Place) that the dispute
//! has once for each party, and is refused where it is filled. So a party can answer in many disputes at
//! once, and no other transaction of it stands in the way of its bond.
//!
//! The way down and the referee are pure functions of [`nesa_trace`]; this module knows who may speak
//! and until when, and moves the money.

use super::{
    Call, TxError, nodes,
    sealed::{after, place, sealed_query, store, until},
};
use crate::{
    action::{AnswerDispute, CloseDispute, OpenDispute, Pair},
    keys::{self, Key},
    limits::MAX_DISPUTES,
    params::Params,
    query::{DisputeEntry, DisputeRecord, QueryRecord, Sealed},
    state::Overlay,
};
use nesa_primitives::{Address, Hash};
use nesa_trace::{Context, Decision, Dispute, Grounds, Ruling, Side, token_bits};

/// Nobody has answered.
const NOBODY: Decision = Decision { ruling: Ruling::Undecided, grounds: Grounds::Silence };

fn key(pair: &Pair) -> Key {
    keys::dispute(&pair.query, pair.shard, pair.left, pair.right)
}

/// The parties' commits, in order.
struct Parties {
    places: [usize; 2],
    operators: [Address; 2],
    roots: [Hash; 2],
}

impl Parties {
    fn of(sealed: &Sealed, pair: &Pair) -> Result<Self, TxError> {
        let Pair { shard, left, right, .. } = *pair;
        if left >= right {
            return Err(TxError::DisputePair { left, right });
        }
        let places = [place(sealed, shard, left)?, place(sealed, shard, right)?];
        let commits = places.map(|place| &sealed.commits[place]);
        let mut roots = [Hash::ZERO; 2];
        for (commit, root) in commits.iter().zip(&mut roots) {
            let replica = commit.replica;
            *root = commit.root.ok_or(TxError::NotRevealed { shard, replica })?;
        }
        Ok(Self { places, operators: commits.map(|commit| commit.operator), roots })
    }

    /// The side of a transaction's sender.
    fn side(&self, sender: &Address) -> Result<Side, TxError> {
        let mut sides = Side::BOTH.into_iter();
        sides
            .find(|side| self.operators[*side as usize] == *sender)
            .ok_or(TxError::NoParty { got: *sender })
    }
}

fn context(call: &Call<'_>, record: &QueryRecord, shard: u8, roots: [Hash; 2]) -> Context {
    Context {
        chain: call.env.chain,
        query: record.id,
        shard,
        client_key: record.client_key,
        model: record.model,
        roots,
    }
}

/// `OpenDispute`.
pub(super) fn open(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    open: &OpenDispute,
) -> Result<(), TxError> {
    let pair = &open.pair;
    let (record, mut sealed, windows) = sealed_query(overlay, call, &pair.query)?;
    let last = windows.dispute_ms.ok_or(TxError::NotDisclosed)?;
    after(call, windows.reveal_ms)?;
    until(call, last)?;
    let parties = Parties::of(&sealed, pair)?;
    parties.side(&call.sender)?;
    let Pair { shard, left, right, .. } = *pair;
    for (replica, place) in [left, right].into_iter().zip(parties.places) {
        if sealed.commits[place].liar {
            return Err(TxError::Liar { shard, replica });
        }
    }
    if find(&sealed, pair).is_some() {
        return Err(TxError::DisputeTwice { shard, left, right });
    }
    if sealed.disputes.len() >= MAX_DISPUTES {
        let got = sealed.disputes.len();
        return Err(TxError::Full { what: "disputes", got, max: MAX_DISPUTES });
    }
    let context = context(call, &record, shard, parties.roots);
    let layers = |layers| sealed.terms.layers(shard, layers);
    let dispute = Dispute::open(&context, &open.manifest, layers, token_bits(record.max_tokens))?;
    let round_ms = call.env.timestamp_ms.saturating_add(call.params.step_ms);
    overlay.store(key(pair), &DisputeRecord { dispute, round: 0, round_ms })?;
    sealed.disputes.push(DisputeEntry { shard, left, right, decision: None });
    store(overlay, record, sealed)
}

fn find(sealed: &Sealed, pair: &Pair) -> Option<usize> {
    let Pair { shard, left, right, .. } = *pair;
    sealed.disputes.iter().position(|d| (d.shard, d.left, d.right) == (shard, left, right))
}

/// A dispute that goes on.
fn running(
    overlay: &Overlay<'_>,
    sealed: &Sealed,
    pair: &Pair,
) -> Result<(usize, DisputeRecord), TxError> {
    let Pair { shard, left, right, .. } = *pair;
    let none = TxError::NoDispute { shard, left, right };
    let entry = find(sealed, pair).ok_or(none.clone())?;
    let running = overlay.find(&key(pair))?.ok_or(none)?;
    Ok((entry, running))
}

/// `AnswerDispute`.
pub(super) fn answer(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    answer: &AnswerDispute,
) -> Result<(), TxError> {
    let pair = &answer.pair;
    let (record, mut sealed, _) = sealed_query(overlay, call, &pair.query)?;
    let (entry, mut running) = running(overlay, &sealed, pair)?;
    until(call, running.round_ms)?;
    // Some answers of one round would fit another: nobody may repeat them there.
    if answer.round != running.round {
        return Err(TxError::Round { got: answer.round, expected: running.round });
    }
    let parties = Parties::of(&sealed, pair)?;
    let side = parties.side(&call.sender)?;
    let context = context(call, &record, pair.shard, parties.roots);
    let before = running.dispute.stage.clone();
    running.dispute.answer(&context, side, answer.answer.clone())?;
    if let Some(decision) = running.dispute.decision() {
        conclude(overlay, call.params, &record.id, &mut sealed, entry, decision)?;
    } else {
        if running.dispute.stage != before {
            const OVERFLOW: TxError = TxError::Overflow { what: "the rounds of a dispute" };
            running.round = running.round.checked_add(1).ok_or(OVERFLOW)?;
            running.round_ms = call.env.timestamp_ms.saturating_add(call.params.step_ms);
        }
        overlay.store(key(pair), &running)?;
    }
    store(overlay, record, sealed)
}

/// `CloseDispute`: anybody says that a round is over.
pub(super) fn close(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    close: &CloseDispute,
) -> Result<(), TxError> {
    let pair = &close.pair;
    let (record, mut sealed, _) = sealed_query(overlay, call, &pair.query)?;
    let (entry, mut running) = running(overlay, &sealed, pair)?;
    after(call, running.round_ms)?;
    running.dispute.time_out();
    let decision = running.dispute.decision().unwrap_or(NOBODY);
    conclude(overlay, call.params, &record.id, &mut sealed, entry, decision)?;
    store(overlay, record, sealed)
}

/// Ends all disputes of a query that is being settled: their rounds are long over.
pub(super) fn finish(
    overlay: &mut Overlay<'_>,
    params: &Params,
    record: &mut QueryRecord,
) -> Result<(), TxError> {
    let Some(mut sealed) = record.sealed.take() else { return Ok(()) };
    let open: Vec<usize> =
        (0..sealed.disputes.len()).filter(|&d| sealed.disputes[d].decision.is_none()).collect();
    let keys = open.iter().map(|&d| {
        let DisputeEntry { shard, left, right, .. } = sealed.disputes[d];
        keys::dispute(&record.id, shard, left, right)
    });
    overlay.require(keys.collect::<Vec<_>>())?;
    for entry in open {
        let DisputeEntry { shard, left, right, .. } = sealed.disputes[entry];
        let pair = Pair { query: record.id, shard, left, right };
        let (_, mut running) = running(overlay, &sealed, &pair)?;
        running.dispute.time_out();
        let decision = running.dispute.decision().unwrap_or(NOBODY);
        conclude(overlay, params, &record.id, &mut sealed, entry, decision)?;
    }
    record.sealed = Some(sealed);
    Ok(())
}

/// Writes a ruling down, and slashes whom it convicts, each once.
fn conclude(
    overlay: &mut Overlay<'_>,
    params: &Params,
    query: &Hash,
    sealed: &mut Sealed,
    entry: usize,
    decision: Decision,
) -> Result<(), TxError> {
    let ruling = decision.ruling;
    let DisputeEntry { shard, left, right, .. } = sealed.disputes[entry];
    let pair = Pair { query: *query, shard, left, right };
    let parties = Parties::of(sealed, &pair)?;
    for side in Side::BOTH.into_iter().filter(|side| ruling.convicts(*side)) {
        let other = side.other();
        let winner = (!ruling.convicts(other)).then(|| parties.operators[other as usize]);
        let commit = &mut sealed.commits[parties.places[side as usize]];
        if !commit.liar {
            commit.liar = true;
            nodes::slash(overlay, params, &commit.node, winner.as_ref())?;
        }
    }
    sealed.disputes[entry].decision = Some(decision);
    overlay.delete(key(&pair));
    Ok(())
}
