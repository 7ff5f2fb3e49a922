//! Models and compute nodes: registration, addresses, bonds.

use super::{Call, TxError, deadlines, money};
use crate::{
    action::{ALL_LANES, RegisterModel, RegisterNode, Unbond, UpdateNode},
    keys,
    limits::{MAX_MODELS, MAX_NODES},
    params::{FULL, Params},
    record::{Coins, Due, ModelRecord, NodeEntry, NodeRecord, NodeSet},
    state::Overlay,
};
use nesa_primitives::{Address, Amount, Denom, Hash};

/// `RegisterModel`: the first to register a digest owns it.
pub(super) fn register_model(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    model: &RegisterModel,
) -> Result<(), TxError> {
    let key = keys::model(&model.digest);
    if overlay.find::<ModelRecord>(&key)?.is_some() {
        return Err(TxError::ModelExists { digest: model.digest });
    }
    if model.lanes == 0 || model.lanes & !ALL_LANES != 0 {
        return Err(TxError::Lanes { got: model.lanes, expected: ALL_LANES });
    }
    money::check_denom(overlay, model.denom)?;
    let mut set: NodeSet = overlay.load("nodes", &keys::nodes())?;
    if set.models.len() >= MAX_MODELS {
        return Err(TxError::Full { what: "models", got: set.models.len(), max: MAX_MODELS });
    }
    set.models.push(model.digest);
    let fee = money::debit(overlay, &call.sender, Denom::NES, call.params.model_fee)?;
    money::absorb(overlay, Denom::NES, fee.amount, Amount::ZERO)?;
    let record = ModelRecord {
        digest: model.digest,
        owner: call.sender,
        name: model.name.clone(),
        bytes: model.bytes,
        denom: model.denom,
        price_per_token: model.price_per_token,
        lanes: model.lanes,
    };
    overlay.store(key, &record)?;
    overlay.store(keys::nodes(), &set)?;
    Ok(())
}

/// `RegisterNode`: posts the bond; from the next snapshot on the node can be drawn.
pub(super) fn register(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    register: &RegisterNode,
) -> Result<(), TxError> {
    register.verify_proof(&call.sender, &call.env.chain).map_err(TxError::Possession)?;
    let key = keys::node(&register.node);
    if overlay.find::<NodeRecord>(&key)?.is_some() {
        return Err(TxError::NodeExists { node: register.node });
    }
    if register.bond < call.params.min_bond {
        return Err(TxError::Bond { got: register.bond, expected: call.params.min_bond });
    }
    let mut set: NodeSet = overlay.load("nodes", &keys::nodes())?;
    let models = model_bits(&set, &register.node, &register.models)?;
    let bond = money::debit_clean(overlay, &call.sender, Denom::NES, register.bond)?;
    let record = NodeRecord {
        operator: call.sender,
        node: register.node,
        bond: bond.amount,
        faucet: bond.faucet,
        models: register.models.clone(),
        addresses: register.addresses.clone(),
        score: 0,
        renewed_epoch: epoch(call),
        release_ms: None,
    };
    enter(&mut set, &record, models)?;
    overlay.store(key, &record)?;
    overlay.store(keys::nodes(), &set)?;
    Ok(())
}

/// Puts a node into the set, or its new entry in the place of the old one.
fn enter(set: &mut NodeSet, record: &NodeRecord, models: u64) -> Result<(), TxError> {
    let entry = NodeEntry {
        node: record.node,
        operator: record.operator,
        bond: record.bond,
        faucet_bond: record.faucet_bond(),
        models,
        renewed_epoch: record.renewed_epoch,
    };
    match set.entries.binary_search_by_key(&record.node, |entry| entry.node) {
        Ok(place) => set.entries[place] = entry,
        Err(_) if set.entries.len() >= MAX_NODES => {
            return Err(TxError::Full { what: "nodes", got: set.entries.len(), max: MAX_NODES });
        }
        Err(place) => set.entries.insert(place, entry),
    }
    Ok(())
}

/// The epoch of the block, as snapshots count it.
fn epoch(call: &Call<'_>) -> u64 {
    call.env.height.checked_div(call.params.snapshot_interval).unwrap_or(0)
}

fn model_bits(set: &NodeSet, node: &Address, models: &[Hash]) -> Result<u64, TxError> {
    let mut bits = 0u64;
    for digest in models {
        let bit = set.model_bit(digest).ok_or(TxError::UnknownModel { digest: *digest })?;
        if bits & bit != 0 {
            return Err(TxError::ModelTwice { digest: *digest });
        }
        bits |= bit;
    }
    if bits == 0 {
        return Err(TxError::NoModels { node: *node });
    }
    Ok(bits)
}

/// `UpdateNode`: replaces the addresses and renews the registration. A node without addresses
/// pauses: it leaves the set until the next update.
pub(super) fn update(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    update: &UpdateNode,
) -> Result<(), TxError> {
    let mut record = owned(overlay, call, &update.node)?;
    record.addresses.clone_from(&update.addresses);
    if record.release_ms.is_none() {
        // What is left after a slash may be too little for a seat: it can only be taken out.
        if record.bond < call.params.min_bond {
            return Err(TxError::Bond { got: record.bond, expected: call.params.min_bond });
        }
        record.renewed_epoch = epoch(call);
        let mut set: NodeSet = overlay.load("nodes", &keys::nodes())?;
        if record.addresses.is_empty() {
            set.entries.retain(|entry| entry.node != update.node);
        } else {
            let models = model_bits(&set, &update.node, &record.models)?;
            enter(&mut set, &record, models)?;
        }
        overlay.store(keys::nodes(), &set)?;
    }
    overlay.store(keys::node(&update.node), &record)?;
    Ok(())
}

/// `Unbond`: out of the set at once, the bond back after the unbonding time. Snapshots taken
/// before still hold the node, so it may be drawn for a while and its bond stays where it is.
pub(super) fn unbond(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    unbond: &Unbond,
) -> Result<(), TxError> {
    let mut record = owned(overlay, call, &unbond.node)?;
    if let Some(release_ms) = record.release_ms {
        return Err(TxError::Unbonding { node: unbond.node, release_ms });
    }
    let release_ms = call
        .env
        .timestamp_ms
        .checked_add(call.params.unbonding_ms)
        .ok_or(TxError::Overflow { what: "the release time" })?;
    record.release_ms = Some(release_ms);
    deadlines::schedule_near(overlay, call.params, release_ms, Due::Release(unbond.node))?;
    let mut set: NodeSet = overlay.load("nodes", &keys::nodes())?;
    set.entries.retain(|entry| entry.node != unbond.node);
    overlay.store(keys::nodes(), &set)?;
    overlay.store(keys::node(&unbond.node), &record)?;
    Ok(())
}

/// The record of a node that the sender operates.
fn owned(overlay: &Overlay<'_>, call: &Call<'_>, node: &Address) -> Result<NodeRecord, TxError> {
    let record: NodeRecord =
        overlay.find(&keys::node(node))?.ok_or(TxError::UnknownNode { node: *node })?;
    if record.operator != call.sender {
        return Err(TxError::Operator { got: call.sender, expected: record.operator });
    }
    Ok(record)
}

/// Takes the liar's part of a node's bond: some goes to the winner, if there is one, the rest is burned.
/// A node whose bond is gone by now has nothing to lose.
pub(super) fn slash(
    overlay: &mut Overlay<'_>,
    params: &Params,
    node: &Address,
    winner: Option<&Address>,
) -> Result<(), TxError> {
    const OVERFLOW: TxError = TxError::Overflow { what: "a slash" };
    let key = keys::node(node);
    overlay.require([key, keys::nodes(), keys::supply()])?;
    let Some(mut record) = overlay.find::<NodeRecord>(&key)? else { return Ok(()) };
    let part = |amount: Amount, part: u32| amount.ratio(part.into(), FULL.into());
    let mut bond = Coins { amount: record.bond, faucet: record.faucet };
    let mut taken = part(bond.amount, params.slash).and_then(|s| bond.take(s)).ok_or(OVERFLOW)?;
    (record.bond, record.faucet) = (bond.amount, bond.faucet);
    if let Some(winner) = winner {
        let reward =
            part(taken.amount, params.reward).and_then(|r| taken.take(r)).ok_or(OVERFLOW)?;
        money::credit(overlay, winner, Denom::NES, reward)?;
    }
    money::absorb(overlay, Denom::NES, Amount::ZERO, taken.amount)?;

    let mut set: NodeSet = overlay.load("nodes", &keys::nodes())?;
    if let Ok(place) = set.entries.binary_search_by_key(node, |entry| entry.node) {
        if record.bond < params.min_bond {
            set.entries.remove(place);
        } else {
            set.entries[place].bond = record.bond;
            set.entries[place].faucet_bond = record.faucet_bond();
        }
        overlay.store(keys::nodes(), &set)?;
    }
    overlay.store(key, &record)?;
    Ok(())
}

/// Gives a bond back to its operator and forgets the node.
pub(super) fn release(overlay: &mut Overlay<'_>, node: &Address) -> Result<(), TxError> {
    let key = keys::node(node);
    let Some(record) = overlay.find::<NodeRecord>(&key)? else { return Ok(()) };
    let coins = Coins { amount: record.bond, faucet: record.faucet };
    money::credit(overlay, &record.operator, Denom::NES, coins)?;
    overlay.delete(key);
    Ok(())
}
