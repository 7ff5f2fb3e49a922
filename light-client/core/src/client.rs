//! The light client's driver: asks peers, lets [`HeaderSync`] judge, follows the head.
//!
//! One value, cheap to clone, native and in the browser alike. Every question goes to the peers in
//! order of how well they have answered so far; a peer is dropped only for an answer that is
//! provably wrong, never for silence, staleness or a refusal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use commonware_codec::Encode as _;
use futures::{StreamExt as _, channel::mpsc, channel::oneshot};
use nesa_chain::{header::Header, trust::TrustRoot, tx::SignedTx};
use nesa_crypto::merkle;
use nesa_platform::{
    random, task,
    time::{self, Instant},
};
use nesa_primitives::{Hash, Verdict, decode_exact};
use nesa_verify::certificate::{decode_finalization, decode_header};
use nesa_wire::chain::{CertifiedHeader, MAX_KEYS, Refusal, Request, Response};

use crate::{
    checkpoint::CheckpointStore,
    peer::{PeerError, SharedPeer},
    sync::{Advance, Certified, Conflict, HeaderSync, HeadersRequest},
};

/// How long one peer may take over one answer.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// A feed of heads that is silent for this long is checked with a status request.
const SILENCE: Duration = Duration::from_secs(8);
/// Pause before the peers are tried again when none of them serves.
const RETRY: Duration = Duration::from_millis(700);
/// Time between two writes of the checkpoint.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);
/// Events waiting for a slow listener before the oldest listener misses some.
const EVENT_BUFFER: usize = 512;
/// State this many headers behind our own tip is stale.
const STALE: u64 = 4;

/// Why a question got no answer that this device could verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No peer is connected, or every one was dropped for a wrong answer.
    #[error("no peer answers: {reason}")]
    NoPeer {
        /// What the last one said or did.
        reason: String,
    },
    /// Peers answered, but what they gave does not decide the question yet.
    #[error("not decided: {missing} is missing")]
    Undecided {
        /// What is missing.
        missing: String,
    },
    /// Peers answered wrongly, and none is left to ask.
    #[error("{peer} answered wrongly: {what}: got {got}, expected {expected}")]
    Wrong {
        /// Who.
        peer: String,
        /// Which check failed.
        what: String,
        /// What arrived.
        got: String,
        /// What was expected.
        expected: String,
    },
    /// Every peer refused the transaction.
    #[error("refused by the network: {reason}")]
    Rejected {
        /// In the peer's words.
        reason: String,
    },
    /// Two finalized headers of one height are known; nothing more is believed.
    #[error("two finalized headers at height {height}: this network's quorum failed")]
    Forked {
        /// The height.
        height: u64,
    },
    /// What was proven does not decode as the record it should be.
    #[error("the proven record {what} does not decode: {reason}")]
    Record {
        /// Which record.
        what: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// It did not happen in time.
    #[error("{what} did not happen within {ms} ms")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// The limit.
        ms: u64,
    },
}

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

/// A transaction proven to be in a final block.
#[derive(Clone, Debug)]
pub struct Included {
    /// The block's header; its certificate may be a descendant's.
    pub header: Certified,
    /// Headers after it up to one with a certificate, empty when it has its own.
    pub descendants: Vec<Certified>,
    /// Place in the block.
    pub index: u64,
    /// Merkle proof against `header.tx_root`.
    pub proof: Bytes,
    /// What the check cost this device, in milliseconds.
    pub ms: f64,
}

/// A header that was just verified, for the blocks page.
#[derive(Clone, Debug)]
pub struct VerifiedRow {
    /// The header and its certificate.
    pub certified: Certified,
    /// This header's share of its batch's checking time, in milliseconds.
    pub checked_ms: f64,
    /// Headers verified together.
    pub batch: usize,
}

/// What a listener hears.
#[derive(Clone, Debug)]
pub enum Event {
    /// Headers, oldest first.
    Headers(Vec<VerifiedRow>),
    /// Following a peer's head; `target` is only its claim.
    Syncing {
        /// Verified here.
        height: u64,
        /// Claimed by the peer.
        target: u64,
    },
    /// The head is followed live.
    Live {
        /// Verified here.
        height: u64,
    },
    /// Nobody serves at the moment.
    Offline {
        /// Why.
        reason: String,
    },
    /// A peer was dropped for a provably wrong answer.
    Dropped {
        /// Who.
        peer: String,
        /// Which check failed.
        what: String,
        /// What arrived.
        got: String,
        /// What was expected.
        expected: String,
    },
    /// Two finalized headers of one height.
    Conflict(Box<Conflict>),
}

/// A peer's standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Address dialled.
    pub name: String,
    /// Headers it delivered that verified.
    pub headers: u64,
    /// Failures to answer since the last success.
    pub failures: u32,
    /// Last round trip, in milliseconds.
    pub rtt_ms: Option<u32>,
    /// Why it was dropped, if it was.
    pub offence: Option<String>,
}

struct Slot {
    peer: SharedPeer,
    status: PeerStatus,
}

struct Inner {
    trust: TrustRoot,
    chain: Hash,
    sync: Mutex<HeaderSync>,
    peers: Mutex<Vec<Slot>>,
    listeners: Mutex<Vec<mpsc::Sender<Event>>>,
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    seeds: Mutex<HashMap<u64, Bytes>>,
    checkpoints: Option<CheckpointStore>,
    last_write: Mutex<Option<Instant>>,
}

/// A verified view of one chain. Clones share it.
#[derive(Clone)]
pub struct LightClient {
    inner: Arc<Inner>,
    /// Stops the follower when the last of the users' clones is gone; the follower has none.
    _follower: Option<Arc<task::Guard>>,
}

/// Locks without the poison: the data behind these locks is valid after any panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

impl LightClient {
    /// Follows the chain of `trust` through `peers`.
    ///
    /// A checkpoint of an earlier run is verified again before it is used.
    ///
    /// # Errors
    /// [`nesa_verify::TrustError`] when the trust root's group key is no key.
    pub async fn start(
        trust: TrustRoot,
        checkpoints: Option<CheckpointStore>,
        peers: Vec<SharedPeer>,
    ) -> Result<Self, nesa_verify::TrustError> {
        let mut sync = HeaderSync::new(&trust)?;
        if let Some(store) = &checkpoints
            && let Some(checkpoint) = store.load().await
        {
            match sync.restore(&mut random::rng(), checkpoint) {
                Verdict::Valid(advance) => tracing::debug!(height = advance.to, "checkpoint holds"),
                refused => tracing::warn!(?refused, "stored checkpoint refused; starting afresh"),
            }
        }
        let chain = trust.digest();
        let inner = Arc::new(Inner {
            chain,
            trust,
            sync: Mutex::new(sync),
            peers: Mutex::new(Vec::new()),
            listeners: Mutex::new(Vec::new()),
            waiting: Mutex::new(Vec::new()),
            seeds: Mutex::new(HashMap::new()),
            checkpoints,
            last_write: Mutex::new(None),
        });
        let client = Self { inner, _follower: None };
        for peer in peers {
            client.add_peer(peer);
        }
        let follower = client.clone();
        let follower = task::spawn(async move {
            loop {
                follower.follow_once().await;
                time::sleep(RETRY).await;
            }
        });
        let client = Self { _follower: Some(Arc::new(follower.abort_on_drop())), ..client };
        Ok(client)
    }

    /// The trust root this client follows.
    pub fn trust(&self) -> &TrustRoot {
        &self.inner.trust
    }

    /// Digest of the trust root: "the chain" in every signature.
    pub fn chain(&self) -> Hash {
        self.inner.chain
    }

    /// Adds a peer to ask.
    pub fn add_peer(&self, peer: SharedPeer) {
        let status =
            PeerStatus { name: peer.name(), headers: 0, failures: 0, rtt_ms: None, offence: None };
        lock(&self.inner.peers).push(Slot { peer, status });
    }

    /// How every peer has done so far.
    pub fn peers(&self) -> Vec<PeerStatus> {
        lock(&self.inner.peers).iter().map(|slot| slot.status.clone()).collect()
    }

    /// What happens from now on. A listener that does not read misses events, never holds us up.
    pub fn events(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(EVENT_BUFFER);
        lock(&self.inner.listeners).push(sender);
        receiver
    }

    /// The newest verified header.
    pub fn head(&self) -> Option<Header> {
        lock(&self.inner.sync).tip().map(|tip| tip.header.clone())
    }

    /// Height of the newest verified header; 0 before the first.
    pub fn height(&self) -> u64 {
        self.head().map_or(0, |header| header.height())
    }

    /// Verified headers still in memory, oldest first.
    pub fn recent(&self) -> Vec<Certified> {
        lock(&self.inner.sync).recent().cloned().collect()
    }

    /// Evidence that the chain forked, if there is any.
    pub fn conflict(&self) -> Option<Conflict> {
        lock(&self.inner.sync).conflict().cloned()
    }

    /// The checks under this client's trust root.
    pub fn verifier(&self) -> nesa_verify::Verifier {
        lock(&self.inner.sync).verifier().clone()
    }

    /// Waits until the head is above `height`; gives the new height.
    pub async fn head_above(&self, height: u64) -> u64 {
        loop {
            let receiver = {
                // Registered under the same lock that the writer of the tip holds afterwards, so
                // that no advance falls between the look and the registration.
                let mut waiting = lock(&self.inner.waiting);
                let now = self.height();
                if now > height {
                    return now;
                }
                let (sender, receiver) = oneshot::channel();
                waiting.push(sender);
                receiver
            };
            // A closed channel only means that the head moved.
            let _ = receiver.await;
        }
    }

    /// Waits for the first verified header.
    ///
    /// # Errors
    /// [`AskError::Timeout`].
    pub async fn ready(&self, limit: Duration) -> Result<u64, AskError> {
        time::timeout(limit, self.head_above(0)).await.map_err(|_| AskError::Timeout {
            what: "a first verified header",
            ms: limit.as_millis() as u64,
        })
    }

    fn emit(&self, event: &Event) {
        lock(&self.inner.listeners).retain_mut(|listener| match listener.try_send(event.clone()) {
            Ok(()) => true,
            Err(error) => !error.is_disconnected(),
        });
    }

    /// Peers worth asking, the best first.
    fn order(&self) -> Vec<SharedPeer> {
        let peers = lock(&self.inner.peers);
        let mut slots: Vec<&Slot> =
            peers.iter().filter(|slot| slot.status.offence.is_none()).collect();
        slots.sort_by_key(|slot| slot.status.failures);
        slots.into_iter().map(|slot| slot.peer.clone()).collect()
    }

    fn with_status(&self, peer: &SharedPeer, change: impl FnOnce(&mut PeerStatus)) {
        let mut peers = lock(&self.inner.peers);
        if let Some(slot) = peers.iter_mut().find(|slot| Arc::ptr_eq(&slot.peer, peer)) {
            change(&mut slot.status);
        }
    }

    fn drop_peer(&self, peer: &SharedPeer, what: &str, got: &str, expected: &str) {
        let offence = format!("{what}: got {got}, expected {expected}");
        tracing::warn!(peer = peer.name(), offence, "peer dropped");
        self.with_status(peer, |status| status.offence = Some(offence));
        self.emit(&Event::Dropped {
            peer: peer.name(),
            what: what.to_owned(),
            got: got.to_owned(),
            expected: expected.to_owned(),
        });
    }

    async fn ask_peer(&self, peer: &SharedPeer, request: Request) -> Result<Response, PeerError> {
        let start = Instant::now();
        let answer = match time::timeout(ASK_LIMIT, peer.ask(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(PeerError::Timeout { peer: peer.name(), ms: ASK_LIMIT.as_millis() as u64 })
            }
        };
        self.with_status(peer, |status| match &answer {
            Ok(_) => {
                status.failures = 0;
                status.rtt_ms = Some(since(start) as u32);
            }
            Err(_) => status.failures = status.failures.saturating_add(1),
        });
        answer
    }

    /// Asks peer after peer until `judge` accepts an answer.
    ///
    /// `judge` says `Valid` (done), `Undecided` (ask another, nobody is blamed) or `Invalid` (this
    /// peer is dropped, ask another).
    ///
    /// # Errors
    /// [`AskError`], with what the last peers lacked or got wrong.
    pub async fn decide<T>(
        &self,
        request: Request,
        mut judge: impl FnMut(Response) -> Verdict<T>,
    ) -> Result<T, AskError> {
        let mut outcome = AskError::NoPeer { reason: "none is known".into() };
        for peer in self.order() {
            let response = match self.ask_peer(&peer, request.clone()).await {
                Ok(Response::Refused { refusal, reason }) => {
                    outcome = match refusal {
                        Refusal::Rejected => AskError::Rejected { reason },
                        _ => AskError::Undecided { missing: reason },
                    };
                    continue;
                }
                Ok(response) => response,
                Err(error) => {
                    if matches!(outcome, AskError::NoPeer { .. }) {
                        outcome = AskError::NoPeer { reason: error.to_string() };
                    }
                    continue;
                }
            };
            match judge(response) {
                Verdict::Valid(value) => return Ok(value),
                Verdict::Undecided { missing } => {
                    if let Some(conflict) = self.conflict() {
                        return Err(AskError::Forked { height: conflict.ours.header.height() });
                    }
                    outcome = AskError::Undecided { missing };
                }
                Verdict::Invalid { got, expected, what } => {
                    self.drop_peer(&peer, what, &got, &expected);
                    if matches!(outcome, AskError::NoPeer { .. }) {
                        let peer = peer.name();
                        outcome = AskError::Wrong { peer, what: what.into(), got, expected };
                    }
                }
            }
        }
        Err(outcome)
    }

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

    /// Hands a signed transaction, encoded, to the network.
    ///
    /// # Errors
    /// [`AskError::Rejected`] with the reason when every peer refuses it.
    pub async fn submit(&self, id: Hash, transaction: Bytes) -> Result<(), AskError> {
        self.decide(Request::Submit { transaction }, |response| match response {
            Response::Submitted { id: got } if got == id => Verdict::Valid(()),
            Response::Submitted { id: got } => Verdict::Invalid {
                got: got.to_string(),
                expected: id.to_string(),
                what: "id of a submitted transaction",
            },
            _ => unexpected("answer to a submission"),
        })
        .await
    }

    /// Asks a local network's faucet; gives the paying transaction's id.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn faucet(
        &self,
        address: nesa_primitives::Address,
        denom: nesa_primitives::Denom,
    ) -> Result<Hash, AskError> {
        self.decide(Request::Faucet { address, denom }, |response| match response {
            Response::Funded { id } => Verdict::Valid(id),
            _ => unexpected("answer of a faucet"),
        })
        .await
    }

    /// Where a transaction is, proven; `None` while no peer shows it in a final block.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn included(&self, tx: &SignedTx) -> Result<Option<Included>, AskError> {
        let request = Request::TxStatus { id: tx.id() };
        let located = self
            .decide(request, |response| match response {
                Response::TxStatus(Some(location)) => Verdict::Valid(location),
                Response::TxStatus(None) => Verdict::Undecided { missing: "inclusion".into() },
                _ => unexpected("transaction status"),
            })
            .await;
        let location = match located {
            Ok(location) => location,
            Err(AskError::Undecided { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (header, descendants) = self.header(location.height).await?;
        let start = Instant::now();
        let verdict =
            nesa_verify::transaction::verify_inclusion(&header.header, tx, &location.proof);
        match verdict {
            Verdict::Valid(index) => Ok(Some(Included {
                ms: since(start),
                header,
                descendants,
                index,
                proof: location.proof,
            })),
            Verdict::Undecided { missing } => Err(AskError::Undecided { missing }),
            // Who sent it is not known here any more; the next poll may reach another peer.
            Verdict::Invalid { got, expected, what } => {
                Err(AskError::Wrong { peer: "a peer".into(), what: what.into(), got, expected })
            }
        }
    }

    /// Waits until a transaction is in a final block, looking again at every new head.
    ///
    /// # Errors
    /// [`AskError::Timeout`] after `limit`.
    pub async fn wait_included(
        &self,
        tx: &SignedTx,
        limit: Duration,
    ) -> Result<Included, AskError> {
        let wait = async {
            loop {
                let seen = self.height();
                match self.included(tx).await {
                    Ok(Some(included)) => return Ok(included),
                    Ok(None) | Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => {}
                    Err(error) => return Err(error),
                }
                self.head_or(seen, Duration::from_millis(1500)).await;
            }
        };
        match time::timeout(limit, wait).await {
            Ok(result) => result,
            Err(_) => Err(AskError::Timeout {
                what: "inclusion of the transaction",
                ms: limit.as_millis() as u64,
            }),
        }
    }

    /// Waits for a head above `height`, but not longer than `limit`: a late head is no reason to
    /// stop looking.
    pub async fn head_or(&self, height: u64, limit: Duration) {
        let _ = time::timeout(limit, self.head_above(height)).await;
    }

    /// Follows one peer after another until none serves.
    async fn follow_once(&self) {
        let mut reason = "no peer is known".to_owned();
        for peer in self.order() {
            match self.follow(&peer).await {
                Ok(()) => {}
                Err(error) => reason = error.to_string(),
            }
            if self.conflict().is_some() {
                break;
            }
        }
        self.emit(&Event::Offline { reason });
    }

    /// Catches up with one peer and then listens to its heads, until something goes wrong.
    async fn follow(&self, peer: &SharedPeer) -> Result<(), PeerError> {
        if !self.catch_up(peer).await? {
            return Ok(());
        }
        let mut heads = match time::timeout(ASK_LIMIT, peer.heads()).await {
            Ok(heads) => heads?,
            Err(_) => {
                return Err(PeerError::Timeout {
                    peer: peer.name(),
                    ms: ASK_LIMIT.as_millis() as u64,
                });
            }
        };
        self.emit(&Event::Live { height: self.height() });
        loop {
            match time::timeout(SILENCE, heads.next()).await {
                Ok(Some(Ok(head))) => {
                    if !self.take_head(peer, head).await? {
                        return Ok(());
                    }
                }
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) => {
                    return Err(PeerError::Connection {
                        peer: peer.name(),
                        reason: "the feed of heads ended".into(),
                    });
                }
                // Silence may be an idle chain or a withholding peer. Another peer's view decides.
                Err(_) => {
                    let others = self.order();
                    let mut anyone_ahead = false;
                    for other in others.iter().filter(|other| !Arc::ptr_eq(other, peer)).take(2) {
                        let before = self.height();
                        let served = self.catch_up(other).await;
                        anyone_ahead |= matches!(served, Ok(true)) && self.height() > before;
                    }
                    if anyone_ahead || !self.catch_up(peer).await? {
                        self.with_status(peer, |s| s.failures = s.failures.saturating_add(1));
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Walks up to the peer's claimed head. `false` when the peer is of no use.
    async fn catch_up(&self, peer: &SharedPeer) -> Result<bool, PeerError> {
        let status = self.ask_peer(peer, Request::Status).await?;
        let Response::Status { chain, height: target, .. } = status else {
            return Ok(false);
        };
        if chain != self.inner.chain {
            self.drop_peer(
                peer,
                "chain of a peer",
                &chain.to_string(),
                &self.inner.chain.to_string(),
            );
            return Ok(false);
        }
        loop {
            let request = lock(&self.inner.sync).next_request(target);
            let Some(request) = request else { return Ok(self.height() > 0) };
            self.emit(&Event::Syncing { height: self.height(), target });
            let wire = Request::Headers { from: request.from, max: request.max as u16 };
            let response = self.ask_peer(peer, wire).await?;
            match self.judge_headers(request, response) {
                Verdict::Valid(advance) => {
                    self.with_status(peer, |s| s.headers += 1);
                    if advance.from == Some(advance.to) {
                        return Ok(true);
                    }
                }
                Verdict::Undecided { missing } => {
                    tracing::debug!(peer = peer.name(), missing, "undecided");
                    return Ok(false);
                }
                Verdict::Invalid { got, expected, what } => {
                    self.drop_peer(peer, what, &got, &expected);
                    return Ok(false);
                }
            }
            // Let messages in between two batches of pairings.
            task::yield_now().await;
        }
    }

    /// Takes one announced head. `false` when the peer is of no use any more.
    async fn take_head(&self, peer: &SharedPeer, head: CertifiedHeader) -> Result<bool, PeerError> {
        let head = match certified(&head.header, head.finalization.as_deref()) {
            Ok(head) => head,
            Err(Verdict::Invalid { got, expected, what }) => {
                self.drop_peer(peer, what, &got, &expected);
                return Ok(false);
            }
            Err(_) => return Ok(false),
        };
        let height = head.header.height();
        if head.finalization.is_none() || height != self.height() + 1 {
            // It cannot be judged alone, or there is a gap: walk.
            return if height > self.height() { self.catch_up(peer).await } else { Ok(true) };
        }
        let request = HeadersRequest { from: height, max: 1 };
        match self.judge_certified(request, vec![head]) {
            Verdict::Valid(_) => {
                self.with_status(peer, |s| s.headers += 1);
                Ok(true)
            }
            Verdict::Undecided { .. } => Ok(self.conflict().is_none()),
            Verdict::Invalid { got, expected, what } => {
                self.drop_peer(peer, what, &got, &expected);
                Ok(false)
            }
        }
    }

    fn judge_headers(&self, request: HeadersRequest, response: Response) -> Verdict<Advance> {
        let Response::Headers(headers) = response else { return unexpected("headers") };
        let mut answer = Vec::with_capacity(headers.len());
        for item in headers {
            match certified(&item.header, item.finalization.as_deref()) {
                Ok(item) => answer.push(item),
                Err(refused) => return refused.retype(),
            }
        }
        self.judge_certified(request, answer)
    }

    fn judge_certified(&self, request: HeadersRequest, answer: Vec<Certified>) -> Verdict<Advance> {
        let start = Instant::now();
        let heights: Vec<u64> = answer.iter().map(|item| item.header.height()).collect();
        let (verdict, rows, conflict) = {
            let mut sync = lock(&self.inner.sync);
            let before = sync.tip().map_or(0, |tip| tip.header.height());
            let had_conflict = sync.conflict().is_some();
            let verdict = sync.accept(&mut random::rng(), request, answer);
            let batch = heights.len();
            let checked_ms = since(start) / batch.max(1) as f64;
            let rows: Vec<VerifiedRow> = match &verdict {
                Verdict::Valid(_) => heights
                    .iter()
                    .filter(|height| **height > before)
                    .filter_map(|height| sync.header(*height).cloned())
                    .map(|certified| VerifiedRow { certified, checked_ms, batch })
                    .collect(),
                _ => Vec::new(),
            };
            let conflict = if had_conflict { None } else { sync.conflict().cloned() };
            (verdict, rows, conflict)
        };
        if let Some(conflict) = conflict {
            self.emit(&Event::Conflict(Box::new(conflict)));
        }
        if !rows.is_empty() {
            self.emit(&Event::Headers(rows));
        }
        self.wake();
        self.write_checkpoint();
        verdict
    }

    /// Wakes those who wait for the head. They look again themselves.
    fn wake(&self) {
        for waiter in lock(&self.inner.waiting).drain(..) {
            // A waiter that went away needs no waking.
            let _ = waiter.send(());
        }
    }

    fn write_checkpoint(&self) {
        let Some(store) = self.inner.checkpoints.clone() else { return };
        {
            let mut last = lock(&self.inner.last_write);
            if last.is_some_and(|at| at.elapsed() < CHECKPOINT_EVERY) {
                return;
            }
            *last = Some(Instant::now());
        }
        let Some(checkpoint) = lock(&self.inner.sync).checkpoint().cloned() else { return };
        let conflict = self.conflict();
        task::spawn(async move {
            store.save(&checkpoint).await;
            if let Some(conflict) = conflict {
                store.save_conflict(&conflict).await;
            }
        });
    }
}

/// Decodes a header and its certificate as a peer sent them.
fn certified(header: &[u8], finalization: Option<&[u8]>) -> Result<Certified, Verdict<()>> {
    let malformed = |what: &'static str, error: nesa_primitives::DecodeError| Verdict::Invalid {
        got: error.to_string(),
        expected: "canonical bytes".into(),
        what,
    };
    let header = decode_header(header).map_err(|error| malformed("header", error))?;
    let finalization = finalization
        .map(decode_finalization)
        .transpose()
        .map_err(|error| malformed("certificate", error))?;
    Ok(Certified { header, finalization })
}

fn unexpected<T>(expected: &'static str) -> Verdict<T> {
    Verdict::Invalid {
        got: "an answer of another kind".into(),
        expected: expected.into(),
        what: "kind of answer",
    }
}

/// A refusal under another type.
pub(crate) trait Retype {
    /// Changes the type of what would have been valid.
    fn retype<U>(self) -> Verdict<U>;
}

impl<T> Retype for Verdict<T> {
    fn retype<U>(self) -> Verdict<U> {
        match self {
            // Callers match `Valid` first; this arm only keeps the function total.
            Verdict::Valid(_) => Verdict::Undecided { missing: "a refusal".into() },
            Verdict::Invalid { got, expected, what } => Verdict::Invalid { got, expected, what },
            Verdict::Undecided { missing } => Verdict::Undecided { missing },
        }
    }
}

/// Encodes a certified header for a message.
pub fn to_wire(item: &Certified) -> CertifiedHeader {
    CertifiedHeader {
        header: item.header.encode(),
        finalization: item.finalization.as_ref().map(|f| f.encode()),
    }
}
