//! The rules: how a block changes the state.
//!
//! ```text
//! begin_block   settle queries whose deadline bucket has passed, return bonds, forget old queries
//! apply         one transaction: signature, chain, nonce, fee, then the action
//! end_block     every `snapshot_interval` blocks, take a snapshot of the node set, without the
//!               nodes that have lapsed
//! ```
//!
//! **Inclusion is success.** A transaction that fails changes nothing, not even a nonce, and must
//! not be in a block: a proposer leaves it out, and a validator refuses a block that holds one.
//! So "in a block" and "happened" are the same thing to a light client, and nobody pays for a
//! failure. (The price: a proposer checks a failing transaction for nothing. The mempool drops it
//! at once, and its admission check is the same function.)
//!
//! All is deterministic and restartable: see [`crate::state`].

mod deadlines;
mod dispute;
mod error;
mod money;
mod nodes;
mod pay;
mod queries;
mod sealed;
mod settle;

pub use deadlines::DueOutcome;
pub use error::TxError;

use crate::{
    action::Action,
    keys,
    limits::MAX_TX_BYTES,
    params::Params,
    record::{NodeSet, Progress, Snapshot},
    state::Overlay,
    tx::SignedTx,
};
use commonware_codec::EncodeSize;
use nesa_primitives::{Address, Denom, Hash};

/// What the rules must know of the block they run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEnv {
    /// Digest of the trust root.
    pub chain: Hash,
    /// Height of the block; the first has 1.
    pub height: u64,
    /// View in which it was proposed.
    pub view: u64,
    /// Its time, ms since the Unix epoch; never before its parent's.
    pub timestamp_ms: u64,
    /// Who proposed it and earns its fees.
    pub leader: Address,
    /// The validator set of the block, in its fixed order.
    pub validators: Vec<Address>,
}

/// Checks the seed of a view under the group key. Implemented by the certificate verifier; rules
/// know no curves.
pub trait SeedVerifier {
    /// Whether `seed` is the one seed of `view`.
    fn verify_seed(&self, view: u64, seed: &[u8]) -> bool;
}

/// What a transaction did, for logs and lists. All of it can be read from the state as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The transaction's id.
    pub id: Hash,
    /// The query it opened or belongs to.
    pub query: Option<Hash>,
}

/// Works off what fell due before this block: settlements, returning bonds, old queries.
///
/// Run once, before the block's transactions.
///
/// # Errors
/// [`TxError::State`]: `Missing` to be fetched, or a damaged state.
pub fn begin_block(overlay: &mut Overlay<'_>, env: &BlockEnv) -> Result<DueOutcome, TxError> {
    overlay.atomically(|overlay| deadlines::work_off(overlay, env))
}

/// Applies one transaction, or refuses it and changes nothing.
///
/// # Errors
/// [`TxError`] with what was got and expected.
pub fn apply(
    overlay: &mut Overlay<'_>,
    env: &BlockEnv,
    signed: &SignedTx,
    seeds: &dyn SeedVerifier,
) -> Result<Outcome, TxError> {
    check_form(env, signed)?;
    overlay.require(signed.tx.touches())?;
    overlay.atomically(|overlay| apply_checked(overlay, env, signed, seeds))
}

/// The part of the checks that needs no state: size, chain, signature. A mempool runs it first.
///
/// # Errors
/// [`TxError`] with what was got and expected.
pub fn check_form(env: &BlockEnv, signed: &SignedTx) -> Result<(), TxError> {
    let got = signed.encode_size();
    if got > MAX_TX_BYTES {
        return Err(TxError::TooLong { got, max: MAX_TX_BYTES });
    }
    if signed.tx.chain != env.chain {
        return Err(TxError::Chain { got: signed.tx.chain, expected: env.chain });
    }
    signed.verify().map_err(TxError::Signature)
}

fn apply_checked(
    overlay: &mut Overlay<'_>,
    env: &BlockEnv,
    signed: &SignedTx,
    seeds: &dyn SeedVerifier,
) -> Result<Outcome, TxError> {
    let tx = &signed.tx;
    let params: Params = overlay.load("params", &keys::params())?;
    let placed = tx.action.place().is_some();
    let mut account = money::account(overlay, &tx.sender)?;
    let expected = if placed { 0 } else { account.nonce };
    if tx.nonce != expected {
        return Err(TxError::Nonce { got: tx.nonce, expected });
    }
    if tx.fee < params.min_tx_fee {
        return Err(TxError::Fee { got: tx.fee, expected: params.min_tx_fee });
    }
    if !placed {
        let next = account.nonce.checked_add(1);
        account.nonce = next.ok_or(TxError::Overflow { what: "the nonce" })?;
        money::put_account(overlay, &tx.sender, &account)?;
    }
    let fee = money::debit(overlay, &tx.sender, Denom::NES, tx.fee)?;
    money::credit(overlay, &env.leader, Denom::NES, fee)?;

    let id = signed.id();
    let call = Call { env, params: &params, sender: tx.sender, id };
    let query = match &tx.action {
        Action::Transfer(transfer) => money::transfer(overlay, &call, transfer).map(|()| None),
        Action::RegisterModel(model) => nodes::register_model(overlay, &call, model).map(|()| None),
        Action::RegisterNode(node) => nodes::register(overlay, &call, node).map(|()| None),
        Action::UpdateNode(update) => nodes::update(overlay, &call, update).map(|()| None),
        Action::Unbond(unbond) => nodes::unbond(overlay, &call, unbond).map(|()| None),
        Action::PayForQuery(pay) => queries::open(overlay, &call, pay).map(|()| Some(id)),
        Action::Commit(commit) => {
            queries::commit(overlay, &call, commit, seeds).map(|()| Some(commit.query))
        }
        Action::Claim(claim) => queries::claim(overlay, &call, claim).map(|()| Some(claim.query)),
        Action::CommitShard(commit) => {
            sealed::commit(overlay, &call, commit, seeds).map(|()| Some(commit.query))
        }
        Action::Reveal(reveal) => {
            sealed::reveal(overlay, &call, reveal).map(|()| Some(reveal.query))
        }
        Action::OpenDispute(open) => {
            dispute::open(overlay, &call, open).map(|()| Some(open.pair.query))
        }
        Action::AnswerDispute(answer) => {
            dispute::answer(overlay, &call, answer).map(|()| Some(answer.pair.query))
        }
        Action::CloseDispute(close) => {
            dispute::close(overlay, &call, close).map(|()| Some(close.pair.query))
        }
        Action::ClaimShard(claim) => {
            sealed::claim(overlay, &call, claim).map(|()| Some(claim.query))
        }
        Action::ClaimServed(claim) => {
            sealed::claim_served(overlay, &call, claim).map(|()| Some(claim.query))
        }
    }?;
    Ok(Outcome { id, query })
}

/// What every action needs.
struct Call<'a> {
    env: &'a BlockEnv,
    params: &'a Params,
    sender: Address,
    id: Hash,
}

/// Takes a snapshot of the node set if the height asks for one, takes lapsed nodes out of the set
/// before, and drops the snapshots that no open query can need. Run once, after the block's transactions.
///
/// # Errors
/// [`TxError::State`]: `Missing` to be fetched, or a damaged state.
pub fn end_block(overlay: &mut Overlay<'_>, env: &BlockEnv) -> Result<(), TxError> {
    overlay.atomically(|overlay| {
        let params: Params = overlay.load("params", &keys::params())?;
        if !env.height.is_multiple_of(params.snapshot_interval) {
            return Ok(());
        }
        let epoch = env.height / params.snapshot_interval;
        let mut set: NodeSet = overlay.load("nodes", &keys::nodes())?;
        let before = set.entries.len();
        set.lapse(epoch, params.lapse_epochs);
        if set.entries.len() != before {
            overlay.store(keys::nodes(), &set)?;
        }
        let snapshot = Snapshot { epoch, height: env.height, timestamp_ms: env.timestamp_ms, set };
        overlay.store(keys::snapshot(epoch), &snapshot)?;
        drop_old_snapshots(overlay, env, &params, epoch)
    })
}

/// Snapshot `e` serves queries of epoch `e + 1` (0 serves epoch 0 as well). Once snapshot
/// `e + 2` is older than the longest deadline, no open query can need `e`.
fn drop_old_snapshots(
    overlay: &mut Overlay<'_>,
    env: &BlockEnv,
    params: &Params,
    epoch: u64,
) -> Result<(), TxError> {
    let mut progress: Progress = overlay.load("progress", &keys::progress())?;
    let before = progress.oldest_snapshot;
    // At most two a time: one comes, so the backlog after a pause still shrinks.
    while progress.oldest_snapshot < before.saturating_add(2)
        && progress.oldest_snapshot.saturating_add(2) <= epoch
    {
        let next = keys::snapshot(progress.oldest_snapshot.saturating_add(2));
        let next: Snapshot = overlay.load("snapshot", &next)?;
        let last_use = next.timestamp_ms.saturating_add(params.max_deadline_ms);
        if last_use >= env.timestamp_ms {
            break;
        }
        overlay.delete(keys::snapshot(progress.oldest_snapshot));
        progress.oldest_snapshot = progress.oldest_snapshot.saturating_add(1);
    }
    if progress.oldest_snapshot != before {
        overlay.store(keys::progress(), &progress)?;
    }
    Ok(())
}

/// Epoch of the snapshot that a query included at `height` is drawn from: the last but one, so
/// that it is at least a whole interval old. A node that registers after it has seen a request
/// can therefore not be drawn for it.
pub fn snapshot_epoch(height: u64, params: &Params) -> u64 {
    let epoch = height.checked_div(params.snapshot_interval).unwrap_or(0);
    epoch.saturating_sub(1)
}
