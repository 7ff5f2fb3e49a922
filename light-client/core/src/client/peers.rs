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
        tracing::warn!(peer = peer.name(), offence, "peer dropped");
        self.with_status(peer, |status| status.offence = Some(offence));
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
}
