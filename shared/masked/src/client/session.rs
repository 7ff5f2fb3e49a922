//! The session's state, its inputs, and the reading of answers.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use commonware_codec::Encode;
use nesa_chain::Side;
use nesa_primitives::Amount;
use rand_core::CryptoRng;

use super::{
    blame::{Blame, Plea},
    pass::PassRun,
    peer::{Expected, Peer},
    types::{
        Action, Candidate, Committee, Config, Link, Pass, Reason, Rejection, SessionError,
        StartError,
    },
};
use crate::{
    message::{self, ClientMessage, Limits, Product, ServerMessage, SignedCommit, Slot, Statement},
    opened::{OpenedPart, SignedProduct},
    origin::Standing,
    pack,
    preparation::Preparation,
    run::Run,
    signing,
    spec::{Lane, MAX_PASS_TOKENS},
    thin::TEST_ROWS,
};

pub(super) type Actions<R> = Vec<Action<<R as Run>::Output>>;

/// Where the query is.
pub(super) enum Phase {
    Passes,
    Finishing,
    Over,
}

/// One paid query over two servers; see the [module](super) for its life.
pub struct Session<R: Run, G> {
    pub(super) config: Config,
    pub(super) lane: Lane,
    pub(super) committee: Committee,
    pub(super) preparation: Arc<Preparation>,
    pub(super) rng: G,
    pub(super) limits: Limits,
    pub(super) waiting: VecDeque<Pass<R>>,
    /// Whether the first pass is one of random rows, that tests the preparation.
    pub(super) tests: bool,
    /// Passes begun.
    pub(super) begun: u32,
    pub(super) pass: Option<PassRun<R>>,
    pub(super) a: Peer,
    pub(super) b: Peer,
    pub(super) blame: Option<Blame>,
    pub(super) phase: Phase,
    pub(super) next_mask: u64,
    pub(super) rejected: Vec<Rejection>,
    pub(super) verified_tokens: u32,
    pub(super) checks: u32,
    pub(super) preparation_discarded: bool,
    pub(super) opened: Vec<OpenedPart>,
    #[cfg(test)]
    pub(crate) mutant: Option<super::Mutant>,
}

/// The first candidate of a side from place `from` on that had no part in the preparation.
pub(super) fn fit(
    committee: &Committee,
    preparation: &Preparation,
    side: Side,
    from: u8,
) -> Option<(u8, Candidate)> {
    let seats = committee.side(side).iter().enumerate().skip(from.into());
    let mut free = seats.filter(|(_, seat)| !preparation.origin().prepared_by(seat));
    let (place, seat) = free.next()?;
    Some((u8::try_from(place).ok()?, *seat))
}

impl<R: Run, G: CryptoRng> Session<R, G> {
    /// Prepares a session; nothing is sent before [`start`](Self::start).
    ///
    /// `rng` must be cryptographically secure and freshly seeded: seeds and blinds come from it.
    ///
    /// # Errors
    /// [`StartError`] when the two sides share an operator or node, the preparation is for another
    /// model or was made by all candidates of a side, or a pass does not fit.
    pub fn new(
        config: Config,
        lane: Lane,
        committee: Committee,
        preparation: Arc<Preparation>,
        passes: Vec<Pass<R>>,
        rng: G,
    ) -> Result<Self, StartError> {
        let first = |side| {
            if committee.side(side).is_empty() {
                return Err(StartError::NoCandidate(side));
            }
            let (attempt, candidate) =
                fit(&committee, &preparation, side, 0).ok_or(StartError::Prepared(side))?;
            Ok(Peer::new(Link { side, attempt }, candidate))
        };
        let (a, b) = (first(Side::A)?, first(Side::B)?);
        for a in &committee.a {
            for b in &committee.b {
                if a.operator == b.operator || a.node == b.node {
                    return Err(StartError::Overlap(a.operator));
                }
            }
        }
        let standing = preparation.standing();
        if preparation.model() != config.model
            || !preparation.covers(&lane)
            || standing == Standing::Discarded
        {
            return Err(StartError::Preparation);
        }
        let tests = standing == Standing::Untested;
        if passes.is_empty() {
            return Err(StartError::Tokens(0));
        }
        if let Some(i) = passes.iter().position(|p| !(1..=MAX_PASS_TOKENS).contains(&p.tokens)) {
            return Err(StartError::Tokens(i));
        }
        let tokens: u64 = passes.iter().map(|p| u64::from(p.tokens)).sum();
        let tokens = tokens + if tests { u64::from(TEST_ROWS) } else { 0 };
        if u32::try_from(tokens).is_err() || config.price_per_token.checked_mul(tokens).is_none() {
            return Err(StartError::Price(tokens));
        }
        Ok(Self {
            limits: Limits { payload: lane.max_message() },
            begun: 0,
            waiting: passes.into(),
            tests,
            config,
            lane,
            committee,
            preparation,
            rng,
            pass: None,
            a,
            b,
            blame: None,
            phase: Phase::Passes,
            next_mask: 0,
            rejected: Vec::new(),
            verified_tokens: 0,
            checks: 0,
            preparation_discarded: false,
            opened: Vec::new(),
            #[cfg(test)]
            mutant: None,
        })
    }

    /// Connects to both servers and begins the first pass.
    pub fn start(&mut self) -> Actions<R> {
        let mut out = Vec::new();
        self.connect(Side::A, &mut out);
        self.connect(Side::B, &mut out);
        self.begin_pass(&mut out);
        out
    }

    /// Takes one frame from a server. Frames of links no longer in use are ignored.
    pub fn received(&mut self, link: Link, bytes: &[u8]) -> Actions<R> {
        let mut out = Vec::new();
        if matches!(self.phase, Phase::Over) || !self.is_current(link) {
            return out;
        }
        if let Err(reason) = self.answer(link.side, bytes, &mut out) {
            self.drop_peer(link.side, reason, &mut out);
        }
        out
    }

    /// Takes the end of a link: the dial failed, the stream closed, or an answer is overdue.
    pub fn lost(&mut self, link: Link) -> Actions<R> {
        let mut out = Vec::new();
        if !matches!(self.phase, Phase::Over) && self.is_current(link) {
            self.drop_peer(link.side, Reason::Unavailable, &mut out);
        }
        out
    }

    /// Takes the preparation that [`Action::Prepare`] asked for. One for another model is ignored.
    pub fn prepared(&mut self, preparation: Arc<Preparation>) -> Actions<R> {
        let mut out = Vec::new();
        let fits = preparation.model() == self.config.model && preparation.covers(&self.lane);
        if fits && self.blame.as_ref().is_some_and(|b| b.repreparing) {
            self.preparation = preparation;
            self.judge(true, &mut out);
        }
        out
    }

    /// The links that owe an answer; the driver's clock runs for these alone.
    pub fn waiting_on(&self) -> Vec<Link> {
        if matches!(self.phase, Phase::Over) {
            return Vec::new();
        }
        [&self.a, &self.b]
            .into_iter()
            .filter(|p| !p.lost && !p.owed.is_empty())
            .map(|p| p.link)
            .collect()
    }

    /// The largest frame a server may send, in bytes.
    pub const fn max_message(&self) -> usize {
        self.limits.payload
    }

    /// Whether the query has ended, well or not.
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    pub(super) fn peer(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    fn is_current(&self, link: Link) -> bool {
        [&self.a, &self.b].iter().any(|p| p.link == link && !p.lost)
    }

    pub(super) fn send(&mut self, side: Side, message: &ClientMessage, out: &mut Actions<R>) {
        let peer = self.peer(side);
        if !peer.lost {
            out.push(Action::Send { link: peer.link, message: message.encode() });
        }
    }

    pub(super) fn connect(&mut self, side: Side, out: &mut Actions<R>) {
        let (link, candidate) = (self.peer(side).link, self.peer(side).candidate);
        out.push(Action::Connect { link, candidate });
        let c = &self.config;
        let open = signing::sign_open(
            c.chain,
            c.query,
            c.model,
            candidate.node,
            side,
            link.attempt,
            &c.client_key,
        );
        self.send(side, &ClientMessage::Open(open), out);
    }

    /// Reads one answer against what is owed. `Err` says why its sender is to be dropped.
    fn answer(&mut self, side: Side, bytes: &[u8], out: &mut Actions<R>) -> Result<(), Reason> {
        let message = message::decode_server(bytes, &self.limits).map_err(|_| Reason::Rejected)?;
        if let ServerMessage::Refused(_) = message {
            return Err(Reason::Unavailable);
        }
        let owed = self.peer(side).owed.pop_front().ok_or(Reason::Rejected)?;
        match (owed, message) {
            (Expected::Accept, ServerMessage::Accept) => Ok(()),
            (Expected::Product { slot, request, mask }, ServerMessage::Product(product))
                if product.slot == slot =>
            {
                let signed = self.signed(side, request, product)?;
                self.product(side, slot, mask, signed, out);
                Ok(())
            }
            (Expected::Full { slot }, ServerMessage::Full { slot: got, values }) if got == slot => {
                let full = self.full(slot, &values).ok_or(Reason::Rejected)?;
                if let Some(blame) = &mut self.blame {
                    blame.suspect(side).plea = Plea::Full(full);
                    self.judge(false, out);
                }
                Ok(())
            }
            (Expected::Commit, ServerMessage::Commit(commit)) => {
                self.commit(side, commit, out);
                Ok(())
            }
            _ => Err(Reason::Rejected),
        }
    }

    /// Checks a product's shape and signature, and notes its leaf.
    fn signed(
        &mut self,
        side: Side,
        request: nesa_primitives::Hash,
        product: Product,
    ) -> Result<SignedProduct, Reason> {
        let Product { slot, values, signature } = product;
        let (_, stage) = self.lane.find(slot.stage).ok_or(Reason::Rejected)?;
        // Unused bits must be zero, or one product would have two digests.
        let count = stage.n as usize * slot.rows() as usize;
        pack::check(&values, count, stage.share_bits()).map_err(|_| Reason::Rejected)?;
        let (chain, query) = (self.config.chain, self.config.query);
        let peer = self.peer(side);
        let statement = Statement {
            query,
            side,
            attempt: peer.link.attempt,
            slot,
            request,
            product: Statement::product_digest(&chain, &values),
        };
        if !signing::statement_is_signed(&statement, &chain, &peer.candidate.node, &signature) {
            return Err(Reason::Rejected);
        }
        peer.leaves.push(statement.leaf());
        Ok(SignedProduct { link: peer.link, request, values, signature })
    }

    fn full(&self, slot: Slot, values: &Bytes) -> Option<Vec<i64>> {
        let (_, stage) = self.lane.find(slot.stage)?;
        if values.len() != stage.full_bytes(slot.rows()) {
            return None;
        }
        let (words, _) = values.as_chunks::<8>();
        Some(words.iter().map(|w| i64::from_le_bytes(*w)).collect())
    }

    /// Notes a commitment, if it is what the answers at hand commit to.
    fn commit(&mut self, side: Side, commit: SignedCommit, out: &mut Actions<R>) {
        let (chain, query) = (self.config.chain, self.config.query);
        let peer = self.peer(side);
        let expected =
            peer.blind.map(|blind| crate::commitment::blinded_root(&chain, &blind, &peer.leaves));
        let good = commit.chain == chain
            && commit.query == query
            && commit.side == side
            && commit.attempt == peer.link.attempt
            && commit.served_tokens == peer.served_tokens
            && Some(commit.blinded_root) == expected
            && signing::commit_is_signed(&commit, &peer.candidate.node);
        peer.commit = good.then_some(commit);
        self.finish_if_complete(out);
    }

    /// A running total over `tokens` padded tokens; the price of all passes was checked at start.
    pub(super) fn total(&self, tokens: u32) -> Amount {
        self.config.price_per_token.checked_mul(u64::from(tokens)).unwrap_or(Amount(u64::MAX))
    }

    pub(super) fn fail(&mut self, error: SessionError, out: &mut Actions<R>) {
        self.phase = Phase::Over;
        self.pass = None;
        self.blame = None;
        for side in [Side::A, Side::B] {
            let peer = self.peer(side);
            if !peer.lost {
                peer.lost = true;
                out.push(Action::Close { link: peer.link });
            }
        }
        out.push(Action::Failed(error));
    }
}
