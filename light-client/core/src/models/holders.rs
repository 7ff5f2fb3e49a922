//! Who has pieces of a model: the nodes that the chain says serve it.

use nesa_chain::{
    keys,
    record::{NodeRecord, NodeSet},
};
use nesa_primitives::{Address, Hash};

use crate::{AskError, LightClient, query::pay};

/// Nodes named at most: as many as pieces are asked for at once, and as many again in case some are gone.
const MAX_HOLDERS: usize = 12;

/// An address of each of some nodes that are registered for `model`, beginning with those whose keys follow that of
/// `asker`, so that different nodes ask different ones; `asker` itself is left out. That they have its pieces is
/// their operators' word, and the pieces are checked.
///
/// # Errors
/// [`AskError`] when the registrations cannot be proven.
pub async fn holders(
    light: &LightClient,
    model: &Hash,
    asker: &Address,
) -> Result<Vec<String>, AskError> {
    let (set, _) = light.record::<NodeSet>(keys::nodes(), "nodes", 0).await?;
    let mut nodes: Vec<Address> =
        set.iter().flat_map(|set| set.serving(model)).map(|entry| entry.node).collect();
    let after = nodes.partition_point(|node| node <= asker);
    nodes.rotate_left(after);
    nodes.retain(|node| node != asker);
    nodes.truncate(MAX_HOLDERS);
    let mut addresses = Vec::new();
    for some in nodes.chunks(nesa_wire::chain::MAX_KEYS) {
        let wanted: Vec<Hash> = some.iter().map(keys::node).collect();
        let proven = light.prove(&wanted).await?;
        for key in &wanted {
            let record = pay::decode::<NodeRecord>(&proven, key, "node")?;
            let first = record.as_ref().and_then(|record| record.addresses.first());
            addresses.extend(first.map(|address| address.as_str().to_owned()));
        }
    }
    Ok(addresses)
}
