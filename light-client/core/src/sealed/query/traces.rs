//! What nodes put on the chain against what they told this device: also later, after a reload.

use nesa_chain::{
    committee::Windows,
    keys,
    params::Params,
    query::{Agreement, QueryRecord, Settlement},
};
use nesa_primitives::{Address, Amount, Hash};
use serde::{Deserialize, Serialize};

use super::{SealedOutcome, Standing};
use crate::{
    AskError,
    query::{QueryClient, QueryError},
};

/// What one node told this device about its part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The shard it served.
    pub shard: u8,
    /// Its key.
    pub node: Address,
    /// The blinded root it committed to towards this device, if it did.
    pub blinded_root: Option<Hash>,
}

/// What one look at a query of the sealed lane shows, proven in state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// How far the text can be relied on, if the replicas agreed towards this device.
    pub standing: Standing,
    /// When traces may be revealed and claims made, block time.
    pub windows: Windows,
    /// What has been claimed so far, before the split.
    pub claimed: Amount,
    /// What was escrowed.
    pub escrow: Amount,
    /// The end of the escrow, once it came.
    pub settlement: Option<Settlement>,
    /// Height of the header under which the record was proven.
    pub height: u64,
}

impl SealedOutcome {
    /// What the nodes that served said they commit to.
    pub fn told(&self) -> Vec<Told> {
        let served = self.transcript.served.iter();
        served
            .map(|served| Told {
                shard: served.link.shard,
                node: served.candidate.node,
                blinded_root: served.commitment.map(|commitment| commitment.blinded_root),
            })
            .collect()
    }

    /// Whether all replicas agree on the whole text.
    pub fn is_whole(&self) -> bool {
        self.transcript.agreed == self.transcript.tokens.len()
    }
}

impl QueryClient {
    /// Looks up what the nodes of `query` have revealed and claimed. `told` is what they told this
    /// device, `whole` whether they agreed on the whole text. `None` while no peer can show it.
    ///
    /// # Errors
    /// [`QueryError`] when the chain's answer is wrong, or the query is not of the sealed lane.
    pub async fn look_at_traces(
        &self,
        query: &Hash,
        told: &[Told],
        whole: bool,
    ) -> Result<Option<Looked>, QueryError> {
        let wanted = [keys::query(query), keys::params()];
        let proven = match self.light().prove(&wanted).await {
            Ok(proven) => proven,
            Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let record = crate::query::pay::decode::<QueryRecord>(&proven, &wanted[0], "query")?;
        let params = crate::query::pay::decode::<Params>(&proven, &wanted[1], "params")?;
        let (Some(record), Some(params)) = (record, params) else { return Ok(None) };
        let Some(sealed) = &record.sealed else {
            return Err(QueryError::Record {
                what: "lane",
                got: format!("{:?}", record.lane),
                expected: "the sealed lane".into(),
            });
        };
        Ok(Some(Looked {
            standing: judge(&record, told, whole),
            windows: Windows::of(record.deadline_ms, sealed.terms.disclose, &params),
            claimed: record.claimed().unwrap_or_default(),
            escrow: record.escrow,
            settlement: record.status.settlement().copied(),
            height: proven.header.header.height(),
        }))
    }
}

/// What the chain's record shows about a text on which the replicas agreed towards this device, all of
/// it if `whole`.
pub(super) fn judge(record: &QueryRecord, told: &[Told], whole: bool) -> Standing {
    let Some(sealed) = &record.sealed else {
        return Standing::Disputed(None);
    };
    let expected = sealed.terms.seats();
    let mut roots = Vec::new();
    let mut revealed = 0;
    for shard in 0..sealed.terms.shards() {
        let shard = u8::try_from(shard).unwrap_or(u8::MAX);
        for replica in 0..sealed.terms.replicas {
            let Some(commit) = sealed.commit(shard, replica) else { continue };
            // What a node put on chain must be what it told this device.
            let said = told.iter().find(|told| told.shard == shard && told.node == commit.node);
            let said = said.and_then(|told| told.blinded_root);
            if said.is_some_and(|blinded_root| blinded_root != commit.blinded_root) {
                return Standing::Disputed(None);
            }
            revealed += usize::from(commit.root.is_some());
        }
        match sealed.agreement(shard) {
            Agreement::Agreed(root) => roots.push(root),
            Agreement::Mismatch => return Standing::Disputed(None),
            Agreement::Few { .. } => {}
        }
    }
    if revealed == expected && roots.len() == sealed.terms.shards() && whole {
        Standing::Verified(roots)
    } else {
        Standing::Agreed { revealed, expected }
    }
}
