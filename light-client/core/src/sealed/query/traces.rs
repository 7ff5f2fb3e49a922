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
            Agreement::Mismatch | Agreement::Lengths | Agreement::ClientLied => {
                return Standing::Disputed(None);
            }
            Agreement::Few { .. } => {}
        }
    }
    if revealed == expected && roots.len() == sealed.terms.shards() && whole {
        Standing::Verified(roots)
    } else {
        Standing::Agreed { revealed, expected }
    }
}

#[cfg(test)]
mod tests {
    use nesa_chain::{
        action::{Lane, Verification},
        committee::Terms,
        query::{Sealed, ShardCommit, SharesPaid, Status},
    };
    use nesa_primitives::Denom;

    use super::*;

    const REPLICAS: u8 = 3;

    fn key(n: u8) -> Address {
        nesa_crypto::SecretKey::from_seed(&[n; 32]).public()
    }

    /// Two shards on three nodes each, all of whom have revealed the root of their shard.
    fn record() -> QueryRecord {
        let mut sealed = Sealed::new(Terms { cuts: vec![1], replicas: REPLICAS, disclose: false });
        for shard in 0..2u8 {
            for replica in 0..REPLICAS {
                let node = shard * REPLICAS + replica + 1;
                sealed.commits.push(ShardCommit {
                    shard,
                    replica,
                    seat: replica,
                    node: key(node),
                    operator: key(node),
                    blinded_root: Hash([node; 32]),
                    served_tokens: 9,
                    height: 5,
                    put_out: false,
                    root: Some(Hash([100 + shard; 32])),
                    liar: false,
                    claim: None,
                    unvouched: None,
                });
            }
        }
        QueryRecord {
            id: Hash([1; 32]),
            payer: key(90),
            model: Hash([2; 32]),
            lane: Lane::Sealed,
            verification: Verification::Committee,
            denom: Denom::NES,
            escrow: Amount(600),
            escrow_faucet: Amount::ZERO,
            draw_fee: Amount(1),
            price_per_token: Amount(1),
            commitment: Hash([3; 32]),
            client_key: key(91),
            deadline_ms: 10_000,
            max_tokens: 9,
            named: None,
            included_height: 4,
            included_view: 4,
            included_ms: 1_000,
            draw_view: 6,
            snapshot_epoch: 0,
            committee: None,
            commits: Vec::new(),
            sealed: Some(sealed),
            held: Amount(600),
            held_faucet: Amount::ZERO,
            shares_paid: SharesPaid::default(),
            status: Status::Open,
        }
    }

    fn told(record: &QueryRecord) -> Vec<Told> {
        let commits = &record.sealed.as_ref().unwrap().commits;
        let one = |c: &ShardCommit| Told {
            shard: c.shard,
            node: c.node,
            blinded_root: Some(c.blinded_root),
        };
        commits.iter().map(one).collect()
    }

    fn commit(record: &mut QueryRecord, at: usize) -> &mut ShardCommit {
        &mut record.sealed.as_mut().unwrap().commits[at]
    }

    #[test]
    fn equal_roots_of_all_and_the_whole_text_are_verified() {
        let record = record();
        let roots = vec![Hash([100; 32]), Hash([101; 32])];
        assert_eq!(judge(&record, &told(&record), true), Standing::Verified(roots));
        let part = judge(&record, &told(&record), false);
        assert_eq!(part, Standing::Agreed { revealed: 6, expected: 6 }, "not all was agreed on");
    }

    /// Each commit in turn: not revealed, not there, another root, another commitment than was told.
    #[test]
    fn whatever_one_node_does_otherwise_is_not_verified() {
        for at in 0..6 {
            let mut silent = record();
            let heard = told(&silent);
            commit(&mut silent, at).root = None;
            let five = Standing::Agreed { revealed: 5, expected: 6 };
            assert_eq!(judge(&silent, &heard, true), five, "{at}");

            let mut absent = record();
            absent.sealed.as_mut().unwrap().commits.remove(at);
            assert_eq!(judge(&absent, &heard, true), five, "{at}");

            let mut other = record();
            commit(&mut other, at).root = Some(Hash([7; 32]));
            assert_eq!(judge(&other, &heard, true), Standing::Disputed(None), "{at}");

            let mut changed = record();
            commit(&mut changed, at).blinded_root = Hash([8; 32]);
            assert_eq!(judge(&changed, &heard, true), Standing::Disputed(None), "{at}");
        }
    }

    #[test]
    fn a_record_of_another_lane_is_no_agreement() {
        let masked = QueryRecord { sealed: None, ..record() };
        assert_eq!(judge(&masked, &[], true), Standing::Disputed(None));
    }

    /// What is kept over a reload is what is compared.
    #[test]
    fn what_was_told_survives_json() {
        let heard = told(&record());
        let json = serde_json::to_string(&heard).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Told>>(&json).unwrap(), heard);
    }
}
