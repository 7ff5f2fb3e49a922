//! Who is asked, in which order, and who is dropped.

use std::{sync::Arc, time::Duration};

use nesa_platform::time::{self, Instant};
use nesa_primitives::Verdict;
use nesa_wire::chain::{Refusal, Request, Response};

use super::{AskError, Event, LightClient, lock, since};
use crate::peer::{PeerError, SharedPeer};

/// How long one peer may take over one answer.
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(10);

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

pub(super) struct Slot {
    peer: SharedPeer,
    status: PeerStatus,
}

impl LightClient {
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

    /// Peers worth asking, the best first.
    pub(super) fn order(&self) -> Vec<SharedPeer> {
        let peers = lock(&self.inner.peers);
        let mut slots: Vec<&Slot> =
            peers.iter().filter(|slot| slot.status.offence.is_none()).collect();
        slots.sort_by_key(|slot| slot.status.failures);
        slots.into_iter().map(|slot| slot.peer.clone()).collect()
    }

    pub(super) fn with_status(&self, peer: &SharedPeer, change: impl FnOnce(&mut PeerStatus)) {
        let mut peers = lock(&self.inner.peers);
        if let Some(slot) = peers.iter_mut().find(|slot| Arc::ptr_eq(&slot.peer, peer)) {
            change(&mut slot.status);
        }
    }

    pub(super) fn drop_peer(&self, peer: &SharedPeer, what: &str, got: &str, expected: &str) {
        let offence = format!("{what}: got {got}, expected {expected}");
        let mut first = false;
        self.with_status(peer, |status| {
            first = status.offence.is_none();
            status.offence.get_or_insert_with(|| offence.clone());
        });
        if !first {
            // A question that was under way when the peer was dropped; its first offence stands.
            return;
        }
        tracing::warn!(peer = peer.name(), offence, "peer dropped");
        self.emit(&Event::Dropped {
            peer: peer.name(),
            what: what.to_owned(),
            got: got.to_owned(),
            expected: expected.to_owned(),
        });
    }

    pub(super) async fn ask_peer(
        &self,
        peer: &SharedPeer,
        request: Request,
    ) -> Result<Response, PeerError> {
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
        if let Err(error) = &answer {
            self.note(peer, error);
        }
        answer
    }

    /// Drops a peer whose bytes are no message of the protocol; any other failure is no offence.
    pub(super) fn note(&self, peer: &SharedPeer, error: &PeerError) {
        if let PeerError::Malformed { reason, .. } = error {
            self.drop_peer(peer, "message", reason, "a message of the protocol");
        }
    }

    /// Asks one peer and judges its answer. Only an invalid one costs the peer its place.
    ///
    /// # Errors
    /// [`AskError`].
    pub(super) async fn ask_one<T>(
        &self,
        peer: &SharedPeer,
        request: Request,
        judge: impl FnOnce(Response) -> Verdict<T>,
    ) -> Result<T, AskError> {
        match self.ask_peer(peer, request).await {
            Ok(Response::Refused { refusal: Refusal::Rejected, reason }) => {
                Err(AskError::Rejected { reason })
            }
            Ok(Response::Refused { reason, .. }) => Err(AskError::Undecided { missing: reason }),
            Ok(response) => self.act(peer, judge(response)),
            Err(error) => Err(AskError::NoPeer { reason: error.to_string() }),
        }
    }

    /// What a verdict on a peer's answer means: invalid drops the peer, undecided blames nobody.
    ///
    /// # Errors
    /// [`AskError`] for anything but a valid answer.
    pub(super) fn act<T>(&self, peer: &SharedPeer, verdict: Verdict<T>) -> Result<T, AskError> {
        match verdict {
            Verdict::Valid(value) => Ok(value),
            Verdict::Undecided { missing } => Err(match self.conflict() {
                Some(conflict) => AskError::Forked { height: conflict.ours.header.height() },
                None => AskError::Undecided { missing },
            }),
            Verdict::Invalid { got, expected, what } => {
                self.drop_peer(peer, what, &got, &expected);
                Err(AskError::Wrong { peer: peer.name(), what: what.into(), got, expected })
            }
        }
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
        let mut outcome = AskError::unasked();
        for peer in self.order() {
            match self.ask_one(&peer, request.clone(), &mut judge).await {
                Ok(value) => return Ok(value),
                Err(error) => outcome = outcome.then(error)?,
            }
        }
        Err(outcome)
    }
}
