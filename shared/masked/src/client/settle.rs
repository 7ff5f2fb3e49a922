//! The paths that fail, and the end: blame, replacement, commitments.

use nesa_chain::Side;
use nesa_primitives::Hash;
use rand_core::CryptoRng;

use super::{
    blame::{Blame, Plea, Suspect, Verdict},
    peer::{Expected, Peer},
    session::{Actions, Phase, Session, fit},
    types::{Action, Link, Reason, Rejection, SessionError},
};
use crate::{
    message::{ClientMessage, Request, Slot},
    origin::Standing,
    run::Run,
    transcript::{Served, Transcript},
};

impl<R: Run, G: CryptoRng> Session<R, G> {
    /// Asks both servers for the full product of part `i` of the current stage. Both always get
    /// the question, and each only about the share it already holds.
    pub(super) fn begin_blame(&mut self, i: usize, out: &mut Actions<R>) {
        let Some(pass) = &self.pass else { return };
        let Some(stage) = pass.stages.front() else { return };
        let Some(spec) = self.lane.stages().get(stage.index) else { return };
        let part = &stage.parts[i];
        let slot =
            Slot { pass: pass.number, tokens: pass.tokens, stage: spec.id, part: part.number };
        let (Some(share), Some(a), Some(b)) =
            (part.share.clone(), part.from_a.clone(), part.from_b.clone())
        else {
            return;
        };
        let seed = Request::Seed { slot, seed: part.seed.clone() };
        let suspect = |request: &Request, signed| Suspect {
            request: request.clone(),
            signed,
            plea: Plea::Awaited,
        };
        self.blame =
            Some(Blame { slot, a: suspect(&share, a), b: suspect(&seed, b), repreparing: false });
        out.push(Action::Rejected { pass: slot.pass, stage: slot.stage });
        #[cfg(test)]
        if self.mutant_tells_range_failures(i) {
            self.send(Side::A, &ClientMessage::Blame(share.clone()), out);
        }
        for (side, request) in [(Side::A, share), (Side::B, seed)] {
            self.peer(side).owed.push_back(Expected::Full { slot });
            self.send(side, &ClientMessage::Blame(request), out);
        }
    }

    /// Judges the blame in progress. `fresh` says that the preparation was made since.
    pub(super) fn judge(&mut self, fresh: bool, out: &mut Actions<R>) {
        let Some(blame) = &mut self.blame else { return };
        let stage = blame.slot.stage;
        let secrets = self.lane.find(stage).and_then(|(index, _)| self.preparation.stage(index));
        let Some(secrets) = secrets else { return };
        let repreparing = blame.repreparing;
        let verdict = blame.judge(secrets, fresh);
        #[cfg(feature = "dishonest")]
        let verdict = super::dishonest::condemn(self.a.link, verdict);
        match verdict {
            Verdict::Open => {}
            Verdict::Suspicious if repreparing => {}
            // Strangers' word against strangers' word, and no weights here to decide. To judge the
            // same products under a new s would be to use it before it is tested; to go on with
            // the next pair would tell them, one bit a try, what a wrong s makes of the input.
            Verdict::Suspicious if self.preparation.origin().is_thin() => {
                self.preparation.note(Standing::Discarded);
                self.preparation_discarded = true;
                self.fail(SessionError::Preparation, out);
            }
            Verdict::Suspicious => {
                blame.repreparing = true;
                out.push(Action::Prepare);
            }
            Verdict::Guilty { a: false, b: false } if fresh => {
                self.preparation_discarded = true;
                self.retry(out);
            }
            Verdict::Guilty { a: false, b: false } => self.fail(SessionError::Bounds(stage), out),
            Verdict::Guilty { a, b } => {
                let silent = |s: &Suspect| {
                    if matches!(s.plea, Plea::Silent) {
                        Reason::Unavailable
                    } else {
                        Reason::Rejected
                    }
                };
                let reasons = (silent(&blame.a), silent(&blame.b));
                // Under a fresh preparation the old one is known wrong only if it would have
                // condemned someone whom the new one acquits.
                self.preparation_discarded |= fresh && a != b && repreparing;
                self.blame = None;
                if a && !self.replace(Side::A, reasons.0, out) {
                    return;
                }
                if b && !self.replace(Side::B, reasons.1, out) {
                    return;
                }
                self.resend(b, out);
            }
        }
    }

    /// Sends the current stage again, to the same servers, under new masks.
    fn retry(&mut self, out: &mut Actions<R>) {
        self.blame = None;
        self.resend(false, out);
    }

    /// Sends what is unverified again under new masks: the current stage to both, and, when B is
    /// new, the stages it is ahead by.
    fn resend(&mut self, b_is_new: bool, out: &mut Actions<R>) {
        let window = self.pass.as_ref().map_or(0, |p| p.stages.len());
        if window == 0 {
            return;
        }
        if b_is_new {
            self.renew_masks(0);
            for place in 0..window {
                self.send_seeds(place, out);
            }
        } else {
            self.renew_current();
            self.send_seeds(0, out);
        }
        self.send_shares(out);
    }

    /// Takes a server that left or broke the protocol out of service.
    pub(super) fn drop_peer(&mut self, side: Side, reason: Reason, out: &mut Actions<R>) {
        match self.phase {
            Phase::Over => {}
            Phase::Finishing => {
                let peer = self.peer(side);
                peer.lost = true;
                out.push(Action::Close { link: peer.link });
                self.finish_if_complete(out);
            }
            Phase::Passes if self.blame.is_some() => {
                // It goes on trial as one who would not speak; the other's plea is still awaited.
                let peer = self.peer(side);
                peer.lost = true;
                out.push(Action::Close { link: peer.link });
                if let Some(blame) = &mut self.blame {
                    blame.suspect(side).plea = Plea::Silent;
                }
                self.judge(false, out);
            }
            Phase::Passes => {
                if self.replace(side, reason, out) {
                    self.resend(side == Side::B, out);
                }
            }
        }
    }

    /// Puts the side's next candidate in place. Operators never change sides: each side has its
    /// own list. `false` if none was left, and the session has failed.
    fn replace(&mut self, side: Side, reason: Reason, out: &mut Actions<R>) -> bool {
        let peer = self.peer(side);
        let (old, node, was_lost) = (peer.link, peer.candidate.node, peer.lost);
        if !was_lost {
            out.push(Action::Close { link: old });
        }
        peer.lost = true;
        let rejection = Rejection { link: old, node, reason };
        self.rejected.push(rejection);
        out.push(Action::Replaced(rejection));
        let next = old.attempt.saturating_add(1);
        let Some((attempt, candidate)) = fit(&self.committee, &self.preparation, side, next) else {
            self.fail(SessionError::Exhausted(side), out);
            return false;
        };
        *self.peer(side) = Peer::new(Link { side, attempt }, candidate);
        self.connect(side, out);
        true
    }

    fn renew_current(&mut self) {
        // Only the front stage: what B works on ahead has not met any share of A's yet, so its
        // masks are as good for a new A as for the old.
        let Some(pass) = &mut self.pass else { return };
        let ahead: Vec<_> = pass.stages.drain(1..).collect();
        self.renew_masks(0);
        if let Some(pass) = &mut self.pass {
            pass.stages.extend(ahead);
        }
    }

    /// Asks both servers for their commitments, each under its own blind.
    pub(super) fn finish(&mut self, out: &mut Actions<R>) {
        self.phase = Phase::Finishing;
        for side in [Side::A, Side::B] {
            let mut blind = [0u8; 32];
            self.rng.fill_bytes(&mut blind);
            let peer = self.peer(side);
            peer.blind = Some(Hash(blind));
            peer.owed.push_back(Expected::Commit);
            self.send(side, &ClientMessage::Finish { blind: Hash(blind) }, out);
        }
    }

    pub(super) fn finish_if_complete(&mut self, out: &mut Actions<R>) {
        let settled = |p: &Peer| p.lost || p.owed.is_empty();
        if !matches!(self.phase, Phase::Finishing) || !settled(&self.a) || !settled(&self.b) {
            return;
        }
        self.phase = Phase::Over;
        let mut served = Vec::with_capacity(2);
        for side in [Side::A, Side::B] {
            let peer = self.peer(side);
            if !peer.lost {
                out.push(Action::Close { link: peer.link });
            }
            let paid_tokens = peer.paid_tokens;
            let record = Served {
                link: peer.link,
                candidate: peer.candidate,
                blind: peer.blind.unwrap_or(Hash::ZERO),
                commit: peer.commit,
                served_tokens: peer.served_tokens,
                paid: nesa_primitives::Amount::ZERO,
                leaves: core::mem::take(&mut peer.leaves),
            };
            served.push(Served { paid: self.total(paid_tokens), ..record });
        }
        out.push(Action::Done(Box::new(Transcript {
            served,
            rejected: core::mem::take(&mut self.rejected),
            tokens: self.verified_tokens,
            checks: self.checks,
            preparation_discarded: self.preparation_discarded,
            opened: core::mem::take(&mut self.opened),
        })));
    }
}
