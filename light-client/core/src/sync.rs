//! Header synchronisation as a state machine: answers of peers in, verdicts and a growing tip out.
//!
//! No I/O, no clock and no randomness of its own: the driver asks [`HeaderSync::next_request`] what
//! to fetch, hands the answer to [`HeaderSync::accept`], and acts on the [`Verdict`]:
//!
//! ```text
//!            ┌──────── next_request(peer head) ───────┐
//!            ▼                                        │
//!   peer ── headers ──> accept ─┬─ Valid ──> tip grows, driver asks again
//!                               ├─ Undecided ──> another peer is asked, nobody is blamed
//!                               ├─ Invalid ──> the peer is dropped
//!                               └─ conflict() ──> two finalized headers at one height: halt, keep both
//! ```
//!
//! A finalization certificate under the group key speaks for its header alone, so a client that
//! slept for long may jump to the present and need not walk through the years between; within
//! [`JUMP_GAP`] it walks, so that every header it shows is linked to the one before it.

use std::collections::{BTreeMap, VecDeque};

use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error as CodecError, Read, ReadExt as _, Write};
use nesa_chain::{header::Header, trust::TrustRoot};
use nesa_primitives::Verdict;
use nesa_verify::{Finalization, TrustError, Verifier};
use rand_core::CryptoRng;

/// Headers asked for at once; a longer answer is refused.
pub const BATCH: u64 = 64;

/// Verified headers kept in memory, the newest ones.
pub const RECENT: usize = 512;

/// A client further behind than this many headers jumps to the present instead of walking.
pub const JUMP_GAP: u64 = 256;

/// Conflicts kept as evidence; the first already halts the client.
const MAX_CONFLICTS: usize = 4;

/// A header and, where a peer has one, the certificate of that very header.
#[derive(Clone, Debug, PartialEq)]
pub struct Certified {
    /// The header.
    pub header: Header,
    /// Its own certificate; absent when it was finalized through a descendant.
    pub finalization: Option<Finalization>,
}

impl Write for Certified {
    fn write(&self, buf: &mut impl BufMut) {
        self.header.write(buf);
        self.finalization.write(buf);
    }
}

impl EncodeSize for Certified {
    fn encode_size(&self) -> usize {
        self.header.encode_size() + self.finalization.encode_size()
    }
}

impl Read for Certified {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, CodecError> {
        Ok(Self { header: Header::read(buf)?, finalization: Option::<Finalization>::read(buf)? })
    }
}

/// Two headers of one height, each finalized under the trust root: proof that the quorum failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// The header this client had accepted.
    pub ours: Certified,
    /// The headers, ending in a certified one, that contradict it.
    pub theirs: Vec<Certified>,
}

/// What the driver should ask a peer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadersRequest {
    /// Height of the first header wanted.
    pub from: u64,
    /// How many at most.
    pub max: u64,
}

/// How far an accepted answer moved the tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// Height of the tip before.
    pub from: Option<u64>,
    /// Height of the tip now.
    pub to: u64,
}

/// Follows one chain from its trust root.
pub struct HeaderSync {
    verifier: Verifier,
    recent: BTreeMap<u64, Certified>,
    tip: Option<u64>,
    conflicts: VecDeque<Conflict>,
}

impl HeaderSync {
    /// Starts with nothing but the trust root.
    ///
    /// # Errors
    /// [`TrustError`] when the trust root's group key is no curve point.
    pub fn new(trust: &TrustRoot) -> Result<Self, TrustError> {
        Ok(Self {
            verifier: Verifier::new(trust)?,
            recent: BTreeMap::new(),
            tip: None,
            conflicts: VecDeque::new(),
        })
    }

    /// Adopts a checkpoint of an earlier run, after verifying it again.
    ///
    /// Storage is not trusted: a checkpoint that does not verify is `Invalid` and the client starts
    /// from the trust root alone.
    pub fn restore(&mut self, rng: &mut impl CryptoRng, checkpoint: Certified) -> Verdict<Advance> {
        self.accept_head(rng, checkpoint)
    }

    /// The checks of headers, certificates and seeds under this trust root.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The newest header of the verified walk.
    pub fn tip(&self) -> Option<&Certified> {
        self.tip.and_then(|height| self.recent.get(&height))
    }

    /// The newest verified header that carries its own certificate: what is worth persisting.
    pub fn checkpoint(&self) -> Option<&Certified> {
        self.recent.values().rev().find(|c| c.finalization.is_some())
    }

    /// A verified header among those still in memory.
    pub fn header(&self, height: u64) -> Option<&Certified> {
        self.recent.get(&height)
    }

    /// Verified headers still in memory, oldest first.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &Certified> {
        self.recent.values()
    }

    /// Evidence that the chain forked. Once there is any, the client accepts nothing more.
    pub fn conflict(&self) -> Option<&Conflict> {
        self.conflicts.front()
    }

    /// What to ask a peer whose head is at `peer_head`; `None` when it has nothing new for us.
    ///
    /// A peer that is behind us is stale, which is not an offence.
    pub fn next_request(&self, peer_head: u64) -> Option<HeadersRequest> {
        let request = match self.tip {
            None => HeadersRequest { from: peer_head.max(1), max: 1 },
            Some(tip) if peer_head <= tip => return None,
            Some(tip) if peer_head - tip > JUMP_GAP => HeadersRequest { from: peer_head, max: 1 },
            Some(tip) => HeadersRequest { from: tip + 1, max: BATCH.min(peer_head - tip) },
        };
        Some(request)
    }

    /// Judges a peer's answer to `request`.
    ///
    /// The answer may be shorter than asked for. Headers after its last certificate are ignored
    /// (nobody vouches for them yet); an answer with no certificate at all decides nothing.
    pub fn accept(
        &mut self,
        rng: &mut impl CryptoRng,
        request: HeadersRequest,
        mut answer: Vec<Certified>,
    ) -> Verdict<Advance> {
        if let Some(halted) = self.halted() {
            return halted;
        }
        if answer.len() as u64 > request.max {
            return invalid(
                "headers in one answer",
                answer.len(),
                format!("at most {}", request.max),
            );
        }
        for (offset, item) in answer.iter().enumerate() {
            let expected = request.from + offset as u64;
            if item.header.height() != expected {
                return invalid("height of a header", item.header.height(), expected);
            }
        }
        let Some(last) = answer.iter().rposition(|item| item.finalization.is_some()) else {
            return Verdict::Undecided {
                missing: format!("a certificate for a header from height {}", request.from),
            };
        };
        answer.truncate(last + 1);
        let items: Vec<(Header, Option<Finalization>)> =
            answer.into_iter().map(|item| (item.header, item.finalization)).collect();
        for pair in items.windows(2) {
            if let [(parent, _), (child, _)] = pair
                && let Some(refused) = refusal(self.verifier.verify_link(parent, child))
            {
                return refused;
            }
        }
        for verdict in self.verifier.verify_batch(rng, &items) {
            if let Some(refused) = refusal(verdict) {
                return refused;
            }
        }
        let answer = items
            .into_iter()
            .map(|(header, finalization)| Certified { header, finalization })
            .collect();
        self.adopt(answer)
    }

    /// Judges a single header that came with its certificate, for instance with a state proof.
    ///
    /// An older header is fine (the tip does not move back); one that contradicts a header we hold
    /// is kept as evidence and halts the client.
    pub fn accept_head(&mut self, rng: &mut impl CryptoRng, head: Certified) -> Verdict<Advance> {
        let request = HeadersRequest { from: head.header.height(), max: 1 };
        if let Some(tip) = self.tip
            && let Some(known) = self.recent.get(&request.from)
            && known.header == head.header
            && known.finalization.is_some()
            && self.conflicts.is_empty()
        {
            // The same header again: certified once is certified.
            return Verdict::Valid(Advance { from: Some(tip), to: tip });
        }
        self.accept(rng, request, vec![head])
    }

    fn halted<T>(&self) -> Option<Verdict<T>> {
        self.conflicts.front().map(|conflict| Verdict::Undecided {
            missing: format!(
                "one history: two finalized headers at height {} are known",
                conflict.ours.header.height()
            ),
        })
    }

    /// Joins verified headers to what we hold, or finds that they contradict it.
    fn adopt(&mut self, answer: Vec<Certified>) -> Verdict<Advance> {
        if let Some(conflict) = self.contradiction(&answer) {
            let height = conflict.ours.header.height();
            if self.conflicts.len() < MAX_CONFLICTS {
                self.conflicts.push_back(conflict);
            }
            return Verdict::Undecided {
                missing: format!("one history: two finalized headers at height {height} are known"),
            };
        }
        let before = self.tip;
        for item in answer {
            let height = item.header.height();
            match self.recent.get_mut(&height) {
                Some(known) => {
                    if known.finalization.is_none() {
                        known.finalization = item.finalization;
                    }
                }
                None => {
                    self.recent.insert(height, item);
                }
            }
            // A header ahead of the walk (with a state proof, say) is kept, but the tip stays
            // where the linked headers end, so that the walk leaves no gap.
            if self.tip.is_none_or(|tip| height == tip + 1 || height > tip + JUMP_GAP) {
                self.tip = Some(height);
            }
        }
        while let Some(tip) = self.tip
            && self.recent.contains_key(&(tip + 1))
        {
            self.tip = Some(tip + 1);
        }
        while self.recent.len() > RECENT {
            self.recent.pop_first();
        }
        match self.tip {
            Some(to) => Verdict::Valid(Advance { from: before, to }),
            None => Verdict::Undecided { missing: "headers".into() },
        }
    }

    /// A header of ours with the height of a verified, different one.
    ///
    /// Equal heights are compared directly; the neighbours below and above through parent digests.
    fn contradiction(&self, answer: &[Certified]) -> Option<Conflict> {
        for (index, item) in answer.iter().enumerate() {
            let height = item.header.height();
            let ours =
                self.recent.get(&height).filter(|known| known.header != item.header).or_else(
                    || {
                        let below = self.recent.get(&height.checked_sub(1)?)?;
                        (index == 0 && item.header.fields.parent != below.header.digest())
                            .then_some(below)
                    },
                );
            let ours = ours.or_else(|| {
                let above = self.recent.get(&(height + 1))?;
                (index + 1 == answer.len() && above.header.fields.parent != item.header.digest())
                    .then_some(above)
            });
            if let Some(ours) = ours {
                return Some(Conflict { ours: ours.clone(), theirs: answer.to_vec() });
            }
        }
        None
    }
}

fn invalid<T>(
    what: &'static str,
    got: impl std::fmt::Display,
    expected: impl std::fmt::Display,
) -> Verdict<T> {
    Verdict::Invalid { got: got.to_string(), expected: expected.to_string(), what }
}

/// The refusal in a verdict, for a caller that wants another type; `None` when it was valid.
fn refusal<T, U>(verdict: Verdict<T>) -> Option<Verdict<U>> {
    match verdict {
        Verdict::Valid(_) => None,
        Verdict::Invalid { got, expected, what } => Some(Verdict::Invalid { got, expected, what }),
        Verdict::Undecided { missing } => Some(Verdict::Undecided { missing }),
    }
}
