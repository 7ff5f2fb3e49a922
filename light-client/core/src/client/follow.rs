//! Following the head: walking up to a peer's claim, then listening to what it announces.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use nesa_platform::{
    random, task,
    time::{self, Instant},
};
use nesa_primitives::Verdict;
use nesa_wire::chain::{CertifiedHeader, Request, Response};

use super::{
    AskError, Event, LightClient, VerifiedRow,
    judge::{Retype as _, certified, unexpected},
    lock,
    peers::ASK_LIMIT,
    since,
};
use crate::{
    peer::{PeerError, SharedPeer},
    sync::{Advance, Certified, HeadersRequest},
};

/// A feed of heads that is silent for this long is checked with a status request.
const SILENCE: Duration = Duration::from_secs(8);
/// Time between two writes of the checkpoint.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

impl LightClient {
    /// Follows one peer after another until none serves.
    pub(super) async fn follow_once(&self) {
        let mut reason = "no peer is known".to_owned();
        for peer in self.order() {
            match self.follow(&peer).await {
                Ok(()) => {}
                Err(error) => {
                    // The feed of heads gives errors of its own.
                    self.note(&peer, &error);
                    reason = error.to_string();
                }
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
        let (chain, target) = match self.ask_peer(peer, Request::Status).await? {
            Response::Status { chain, height, .. } => (chain, height),
            Response::Refused { .. } => return Ok(false),
            _ => return Ok(self.act(peer, unexpected::<()>("status")).is_ok()),
        };
        let same = Verdict::<()>::equal("chain of a peer", chain, self.inner.chain);
        if self.act(peer, same).is_err() {
            return Ok(false);
        }
        loop {
            let request = lock(&self.inner.sync).next_request(target);
            let Some(request) = request else { return Ok(self.height() > 0) };
            self.emit(&Event::Syncing { height: self.height(), target });
            let wire = Request::Headers { from: request.from, max: request.max as u16 };
            let response = self.ask_peer(peer, wire).await?;
            if matches!(response, Response::Refused { .. }) {
                return Ok(false);
            }
            match self.act(peer, self.judge_headers(request, response)) {
                Ok(advance) => {
                    self.with_status(peer, |s| s.headers += 1);
                    if advance.from == Some(advance.to) {
                        return Ok(true);
                    }
                }
                Err(error) => {
                    tracing::debug!(peer = peer.name(), %error, "not caught up");
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
            Err(refused) => return Ok(self.act(peer, refused).is_ok()),
        };
        let height = head.header.height();
        if head.finalization.is_none() || height != self.height() + 1 {
            // It cannot be judged alone, or there is a gap: walk.
            return if height > self.height() { self.catch_up(peer).await } else { Ok(true) };
        }
        let request = HeadersRequest { from: height, max: 1 };
        match self.act(peer, self.judge_certified(request, vec![head])) {
            Ok(_) => {
                self.with_status(peer, |s| s.headers += 1);
                Ok(true)
            }
            // Nothing was decided, and nobody is to blame.
            Err(AskError::Undecided { .. }) => Ok(true),
            Err(_) => Ok(false),
        }
    }

    pub(super) fn judge_headers(
        &self,
        request: HeadersRequest,
        response: Response,
    ) -> Verdict<Advance> {
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
