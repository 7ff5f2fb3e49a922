//! Questions about the state and the headers, each answer checked against a final header.

use bytes::Bytes;
use nesa_crypto::merkle;
use nesa_platform::{random, time::Instant};
use nesa_primitives::{Hash, Verdict, decode_exact};
use nesa_wire::chain::{MAX_KEYS, Request, Response};

use super::{
    AskError, LightClient,
    judge::{Retype as _, certified, unexpected},
    lock, since,
};
use crate::sync::{Certified, HeadersRequest};

/// State this many headers behind our own tip is stale.
const STALE: u64 = 4;

/// A state entry that this device checked against a final header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenEntry {
    /// The key.
    pub key: Hash,
    /// The value; `None` when the key is proven absent.
    pub value: Option<Bytes>,
    /// The proof, kept for receipts.
    pub proof: Bytes,
}

/// Entries proven at one header.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The header, with its certificate.
    pub header: Certified,
    /// One entry per key, in the order asked.
    pub entries: Vec<ProvenEntry>,
    /// What the check cost this device, in milliseconds.
    pub ms: f64,
}

impl Proven {
    /// The value proven for `key`; `None` when absent or not asked.
    pub fn value(&self, key: &Hash) -> Option<&Bytes> {
        self.entries.iter().find(|entry| entry.key == *key).and_then(|entry| entry.value.as_ref())
    }
}

impl LightClient {
    /// State entries with their proofs, at a header not older than `min_height` and not stale.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn prove_at(&self, keys: &[Hash], min_height: u64) -> Result<Proven, AskError> {
        if keys.len() > MAX_KEYS {
            return Err(AskError::Undecided {
                missing: format!("a question of ≤ {MAX_KEYS} keys"),
            });
        }
        let request = Request::State { keys: keys.to_vec() };
        self.decide(request, |response| {
            let Response::State(answer) = response else { return unexpected("state answer") };
            let start = Instant::now();
            let head = match certified(&answer.header, Some(&answer.finalization)) {
                Ok(head) => head,
                Err(refused) => return refused.retype(),
            };
            let (height, root) = (head.header.height(), *head.header.state_root());
            let tip = self.height();
            if height < min_height || height + STALE < tip {
                return Verdict::Undecided {
                    missing: format!("state at height {} or later", min_height.max(tip)),
                };
            }
            let asked = answer.entries.iter().map(|entry| entry.key).eq(keys.iter().copied());
            if !asked {
                return Verdict::Invalid {
                    got: format!("{} entries of other keys", answer.entries.len()),
                    expected: format!("the {} keys asked, in order", keys.len()),
                    what: "state answer",
                };
            }
            let header = {
                let mut sync = lock(&self.inner.sync);
                match sync.accept_head(&mut random::rng(), head) {
                    Verdict::Valid(_) => {}
                    refused => return refused.retype(),
                }
                match sync.header(height) {
                    Some(header) => header.clone(),
                    None => return Verdict::Undecided { missing: format!("header {height}") },
                }
            };
            self.wake();
            let mut entries = Vec::with_capacity(answer.entries.len());
            for entry in answer.entries {
                let value = entry.value.as_deref();
                match nesa_verify::state::verify(&root, &entry.key, value, &entry.proof) {
                    Verdict::Valid(()) => {}
                    refused => return refused.retype(),
                }
                entries.push(ProvenEntry {
                    key: entry.key,
                    value: entry.value,
                    proof: entry.proof,
                });
            }
            Verdict::Valid(Proven { header, entries, ms: since(start) })
        })
        .await
    }

    /// State entries with their proofs, at a recent header.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn prove(&self, keys: &[Hash]) -> Result<Proven, AskError> {
        self.prove_at(keys, 0).await
    }

    /// One record of the state, decoded; `None` when it is proven absent.
    ///
    /// # Errors
    /// [`AskError`], also when a proven value does not decode.
    pub async fn record<T>(
        &self,
        key: Hash,
        what: &'static str,
        min_height: u64,
    ) -> Result<(Option<T>, Proven), AskError>
    where
        T: commonware_codec::Decode<Cfg = ()> + commonware_codec::Encode,
    {
        let proven = self.prove_at(&[key], min_height).await?;
        let record = match proven.value(&key) {
            None => None,
            Some(bytes) => Some(
                decode_exact::<T>(bytes, &())
                    .map_err(|error| AskError::Record { what, reason: error.to_string() })?,
            ),
        };
        Ok((record, proven))
    }

    /// The seed of `view`, verified under the group key.
    ///
    /// # Errors
    /// [`AskError::Undecided`] while the view has not ended.
    pub async fn seed(&self, view: u64) -> Result<Bytes, AskError> {
        if let Some(seed) = lock(&self.inner.seeds).get(&view) {
            return Ok(seed.clone());
        }
        let verifier = self.verifier();
        let seed = self
            .decide(Request::Seed { view }, |response| match response {
                Response::Seed(Some(seed)) => match verifier.verify_seed(view, &seed) {
                    Verdict::Valid(_) => Verdict::Valid(seed),
                    refused => refused.retype(),
                },
                Response::Seed(None) => {
                    Verdict::Undecided { missing: format!("the seed of view {view}") }
                }
                _ => unexpected("seed"),
            })
            .await?;
        let mut seeds = lock(&self.inner.seeds);
        if seeds.len() > 256 {
            seeds.clear();
        }
        seeds.insert(view, seed.clone());
        Ok(seed)
    }

    /// The verified header at `height`, and those after it up to one with its own certificate.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn header(&self, height: u64) -> Result<(Certified, Vec<Certified>), AskError> {
        if let Some(found) = self.known_header(height) {
            return Ok(found);
        }
        let request = HeadersRequest { from: height, max: 16 };
        self.decide(Request::Headers { from: request.from, max: request.max as u16 }, |response| {
            match self.judge_headers(request, response) {
                Verdict::Valid(_) => match self.known_header(height) {
                    Some(found) => Verdict::Valid(found),
                    None => Verdict::Undecided { missing: format!("header {height}") },
                },
                refused => refused.retype(),
            }
        })
        .await
    }

    fn known_header(&self, height: u64) -> Option<(Certified, Vec<Certified>)> {
        let sync = lock(&self.inner.sync);
        let header = sync.header(height)?.clone();
        let mut descendants = Vec::new();
        let mut certified = header.finalization.is_some();
        let mut next = height + 1;
        while !certified {
            let item = sync.header(next)?.clone();
            certified = item.finalization.is_some();
            descendants.push(item);
            next += 1;
        }
        Some((header, descendants))
    }

    /// A whole block, its transactions as encoded bytes, each bound to the header's root.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn block(&self, height: u64) -> Result<(Certified, Vec<Bytes>), AskError> {
        let (header, _) = self.header(height).await?;
        let root = header.header.fields.tx_root;
        self.decide(Request::Block { height }, |response| match response {
            Response::Block(Some(block)) => {
                let leaves: Vec<Hash> =
                    block.transactions.iter().map(|tx| merkle::leaf_hash(tx)).collect();
                let got = merkle::root_of_hashes(&leaves);
                Verdict::<()>::equal("transactions of a block", got, root)
                    .map(|()| (header.clone(), block.transactions))
            }
            Response::Block(None) => Verdict::Undecided { missing: format!("block {height}") },
            _ => unexpected("block"),
        })
        .await
    }
}
