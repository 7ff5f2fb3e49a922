//! Which of a model's nodes serve its shards at this moment.
//!
//! The chain knows who is registered, not who is there. So each registered node is asked for its
//! prekey, as the first frame of a session does: who answers with one signed by its registered key
//! serves shards now. A node serves whatever range of layers it is drawn for, and fetches what it
//! lacks, so every one of them counts for every shard.

use std::time::Duration;

use commonware_codec::Encode as _;
use futures::{StreamExt as _, stream};
use nesa_chain::{
    keys,
    record::{NodeRecord, NodeSet},
};
use nesa_platform::time;
use nesa_primitives::{Address, Hash, decode_exact};
use nesa_sealed::message::{Frame, FrameLimits};
use nesa_wire::Protocol;

use crate::{
    AskError, QueryClient,
    query::{QueryError, pay},
};

/// A node that has not answered by then counts as absent.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Nodes asked at once.
const AT_ONCE: usize = 8;
/// Nodes asked at most: more are registered only in a network where a sample says enough.
const MAX_ASKED: usize = 64;
/// Bytes of the longest answer read: a prekey, or a refusal.
const ANSWER_BYTES: usize = 8 << 10;

/// A registered node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineNode {
    /// Its key.
    pub node: Address,
    /// Who runs it.
    pub operator: Address,
    /// Whether any of its bond stems from the faucet.
    pub faucet_bond: bool,
    /// Whether it answered with a prekey signed by its own key.
    pub online: bool,
}

/// Who serves a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Online {
    /// Registered nodes that were asked.
    pub nodes: Vec<OnlineNode>,
    /// Registered nodes in all.
    pub registered: usize,
    /// Height of the header under which the registrations were proven.
    pub height: u64,
}

impl QueryClient {
    /// Asks every node that is registered for `model` whether it serves shards.
    ///
    /// # Errors
    /// [`QueryError`] when the registrations cannot be proven.
    pub async fn online(&self, model: &Hash) -> Result<Online, QueryError> {
        let (set, proven) = self.light().record::<NodeSet>(keys::nodes(), "nodes", 0).await?;
        let set = set.ok_or(AskError::Undecided { missing: "the nodes".into() })?;
        let entries: Vec<_> = set.serving(model).collect();
        let registered = entries.len();
        let mut asked = Vec::new();
        let few: Vec<_> = entries.into_iter().take(MAX_ASKED).collect();
        for some in few.chunks(nesa_wire::chain::MAX_KEYS) {
            let wanted: Vec<Hash> = some.iter().map(|entry| keys::node(&entry.node)).collect();
            let proven = self.light().prove(&wanted).await?;
            for (entry, key) in some.iter().zip(&wanted) {
                let record = pay::decode::<NodeRecord>(&proven, key, "node")?;
                let addresses = record.map(|record| record.addresses).unwrap_or_default();
                let addresses: Vec<_> = addresses.iter().map(|a| a.as_str().to_owned()).collect();
                asked.push((**entry, addresses));
            }
        }
        let nodes = stream::iter(asked)
            .map(|(entry, addresses)| async move {
                let answer = time::timeout(ANSWER_LIMIT, self.serves(entry.node, &addresses)).await;
                OnlineNode {
                    node: entry.node,
                    operator: entry.operator,
                    faucet_bond: entry.faucet_bond,
                    online: answer.unwrap_or(false),
                }
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        Ok(Online { nodes, registered, height: proven.header.header.height() })
    }

    /// Whether `node`, at one of `addresses`, answers a greeting with its own prekey.
    async fn serves(&self, node: Address, addresses: &[String]) -> bool {
        let chain = self.light().chain();
        for address in addresses {
            // The record's addresses are its operator's word; the handshake proves the key.
            let reached = self.network().dial(address).await;
            if !reached.is_ok_and(|reached| reached == node) {
                continue;
            }
            let Ok(mut stream) = self.network().open(node, Protocol::Shard).await else { continue };
            let hello = Frame::Hello { chain, node }.encode();
            if stream.send(&hello).await.is_err() {
                continue;
            }
            let Ok(Some(answer)) = stream.recv_up_to(ANSWER_BYTES).await else { continue };
            let frame = decode_exact::<Frame>(&answer, &FrameLimits { sealed: ANSWER_BYTES });
            if let Ok(Frame::Prekey(prekey)) = frame {
                return prekey.verify(&chain, &node, time::now_ms()).is_ok();
            }
        }
        false
    }
}
