//! The last verified header, kept across restarts, and evidence of a fork.
//!
//! What is read back is only a hint: [`crate::sync::HeaderSync::restore`] verifies it again. Values
//! are kept per chain, so that a store shared by several networks mixes nothing up.

use commonware_codec::{Decode as _, Encode as _, RangeCfg};
use nesa_platform::storage::Store;
use nesa_primitives::Hash;

use crate::sync::{Certified, Conflict};

const NAMESPACE: &str = "chain";

/// Where one chain's checkpoint lives.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    store: Store,
    chain: Hash,
}

impl CheckpointStore {
    /// The checkpoint of the chain with trust root digest `chain`.
    pub fn new(store: Store, chain: Hash) -> Self {
        Self { store, chain }
    }

    fn key(&self, what: &str) -> String {
        format!("{what}-{}", self.chain)
    }

    /// The stored checkpoint, unverified; `None` when there is none that decodes.
    pub async fn load(&self) -> Option<Certified> {
        let bytes = match self.store.get(NAMESPACE, &self.key("head")).await {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(%error, "no checkpoint could be read");
                return None;
            }
        };
        Certified::decode_cfg(bytes, &()).ok()
    }

    /// Replaces the checkpoint. A failure is logged: the next start only takes longer.
    pub async fn save(&self, checkpoint: &Certified) {
        if let Err(error) = self.store.put(NAMESPACE, &self.key("head"), &checkpoint.encode()).await
        {
            tracing::warn!(%error, "the checkpoint was not written");
        }
    }

    /// Keeps evidence of a fork: our header first, then theirs.
    pub async fn save_conflict(&self, conflict: &Conflict) {
        let mut items = vec![conflict.ours.clone()];
        items.extend(conflict.theirs.iter().cloned());
        if let Err(error) = self.store.put(NAMESPACE, &self.key("fork"), &items.encode()).await {
            tracing::warn!(%error, "the evidence of a fork was not written");
        }
    }

    /// Evidence of a fork kept earlier, unverified.
    pub async fn load_conflict(&self) -> Option<Conflict> {
        let bytes = self.store.get(NAMESPACE, &self.key("fork")).await.ok()??;
        let limits = (RangeCfg::new(2..=1 + crate::sync::BATCH as usize), ());
        let mut items = Vec::<Certified>::decode_cfg(bytes, &limits).ok()?.into_iter();
        Some(Conflict { ours: items.next()?, theirs: items.collect() })
    }

    /// Forgets the checkpoint and any evidence.
    pub async fn forget(&self) {
        for what in ["head", "fork"] {
            if let Err(error) = self.store.delete(NAMESPACE, &self.key(what)).await {
                tracing::warn!(%error, "the checkpoint was not removed");
            }
        }
    }
}
