//! State records as JSON. A record that does not decode means that the node behind is broken, which
//! is said instead of guessed around.

use commonware_codec::{Decode, Encode};
use nesa_chain::{
    query::QueryRecord,
    record::{Account, ModelRecord, NodeRecord, NodeSet},
};
use nesa_primitives::{Address, decode_exact};
use serde_json::{Map, Value, json};

use crate::error::ApiError;

fn decode<T: Decode<Cfg = ()> + Encode>(bytes: &[u8]) -> Result<T, ApiError> {
    decode_exact(bytes, &())
        .map_err(|error| ApiError::unavailable("the node's state does not decode").got(error))
}

/// An account; one that was never touched is an empty one.
pub(crate) fn account(address: &Address, value: Option<&[u8]>) -> Result<Value, ApiError> {
    let account = value.map(decode::<Account>).transpose()?;
    let exists = account.is_some();
    let account = account.unwrap_or_default();
    let balances: Map<String, Value> =
        account.balances.iter().map(|coin| (coin.denom.to_string(), json!(coin.amount))).collect();
    Ok(json!({
        "address": address,
        "exists": exists,
        "nonce": account.nonce,
        "balances": balances,
        "faucet": account.faucet,
    }))
}

/// Keys of the nodes that can be drawn.
pub(crate) fn node_keys(value: Option<&[u8]>) -> Result<Vec<Address>, ApiError> {
    let set = value.map(decode::<NodeSet>).transpose()?.unwrap_or_default();
    Ok(set.entries.iter().map(|entry| entry.node).collect())
}

/// A registered node.
pub(crate) fn node(value: &[u8]) -> Result<Value, ApiError> {
    let record: NodeRecord = decode(value)?;
    let mut object = json!(record);
    object["faucet_bond"] = json!(record.faucet_bond());
    Ok(object)
}

/// A registered model.
pub(crate) fn model(value: &[u8]) -> Result<Value, ApiError> {
    decode::<ModelRecord>(value).map(|record| json!(record))
}

/// The public record of a query.
pub(crate) fn query(value: &[u8]) -> Result<Value, ApiError> {
    decode::<QueryRecord>(value).map(|record| json!(record))
}
