//! A text through all shards and their replicas, as a state machine.
//!
//! ```text
//! connected / received / lost ──▶ Relay ──▶ Connect · Send · Close · Token · Agreed · Replaced · Done
//! ```
//!
//! The first replica of a shard to answer a step feeds the next shard; the others are compared as they
//! come. So a text appears at the speed of the fastest replicas, marked as provisional, and is *agreed*
//! up to a token once every replica of every shard gave the same digests that far. A replica that is
//! lost is replaced by the shard's next candidate, which is fed what the shard was fed before: the rows
//! are here. A replica that disagrees ends the query, since nobody can tell here which of two is right.
//!
//! Every row fed to a shard is kept until the end: at most `max_tokens · d_model · 4` bytes per shard.

mod ending;

use nesa_model::decoder::WriteRequest;
use nesa_primitives::{Amount, Hash};
use rand_core::CryptoRng;

use super::{
    session::{Event, Misbehaviour, Purpose, Session},
    shard::{Fed, Odd, Replica, Shard},
    terms::{
        Action, Candidate, Config, Dispute, Link, Lost, RelayError, Served, StartError, Transcript,
    },
};
use crate::{MAX_STEP, message::Input, opening::Choice, receipts::Inputs};

/// Tokens that may be computed by some replicas and not yet by all: below [`crate::CREDIT`], so that
/// no node has to wait for its money.
const LAG_TOKENS: usize = MAX_STEP;
/// Steps likewise.
const LAG_STEPS: usize = 16;
/// Tokens agreed on before a node gets its next voucher.
const PAY_EVERY: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Writing,
    Finishing,
    Over,
}

/// A text being written by shards; see the [module](self).
pub struct Relay<R> {
    config: Config,
    choice: Choice,
    salt: Hash,
    rng: R,
    shards: Vec<Shard>,
    /// Pieces of the prompt not fed yet, the next one last.
    prompt: Vec<Vec<u32>>,
    /// Steps that read the prompt.
    pieces: usize,
    max_tokens: u32,
    wanted: usize,
    tokens: Vec<u32>,
    /// The token to be fed next.
    next: Option<u32>,
    ended: bool,
    stopped: bool,
    agreed: usize,
    /// What nodes that were given up hold vouchers for.
    parted: Amount,
    dispute: Option<Dispute>,
    phase: Phase,
}

impl<R: CryptoRng> Relay<R> {
    /// A relay that writes `request`'s text with `seats`, the candidates of each shard in order. The
    /// request's `piece` is cut to [`MAX_STEP`]; its `pad_to` is not used.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(
        config: Config,
        request: &WriteRequest,
        seats: &[Vec<Candidate>],
        mut rng: R,
    ) -> Result<Self, StartError> {
        let (prompt, tokens, max) = (request.prompt.len(), request.tokens, config.context);
        if prompt == 0 {
            return Err(StartError::Empty);
        }
        let all = prompt.checked_add(tokens).filter(|all| *all <= max && tokens > 0);
        let all = all.and_then(|all| u32::try_from(all).ok());
        let max_tokens = all.ok_or(StartError::Length { prompt, tokens, max })?;
        let count = config.plan.len();
        let mut shards = Vec::with_capacity(count);
        for shard in 0..count {
            let drawn = seats.get(shard).map(Vec::as_slice).unwrap_or_default();
            let (got, expected) = (drawn.len(), config.replicas);
            if got < expected || expected == 0 {
                return Err(StartError::Candidates { shard, got, expected });
            }
            let mut one = Shard::new(shard as u8, shard + 1 == count, config.d_model);
            one.spares = (0..=u8::MAX).zip(drawn.iter().copied()).collect();
            shards.push(one);
        }
        let piece = request.piece.clamp(1, MAX_STEP);
        let pieces: Vec<Vec<u32>> =
            request.prompt.chunks(piece).rev().map(<[u32]>::to_vec).collect();
        let mut salt = [0; 32];
        rng.fill_bytes(&mut salt);
        Ok(Self {
            salt: Hash(salt),
            choice: Choice::new(request.sampling, request.seed),
            config,
            rng,
            shards,
            pieces: pieces.len(),
            prompt: pieces,
            max_tokens,
            wanted: tokens,
            tokens: Vec::new(),
            next: None,
            ended: false,
            stopped: false,
            agreed: 0,
            parted: Amount::ZERO,
            dispute: None,
            phase: Phase::Writing,
        })
    }

    /// Begins: connects to the replicas of every shard.
    pub fn start(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for shard in 0..self.shards.len() {
            for place in (0..=u8::MAX).take(self.config.replicas) {
                self.hire(shard, place, &mut actions);
            }
        }
        self.advance(&mut actions);
        actions
    }

    /// Takes a frame.
    pub fn received(&mut self, link: Link, frame: &[u8], now_ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        let key = &self.config.client_key;
        let shard = usize::from(link.shard);
        let Some(replica) = self.shards.get_mut(shard).and_then(|s| s.replica(link.seat)) else {
            return actions;
        };
        if replica.done || self.phase == Phase::Over {
            return actions;
        }
        match replica.session.receive(frame, key, now_ms, &mut self.rng) {
            Ok(Event::Send(frame)) => actions.push(Action::Send { link, frame }),
            Ok(Event::Ready | Event::Truncated) => {}
            Ok(Event::Committed(commitment)) => {
                replica.commitment = Some(commitment);
                replica.done = true;
                actions.push(Action::Close { link });
            }
            Ok(Event::Stepped(stepped)) => match self.shards[shard].take(link.seat, &stepped) {
                Ok(news) => {
                    if shard + 1 == self.shards.len() {
                        self.chosen(news.steps, &mut actions);
                    }
                    for (rows, tokens) in news.rows {
                        self.give(shard + 1, Input::Rows(rows), tokens);
                    }
                }
                Err(Odd::Differs(dispute)) => self.disagree(*dispute, &mut actions),
                Err(Odd::Unasked) => {
                    let what = "an answer to no question";
                    let reason = Lost::Misbehaved(Misbehaviour::Protocol { what });
                    self.replace(link, reason, &mut actions);
                }
            },
            Err(reason) => self.replace(link, reason.into(), &mut actions),
        }
        self.advance(&mut actions);
        actions
    }

    /// The link broke, or its node was silent for too long.
    pub fn lost(&mut self, link: Link) -> Vec<Action> {
        let mut actions = Vec::new();
        self.replace(link, Lost::Gone, &mut actions);
        self.advance(&mut actions);
        actions
    }

    /// No more tokens are wanted: what was written is agreed on, committed to and paid.
    pub fn stop(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        self.stopped = true;
        self.next = None;
        self.prompt.clear();
        self.advance(&mut actions);
        actions
    }

    /// Links whose nodes owe an answer.
    pub fn waiting_on(&self) -> Vec<Link> {
        let mut links = Vec::new();
        for shard in &self.shards {
            for replica in shard.replicas.iter().filter(|r| !r.done && r.session.is_waiting()) {
                links.push(Link { shard: shard.index, seat: replica.index });
            }
        }
        links
    }

    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Connects to a shard's next candidate, if there is one.
    fn hire(&mut self, shard: usize, place: u8, actions: &mut Vec<Action>) -> bool {
        let mut blind = [0; 32];
        self.rng.fill_bytes(&mut blind);
        let Some(one) = self.shards.get_mut(shard) else { return false };
        let Some((index, candidate)) = one.spares.pop_front() else { return false };
        let link = Link { shard: one.index, seat: index };
        let (session, hello) = Session::start(Purpose {
            chain: self.config.chain,
            query: self.config.query,
            model: self.config.model,
            node: candidate.node,
            role: one.role(index),
            replica: place,
            salt: self.salt,
            plan: self.config.plan.clone(),
            d_model: self.config.d_model,
            max_tokens: self.max_tokens,
            choice: self.choice,
        });
        one.replicas.push(Replica::new(index, place, Hash(blind), candidate, session));
        actions.push(Action::Connect { link, candidate });
        actions.push(Action::Send { link, frame: hello });
        true
    }

    /// Gives a replica up and asks the next candidate; what was agreed on stays.
    fn replace(&mut self, link: Link, reason: Lost, actions: &mut Vec<Action>) {
        let shard = usize::from(link.shard);
        let Some(one) = self.shards.get_mut(shard) else { return };
        let Some(at) = one.replicas.iter().position(|r| r.index == link.seat) else { return };
        if one.replicas[at].done || self.phase == Phase::Over {
            return;
        }
        if self.phase == Phase::Finishing {
            // It answered every step; only its commitment is missing.
            one.replicas[at].done = true;
            actions.push(Action::Close { link });
            return;
        }
        // What it gave and all agree on is good work, whatever came then.
        let given = one.replicas[at].answered.min(one.confirmed);
        self.pay_one((shard, at), given, 1, actions);
        actions.push(Action::Close { link });
        let Some(one) = self.shards.get_mut(shard) else { return };
        let gone = one.replicas.remove(at);
        self.parted = self.parted.checked_add(gone.paid).unwrap_or(Amount(u64::MAX));
        let candidate = gone.candidate;
        if self.hire(shard, gone.place, actions) {
            actions.push(Action::Replaced { link, candidate, reason });
        } else {
            self.fail(RelayError::NoSpare { shard: link.shard, reason }, actions);
        }
    }

    fn disagree(&mut self, dispute: Dispute, actions: &mut Vec<Action>) {
        self.next = None;
        if self.config.disclose {
            self.dispute.get_or_insert(dispute);
        } else {
            self.fail(RelayError::Disputed(Box::new(dispute)), actions);
        }
    }

    fn fail(&mut self, error: RelayError, actions: &mut Vec<Action>) {
        self.close(actions);
        actions.push(Action::Failed(error));
    }

    fn close(&mut self, actions: &mut Vec<Action>) {
        self.phase = Phase::Over;
        for shard in &self.shards {
            for replica in shard.replicas.iter().filter(|r| !r.done) {
                let link = Link { shard: shard.index, seat: replica.index };
                actions.push(Action::Close { link });
            }
        }
    }

    /// Takes the tokens of steps that the last shard has now answered for the first time.
    fn chosen(&mut self, steps: std::ops::Range<usize>, actions: &mut Vec<Action>) {
        for step in steps {
            let token = self.shards.last().and_then(|s| s.known.get(step)).and_then(|k| k.token);
            let (Some(token), true) = (token, step + 1 >= self.pieces) else { continue };
            if self.ended || self.stopped || self.tokens.len() >= self.wanted {
                continue;
            }
            if self.config.ends.contains(&token) {
                self.ended = true;
                continue;
            }
            self.tokens.push(token);
            actions.push(Action::Token(token));
            if self.tokens.len() < self.wanted {
                self.next = Some(token);
            }
        }
    }

    /// Feeds what may be fed, sends what may be sent, pays what is agreed on, and ends what is done.
    fn advance(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Over {
            return;
        }
        if self.phase == Phase::Writing && self.dispute.is_none() {
            let confirmed = self.confirm(actions);
            self.feed(confirmed);
            self.pay(PAY_EVERY, actions);
            self.pump(actions);
            let all = self.shards.first().map_or(0, |shard| shard.fed.len());
            let written = self.prompt.is_empty() && self.next.is_none();
            if !written || confirmed < all || self.agreed < self.tokens.len() {
                return;
            }
        }
        self.finish(actions);
    }

    /// Steps that all replicas of all shards agree on.
    fn confirm(&mut self, actions: &mut Vec<Action>) -> usize {
        let replicas = self.config.replicas;
        let confirmed = self.shards.iter_mut().map(|shard| shard.confirm(replicas)).min();
        let confirmed = confirmed.unwrap_or_default();
        let tokens = (confirmed + 1).saturating_sub(self.pieces).min(self.tokens.len());
        if tokens > self.agreed {
            self.agreed = tokens;
            actions.push(Action::Agreed(tokens));
        }
        confirmed
    }

    /// Where what a shard is asked belongs.
    fn place(&self, shard: usize) -> Inputs {
        let Config { chain, query, model, client_key, .. } = &self.config;
        Inputs {
            chain: *chain,
            query: *query,
            model: *model,
            client_key: client_key.public(),
            shard: u8::try_from(shard).unwrap_or(u8::MAX),
            salt: self.salt,
        }
    }

    /// Lays an input out for a shard, signed where a dispute may ask for that: once, for all replicas.
    fn give(&mut self, shard: usize, input: Input, tokens: usize) {
        let place = self.place(shard);
        let Some(one) = self.shards.get_mut(shard) else { return };
        let Config { d_model, client_key, disclose, .. } = &self.config;
        let mut receipts = Vec::new();
        if *disclose {
            let position = u32::try_from(one.tokens(usize::MAX)).unwrap_or(u32::MAX);
            receipts = place.sign(client_key, &input, position, *d_model, one.want());
        }
        one.fed.push(Fed { input, tokens, receipts });
    }

    fn feed(&mut self, confirmed: usize) {
        loop {
            let Some(first) = self.shards.first() else { return };
            let (steps, tokens) = (first.fed.len(), first.tokens(usize::MAX));
            let behind = tokens - first.tokens(confirmed);
            if steps - confirmed >= LAG_STEPS || behind >= LAG_TOKENS {
                return;
            }
            let input = match (self.prompt.pop(), self.next) {
                (Some(piece), _) => piece,
                (None, Some(_)) => self.next.take().into_iter().collect(),
                (None, None) => return,
            };
            let tokens = input.len();
            self.give(0, Input::Tokens(input), tokens);
        }
    }

    fn pump(&mut self, actions: &mut Vec<Action>) {
        for shard in 0..self.shards.len() {
            let next_has = self.shards.get(shard + 1).map_or(usize::MAX, |next| next.fed.len());
            let one = &mut self.shards[shard];
            // Replicas that are to settle a dispute get what any of them got, and no more: traces of
            // one length can be compared to their end.
            let end = if self.dispute.is_some() { one.furthest() } else { one.fed.len() };
            let replicas: Vec<u8> = one.replicas.iter().map(|r| r.index).collect();
            for replica in replicas {
                let link = Link { shard: one.index, seat: replica };
                while let Some(frame) = one.pump(replica, next_has, end) {
                    actions.push(Action::Send { link, frame });
                }
            }
        }
    }
}
